"""SeriesEncoder: subjects, with what stays and with steps in time, as fields, and back. Protects by subject, as a TableEncoder does.

What stays (the static columns, when the first step is, and which columns are never filled) is a row of a table, and so is every step:
its columns, and how long after the step before it comes, unless all come at equal distances. Where every series has the same mean,
or the same mean and spread (because somebody standardised them), it is held by construction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from generators.base import Mechanism
from generators.data import DataError, Schema, Table
from generators.encoding.absence import Absence
from generators.encoding.clock import Clock
from generators.encoding.table import TableEncoder, numpy_stream
from generators.layout import Field, Given, Layout, Sequences, SeriesLayout, after, moments

CLASSES = 64  # of lengths, at most
SURE = 4.5  # standard deviations of noise above which somebody is taken to have one of many lengths
SAME = 1e-4  # of a column's spread, by which means or spreads of series that are the same may differ


class SeriesEncoder:
    """rare_below: values held by fewer subjects are neither kept nor reproduced (1 protects nothing)."""

    modality = "series"

    def __init__(self, rare_below: int = 10):
        self.rare_below = rare_below
        self.static, self.step = TableEncoder(rare_below), TableEncoder(rare_below)

    def fit(self, data: Table, *, rng: torch.Generator, avoid: Table | None = None, mechanism: Mechanism | None = None) -> SeriesEncoder:
        """avoid: more real rows, of which nothing is learned, but whose ids and personal data are not to be invented either.

        mechanism: what alone may tell something of the data: of lengths, and of what stays, one step and one distance of each series, any of them.
        Which columns are empty throughout, and which mean all series have, is then not looked for."""
        self.schema = data.schema
        if mechanism is not None:
            return self._told(data, mechanism, rng)
        self.spans = _spans(data.lengths, self.rare_below)
        self.clock = Clock(self.rare_below).fit(data)
        self.even, self.absence = _even(data), Absence(self.rare_below).fit(data)
        self.static.fit(self._people(data), rng=rng, avoid=avoid and self._people(avoid))
        self.step.fit(self._steps(data), rng=rng, avoid=avoid and self._steps(avoid), subjects=_whose(data))
        self._lay_out()
        return self

    def _told(self, data: Table, ask: Mechanism, rng: torch.Generator) -> SeriesEncoder:
        stay, change = len(self.schema.static) + 1, len(self.schema.changing())
        share, stream = ask.rest / (2 + stay + change), numpy_stream(rng)
        self.spans = _noisy_spans(data.lengths, ask.steps, ask.part(share, "how long series are"))
        self.clock, self.even, self.absence = Clock(self.rare_below).hear(data, ask.part(share, "when steps are"), stream), {}, Absence(self.rare_below)
        self.static.fit(_always(self._people(data), self.schema.time), rng=rng, mechanism=ask.part(stay * share if change else ask.rest, "what stays"))
        first, one = np.cumsum(data.lengths) - data.lengths, np.floor(stream.random(len(data.lengths)) * data.lengths).astype(np.int64)
        some = self._steps(data.take(first + one))
        self.step.fit(some, rng=rng, subjects=np.arange(len(some)), mechanism=ask.part(ask.rest, "steps") if change else ask)
        self._lay_out()
        return self

    def _people(self, data: Table) -> Table:
        """One row for each subject: who it is, what stays, and when its first step is."""
        schema = self.schema
        names = [n for n in schema.arrow.names if n in (schema.subject, schema.time, *schema.static)]
        first = np.cumsum(data.lengths) - data.lengths
        return _part(data, names, schema.subject).take(first)

    def _steps(self, data: Table) -> Table:
        """One row for each step, less what `_people` holds."""
        return _part(data, self.schema.changing(), None)

    def _lay_out(self) -> None:
        self.columns = self.static.columns | self.step.columns
        static = Layout((Field(classes=len(self.spans)), *after(1, self.static.layout.fields), *self.absence.fields))
        step = Layout((*self.clock.fields, *after(len(self.clock.fields), self.step.layout.fields)))
        if not len(step):
            raise DataError("no column changes within a subject, and steps come at equal distances; expected a table, or a column to learn")
        self.layout = SeriesLayout(static, step, self.spans)

    def encode(self, data: Table, *, rng: torch.Generator) -> Sequences:
        lengths = torch.from_numpy(data.lengths)
        held = torch.bucketize(lengths, torch.tensor([high for _, high in self.spans])).clamp_max(len(self.spans) - 1)  # the last: and more
        static = [held[:, None].float(), self.static.encode(self._people(data), rng=rng), torch.from_numpy(self.absence.encode(data))]
        steps = [torch.from_numpy(self.clock.encode(data, numpy_stream(rng))), self.step.encode(self._steps(data), rng=rng)]
        x = Sequences(torch.cat(static, 1), lengths, torch.cat(steps, 1))
        most = self.layout.longest
        if int(lengths.max()) > most:  # the few longest series, that nobody may be known by
            x = Sequences(x.static, lengths.clamp_max(most), x.steps[moments(lengths) < most])
        return x

    def decode(self, x: Sequences, *, rng: torch.Generator, start: int = 0) -> Table:
        """Series number start, start + 1, ... of a synthetic dataset."""
        _, static, absent = x.static.tensor_split([1, 1 + len(self.static.layout)], 1)
        people = self.static.decode(static, rng=rng, start=start)
        own = len(self.clock.fields)
        steps = self.step.decode(x.steps[:, own:], rng=rng, start=start * self.layout.longest)
        lengths, stream = x.lengths.numpy(), numpy_stream(rng)
        whose = np.repeat(np.arange(len(lengths)), lengths)
        values = {name: people.column(name).take(pa.array(whose)) for name in people.schema.arrow.names}
        values |= {name: self._made_even(name, steps.column(name), whose) for name in steps.schema.arrow.names}
        self.absence.decode(values, absent.numpy(), whose)
        values[self.schema.time] = self.clock.decode(people.column(self.schema.time), x.steps[:, :own].numpy(), lengths, stream)
        return Table(pa.Table.from_arrays([values[n] for n in self.schema.arrow.names], schema=self.schema.arrow), self.schema)

    def _made_even(self, name: str, values: pa.ChunkedArray, whose: np.ndarray) -> pa.ChunkedArray:
        """Every series of a column with the mean, and the spread, that all of the source's have."""
        if name not in self.even:
            return values
        mean, spread = self.even[name]
        x = values.to_numpy().astype(np.float64)
        found, own = _moments(x, whose)
        wider = np.divide(spread, own, out=np.ones_like(own), where=own > 0) if spread is not None else np.ones_like(own)
        return pa.chunked_array([pa.array((mean + (x - found[whose]) * wider[whose]), pa.float64()).cast(values.type)])

    def given(self, rows: Mapping[str, Sequence[Any] | Any], n: int) -> Given:
        """What n series are asked to hold: static column -> one value for all, or a list of n. Raises DataError where none can."""
        for name in rows:
            self._stays(name, "where")
        given = self.static.given(rows, n)
        beside = 1, len(self.absence.fields)
        pad = torch.nn.functional.pad
        return Given(pad(given.values, beside), pad(given.mask, beside))

    def classes(self, name: str) -> list[Any]:
        """The values that `balance:` makes equally frequent. Raises DataError for a column that has none."""
        self._stays(name, "balance")
        return self.static.classes(name)

    def _stays(self, name: str, key: str) -> None:
        stays = ", ".join(self.schema.static) or "there is none"
        if name == self.schema.subject:
            raise DataError(f"{key}: column {name!r} is the subject, of which new ones are invented; expected one that stays: {stays}")
        if name in self.schema.arrow.names and name not in self.schema.static:
            raise DataError(f"{key}: column {name!r} changes from step to step, expected one that stays: {stays}")

    def state(self) -> dict:
        return {
            "rare_below": self.rare_below, "schema": self.schema.to_json(), "spans": self.spans, "even": self.even,
            "absence": [self.absence.groups, self.absence.filled], "clock": self.clock.state(), "static": self.static.state(), "step": self.step.state(),
        }  # fmt: skip

    @classmethod
    def restore(cls, state: dict) -> SeriesEncoder:
        self = cls(state["rare_below"])
        self.schema, self.spans = Schema.from_json(state["schema"]), tuple((low, high) for low, high in state["spans"])
        self.even = {name: tuple(found) for name, found in state["even"].items()}
        self.absence = Absence(self.rare_below, *state["absence"])
        self.clock = Clock(self.rare_below).restore(state["clock"], self.schema)
        self.static, self.step = TableEncoder.restore(state["static"]), TableEncoder.restore(state["step"])
        self._lay_out()
        return self


