"""Clock: when the steps of a series are. They come at equal distances, or each so long after the one before."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from generators.data import Column, Schema, Table
from generators.encoding.numeric import Numeric
from generators.encoding.scale import Scale
from generators.encoding.weekdays import Weekdays
from generators.layout import Field

EQUAL = 1e-6  # of a distance, by which equal ones may differ


class Clock:
    """Time is counted in the steps of its lattice (days of a date, say; of those of the week on which steps come), or as it is where it has
    none; see Scale and Weekdays.

    every: the distance of all steps, or None where it differs and `gap` has learned how
    """

    def __init__(self, rare_below: int):
        self.k = rare_below
        self.every: float | None = None
        self.gap: Numeric | None = None

    def fit(self, data: Table) -> Clock:
        values = data.column(data.schema.time)
        self.scale = Scale.of(values, data.subjects, self.k)
        self.days = Weekdays.of(self.scale.to_number(values)[0], data.subjects, self.scale, self.k)
        gaps, later = self._gaps(data)
        gaps = gaps[later]
        if not len(gaps) or np.ptp(gaps) <= EQUAL * gaps.max():
            self.every = float(gaps.mean()) if len(gaps) else 1.0
        else:
            self.gap = self._numeric(data.schema).fit(self._array(gaps), data.subjects[later])
        return self

    def _numeric(self, schema: Schema) -> Numeric:
        kind = pa.int64() if self.scale.step else pa.float64()
        return Numeric(Column(schema.time, "numeric", {"low": 1 if self.scale.step else None}), pa.field(schema.time, kind), self.k)

    def _array(self, gaps: np.ndarray) -> pa.ChunkedArray:
        return pa.chunked_array([pa.array(np.rint(gaps).astype(np.int64) if self.scale.step else gaps)])

    def _gaps(self, data: Table) -> tuple[np.ndarray, np.ndarray]:
        """(distance to the step before, 0 of a first step; whether it is none), (rows,) each."""
        moments, whose = self.days.count(self.scale.to_number(data.column(data.schema.time))[0]), data.subjects
        later = np.r_[False, whose[1:] == whose[:-1]]
        return np.where(later, np.diff(moments, prepend=moments[:1]), 0.0), later

    @property
    def fields(self) -> list[Field]:
        return self.gap.fields if self.gap else []

    def encode(self, data: Table, rng: np.random.Generator) -> np.ndarray:
        """(rows, own fields) float32. A first step has no distance: it gets that of another step, at random."""
        if self.gap is None:
            return np.zeros((len(data), 0), dtype=np.float32)
        gaps, later = self._gaps(data)
        x = self.gap.encode(self._array(np.where(later, gaps, gaps[later].max(initial=1))), rng)
        if later.any():
            x[~later] = x[rng.choice(np.flatnonzero(later), (~later).sum())]
        return x

    def decode(self, first: pa.ChunkedArray, x: np.ndarray, lengths: np.ndarray, rng: np.random.Generator) -> pa.Array:
        """When every step is, from when the first ones are, (series,), and the own fields of all steps, (sum of lengths, fields)."""
        start = np.cumsum(lengths) - lengths
        if self.gap is None:
            gaps = np.full(int(lengths.sum()), self.every)
        else:
            gaps = self.gap.decode(x, rng, 0).to_numpy(zero_copy_only=False).astype(np.float64)
            gaps = np.maximum(gaps, 1.0 if self.scale.step else EQUAL * max(float(np.median(gaps)), EQUAL)) if len(gaps) else gaps
        gaps[start] = 0
        total = np.cumsum(gaps)
        begin = self.days.count(self.days.settle(self.scale.to_number(first)[0], rng))
        moments = np.repeat(begin - total[start], lengths) + total
        return self.scale.to_arrow(self.days.day(moments), np.zeros(len(moments), dtype=bool))

    def state(self) -> dict:
        return {"scale": self.scale.state(), "days": self.days.open.tolist(), "every": self.every, "gap": self.gap and self.gap.state()}

    def restore(self, state: dict, schema: Schema) -> Clock:
        self.scale, self.every = Scale(schema.arrow.field(schema.time).type, **state["scale"]), state["every"]
        self.days = Weekdays(state["days"])
        if state["gap"] is not None:
            self.gap = self._numeric(schema).restore(state["gap"])
        return self
