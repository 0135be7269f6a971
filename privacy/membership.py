"""Can somebody tell who was in the training table?

Attacks rank candidates, members (training subjects) among strangers (holdout subjects). Each attack has its AUC and
advantage 2 AUC - 1 (0 = chance, 1 = every member is found), and its true-positive rate where 1 % of strangers are accused.
Reference rows are the other half of the holdout, then the halves change places. Rows that equal a reference row are
left out: they are nobody's own.

value = the larger of: the strongest attack's advantage less the mean by which the largest of several bootstrapped
advantages exceeds its own (otherwise several attacks would always find something); and the advantage that is certain
(97.5 % for all attacks together) among the exposed, the tenth of candidates farthest from all reference rows.
An attack has power if it finds a verbatim copy of the training table: AUC > 0.9. Three with power are needed.
"Membership inference attacks from first principles", Carlini, Chien, Nasr, Song, Terzis and Tramèr, 2022,
https://arxiv.org/abs/2112.03570; "Achilles' Heels: vulnerable record identification in synthetic data publishing", Meeus,
Guépin, Creţu and de Montjoye, 2023, https://arxiv.org/abs/2306.10308
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from generators.data import Table
from privacy.membership_attacks import ATTACKS, NEIGHBOURS, look
from privacy.nearness import nearest
from privacy.rates import wilson
from validation.features import Features
from validation.resampling import LEAST, auc, count, interval, looked_at, sample, split, too_few
from validation.score import Score

MOST, DRAWS, NEEDED, POWER = 2_000, 200, 3, 0.9
ROWS = 200_000  # of a table that is larger, so many rows are looked at
SUBJECTS = 2 * LEAST  # on each side, at least


class Fold(NamedTuple):
    """One half of the holdout as strangers, the other as reference: what every attack says of every candidate subject."""

    scores: dict[str, np.ndarray]  # attack -> (subjects,)
    member: np.ndarray  # (subjects,) bool
    exposed: np.ndarray  # (subjects,) bool
    control: dict[str, np.ndarray]  # attack -> (subjects,): the same for a verbatim copy of train; empty where not asked


def mean_by(subjects: np.ndarray, values: np.ndarray, own: np.ndarray) -> np.ndarray:
    """(subjects,) the mean over the rows that are the subject's own; NaN without such a row."""
    with np.errstate(invalid="ignore"):
        size = int(subjects.max(initial=-1)) + 1
        return np.bincount(subjects[own], values[own], size) / np.bincount(subjects[own], minlength=size)


def attack(members: Table, strangers: Table, reference: Table, synthetic: np.ndarray, copy: np.ndarray | None, features: Features) -> Fold:
    """Run every attack on the candidates of one fold; with `copy` also against that table in place of the synthetic one."""
    x = np.vstack([features.space(members), features.space(strangers)])
    rows = features.space(reference)
    subjects = np.concatenate([members.subjects, strangers.subjects + count(members)])
    near = nearest(x, rows, NEIGHBOURS)
    own = near[0][:, 0] > 0
    kept = np.bincount(subjects, own) > 0
    width = float(np.quantile(near[0][own, 0], 0.02)) if own.any() else 1.0
    told = []
    for other in (synthetic, copy):
        seen = look(x, near, other, rows, width) if other is not None else None
        told.append({n: mean_by(subjects, f(seen), own)[kept] for n, f in ATTACKS.items()} if seen else {})
    member = (np.arange(len(kept)) < count(members))[kept]
    alone = mean_by(subjects, near[0][:, 0], own)[kept]
    tenth = max(0.1, min(1.0, LEAST / max(1, (~member).sum())))
    exposed = alone >= np.quantile(alone, 1 - tenth) if len(alone) else np.zeros(0, bool)
    return Fold(told[0], member, exposed, told[1])


