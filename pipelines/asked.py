"""What an entry asks for, against the table that it names: columns, conditions, expectations, and how many rows."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from generators.data import DataError, Table
from pipelines.config import Entry, training_of
from pipelines.sheet import closest, name_of

CELL = 24  # bytes of memory that a published cell takes while it is judged
FEWEST = 100  # rows, and subjects: below this no judge can tell anything
KINDS = {"balance": ("category", "boolean"), "where": ("category", "boolean", "numeric", "datetime")}


def check(entry: Entry, table: Table) -> None:
    """Raises DataError, which names the key, for what this table cannot give."""
    _columns(entry, table)
    people = int(table.subjects.max(initial=-1)) + 1
    if entry.promise is not None:
        _promised(entry, table, people)
    if 2 * entry.rare_below > people:
        raise DataError(f"{entry.where}.privacy.rare_below: found {entry.rare_below}, expected at most half of the {people} subjects")
    _rows(entry, table)
    if entry.contract:
        from validation import contract

        contract.known(table, entry.contract)
    _conditions(entry, table)


def learned(entry: Entry, train: Table) -> None:
    """Raises DataError for a condition on a number or a date that lies beyond what enough subjects hold, so that no model learns it.

    Under differential privacy that is not known beforehand."""
    if entry.promise is not None:
        return
    from generators.encoding.numeric import Numeric

    for name, value in entry.sample.where.items():
        column = train.schema[name]
        if value is not None and column.kind in ("numeric", "datetime"):
            try:
                Numeric(column, train.schema.arrow.field(name), entry.rare_below).fit(train.column(name), train.subjects).request(value)
            except DataError as problem:
                raise DataError(f"{entry.where}.sample.where: {problem}") from None


def undeclared(table: Table) -> list[str]:
    """Names of columns that hold other values than their `values`. (Numbers beyond `low` and `high` are refused where they are read.)"""
    from generators.encoding.category import Category

    fields = zip(table.schema.columns, table.schema.arrow, strict=True)
    return [c.name for c, f in fields if "values" in c.options and Category(c, f, 1).strays(table.column(c.name))]


def _promised(entry: Entry, table: Table, people: int) -> None:
    """What is found in the data tells of them: kinds are declared. And delta is less than what giving one whole row away would take."""
    if entry.promise.delta >= 1 / people:
        raise DataError(f"{entry.where}.privacy.delta: found {entry.promise.delta:g}, expected far less than one over the number of subjects, {1 / people:.1g}")
    try:
        entry.promise.mechanism(training_of(entry))
    except DataError as problem:
        raise DataError(f"{entry.where}.privacy.{problem}") from None
    declared = entry.source.columns
    for column in table.schema.columns:
        options, where = declared.get(column.name, {}), f"{entry.where}.source.columns.{column.name}"
        role = column.name in (table.schema.subject, table.schema.time) or (table.schema.image and column.name == table.schema.target)
        known = role or column.kind == "image"  # by their part
        if "kind" not in options and not known:
            raise DataError(f"{where}: no kind is declared, expected one: to find it in the data would tell of them; `likeness init` writes what it finds")
        if column.kind == "pii" and "faker" not in options:
            raise DataError(f"{where}: no faker is declared, expected name, email, ...: to find it in the data would tell of them")


def _columns(entry: Entry, table: Table) -> None:
    """Every column that is named exists, and is of a kind that can be asked for."""
    known = table.schema.arrow.names
    named = {"sample.balance": [entry.sample.balance], "sample.where": entry.sample.where}
    named["contract"] = [given[key] for item in entry.contract for given in item.values() for key in given if key.startswith("column")]
    for key, names in named.items():
        for name in (n for value in names for n in (value if isinstance(value, list) else [value])):
            if name is not None and name not in known:
                raise DataError(f"{entry.where}.{key}: no column {name!r}{closest(name, known)}; the columns are {', '.join(known)}")
    for key, kinds in KINDS.items():
        for name in [entry.sample.balance] if key == "balance" else entry.sample.where:
            if name is not None and (kind := table.schema[name].kind) not in kinds:
                raise DataError(f"{entry.where}.sample.{key}: column {name!r} is of kind {kind}, expected one of {', '.join(kinds)}")
    if table.schema.time:
        for name in (*entry.sample.where, *([entry.sample.balance] if entry.sample.balance else [])):
            if name not in table.schema.static:
                stays = ", ".join(table.schema.static) or "there is none"
                raise DataError(f"{entry.where}.sample: column {name!r} changes within a subject, expected one that stays: {stays}")
    if entry.sample.balance in entry.sample.where:
        raise DataError(f"{entry.where}.sample: column {entry.sample.balance!r} stands under balance and where, expected only one of the two")


def _rows(entry: Entry, table: Table) -> None:
    """Enough rows, or series, for the judges, and no more than fit into memory with them."""
    key, found = ("subjects", entry.sample.subjects) if table.schema.time else ("rows", entry.sample.rows)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if found is None:
        return
    where = f"{entry.where}.sample.{key}"
    if found < FEWEST:
        raise DataError(f"{where}: found {found}, expected at least {FEWEST}: fewer cannot be judged; `likeness sample` draws as few as you like")
    pixels = 4 * table.values.schema.field(table.schema.image.name).type.byte_width if table.schema.image else 0
    each = pixels + len(table.schema.columns) * CELL * (float(table.lengths.mean()) if table.schema.time else 1.0)
    if (needed := found * each) > memory:
        raise DataError(f"{where}: found {found}, which take {needed / 1e9:.0f} GB to judge; expected at most {int(memory / each)} on this machine")


def _conditions(entry: Entry, table: Table) -> None:
    """A value is held by enough subjects to be learned; a number or a date need only lie within the column's range."""
    together = np.ones(len(table), dtype=bool)
    for name, value in entry.sample.where.items():
        where, column = f"{entry.where}.sample.where.{name}", table.column(name)
        if value is not None and table.schema[name].kind in ("numeric", "datetime"):
            _within(column, value, where)
            continue
        met = column.is_null() if value is None else pc.equal(_plain(column), _scalar(column, value, where))
        met = np.asarray(pc.fill_null(met, False))
        if len(np.unique(table.subjects[met])) < entry.rare_below:
            raise DataError(f"{where}: met by fewer than {entry.rare_below} subjects (rare_below), expected a value that more hold")
        together &= met
    if not together.any():
        raise DataError(f"{entry.where}.sample.where: no row meets all of its conditions together")


