"""How much privacy is surely lost, measured: a lower bound of epsilon, from many models that learned a canary and many that did not.

Whoever may tell the two apart with a true-positive rate of t at a false-positive rate of f under (epsilon, delta) has
t <= e^epsilon f + delta, so  epsilon >= log((t - delta) / f),  and likewise with the roles changed. Rates are known from a finite
number of models: t by its lower and f by its upper limit (Clopper and Pearson), together at the confidence asked for. The bar above which
a score says "in" is chosen on half of the models, the rates are those of the others.

Auditing differentially private machine learning: how private is private SGD?; M. Jagielski, J. Ullman, A. Oprea; 2020; https://arxiv.org/abs/2006.07709
The use of confidence or fiducial limits illustrated in the case of the binomial; C. Clopper, E. Pearson; 1934; https://doi.org/10.1093/biomet/26.4.404
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
from scipy.stats import beta, binomtest, chi2
from torch import Tensor


def lower_bound(present: np.ndarray, absent: np.ndarray, delta: float, confidence: float = 0.95) -> float:
    """epsilon that is surely lost, 0 where nothing is. present, absent (models,): a score of each model that learned the canary, or did not.

    Raises ValueError for fewer than four models a side."""
    if min(len(present), len(absent)) < 4:
        raise ValueError(f"found {len(present)} models with the canary and {len(absent)} without, expected at least 4 of each")
    bars = np.unique(np.concatenate([present[::2], absent[::2]]))
    guesses = [(_told(present[::2], absent[::2], *how, delta, confidence), *how) for how in product(bars, (1, -1), (False, True))]
    best = max(guesses)[1:]
    return max(_told(present[1::2], absent[1::2], *best, delta, confidence), 0.0)


def _told(present: np.ndarray, absent: np.ndarray, bar: float, turn: int, swapped: bool, delta: float, confidence: float) -> float:
    """The bound where a score at or beyond the bar, above it or (turned) below, says "it is there", or (swapped) "it is not"."""
    right, wrong = (absent, present) if swapped else (present, absent)
    return _epsilon(*((int((turn * s >= turn * bar).sum()), len(s)) for s in (right, wrong)), delta, confidence)


def _epsilon(right: tuple[int, int], wrong: tuple[int, int], delta: float, confidence: float) -> float:
    """From (hits, of how many) and (false alarms, of how many)."""
    (hits, of), (alarms, among), tail = right, wrong, (1 - confidence) / 2
    least = float(beta.ppf(tail, hits, of - hits + 1)) if hits else 0.0
    most = float(beta.ppf(1 - tail, alarms + 1, among - alarms)) if alarms < among else 1.0
    return math.log((least - delta) / most) if least > delta else -math.inf


def by_chance(batches: Sequence[Tensor], rows: int, rate: float) -> float:
    """How likely batches like these are where every row comes into each with the same chance, whatever else does; p values of three tests, Bonferroni.

    That is what accounting takes for granted: sizes are binomial, how often a row comes is, and a row that was in a batch is in the next one as often
    as any other. Shuffled batches are all of one size, and of two neighbouring ones no row is in both.
    """
    there = np.zeros((len(batches), rows))
    for step, batch in enumerate(batches):
        there[step, np.asarray(batch)] = 1
    spread = [_spread(there.sum(axis), of, rate) for axis, of in ((1, rows), (0, len(batches)))]
    again, chances = (there[1:] * there[:-1]).sum(), (len(batches) - 1) * rows
    return min(3 * min(*spread, float(binomtest(int(again), chances, rate**2).pvalue)), 1.0)


def _spread(found: np.ndarray, of: int, rate: float) -> float:
    """p of counts that are binomial, by their variance about what is expected, two-sided."""
    statistic = float((((found - of * rate) ** 2) / (of * rate * (1 - rate))).sum())
    return 2 * min(float(chi2.sf(statistic, len(found))), float(chi2.cdf(statistic, len(found))))
