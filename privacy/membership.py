"""Can somebody tell who was in the training table?

Attacks rank candidates, members (training subjects) among strangers (holdout subjects). Each attack has its AUC and
advantage 2 AUC - 1 (0 = chance, 1 = every member is found), and its true-positive rate where 1 % of strangers are accused.
Reference rows are the other half of the holdout, then the halves change places. Rows that equal a reference row are
left out: they are nobody's own.

value = the largest of: the strongest attack's advantage less the mean by which the largest of several bootstrapped
advantages exceeds its own (otherwise several attacks would always find something); and the advantage that is certain
(97.5 % for all attacks together) among the exposed, the tenth of candidates farthest from all reference rows; and what the
ensemble surely finds (by 3.3 standard errors) among those who share a value of a column.
An attack has power if it finds a verbatim copy of the training table: AUC > 0.9. Three with power are needed.
"Membership inference attacks from first principles", Carlini, Chien, Nasr, Song, Terzis and Tramèr, 2022,
https://arxiv.org/abs/2112.03570; "Achilles' Heels: vulnerable record identification in synthetic data publishing", Meeus,
Guépin, Creţu and de Montjoye, 2023, https://arxiv.org/abs/2306.10308
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

from generators.data import Table
from privacy.membership_attacks import ATTACKS, NEIGHBOURS, look
from privacy.membership_learned import LEARNED, View
from privacy.nearness import nearest
from privacy.rates import wilson
from validation.features import Features
from validation.resampling import LEAST, auc, count, interval, looked_at, sample, split, too_few
from validation.score import Score

MOST, DRAWS, NEEDED, POWER = 2_000, 200, 3, 0.9
ENSEMBLE = "ensemble"
NAMES = (*ATTACKS, *LEARNED, ENSEMBLE)
RATES = (0.01, 0.001)  # of false alarms at which members are counted
GROUP, GROUPS, SURELY = 25, 8, 3.3  # members and strangers that a subgroup has, values of a column that are looked at, and standard errors that make it certain
SUBJECTS = 2 * LEAST  # on each side, at least


class Fold(NamedTuple):
    """One half of the holdout as strangers, the other as reference: what every attack says of every candidate subject."""

    scores: dict[str, np.ndarray]  # attack -> (subjects,)
    member: np.ndarray  # (subjects,) bool
    exposed: np.ndarray  # (subjects,) bool
    control: dict[str, np.ndarray]  # attack -> (subjects,): the same for a verbatim copy of train; empty where not asked
    groups: dict[str, np.ndarray]  # column -> (subjects,): the level of each subject's first row


def mean_by(subjects: np.ndarray, values: np.ndarray, own: np.ndarray) -> np.ndarray:
    """(subjects,) the mean over the rows that are the subject's own; NaN without such a row."""
    with np.errstate(invalid="ignore"):
        size = int(subjects.max(initial=-1)) + 1
        return np.bincount(subjects[own], values[own], size) / np.bincount(subjects[own], minlength=size)


def attack(members: Table, strangers: Table, reference: View, synthetic: View, copy: View | None, features: Features) -> Fold:
    """Run every attack on the candidates of one fold; with `copy` also against that table in place of the synthetic one."""
    x = View(*(np.concatenate(parts) for parts in zip(*(View.of(t, features) for t in (members, strangers)), strict=True)))
    subjects = np.concatenate([members.subjects, strangers.subjects + count(members)])
    near = nearest(x.space, reference.space, NEIGHBOURS)
    own = near[0][:, 0] > 0
    kept = np.bincount(subjects, own) > 0
    width = float(np.quantile(near[0][own, 0], 0.02)) if own.any() else 1.0
    told: list[dict[str, np.ndarray]] = [{}, {}]
    for found, other in zip(told, (synthetic, copy), strict=True):
        if other is not None:
            seen = look(x.space, near, other.space, reference.space, width)
            each = {n: f(seen) for n, f in ATTACKS.items()} | {n: f(x, other, reference) for n, f in LEARNED.items()}
            found |= {n: mean_by(subjects, values, own)[kept] for n, values in each.items()}
    member = (np.arange(len(kept)) < count(members))[kept]
    alone = mean_by(subjects, near[0][:, 0], own)[kept]
    tenth = max(0.1, min(1.0, LEAST / max(1, (~member).sum())))
    exposed = alone >= np.quantile(alone, 1 - tenth) if len(alone) else np.zeros(0, bool)
    first = np.unique(subjects, return_index=True)[1][kept]
    return Fold(told[0], member, exposed, told[1], dict(zip((*features.numeric, *features.category), x.levels[first].T, strict=False)))


def singular(table: Table, reference: View, features: Features) -> Table:
    """Subjects with a row that no reference row equals; all where there are too few of them to attack."""
    there = {row.tobytes() for row in reference.space + 0.0}  # no zero with a minus
    alone = np.array([row.tobytes() not in there for row in View.of(table, features).space + 0.0], dtype=bool)
    keep = np.bincount(table.subjects, alone) > 0
    return table.take(keep[table.subjects]) if keep.sum() >= LEAST else table


