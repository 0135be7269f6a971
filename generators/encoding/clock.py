"""Clock: when the steps of a series are. They come at equal distances, or each so long after the one before."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from generators.base import Mechanism
from generators.data import Column, Schema, Table, from_local, to_local, units_a_day
from generators.encoding import told
from generators.encoding.days import Months, Weekdays, days_of
from generators.encoding.numeric import END, Numeric
from generators.encoding.scale import Scale
from generators.layout import Field, after

EQUAL = 1e-6  # of a distance, by which equal ones may differ
APART = 0.9  # share of steps that come on another day than the step before, from which days and times of day are told apart
FINENESS = 0.1  # share of what may be told of time that goes to how finely it is written
ENOUGH = 140  # steps from which days of the week are


class Clock:
    """Time is counted in the steps of its lattice, or as it is where it has none; see Scale. Dates, and timestamps of steps that mostly come
    on days of their own, are counted in days of the week on which steps come at all, or in months if they come on one day of those, by the
    clocks of their own zone; and every step has a time of day, unless all have the same.

    every: the distance of all steps, or None where it differs and `gap` has learned how
    hour:  has learned times of day, or None where that is `always`
    """

    def __init__(self, rare_below: int):
        self.k = rare_below
        self.every: float | None = None
        self.gap: Numeric | None = None
        self.days: Weekdays | Months | None = None
        self.hour: Numeric | None = None
        self.always = 0
        self.told = False  # by a mechanism

    def fit(self, data: Table) -> Clock:
        values = data.column(data.schema.time)
        self.scale = Scale.of(values, data.subjects, self.k)
        if pa.types.is_date(values.type) or pa.types.is_timestamp(values.type):
            day, since = to_local(values)
            new = np.diff(day)[data.subjects[1:] == data.subjects[:-1]] > 0
            if len(data) >= ENOUGH and len(new) and new.mean() >= APART and len(data.lengths) >= self.k:
                self.days = days_of(day)
                if not np.ptp(since):
                    self.always = int(since[0])
                else:
                    self.hour = self._hours(data.schema).fit(pa.chunked_array([pa.array(since)]), data.subjects)
        gaps, later = self._gaps(data)
        gaps = gaps[later]
        if not len(gaps) or np.ptp(gaps) <= EQUAL * gaps.max():
            self.every = float(gaps.mean()) if len(gaps) else 1.0
        else:
            self.gap = self._numeric(data.schema).fit(self._array(gaps), data.subjects[later])
        return self

    def hear(self, data: Table, ask: Mechanism, rng: np.random.Generator) -> Clock:
        """The same from what a mechanism tells of one moment of each series, and one distance, any of them; days of the week are not told apart."""
        self.told = True
        values, whose, first = data.column(data.schema.time), data.subjects, np.cumsum(data.lengths) - data.lengths
        any_of = lambda of: np.floor(np.random.default_rng(rng.integers(2**62)).random(len(first)) * of).astype(np.int64)  # noqa: E731
        self.scale = told.scale(values.take(pa.array(first + any_of(data.lengths))), ask.part(FINENESS, "how finely time is written"))
        gaps, _ = self._gaps(data)
        one = (first + 1 + any_of(data.lengths - 1))[data.lengths > 1]
        self.gap = self._numeric(data.schema, self._most(data.schema)).fit(self._array(gaps[one]), whose[one], ask.part(ask.rest, "distances"))
        return self

    def _most(self, schema: Schema) -> float | None:
        """The longest distance that the declared bounds of time leave, in steps of the lattice."""
        options = schema[schema.time].options
        return self.scale.number(options["high"]) - self.scale.number(options["low"]) if {"low", "high"} <= set(options) else None

    @property
    def _whole(self) -> bool:
        """Whether distances are whole numbers."""
        return self.days is not None or bool(self.scale.step)

    @property
    def _least(self) -> int:
        """The least whole number that one may be: some steps come on the same day."""
        return 0 if self.hour else 1

    def _numeric(self, schema: Schema, most: float | None = None) -> Numeric:
        kind = pa.int64() if self._whole else pa.float64()
        bounds = {"low": self._least if self._whole else None if most is None else 0.0, "high": most}
        return Numeric(Column(schema.time, "numeric", bounds), pa.field(schema.time, kind, nullable=False), self.k)

    def _hours(self, schema: Schema) -> Numeric:
        most = units_a_day(schema.arrow.field(schema.time).type) - 1
        return Numeric(Column(schema.time, "numeric", {"low": 0, "high": most}), pa.field(schema.time, pa.int64(), nullable=False), self.k)

    def _array(self, gaps: np.ndarray) -> pa.ChunkedArray:
        return pa.chunked_array([pa.array(np.rint(gaps).astype(np.int64) if self._whole else gaps)])

    def _gaps(self, data: Table) -> tuple[np.ndarray, np.ndarray]:
        """(distance to the step before, 0 of a first step; whether it is none), (rows,) each."""
        values, whose = data.column(data.schema.time), data.subjects
        moments = self.scale.to_number(values)[0] if self.days is None else self.days.count(to_local(values)[0]).astype(np.float64)
        later = np.r_[False, whose[1:] == whose[:-1]]
        return np.where(later, np.diff(moments, prepend=moments[:1]), 0.0), later

    @property
    def fields(self) -> list[Field]:
        gap = self.gap.fields if self.gap else []
        return [*gap, *after(len(gap), self.hour.fields)] if self.hour else gap

    def encode(self, data: Table, rng: np.random.Generator) -> np.ndarray:
        """(rows, own fields) float32. A first step has no distance: it gets that of another step, at random; where noisy counts told, any."""
        parts = [np.zeros((len(data), 0), dtype=np.float32)]
        if self.gap is not None:
            gaps, later = self._gaps(data)
            x = self.gap.encode(self._array(np.where(later, gaps, 1.0 if self.told else gaps[later].max(initial=1))), rng)
            if self.told:  # anybody's distance there would tell of him as often as there are others
                x[~later] = self._any(int((~later).sum()), rng)
            elif later.any():
                x[~later] = x[rng.choice(np.flatnonzero(later), (~later).sum())]
            parts.append(x)
        if self.hour is not None:
            parts.append(self.hour.encode(pa.chunked_array([pa.array(to_local(data.column(data.schema.time))[1])]), rng))
        return np.concatenate(parts, 1)

    def _any(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """(n, fields of a distance): any number that may be drawn, or the first code where there is none, whatever the data are."""
        x = np.zeros((n, len(self.gap.fields)), dtype=np.float32)
        if not self.gap.fields[-1].classes:
            x[:, -1] = np.clip(rng.standard_normal(n), -END, END)
        return x

    def decode(self, first: pa.ChunkedArray, x: np.ndarray, lengths: np.ndarray, rng: np.random.Generator) -> pa.Array:
        """When every step is, from when the first ones are, (series,), and the own fields of all steps, (sum of lengths, fields)."""
        start, own = np.cumsum(lengths) - lengths, len(self.gap.fields) if self.gap else 0
        if self.gap is None:
            gaps = np.full(int(lengths.sum()), self.every)
        else:
            gaps = self.gap.decode(x[:, :own], rng, 0).to_numpy(zero_copy_only=False).astype(np.float64)
            gaps = np.maximum(gaps, self._least if self._whole else EQUAL * max(float(np.median(gaps)), EQUAL)) if len(gaps) else gaps
        gaps[start] = 0
        total = np.cumsum(gaps)
        if self.days is None:
            moments = np.repeat(self.scale.to_number(first)[0] - total[start], lengths) + total
            return self.scale.to_arrow(moments, np.zeros(len(moments), dtype=bool))
        begin = self.days.count(self.days.settle(to_local(first)[0], rng))
        whose = np.repeat(np.arange(len(lengths)), lengths)
        day = self.days.day(np.repeat(begin - total[start], lengths) + total)
        day = day if self.gap is None else self.days.lean(day, whose, rng, self._least)
        if self.hour is None:
            return from_local(day, np.full(len(day), self.always), self.scale.type)
        since = self.hour.decode(x[:, own:], rng, 0).to_numpy(zero_copy_only=False)
        return self._in_order(day, since, whose)

    def _in_order(self, day: np.ndarray, since: np.ndarray, whose: np.ndarray) -> pa.Array:
        """Steps at these times of day, sorted within a day; those that are not later than the one before, moved on."""
        kind = self.scale.type
        times = from_local(day, since[np.lexsort((since, day, whose))], kind)
        raw, same = times.view(pa.int64()).to_numpy(zero_copy_only=False).copy(), np.r_[False, whose[1:] == whose[:-1]]
        while (late := np.r_[False, raw[1:] <= raw[:-1]] & same).any():
            raw[late] = raw[np.flatnonzero(late) - 1] + max(self.hour.scale.step, 1)
        return pa.array(raw).view(kind)

    def state(self) -> dict:
        return {
            "scale": self.scale.state(), "days": self.days and self.days.state(), "always": self.always, "every": self.every,
            "hour": self.hour and self.hour.state(), "gap": self.gap and self.gap.state(), "told": self.told,
        }  # fmt: skip

    def restore(self, state: dict, schema: Schema) -> Clock:
        self.scale, self.every = Scale(schema.arrow.field(schema.time).type, **state["scale"]), state["every"]
        self.days = state["days"] and (Months if "on" in state["days"] else Weekdays)(**state["days"])
        self.always, self.told = state["always"], state.get("told", False)
        if state["hour"] is not None:
            self.hour = self._hours(schema).restore(state["hour"])
        if state["gap"] is not None:
            self.gap = self._numeric(schema).restore(state["gap"])
        return self