def folds(train: Table, holdout: Table, synthetic: Table, features: Features, rng: np.random.Generator, control: bool) -> list[Fold]:
    """Both folds; the positive control is run in the first."""
    halves, chosen = split(holdout, 2, rng), split(sample(train, 2 * MOST, rng), 2, rng)
    rows, copy = features.space(synthetic), features.space(train) if control else None
    out = []
    for i, (strangers, reference) in enumerate((halves, halves[::-1])):
        few = sample(chosen[i], MOST // 2, rng), sample(strangers, MOST // 2, rng)
        out.append(attack(*few, reference, rows, copy if i == 0 else None, features))
    return out


def advantages(parts: list[Fold], names: list[str], exposed: bool, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(attacks,) advantage of each, the mean of the folds, and (draws, attacks) the same for bootstrapped subjects."""
    groups = [f.exposed if exposed else np.ones(len(f.member), bool) for f in parts]
    areas = [[auc(f.scores[n][g], f.member[g]) for n in names] for f, g in zip(parts, groups, strict=True)]
    point = np.mean([[2 * a() - 1 for a in fold] for fold in areas], axis=0)
    drawn = []
    for _ in range(DRAWS):
        chosen = [np.bincount(rng.integers(g.sum(), size=g.sum()), minlength=g.sum()).astype(float) for g in groups]
        drawn.append(np.mean([[2 * a(w) - 1 for a in fold] for fold, w in zip(areas, chosen, strict=True)], axis=0))
    return point, np.array(drawn)


def strongest(parts: list[Fold], names: list[str], rng: np.random.Generator) -> dict:
    """The strongest attack over all candidates, corrected for having been chosen; what is certain among the exposed."""
    point, drawn = advantages(parts, names, False, rng)
    bias = float(np.max(drawn - point, axis=1).mean())
    value = float(point.max()) - bias
    low, high = interval(value, drawn.max(1), -1, 1)
    hard, loose = advantages(parts, names, True, rng)
    spread = np.maximum(loose.std(0, ddof=1), 1e-9)
    certain = float((hard - np.quantile(((loose - hard) / spread).max(1), 0.975) * spread).max())
    groups = {"all": (point, drawn.std(0)), "exposed": (hard, spread)}
    each = {g: dict(zip(names, zip(*figures, strict=True), strict=True)) for g, figures in groups.items()}
    return {"value": value, "low": low, "high": high, "certain": certain, "bias": bias, "attack": names[int(point.argmax())], "each": each}


def accused(parts: list[Fold], name: str) -> dict | None:
    """The true-positive rate at a false-positive rate of 1 %, and its interval; None below 100 strangers a fold."""
    if min((~f.member).sum() for f in parts) < 100:
        return None
    bars = [np.quantile(f.scores[name][~f.member], 0.99, method="higher") for f in parts]
    hits = sum(int((f.scores[name][f.member] > bar).sum()) for f, bar in zip(parts, bars, strict=True))
    members = sum(int(f.member.sum()) for f in parts)
    return {"value": hits / members, "interval": list(wilson(hits, members)), "chance": 0.01}


def report(parts: list[Fold], best: dict, powers: dict[str, float]) -> dict:
    """What the report shows of each attack: over all candidates, among the exposed, and its positive control."""
    out = {}
    for name in ATTACKS:
        row: dict = {"control_auc": powers[name], "power": powers[name] > POWER, "tpr_at_1_fpr": accused(parts, name)}
        for group in ("all", "exposed"):
            advantage, spread = (float(v) for v in best["each"][group][name])
            band = [max(0.0, (1 + advantage) / 2 - 0.98 * spread), min(1.0, (1 + advantage) / 2 + 0.98 * spread)]
            row[group] = {"auc": (1 + advantage) / 2, "interval": band, "advantage": advantage}
        out[name] = row
    return out


def membership(train: Table, holdout: Table, synthetic: Table, *, seed: int = 0, rare_below: int = 10) -> Score:
    """The strongest membership attack, as an advantage; interval by bootstrap over candidate subjects.

    Yardstick: one half of the holdout in place of the synthetic table, the other as strangers and reference.
    """
    rng = np.random.default_rng(seed)
    few = too_few(train, holdout, synthetic, SUBJECTS)
    if few:
        return Score("privacy.membership", 0.0, -1.0, 1.0, 0.0, "low", few, {})
    features = Features.of(train, rare_below)
    there = {"synthetic": len(synthetic), "members": count(train), "strangers": count(holdout)}
    train, synthetic, holdout = (sample(t, ROWS, rng) for t in (train, synthetic, holdout))
    parts = folds(train, holdout, synthetic, features, rng, control=True)
    held = {kind: min(int((f.member == side).sum()) for f in parts) for kind, side in (("members", True), ("strangers", False))}
    if min(held.values()) < LEAST // 2:
        return Score("privacy.membership", 0.0, -1.0, 1.0, 0.0, "low", "too few people have a row that no stranger has too", {"candidates": held})
    powers = {n: auc(parts[0].control[n], parts[0].member)() for n in ATTACKS}
    able = [n for n in ATTACKS if powers[n] > POWER]
    every = strongest(parts, list(ATTACKS), np.random.default_rng(seed))
    best = strongest(parts, able, np.random.default_rng(seed)) if able else every
    fresh, rest = split(holdout, 2, rng)
    again = folds(train, rest, fresh, features, rng, control=False)
    yardstick = strongest(again, able or list(ATTACKS), rng)["value"]
    power = None if len(able) >= NEEDED else f"{len(able)} of {len(ATTACKS)} attacks find a verbatim copy, {NEEDED} are needed"
    exposed = best["certain"] > max(0.0, best["value"])
    value = best["certain"] if exposed else best["value"]
    candidates = {k: sum(int((f.member == s).sum()) for f in parts) for k, s in (("members", True), ("strangers", False))}
    details = {
        "candidates": candidates,
        "looked_at": looked_at({"synthetic": len(synthetic)} | candidates, there),
        "strongest": best["attack"],
        "group": "exposed" if exposed else "all",
        "correction": best["bias"],
        "certain_exposed": best["certain"],
        "attacks": report(parts, every, powers),
    }
    return Score("privacy.membership", value, min(value, best["low"]), max(value, best["high"]), yardstick, "low", power, details)