def _whose(data: Table) -> np.ndarray:
    """(rows,): who holds the values of a step: its subject; where series are windows of one long series, its moment in that."""
    stride = data.schema[data.schema.subject].options.get("stride")
    if stride is None:
        return data.subjects
    first = np.cumsum(data.lengths) - data.lengths
    return data.subjects * stride + np.arange(len(data)) - first[data.subjects]


def _part(data: Table, names: list[str], subject: str | None) -> Table:
    schema = data.schema
    arrow = pa.schema([schema.arrow.field(n) for n in names])
    return Table(data.values.select(names), Schema(arrow, tuple(schema[n] for n in names), subject))


def _always(data: Table, name: str) -> Table:
    """The same, of a schema in which a column is never missing."""
    at = data.schema.arrow.names.index(name)
    arrow = data.schema.arrow.set(at, data.schema.arrow.field(name).with_nullable(False))
    return Table(data.values.cast(arrow), replace(data.schema, arrow=arrow))


def _spans(lengths: np.ndarray, k: int) -> tuple[tuple[int, int], ...]:
    """Numbers of steps (from, to), each span held by at least k series, and so many that there are not too many spans. A number that so
    many hold is a span of its own; fewer series beside it are taken for as long. The least and the most are such as k series reach."""
    ordered, k = np.sort(lengths), min(k, len(lengths))
    ends = sorted((int(ordered[k - 1]), int(ordered[-k])))
    least = max(k, len(lengths) / CLASSES * (len(np.unique(ordered)) > CLASSES))
    values, counts = np.unique(np.clip(lengths, *ends), return_counts=True)
    return _grouped(values.tolist(), counts.tolist(), lambda parts: least) or ((ends[0], ends[1]),)


