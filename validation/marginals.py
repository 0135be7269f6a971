"""Are the columns one by one distributed as the real ones?

distance = max |F_train - F_synthetic| (Kolmogorov-Smirnov) for numbers and datetimes, nulls apart;
           1/2 sum |p_train - p_synthetic| (total variation) for categories and booleans, null being a value.
Score = 1 - the mean over the learned columns; no unit, 1 is equal.
"Column Shapes" of "Synthetic Data Metrics" (SDMetrics), DataCebo, 2022, https://docs.sdv.dev/sdmetrics/data-metrics/quality/quality-report:
KSComplement and TVComplement, but that TVComplement leaves nulls out. Of more than 512 values the less frequent ones are
told apart in groups.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from generators.data import Table
from validation.features import Features, labels, numbers, shared_codes
from validation.histograms import bars, bins
from validation.resampling import MOST, at_most, interval, too_few, weights
from validation.score import Score

DRAWS = 40


def ks(real: np.ndarray, other: np.ndarray):
    """The Kolmogorov-Smirnov distance of two samples (NaN left out) as a function of row weights, sorted once."""
    pooled = np.concatenate([real, other])
    order = np.argsort(pooled, kind="stable")[: int((~np.isnan(pooled)).sum())]
    last = np.append(pooled[order][1:] != pooled[order][:-1], True) if len(order) else np.zeros(0, bool)
    mine = order < len(real)

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        weight = np.concatenate([a, b])[order]
        up, down = np.cumsum(weight * mine), np.cumsum(weight * ~mine)
        if not len(order) or not up[-1] or not down[-1]:
            return float(bool(len(order)) and (up[-1] > 0) != (down[-1] > 0))
        return float(np.abs(up / up[-1] - down / down[-1])[last].max())

    return distance


def tv(real: pa.Array, other: pa.Array):
    """The total variation distance of two samples of strings (null is a value) as a function of row weights."""
    a_codes, b_codes, size = shared_codes(real, other)

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        p, q = np.bincount(a_codes, a, size), np.bincount(b_codes, b, size)
        if not p.sum() or not q.sum():
            return float("nan")  # nobody there
        return float(np.abs(p / p.sum() - q / q.sum()).sum() / 2)

    return distance


def distances(features: Features, train: Table, other: Table) -> dict:
    """For each learned column, its distance as a function of the row weights of both tables."""
    numeric = {n: ks(numbers(train, n), numbers(other, n)) for n in features.numeric}
    return numeric | {n: tv(labels(train, n), labels(other, n)) for n in features.category}


def shape(train: Table, holdout: Table, synthetic: Table, *, seed: int = 0, rare_below: int = 10) -> Score:
    """1 - mean distance of the columns; interval by bootstrap over the subjects of both tables."""
    rng = np.random.default_rng(seed)
    (train, holdout, synthetic), seen = at_most(MOST, rng, train=train, holdout=holdout, synthetic=synthetic)
    features = Features.of(train, rare_below)
    ones = [np.ones(len(t)) for t in (train, synthetic, holdout)]
    measure = distances(features, train, synthetic)
    each = {n: d(ones[0], ones[1]) for n, d in measure.items()}
    real = {n: d(ones[0], ones[2]) for n, d in distances(features, train, holdout).items()}
    value = 1 - float(np.mean(list(each.values()) or [0.0]))
    pairs = zip(weights(train.subjects, DRAWS, rng), weights(synthetic.subjects, DRAWS, rng), strict=True)
    drawn = [1 - np.mean([d(a, b) for d in measure.values()] or [0.0]) for a, b in pairs]
    columns = {}
    for name in each:
        kind = train.schema[name].kind
        pictures = bins(train, synthetic, name, rare_below) if name in features.numeric else bars(features, train, synthetic, name, rare_below)
        how = "ks" if name in features.numeric else "tv"
        columns[name] = {"kind": kind, "measure": how, "distance": each[name], "yardstick": real[name], **pictures}
    yardstick = 1 - float(np.mean(list(real.values()) or [0.0]))
    return Score(
        "fidelity.shape", value, *interval(value, drawn, 0, 1), yardstick, "high", too_few(train, holdout, synthetic), {"columns": columns, "looked_at": seen}
    )