def folds(train: Table, holdout: Table, synthetic: Table, features: Features, rng: np.random.Generator, control: bool) -> list[Fold]:
    """Both folds; the positive control is run in the first."""
    halves, chosen = split(holdout, 2, rng), split(sample(train, 2 * MOST, rng), 2, rng)
    rows, copy = View.of(synthetic, features), View.of(train, features) if control else None
    out = []
    for i, (strangers, reference) in enumerate((halves, halves[::-1])):
        known = View.of(reference, features)
        few = (sample(singular(people, known, features), MOST // 2, rng) for people in (chosen[i], strangers))
        out.append(attack(*few, known, rows, copy if i == 0 else None, features))
    return out


def together(parts: list[Fold], powers: dict[str, float]) -> list[Fold]:
    """The same with the attacks' ensemble: ranks of candidates, weighed by how much each attack finds of a verbatim copy.

    No attack is the best everywhere, and this one never far from it: "Synth-MIA" (see membership_learned.py)."""
    weight = {n: max(2 * p - 1, 0.0) ** 4 for n, p in powers.items()}

    def joined(scores: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return scores | {ENSEMBLE: sum(weight[n] * rankdata(v) / max(len(v), 1) for n, v in scores.items())} if scores else scores

    return [f._replace(scores=joined(f.scores), control=joined(f.control)) for f in parts]


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


def accused(parts: list[Fold], name: str, alarms: float) -> dict | None:
    """The true-positive rate at this rate of false alarms, and its interval; None where a fold has too few strangers to tell."""
    if min((~f.member).sum() for f in parts) < 1 / alarms:
        return None
    bars = [np.quantile(f.scores[name][~f.member], 1 - alarms, method="higher") for f in parts]
    hits = sum(int((f.scores[name][f.member] > bar).sum()) for f, bar in zip(parts, bars, strict=True))
    members = sum(int(f.member.sum()) for f in parts)
    return {"value": hits / members, "interval": list(wilson(hits, members)), "chance": alarms}


def subgroups(parts: list[Fold], name: str) -> dict:
    """Of each column the value among whose holders an attack finds members best: {column: {auc, error, members}}; nothing names the value.

    Standard errors by Hanley and McNeil: "The meaning and use of the area under a ROC curve", 1982, https://doi.org/10.1148/radiology.143.1.7063747"""
    out = {}
    for column in parts[0].groups:
        found = []
        for value in range(GROUPS + 2):
            sides = [(f.scores[name][g], f.member[g]) for f in parts if (g := f.groups[column] == value).any()]
            if not sides or min(min(m.sum(), (~m).sum()) for _, m in sides) < GROUP:
                continue
            areas = [(auc(s, m)(), int(m.sum()), int((~m).sum())) for s, m in sides]
            area = float(np.mean([a for a, *_ in areas]))
            error = float(np.sqrt(sum(_hanley(a, p, n) ** 2 for a, p, n in areas)) / len(areas))
            found.append({"auc": area, "error": error, "members": sum(p for _, p, _ in areas)})
        if found:
            out[column] = max(found, key=lambda one: one["auc"] - SURELY * one["error"])
    return out


def _hanley(area: float, members: int, strangers: int) -> float:
    """The standard error of an area."""
    one, two = area / (2 - area), 2 * area**2 / (1 + area)
    return float(np.sqrt(max(area * (1 - area) + (members - 1) * (one - area**2) + (strangers - 1) * (two - area**2), 1e-4) / (members * strangers)))


def report(parts: list[Fold], best: dict, powers: dict[str, float]) -> dict:
    """What the report shows of each attack: over all candidates, among the exposed, and its positive control."""
    out = {}
    for name in NAMES:
        rates = dict(zip(("tpr_at_1_fpr", "tpr_at_01_fpr"), (accused(parts, name, r) for r in RATES), strict=True))
        row: dict = {"control_auc": powers[name], "power": powers[name] > POWER} | rates
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
    train, synthetic, holdout = (sample(t, features.rows, rng) for t in (train, synthetic, holdout))
    parts = folds(train, holdout, synthetic, features, rng, control=True)
    held = {kind: min(int((f.member == side).sum()) for f in parts) for kind, side in (("members", True), ("strangers", False))}
    if min(held.values()) < LEAST // 2:
        return Score("privacy.membership", 0.0, -1.0, 1.0, 0.0, "low", "too few people have a row that no stranger has too", {"candidates": held})
    powers = {n: auc(v, parts[0].member)() for n, v in parts[0].control.items()}
    parts = together(parts, powers)
    powers[ENSEMBLE] = auc(parts[0].control[ENSEMBLE], parts[0].member)()
    able = [n for n in NAMES if powers[n] > POWER]
    every = strongest(parts, list(NAMES), np.random.default_rng(seed))
    best = strongest(parts, able, np.random.default_rng(seed)) if able else every
    fresh, rest = split(holdout, 2, rng)
    again = together(folds(train, rest, fresh, features, rng, control=False), {n: p for n, p in powers.items() if n != ENSEMBLE})
    yardstick = strongest(again, able or list(NAMES), rng)["value"]
    found = len(able) - (ENSEMBLE in able)
    power = None if found >= NEEDED else f"{found} of {len(NAMES) - 1} attacks find a verbatim copy, {NEEDED} are needed"
    groups = subgroups(parts, ENSEMBLE)
    worst = max(groups.values(), key=lambda g: g["auc"] - SURELY * g["error"], default=None)
    sure = {"all": best["value"], "exposed": best["certain"], "subgroup": 2 * (worst["auc"] - SURELY * worst["error"]) - 1 if worst else -1.0}
    group = max(sure, key=lambda name: (max(sure[name], 0.0), name == "all"))
    value = sure[group]
    candidates = {k: sum(int((f.member == s).sum()) for f in parts) for k, s in (("members", True), ("strangers", False))}
    details = {
        "candidates": candidates,
        "looked_at": looked_at({"synthetic": len(synthetic)} | candidates, there),
        "strongest": best["attack"],
        "group": group,
        "ran": len(parts[0].scores),
        "subgroups": groups,
        "correction": best["bias"],
        "certain_exposed": best["certain"],
        "attacks": report(parts, every, powers),
    }
    return Score("privacy.membership", value, min(value, best["low"]), max(value, best["high"]), yardstick, "low", power, details)