def _within(column: pa.ChunkedArray, value: Any, where: str) -> None:
    column = _plain(column)
    if not pa.types.is_temporal(column.type):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise DataError(f"{where}: found {name_of(value)}, expected a number")
        if pa.types.is_integer(column.type) and value != int(value):
            raise DataError(f"{where}: found {value!r}, which no row can meet; expected a whole number")
        column, value = column.cast(pa.float64(), safe=False), pa.scalar(float(value))
    else:
        value = _scalar(column, value, where)
    bounds = pc.min_max(column)
    if not (pc.less_equal(bounds["min"], value).as_py() and pc.less_equal(value, bounds["max"]).as_py()):
        raise DataError(f"{where}: found {str(value)!r}, which no row can meet; expected one within the column's range")


def _scalar(column: pa.ChunkedArray, value: Any, where: str) -> pa.Scalar:
    """The value in the type of the column; strings, truths and numbers are not taken for each other."""
    kind = _plain(column).type
    try:
        found = pa.scalar(value)
        alike = [
            (pa.types.is_string, lambda t: pa.types.is_string(t) or pa.types.is_large_string(t) or pa.types.is_temporal(t)),
            (pa.types.is_boolean, pa.types.is_boolean),
            (
                lambda t: pa.types.is_integer(t) or pa.types.is_floating(t),
                lambda t: pa.types.is_integer(t) or pa.types.is_floating(t) or pa.types.is_decimal(t),
            ),
            (pa.types.is_temporal, pa.types.is_temporal),
        ]
        if not any(of_value(found.type) and of_column(kind) for of_value, of_column in alike):
            raise pa.ArrowInvalid
        return found.cast(kind)
    except pa.ArrowException:
        raise DataError(f"{where}: found {name_of(value)}, expected a value of type {kind}") from None


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
