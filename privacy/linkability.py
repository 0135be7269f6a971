"""Can two records of one person, which share no column, be linked with the help of the synthetic table?

Columns are parted in two halves, at random. An attacker who holds both halves of many people, and does not know which belong together, takes for
each half the synthetic rows nearest to it; where both name one and the same row, he links them. The same for strangers: what links theirs is luck.
value = the residual risk (attack - control) / (1 - control). Power: a verbatim copy links members surely more often than strangers, or surely
hardly anybody.
"A unified framework for quantifying privacy risk in synthetic data" (Anonymeter), Giomi, Boenisch, Wehmeyer and Tasnádi, 2023,
https://arxiv.org/abs/2211.10459
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from generators.data import Table
from privacy.nearness import nearest
from privacy.rates import powerless, residual, residual_interval, wilson
from validation.features import Features
from validation.resampling import count, looked_at, sample, split, too_few
from validation.score import Score

MOST, NEIGHBOURS, HALVES = 1_500, 1, 5


def halves(features: Features, rng: np.random.Generator) -> list[Features]:
    """The same, of half of the columns each."""
    names = [*features.numeric, *features.category]
    first = set(rng.permutation(names)[: (len(names) + 1) // 2].tolist())
    kept = [lambda n: n in first, lambda n: n not in first]
    return [replace(features, numeric=tuple(filter(k, features.numeric)), category=tuple(filter(k, features.category)), hidden=()) for k in kept]


def linked(people: Table, source: Table, sides: list[Features]) -> np.ndarray:
    """(rows,) bool: whether one row is among the nearest by both halves of the columns."""
    one, other = (nearest(f.space(people), f.space(source), NEIGHBOURS, np.float32)[1] for f in sides)
    return (one[:, :, None] == other[:, None, :]).any((1, 2))


def linkability(train: Table, holdout: Table, synthetic: Table, *, seed: int = 0, rare_below: int = 10) -> Score:
    """The residual risk of being linked. Yardstick: one half of the holdout in place of the synthetic table, the other as the control."""
    rng = np.random.default_rng(seed)
    features, few = Features.of(train, rare_below), too_few(train, holdout, synthetic)
    few = few or (None if len(features.numeric) + len(features.category) > 3 else "fewer than four columns, of which no half tells people apart")
    if few:
        return Score("privacy.linkability", 0.0, -1.0, 1.0, 0.0, "low", few, {})
    there = {"synthetic": len(synthetic), "members": count(train), "strangers": count(holdout)}
    source, members, strangers = sample(synthetic, features.rows, rng), sample(train, MOST, rng), sample(holdout, MOST, rng)
    parted = [halves(features, rng) for _ in range(HALVES)]

    def rate(people: Table, rows: Table) -> tuple[float, float]:
        """(hits, trials), subjects being trials."""
        found = np.mean([linked(people, rows, sides) for sides in parted])
        return float(found) * count(people), count(people)

    attack, control = rate(members, source), rate(strangers, source)
    copy = sample(train, features.rows, rng)
    copied, missed = (rate(sample(people, MOST // 3, rng), copy) for people in (copy, strangers))
    fresh, rest = split(holdout, 2, rng)
    again = [a / b for a, b in (rate(members, fresh), rate(sample(rest, MOST, rng), fresh))]
    value, (low, high) = residual(attack[0] / attack[1], control[0] / control[1]), residual_interval(attack, control)
    details = {
        "attack": {"value": attack[0] / attack[1], "interval": list(wilson(*attack))},
        "control": {"value": control[0] / control[1], "interval": list(wilson(*control))},
        "copy": residual(copied[0] / copied[1], missed[0] / missed[1]),
        "looked_at": looked_at({"synthetic": len(source), "members": count(members), "strangers": count(strangers)}, there),
    }
    return Score("privacy.linkability", value, min(low, value), max(high, value), residual(*again), "low", powerless(copied, missed), details)
