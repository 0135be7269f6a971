"""Series as rows: what stays of a subject, and what its course is like, in one row that judges of tables can look at.

Of a number: mean, spread, least, most, first, last, mean of each third, how far it moves from step to step (mean and most),
correlation with itself 1, 2 and 4 steps before, how often it crosses its mean, and the share of steps without it. Of a category: first, last and
most frequent value, and the share of steps at which it changes. Of time: number of steps, mean and spread of the distances.
Numbers are rounded to hundredths of their spread in the training series, so that what holds only nearly (every mean is 0, say) is
no give-away of itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from generators.data import Column, Schema, Table
from validation.features import labels, numbers

LAGS = (1, 2, 4)
ROUND = 100


@dataclass(frozen=True)
class Summary:
    """Learned from the training series: in which steps each figure is rounded, and which are seen at all (those that are ever a number)."""

    step: dict[str, float]

    @classmethod
    def of(cls, train: Table) -> Summary:
        steps = {}
        for name, values in _figures(train).items():
            if name.endswith(_SHARES):
                steps[name] = 1 / ROUND
                continue
            spread = np.nanstd(_scale(train, name)) if np.isfinite(_scale(train, name)).any() else 0.0
            if np.isfinite(values).any():
                steps[name] = float(spread) / ROUND or 1.0
        return cls(steps)

    def table(self, series: Table) -> Table:
        """One row for each subject; windows keep their number."""
        schema, first = series.schema, np.cumsum(series.lengths) - series.lengths
        kept, subject = series.take(first), schema.subject if _stride(series) else None
        columns = [(schema[n], schema.arrow.field(n), kept.column(n).combine_chunks()) for n in [subject] * bool(subject) + list(schema.static)]
        for name, values in _figures(series).items():
            if name in self.step:
                values = np.round(np.round(values / self.step[name]) * self.step[name], 12)
                columns.append((Column(name, "numeric"), pa.field(name, pa.float64()), pa.array(values, from_pandas=True)))
        for name, values in _words(series).items():
            columns.append((Column(name, "category"), pa.field(name, pa.large_string()), values))
        arrow = pa.schema([field for _, field, _ in columns])
        target = schema.target if schema.target in schema.static else None
        return Table(pa.Table.from_arrays([v for _, _, v in columns], schema=arrow), Schema(arrow, tuple(c for c, _, _ in columns), subject, target))


def _stride(series: Table) -> int | None:
    """Of windows of one long series, how far they are from each other."""
    subject = series.schema.subject
    return series.schema[subject].options.get("stride") if subject else None


def apart(series: Table) -> Table:
    """Of windows of one long series those that do not overlap, since others are no strangers to each other; other series as they are."""
    stride = _stride(series)
    if stride is None or not len(series):
        return series
    every = -(-int(series.lengths[0]) // stride)
    number = numbers(series, series.schema.subject)
    own = Column(series.schema.subject, "id", {"stride": every * stride, "apart": True})
    columns = tuple(own if c.name == own.name else c for c in series.schema.columns)
    return Table(series.take((number - number.min()) % every == 0).values, replace(series.schema, columns=columns))


_SHARES = (": missing", ": crossings", ": changes", *(f": lag {lag}" for lag in LAGS))


def _scale(train: Table, figure: str) -> np.ndarray:
    """The values whose spread is the unit of a figure."""
    name = figure.rsplit(": ", 1)[0]
    return numbers(train, name) if name in train.schema.arrow.names and name != train.schema.time else _figures(train, name)[figure]


def gaps(table: Table) -> tuple[np.ndarray, np.ndarray]:
    """Distances of steps from those before, and whose they are; first steps have none."""
    times, whose = numbers(table, table.schema.time), table.subjects
    later = whose[1:] == whose[:-1]
    return np.diff(times)[later], whose[1:][later]


def _figures(table: Table, only: str | None = None) -> dict[str, np.ndarray]:
    """{"column: what": (subjects,)}, NaN where a series is too short."""
    n, time = len(table.lengths), table.schema.time
    out = {}
    if only in (None, time):
        distance, whose = gaps(table)
        mean, spread = _moments(distance, whose, n)
        out |= {f"{time}: steps": table.lengths.astype(float), f"{time}: distance": mean, f"{time}: spread of distances": spread}
    for name in table.schema.changing("numeric", "datetime"):
        if only in (None, name):
            out |= {f"{name}: {what}": figure for what, figure in _course(numbers(table, name), table.subjects, n).items()}
    for name in table.schema.changing("category", "boolean"):
        if only in (None, name):
            codes = labels(table, name).dictionary_encode(null_encoding="encode").indices.to_numpy(zero_copy_only=False)
            same = table.subjects[1:] == table.subjects[:-1]
            moved = np.bincount(table.subjects[1:][same], codes[1:][same] != codes[:-1][same], n)
            out[f"{name}: changes"] = _over(moved, table.lengths - 1)
    return out


def _course(x: np.ndarray, whose: np.ndarray, n: int) -> dict[str, np.ndarray]:
    """What one number does within each series: x (rows,), NaN where missing, whose (rows,) 0 .. n - 1, in order."""
    there = ~np.isnan(x)
    out = {"missing": 1 - _over(np.bincount(whose, there, n), np.bincount(whose, minlength=n))}
    x, whose = x[there], whose[there]
    held = np.bincount(whose, minlength=n)
    mean, spread = _moments(x, whose, n)
    out |= {"mean": mean, "spread": spread}
    start, some = np.cumsum(held) - held, held > 0
    for name, at in (("first", start), ("last", start + held - 1)):
        out[name] = _put(x[at[some]], some)
    for name, how in (("least", np.minimum), ("most", np.maximum)):
        out[name] = _put(how.reduceat(x, start[some]) if some.any() else np.zeros(0), some)
    within = (np.arange(len(x)) - start[whose]) / held[whose]
    for i, name in enumerate(("first third", "second third", "last third")):
        part = (within * 3).astype(int) == i
        out[name] = _over(np.bincount(whose[part], x[part], n), np.bincount(whose[part], minlength=n))
    same = whose[1:] == whose[:-1]
    moved, of = np.abs(np.diff(x))[same], whose[1:][same]
    out["mean move"] = _over(np.bincount(of, moved, n), np.bincount(of, minlength=n))
    most = np.full(n, -np.inf)
    np.maximum.at(most, of, moved)
    out["most move"] = np.where(np.isfinite(most), most, np.nan)
    away = x - mean[whose]
    power = np.bincount(whose, away**2, n)
    for lag in LAGS:
        pair = whose[lag:] == whose[:-lag]
        product = np.bincount(whose[lag:][pair], (away[lag:] * away[:-lag])[pair], n)
        out[f"lag {lag}"] = np.where((held > lag + 1) & (power > 1e-12), product / np.maximum(power, 1e-300), np.nan)
    crossed = (away[1:] > 0) != (away[:-1] > 0)
    out["crossings"] = _over(np.bincount(of, crossed[same], n), np.bincount(of, minlength=n))
    return out


def _words(table: Table) -> dict[str, pa.Array]:
    """{"column: first", ": last", ": most frequent"}: (subjects,) strings of the categories."""
    out, lengths, n = {}, table.lengths, len(table.lengths)
    start = np.cumsum(lengths) - lengths
    for name in table.schema.changing("category", "boolean"):
        words = labels(table, name)
        codes = words.dictionary_encode(null_encoding="encode")
        size = len(codes.dictionary)
        counts = np.unique(table.subjects * size + codes.indices.to_numpy(zero_copy_only=False), return_counts=True)
        order = np.lexsort((counts[0] % size, -counts[1], counts[0] // size))
        first = np.unique((counts[0] // size)[order], return_index=True)[1]
        words = words.cast(pa.large_string())
        out |= {f"{name}: first": words.take(pa.array(start)), f"{name}: last": words.take(pa.array(start + lengths - 1))}
        out[f"{name}: most frequent"] = codes.dictionary.take(pa.array((counts[0] % size)[order][first][:n])).cast(pa.large_string())
    return out


def _moments(x: np.ndarray, whose: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and spread of each series' values; NaN where it has none."""
    held = np.bincount(whose, minlength=n)
    mean = _over(np.bincount(whose, x, n), held)
    return mean, np.sqrt(_over(np.bincount(whose, (x - mean[whose]) ** 2, n), held))


def _over(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.full(len(a), np.nan), where=b > 0)


def _put(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    out = np.full(len(where), np.nan)
    out[where] = values
    return out
