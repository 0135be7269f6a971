"""What a report draws of series: synthetic ones as they are, and of real ones aggregates, each of at least `rare_below` subjects."""

from __future__ import annotations

import numpy as np

from generators.data import Table
from validation.features import numbers

OVERLAID, POINTS, MOMENTS = 12, 200, 24  # synthetic series that are drawn, steps of each, and times at which the real ones' quantiles are
SHARES = (0.1, 0.5, 0.9)


def mean_of(figures: np.ndarray, least: int) -> list[float | None]:
    """Means of the columns of (subjects, figures) with gaps, where at least so many subjects have one."""
    figures = np.where(np.isfinite(figures), figures, np.nan)
    held = (~np.isnan(figures)).sum(0)
    return [float(np.nanmean(column)) if n >= least else None for column, n in zip(figures.T, held, strict=True)]


def lines(train: Table, synthetic: Table, name: str, rare_below: int) -> dict:
    """{series: [[time, value], ...] of the first synthetic ones, times, low, middle, high: quantiles of the real ones at times since the first
    step, between which about as many values lie, None where fewer than `rare_below` subjects are}."""
    since, values, whose = _since(train), numbers(train, name), train.subjects
    fake_since, fake = _since(synthetic), numbers(synthetic, name)
    there, first = ~np.isnan(values), np.cumsum(synthetic.lengths) - synthetic.lengths
    series = []
    for start, n in zip(first[:OVERLAID].tolist(), synthetic.lengths[:OVERLAID].tolist(), strict=True):
        part = slice(start, start + n, max(-(-n // POINTS), 1))
        known = ~np.isnan(fake[part])
        series.append(np.column_stack([fake_since[part], fake[part]])[known].tolist())
    needed = max(rare_below, 2) / SHARES[0]  # so that as many people lie beyond what is shown
    count = int(min(max(there.sum() // (1.2 * needed), 1), MOMENTS))
    ends = np.unique(np.quantile(since[there], np.linspace(0, 1, count + 1))) if there.any() else np.zeros(1)
    place = np.clip(np.searchsorted(ends, since[there], side="right") - 1, 0, max(len(ends) - 2, 0))
    times, found = [], {"low": [], "middle": [], "high": []}
    for i in range(len(ends) - 1):
        here = place == i
        some = len(np.unique(whose[there][here])) >= needed
        times.append(float(since[there][here].mean()) if some else None)
        for key, share in zip(found, SHARES, strict=True):
            found[key].append(float(np.quantile(values[there][here], share)) if some else None)
    return {"series": series, "times": times, **found}


def _since(table: Table) -> np.ndarray:
    """(rows,) time since the first step of the series."""
    times, first = numbers(table, table.schema.time), np.cumsum(table.lengths) - table.lengths
    return times - times[first][table.subjects]
