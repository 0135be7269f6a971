"""What a report may draw of a column: shares in common bins that say nothing about a single person.

Bin edges are multiples of a round step, so no edge is anybody's value, and lie inside protected quantiles: at least
`rare_below` training subjects are beyond each end. A bin or a bar of fewer training subjects has no real share (None).
"""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa

from generators.data import Table
from validation.features import Features, numbers
from validation.resampling import people, shown

BINS = 24


def extremes(values: np.ndarray, subjects: np.ndarray, rare_below: int) -> tuple[float, float] | None:
    """The innermost values with `rare_below` subjects at or beyond them, low and high; None if there are too few."""
    ends = []
    for sign in (1, -1):
        order = np.argsort(sign * values, kind="stable")
        first = np.sort(np.unique(subjects[order], return_index=True)[1])
        if len(first) < rare_below:
            return None
        ends.append(values[order[first[rare_below - 1]]])
    return (float(ends[0]), float(ends[1])) if ends[0] <= ends[1] else None


def edges(low: float, high: float, whole: bool) -> np.ndarray:
    """Multiples of 1, 2 or 5 times a power of ten inside [low, high], at most about BINS of them; the middle where there are none."""
    width = (high - low) / BINS
    if width <= 0 or not math.isfinite(width):
        return np.array([])
    scale = 10.0 ** math.floor(math.log10(width))
    step = next(m * scale for m in (1, 2, 5, 10) if m * scale >= width * (1 - 1e-9))
    step = max(step, 1.0) if whole else step
    return np.arange(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1) * step


def shares(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """(edges + 1,) share of the non-null values below the first edge, between each two, and from the last on."""
    return np.bincount(np.searchsorted(at, values, side="right"), minlength=len(at) + 1) / max(1, len(values))


def bins(train: Table, synthetic: Table, name: str, rare_below: int) -> dict:
    """{edges, real, synthetic}: len(edges) + 1 shares of the non-null values; the first and last are all that is beyond."""
    whole = pa.types.is_integer(train.schema.arrow.field(name).type) or pa.types.is_temporal(train.schema.arrow.field(name).type)
    return bins_of(numbers(train, name), train.subjects, numbers(synthetic, name), rare_below, whole)


def bins_of(values: np.ndarray, subjects: np.ndarray, other: np.ndarray, rare_below: int, whole: bool) -> dict:
    """The same of training values (rows,), NaN where there is none, whose they are, and synthetic ones."""
    known = ~np.isnan(values)
    values, subjects, other = values[known], subjects[known], other[~np.isnan(other)]
    ends = extremes(values, subjects, rare_below) if len(values) else None
    at = edges(*ends, whole) if ends else np.array([])
    place = np.searchsorted(at, values, side="right")
    real = shown(shares(values, at), people(place, subjects, len(at) + 1), rare_below)
    return {"edges": at.tolist(), "real": real, "synthetic": shares(other, at).tolist()}


def bars(features: Features, train: Table, synthetic: Table, name: str, rare_below: int) -> dict:
    """{values, real, synthetic}: shares of the kept values, then of all rare ones together, then of null."""
    size = len(features.vocabulary[name]) + 2
    order = np.r_[2:size, 1, 0]
    real, other = (np.bincount(features.codes(t, name), minlength=size)[order] / max(1, len(t)) for t in (train, synthetic))
    held = people(features.codes(train, name), train.subjects, size)[order]
    values = [*features.vocabulary[name].to_pylist(), "(rare)", "(null)"]
    return {"values": values, "real": shown(real, held, rare_below), "synthetic": other.tolist()}
