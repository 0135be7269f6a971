"""Were training rows copied? A smoke test: it finds copying, it proves no privacy.

A synthetic row s is a copy of a block of training rows T, not of an equally large control block H, where
d(s, T) <= d(s, H) / 10: identical, or ten times nearer to somebody it was made from than to any stranger.
value = sum over the training blocks of (share of copies of T - share of "copies" of H); no unit, chance gives 0. Of a very
large training table half a million rows are looked at, at random, and stand for all.
The control is the holdout; the training table is cut into blocks of its size, since a larger table is nearer to all.
Distance to the closest record is no privacy claim: "The DCR Delusion", Yao, Krčo, Ganev and de Montjoye, 2025,
https://arxiv.org/abs/2505.01524
"""

from __future__ import annotations

import numpy as np

from generators.data import Table
from privacy.nearness import nearest
from validation.features import Features
from validation.resampling import interval, looked_at, sample, split, too_few, weights
from validation.score import Score

NEARER, MOST, DRAWS = 10.0, 5_000, 200
BLOCK, LOOK = 50_000, 500_000  # rows of a block, and training rows that are looked at, at most


def blocks(train: Table, holdout: Table, rng: np.random.Generator) -> tuple[list[Table], float, Table]:
    """The training table in blocks of about the size of the holdout, how many each stands for, and a control of the size of one block."""
    holdout = sample(holdout, BLOCK, rng)
    some = sample(train, LOOK, rng)
    parts = split(some, max(1, round(len(some) / max(1, len(holdout)))), rng)
    size = min(len(holdout), *(len(p) for p in parts))
    return [sample(p, size, rng) for p in parts], len(train) / len(some), sample(holdout, size, rng)


def excess(train: Table, holdout: Table, synthetic: Table, features: Features, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """For each synthetic row, summed over the blocks: copies less control, identical rows, and the nearer share."""
    parts, each, control = blocks(train, holdout, rng)
    rows = features.space(synthetic)
    far = nearest(rows, features.space(control))[0][:, 0]
    out = {name: np.zeros(len(rows)) for name in ("excess", "identical", "nearer")}
    for part in parts:
        near = nearest(rows, features.space(part))[0][:, 0]
        out["excess"] += each * ((near <= far / NEARER).astype(float) - (far <= near / NEARER))
        out["identical"] += each * (near == 0)
        out["nearer"] += ((near < far) + 0.5 * (near == far)) / len(parts)
    out["identical_control"] = (far == 0) * each * len(parts)
    return out


def copies(train: Table, holdout: Table, synthetic: Table, *, seed: int = 0, rare_below: int = 10) -> Score:
    """The excess share of copied rows; interval by bootstrap over synthetic subjects (at most 5,000 rows).

    Yardstick: one half of the holdout in place of the synthetic table, the other as the control.
    """
    rng = np.random.default_rng(seed)
    few = too_few(train, holdout, synthetic)
    if few:
        return Score("privacy.copies", 0.0, -1.0, 1.0, 0.0, "low", few, {})
    features = Features.of(train, rare_below)
    some = sample(synthetic, MOST, rng)
    found = excess(train, holdout, some, features, rng)
    fresh, control = split(holdout, 2, rng)
    yardstick = float(excess(train, control, sample(fresh, MOST // 2, rng), features, rng)["excess"].mean())
    draws = list(weights(some.subjects, DRAWS, rng))
    rate = {k: float(np.clip(v.mean(), -1, 1)) for k, v in found.items()}
    band = {k: list(interval(rate[k], [np.average(v, weights=w) for w in draws], -1, 1)) for k, v in found.items()}
    details = {
        "rows": len(some),
        "looked_at": looked_at(
            {"synthetic": len(some), "holdout": min(BLOCK, len(holdout)), "train": min(LOOK, len(train))},
            {"synthetic": len(synthetic), "holdout": len(holdout), "train": len(train)},
        ),
        "identical": {"train": rate["identical"], "holdout": rate["identical_control"]},
        "nearer_to_train": {"value": rate["nearer"], "interval": band["nearer"], "chance": 0.5},
    }
    return Score("privacy.copies", rate["excess"], *band["excess"], yardstick, "low", None, details)
