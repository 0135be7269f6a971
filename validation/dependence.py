"""Do the columns hang together, two by two, as the real ones do?

Two numbers:    difference = |r_train - r_synthetic| / 2 (Pearson, rows where both are known).
Anything else:  difference = 1/2 sum |p_train - p_synthetic| over the cells of the two-way table, numbers in 10 equal
                bins of the training range (ends open), null being a value.
Score = 1 - the mean over the pairs; no unit, 1 is equal.
"Column Pair Trends" of "Synthetic Data Metrics" (SDMetrics), DataCebo, 2022,
https://docs.sdv.dev/sdmetrics/data-metrics/quality/quality-report:
CorrelationSimilarity and ContingencySimilarity, pair by pair the same numbers. Two things are ours: both tables use the bins of
the training table, where the SDMetrics report bins each table by its own range and so counts a shorter tail as lost dependence.
And of a category of more than 128 values the less frequent ones are told apart in groups.
"""

from __future__ import annotations

import itertools

import numpy as np

from generators.data import Table
from validation.features import Features, labels, numbers, shared_codes
from validation.resampling import MOST, at_most, interval, too_few, weights
from validation.score import Score

DRAWS, CELLS, WORST = 20, 10, 10
VALUES = 128  # of a category that are told apart, at most; the less frequent ones share a code


def binned(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """(rows,) int: which of the CELLS bins, the ends open; null is one more."""
    return np.where(np.isnan(values), len(at) + 1, np.searchsorted(at, values, side="right"))


def discrete(features: Features, train: Table, other: Table) -> tuple[np.ndarray, np.ndarray]:
    """(columns, rows) codes of both tables in the same coding; numbers in bins of the training range."""
    ours, theirs = [], []
    for name in features.numeric:
        values = numbers(train, name)
        known = values[~np.isnan(values)]
        at = np.histogram_bin_edges(known, CELLS)[1:-1] if len(known) else np.zeros(0)
        ours.append(binned(values, at))
        theirs.append(binned(numbers(other, name), at))
    for name in features.category:
        a, b, _ = shared_codes(labels(train, name), labels(other, name), VALUES)
        ours.append(a)
        theirs.append(b)
    return np.array(ours).reshape(-1, len(train)), np.array(theirs).reshape(-1, len(other))


def correlations(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(columns, columns) Pearson correlation, each pair on the rows where both are known; NaN where one is constant."""
    known = ~np.isnan(values)
    # centred and scaled first: the sums below would lose digits on datetimes
    centre, scale = (np.array([f(v[k]) if k.any() else 0.0 for v, k in zip(values.T, known.T, strict=True)]) for f in (np.mean, np.std))
    x = np.where(known, (values - centre) / np.where(scale > 0, scale, 1), 0.0)
    w = weight[:, None] * known
    n, sums = w.T @ known, (x * w).T @ known
    with np.errstate(all="ignore"):
        mean, square = sums / n, ((x * x * w).T @ known) / n
        cross = (x * w).T @ x / n - mean * mean.T
        variance = square - mean**2
        r = cross / np.sqrt(variance * variance.T)
    r[(variance < 1e-12) | (variance.T < 1e-12)] = np.nan
    return r


class Trends:
    """The pairwise differences of two tables as a function of their row weights."""

    def __init__(self, features: Features, train: Table, other: Table):
        self.count = len(features.numeric)
        self.codes = discrete(features, train, other)
        self.sizes = [int(max(a.max(initial=0), b.max(initial=0))) + 1 for a, b in zip(*self.codes, strict=True)]
        self.values = [np.column_stack([numbers(t, n) for n in features.numeric]) if features.numeric else None for t in (train, other)]

    def contingency(self, i: int, j: int, weights: tuple[np.ndarray, np.ndarray]) -> float:
        size = self.sizes[j]
        keys = [codes[i] * size + codes[j] for codes in self.codes]
        if self.sizes[i] * size > 1_000_000:  # many-valued columns: only the cells that occur
            at = np.unique(np.concatenate(keys), return_inverse=True)[1]
            keys = [at[: len(keys[0])], at[len(keys[0]) :]]
        cells = max(int(k.max(initial=0)) for k in keys) + 1
        p, q = (np.bincount(k, w, cells) / w.sum() for k, w in zip(keys, weights, strict=True))
        return float(np.abs(p - q).sum() / 2)

    def __call__(self, ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        """(columns, columns) differences in [0, 1], NaN where a correlation is not defined; the diagonal is 0."""
        size = len(self.sizes)
        difference = np.zeros((size, size))
        if self.count:
            r = [correlations(v, w) for v, w in zip(self.values, (ours, theirs), strict=True)]
            difference[: self.count, : self.count] = np.abs(r[0] - r[1]) / 2
        for i, j in itertools.combinations(range(size), 2):
            if j >= self.count:
                difference[i, j] = difference[j, i] = self.contingency(i, j, (ours, theirs))
        np.fill_diagonal(difference, 0)
        return difference


def summary(difference: np.ndarray) -> float:
    """1 - the mean over the pairs that are defined; 1 where there is none."""
    upper = difference[np.triu_indices(len(difference), 1)]
    return 1 - float(np.nanmean(upper)) if np.isfinite(upper).any() else 1.0


def dependence(train: Table, holdout: Table, synthetic: Table, *, seed: int = 0, rare_below: int = 10) -> Score:
    """1 - mean difference of the pairs; interval by bootstrap over the subjects of both tables."""
    rng = np.random.default_rng(seed)
    (train, holdout, synthetic), seen = at_most(MOST, rng, train=train, holdout=holdout, synthetic=synthetic)
    features = Features.of(train, rare_below)
    names = [*features.numeric, *features.category]
    ones = [np.ones(len(t)) for t in (train, synthetic, holdout)]
    trends = Trends(features, train, synthetic)
    matrix = trends(ones[0], ones[1])
    value = summary(matrix)
    pairs = zip(weights(train.subjects, DRAWS, rng), weights(synthetic.subjects, DRAWS, rng), strict=True)
    drawn = [summary(trends(a, b)) for a, b in pairs]
    real = Trends(features, train, holdout)(ones[0], ones[2])
    worst = sorted(itertools.combinations(range(len(names)), 2), key=lambda p: -np.nan_to_num(matrix[p]))[:WORST]
    plain = [[None if np.isnan(v) else float(v) for v in row] for row in matrix]
    pair = lambda i, j: {"columns": [names[i], names[j]], "difference": plain[i][j] or 0.0, "yardstick": float(np.nan_to_num(real[i, j]))}  # noqa: E731
    details = {"columns": names, "difference": plain, "worst": [pair(i, j) for i, j in worst], "looked_at": seen}
    return Score("fidelity.dependence", value, *interval(value, drawn, 0, 1), summary(real), "high", too_few(train, holdout, synthetic), details)
