"""The nouns of a dataset: Column, Schema and Table. Everything else in the house passes these around.

A Table is Arrow values and what is known about them. It is frozen: every step makes a new one. Series are a Table too, whose
schema names a time: a row for each step, those of a subject together and in order of time. Images are a Table with one column of
kind image, whose values are the pixels as they stand in memory: fixed-size binary, row by row, channels last, 8 or 16 bits each.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

LEARNED = ("numeric", "category", "boolean", "datetime", "image")
INVENTED = ("id", "pii", "text")
KINDS = (*LEARNED, *INVENTED, "drop")


class DataError(ValueError):
    """Input that cannot be used. The message names the file, column or key, what was found and what was expected."""


@dataclass(frozen=True)
class Column:
    """What a column is. `kind` is one of KINDS; `options` are the declared ones (low, high, faker, ...)."""

    name: str
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        if self.kind not in KINDS:
            raise DataError(f"column {self.name!r}: kind is {self.kind!r}, expected one of {', '.join(KINDS)}")


@dataclass(frozen=True)
class Schema:
    """The exact Arrow schema of the published table, the kind of every column, and which column plays which part.

    time:   of series, which column says when; None of a table
    static: of series, the columns that are the same in all steps of a subject
    """

    arrow: pa.Schema
    columns: tuple[Column, ...]
    subject: str | None = None
    target: str | None = None
    time: str | None = None
    static: tuple[str, ...] = ()

    def __post_init__(self):
        names = [c.name for c in self.columns]
        if names != self.arrow.names:
            raise DataError(f"columns are {names}, expected those of the Arrow schema, {self.arrow.names}")
        for role in ("subject", "target", "time"):
            if getattr(self, role) is not None and getattr(self, role) not in names:
                raise DataError(f"{role}: no column {getattr(self, role)!r}; the columns are {', '.join(names)}")

    def __getitem__(self, name: str) -> Column:
        return self.columns[self.arrow.names.index(name)]

    @property
    def image(self) -> Column | None:
        """Of images, the column that holds them."""
        return next((c for c in self.columns if c.kind == "image"), None)

    def kinds(self, *kinds: str) -> list[str]:
        """Names of the columns of these kinds, in order."""
        return [c.name for c in self.columns if c.kind in kinds]

    def changing(self, *kinds: str) -> list[str]:
        """Of series: names of the columns, of these kinds or of any, that change from step to step, less the time."""
        return [n for n in (self.kinds(*kinds) if kinds else self.arrow.names) if n not in (self.subject, self.time, *self.static)]

    def to_json(self) -> dict:
        return {
            "arrow": base64.b64encode(self.arrow.serialize().to_pybytes()).decode(),
            "columns": [{"name": c.name, "kind": c.kind, "options": dict(c.options)} for c in self.columns],
            "subject": self.subject,
            "target": self.target,
            "time": self.time,
            "static": list(self.static),
        }

    @classmethod
    def from_json(cls, state: Mapping) -> Schema:
        arrow = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(state["arrow"])))
        return cls(arrow, tuple(Column(**c) for c in state["columns"]), state["subject"], state["target"], state["time"], tuple(state["static"]))


@dataclass(frozen=True)
class Table:
    """Rows and their schema. NaN is null: `of` turns every NaN of a float column into a null."""

    values: pa.Table
    schema: Schema

    def __post_init__(self):
        for found, column in zip(self.values.schema, self.schema.arrow, strict=True):
            if (found.name, found.type) != (column.name, column.type):
                raise DataError(f"column {found.name!r}: holds {found.type}, expected {column.name!r} of type {column.type}")

    @classmethod
    def of(cls, values: pa.Table, schema: Schema) -> Table:
        values = values.select(schema.arrow.names)
        for i, column in enumerate(schema.arrow):
            if pa.types.is_floating(column.type):
                data = values.column(i)
                nan = pc.fill_null(pc.is_nan(data), False)
                if pc.any(nan).as_py():
                    values = values.set_column(i, column.with_nullable(True), pc.if_else(nan, pa.scalar(None, column.type), data))
        return cls(values, schema)

    def __len__(self) -> int:
        return self.values.num_rows

    def column(self, name: str) -> pa.ChunkedArray:
        return self.values.column(self.schema.arrow.names.index(name))

    def take(self, rows: np.ndarray) -> Table:
        """The rows at these positions (int array) or where this mask is true (bool array), in order."""
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        return Table(self.values.take(pa.array(rows)), self.schema)

    def open(self) -> Table:
        """The same, of a schema in which every column may be missing, and which says nothing beside."""
        arrow = pa.schema([f.with_nullable(True).remove_metadata() for f in self.schema.arrow])
        return Table(self.values, replace(self.schema, arrow=arrow))

    @cached_property
    def lengths(self) -> np.ndarray:
        """(subjects,) int64: how many rows each subject has."""
        return np.bincount(self.subjects)

    @cached_property
    def subjects(self) -> np.ndarray:
        """(rows,) int64: whose row it is, numbered from 0. Without a subject column each row is its own; so is a null."""
        if self.schema.subject is None:
            return np.arange(len(self))
        column = self.column(self.schema.subject).combine_chunks()
        if isinstance(column, pa.DictionaryArray):
            column = column.dictionary_decode()
        codes = pc.dictionary_encode(column)
        codes = codes.combine_chunks() if isinstance(codes, pa.ChunkedArray) else codes
        numbers = codes.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        orphan = numbers < 0
        numbers[orphan] = numbers.max(initial=-1) + 1 + np.arange(orphan.sum())
        return numbers


def some_of_each(table: Table, rows: int) -> Table:
    """At most so many rows of each subject, any of them: which ones, the operating system draws."""
    order = np.random.default_rng(int.from_bytes(os.urandom(16))).permutation(len(table))
    order = order[np.argsort(table.subjects[order], kind="stable")]
    first = np.searchsorted(table.subjects[order], table.subjects[order])
    return table.take(np.sort(order[np.arange(len(order)) - first < rows]))


def first_of_each(table: Table, steps: int) -> Table:
    """Series of which each ends after so many steps, at most."""
    first = np.cumsum(table.lengths) - table.lengths
    return table.take(np.arange(len(table)) - first[table.subjects] < steps)


def image_column(name: str, pixels: np.ndarray) -> tuple[Column, pa.Array]:
    """Pixels (n, height, width) or (n, height, width, channels), uint8 or uint16, as a column of a Table and its values."""
    if pixels.dtype not in (np.uint8, np.uint16) or pixels.ndim not in (3, 4):
        raise DataError(f"column {name!r}: found pixels of type {pixels.dtype} with {pixels.ndim} dimensions, expected uint8 or uint16 with 3 or 4")
    pixels = pixels[..., None] if pixels.ndim == 3 else pixels
    n, height, width, channels = pixels.shape
    if channels not in (1, 3):
        raise DataError(f"column {name!r}: found {channels} channels, expected 1 (grey) or 3 (red, green, blue)")
    options = {"height": height, "width": width, "channels": channels, "bits": 8 * pixels.dtype.itemsize}
    size = height * width * channels * pixels.dtype.itemsize
    raw = pa.py_buffer(np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("<"), copy=False)))
    return Column(name, "image", options), pa.Array.from_buffers(pa.binary(size), n, [None, raw])


def pixels_of(table: Table) -> np.ndarray:
    """Pixels of a Table of images, (n, height, width, channels) uint8 or uint16."""
    column = table.schema.image
    options = column.options
    shape, kind = (options["height"], options["width"], options["channels"]), np.dtype(f"<u{options['bits'] // 8}")
    chunks = []
    for chunk in table.column(column.name).chunks:
        size = chunk.type.byte_width
        raw = np.frombuffer(chunk.buffers()[1], np.uint8)[chunk.offset * size : (chunk.offset + len(chunk)) * size]
        chunks.append(raw.view(kind).reshape(-1, *shape))
    return np.concatenate(chunks) if chunks else np.zeros((0, *shape), kind)


def to_local(times: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Dates and timestamps without nulls -> (days since 1970, units of the type since midnight), int64, by the clocks of their own zone."""
    raw = np.concatenate([_whole(c) for c in times.chunks]) if times.num_chunks else np.zeros(0, np.int64)
    if pa.types.is_timestamp(times.type) and times.type.tz:
        raw = _raw(_index(raw, times.type).tz_localize("UTC").tz_convert(pa.lib.string_to_tzinfo(times.type.tz)), times.type)
    return np.divmod(raw, units_a_day(times.type))