def _noisy_spans(lengths: np.ndarray, most: int, ask: Mechanism) -> tuple[tuple[int, int], ...]:
    """The same from how many series have each number of steps up to the most there may be, as far as noise lets one tell."""
    told, sd = ask.counts(torch.from_numpy(np.bincount(lengths, minlength=most + 1)[1 : most + 1]).double(), 1.0).numpy(), ask.sd(1.0)
    many = max(float(told.sum()), 1.0) / CLASSES * (most > CLASSES)
    return _grouped(list(range(1, most + 1)), told.tolist(), lambda parts: max(SURE * sd * parts**0.5, many, 1.0)) or ((1, most),)


def _grouped(values: list[int], counts: list[float], least: Callable[[int], float]) -> tuple[tuple[int, int], ...]:
    """Spans of numbers, in order; least: what a span of so many numbers holds. What is left at the end is taken for the last span."""
    spans, pending = [], []
    for value, count in zip(values, counts, strict=True):
        held = sum(c for _, c in pending)
        if count >= least(1):
            spans += [(pending[0][0], pending[-1][0])] if pending and held >= least(len(pending)) else []
            spans, pending = [*spans, (value, value)], []
        elif held + count >= least(len(pending) + 1):
            spans, pending = [*spans, (pending[0][0] if pending else value, value)], []
        else:
            pending.append((value, count))
    return tuple(spans)


def _moments(x: np.ndarray, whose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x (steps,) of series whose (steps,) -> their means and spreads."""
    held = np.bincount(whose)
    mean = np.bincount(whose, x) / held
    return mean, np.sqrt(np.bincount(whose, (x - mean[whose]) ** 2) / held)


def _even(data: Table) -> dict[str, tuple[float, float | None]]:
    """Columns in which every series has the same mean, and that spread or None where that differs."""
    found = {}
    for name in data.schema.changing("numeric"):
        values = data.column(name)
        if not pa.types.is_floating(values.type) or values.null_count or data.lengths.min() < 3:
            continue
        x = values.to_numpy().astype(np.float64)
        mean, spread = _moments(x, data.subjects)
        if x.std() > 0 and np.ptp(mean) <= SAME * x.std() and len(mean) > 1:
            found[name] = (float(mean.mean()), float(spread.mean()) if np.ptp(spread) <= SAME * x.std() else None)
    return found
