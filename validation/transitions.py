"""Do the values of categories follow each other as in the real series?

transitions = 1 - mean over categories of two distances,
    which:      1/2 sum over pairs (value, next other value) of |p_train - p_synthetic|, p the share of a pair among all changes; pairs that
                are less than a twentieth of the training series' changes are one
    how often:  |r_train - r_synthetic| / the larger one, r the share of steps at which the value is another than before
No unit; 1 is equal. What stays the same for long is seen in `how often` alone, so that it does not hide which value comes next; a
category that changes in fewer than 10 training series is judged by that alone.

The embedded chain of a process: "Statistical inference about Markov chains", T. Anderson, L. Goodman, 1957, https://doi.org/10.1214/aoms/1177707039
"""

from __future__ import annotations

import numpy as np

from generators.data import Table
from validation.features import labels, shared_codes
from validation.score import Score
from validation.series import FEW, Measure, judged
from validation.summary import changing

LEAST = 0.05  # share of the changes that a pair has a cell of its own from


def transitions(train: Table, holdout: Table, synthetic: Table, *, seed: int = 0, rare_below: int = 10) -> Score:
    def measures(a: Table, b: Table) -> dict[str, Measure]:
        out = {}
        for name in changing(a, "category", "boolean"):
            ours, theirs, size = shared_codes(labels(a, name), labels(b, name))
            out |= {f"{name}: which": _which(_moves(a, ours, size), _moves(b, theirs, size), size), f"{name}: how often": _often(a, ours, b, theirs)}
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


def _which(ours: tuple[np.ndarray, np.ndarray], theirs: tuple[np.ndarray, np.ndarray], size: int) -> Measure:
    kept, counts = np.unique(ours[0], return_counts=True)
    kept = kept[counts >= LEAST * counts.sum()]
    cell = np.full(size * size, len(kept))
    cell[kept] = np.arange(len(kept))
    few = len(np.unique(ours[1])) < FEW

    def distance(wa: np.ndarray, wb: np.ndarray) -> float:
        p, q = (np.bincount(cell[move], w[whose], len(kept) + 1) for (move, whose), w in ((ours, wa), (theirs, wb)))
        if few or not p.sum():
            return float("nan")
        return float(np.abs(p / p.sum() - q / q.sum()).sum() / 2) if q.sum() else 1.0

    return distance


def _often(a: Table, ours: np.ndarray, b: Table, theirs: np.ndarray) -> Measure:
    parts = [(table.subjects[steps], table.subjects[moved]) for table, codes in ((a, ours), (b, theirs)) for steps, moved in [_changes(table, codes)]]

    def distance(wa: np.ndarray, wb: np.ndarray) -> float:
        rates = [w[moved].sum() / max(w[steps].sum(), 1e-9) for (steps, moved), w in zip(parts, (wa, wb), strict=True)]
        return float(abs(rates[0] - rates[1]) / max(rates)) if max(rates) > 0 else 0.0

    return distance