def from_local(days: np.ndarray, since: np.ndarray, kind: pa.DataType) -> pa.Array:
    """And back; an hour that a change of the clocks leaves out becomes the next one, of one that comes twice the first is meant."""
    raw = days.astype(np.int64) * units_a_day(kind) + since.astype(np.int64)
    if pa.types.is_timestamp(kind) and kind.tz:
        zone = pa.lib.string_to_tzinfo(kind.tz)
        raw = _raw(_index(raw, kind).tz_localize(zone, ambiguous=np.ones(len(raw), bool), nonexistent="shift_forward").tz_convert("UTC"), kind)
    return pa.array(raw.astype(np.int32) if kind.bit_width == 32 else raw).view(kind)


def _index(raw: np.ndarray, kind: pa.TimestampType) -> Any:
    """Units of the type since 1970 as pandas has them; of the first and the last days of the calendar, which no zone may leave, those within."""
    import pandas as pd

    if kind.unit != "ns":  # whose calendar ends before
        raw = raw.clip(*(np.array([day], f"datetime64[{kind.unit}]").view(np.int64)[0] for day in ("0001-01-03", "9999-12-29")))
    return pd.DatetimeIndex(raw.view(f"datetime64[{kind.unit}]"))


def _raw(index: Any, kind: pa.TimestampType) -> np.ndarray:
    return index.tz_localize(None).as_unit(kind.unit).to_numpy().view(np.int64)


def units_a_day(kind: pa.DataType) -> int:
    """Of dates and timestamps."""
    if pa.types.is_date(kind):
        return 1 if kind.bit_width == 32 else 86_400_000
    return 86_400 * {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit]


def _whole(times: pa.Array) -> np.ndarray:
    return times.view(pa.int32() if times.type.bit_width == 32 else pa.int64()).to_numpy(zero_copy_only=False).astype(np.int64)
