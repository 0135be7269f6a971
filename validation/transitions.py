"""Do the values of categories follow each other as in the real series?

transitions = 1 - mean over categories of the larger one of two distances,
    which:      1/2 sum over pairs (value, next other value) of |p_train - p_synthetic|, p the share of a pair among all changes
    how often:  |r_train - r_synthetic| / (r_train + r_synthetic), r the share of steps at which the value is another than before
No unit; 1 is equal. What stays the same for long is seen in `how often` alone, so that it does not hide which value comes next. As
many pairs are told apart as chance allows, one for 25 changes of the training series, the most frequent ones; the others are one.
Of fewer than 50 changes nothing is said of which.

"Statistical inference about Markov chains", T. Anderson, L. Goodman, 1957, https://doi.org/10.1214/aoms/1177707039
"""

from __future__ import annotations

import numpy as np

from generators.data import Table
from validation.features import labels, shared_codes
from validation.score import Score
from validation.series import Measure, judged

CHANGES, PAIRS = 25, 1000  # changes for a pair that is told apart, and such pairs at most: so chance alone costs 0.11


def transitions(train: Table, holdout: Table, synthetic: Table, *, seed: int = 0, rare_below: int = 10) -> Score:
    def measures(a: Table, b: Table) -> dict[str, Measure]:
        out = {}
        for name in a.schema.changing("category", "boolean"):
            ours, theirs, size = shared_codes(labels(a, name), labels(b, name))
            out[name] = _larger(_which(_moves(a, ours, size), _moves(b, theirs, size)), _often(a, ours, b, theirs))
        return out

    return judged("fidelity.transitions", train, holdout, synthetic, seed, measures)


def _changes(table: Table, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where steps follow one of the same subject, and where with another value; the later step of each."""
    later = np.flatnonzero(table.subjects[1:] == table.subjects[:-1]) + 1
    return later, later[codes[later] != codes[later - 1]]


def _moves(table: Table, codes: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A code for each change, and whose it is."""
    at = _changes(table, codes)[1]
    return codes[at - 1] * size + codes[at], table.subjects[at]


def _larger(one: Measure, other: Measure) -> Measure:
    return lambda wa, wb: float(np.fmax(one(wa, wb), other(wa, wb)))


def _which(ours: tuple[np.ndarray, np.ndarray], theirs: tuple[np.ndarray, np.ndarray]) -> Measure:
    pairs, counts = np.unique(ours[0], return_counts=True)
    kept = np.sort(pairs[np.argsort(-counts, kind="stable")[: min(len(ours[0]) // CHANGES, PAIRS)]])

    def cells(moves: np.ndarray) -> np.ndarray:
        at = np.searchsorted(kept, moves).clip(max=max(len(kept) - 1, 0))
        return np.where(kept[at] == moves, at, len(kept)) if len(kept) else np.zeros(len(moves), np.int64)

    mine, other = cells(ours[0]), cells(theirs[0])

    def distance(wa: np.ndarray, wb: np.ndarray) -> float:
        p, q = (np.bincount(cell, w[whose], len(kept) + 1) for cell, whose, w in ((mine, ours[1], wa), (other, theirs[1], wb)))
        if len(mine) < 2 * CHANGES or not p.sum():
            return float("nan")
        return float(np.abs(p / p.sum() - q / q.sum()).sum() / 2) if q.sum() else 1.0

    return distance


def _often(a: Table, ours: np.ndarray, b: Table, theirs: np.ndarray) -> Measure:
    parts = [(table.subjects[steps], table.subjects[moved]) for table, codes in ((a, ours), (b, theirs)) for steps, moved in [_changes(table, codes)]]

    def distance(wa: np.ndarray, wb: np.ndarray) -> float:
        rates = [w[moved].sum() / max(w[steps].sum(), 1e-9) for (steps, moved), w in zip(parts, (wa, wb), strict=True)]
        return float(abs(rates[0] - rates[1]) / sum(rates)) if sum(rates) > 0 else 0.0

    return distance
