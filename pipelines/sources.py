"""Sources: what an entry names, as a Table with the exact Arrow schema, the kind of every column, and a split by subject."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from generators.data import LEARNED, DataError, Schema, Table
from pipelines import reading
from pipelines.config import Entry, Source
from pipelines.sheet import closest

FEWEST = 100  # rows, and subjects: below this no judge can tell anything
FEWEST_HELD_OUT = 20
CELL = 24  # bytes of memory that a published cell takes while it is judged


def load(source: Source, *, root: Path = Path()) -> Table:
    """Read a source whole, find the kind of each of its columns, and refuse what cannot be learned from."""
    return of_values(read(source, root=root), source)


def of_values(values: pa.Table, source: Source) -> Table:
    """The same for values that were read already."""
    from privacy.disclosure import detect

    target = role(source, "target")
    try:
        _enough(values.num_rows, "rows")
        columns = detect(values, source.columns, subject=source.subject, target=target)
        kept = tuple(c for c in columns if c.kind != "drop")
        values = values.select([c.name for c in kept])
        _finite(values)
        if not any(c.kind in LEARNED for c in kept):
            raise DataError(f"no column to learn from, expected at least one that is {', '.join(LEARNED)}")
        table = _table(values, kept, source.subject, target)
        _enough(int(table.subjects.max()) + 1, "subjects")
    except DataError as error:
        raise DataError(f"{source.location}: {error}") from None
    return table


def read(source: Source, *, root: Path = Path()) -> pa.Table:
    """The values of a source as they are, before any kind is known."""
    if source.kind == "dataset":
        return reading.dataset(source.location)
    numeric = [name for name, options in source.columns.items() if options.get("kind") == "numeric"]
    return reading.read(source.location, root, numeric)


def role(source: Source, name: str) -> str | None:
    """The target or subject of a source; scikit-learn's data come with a target."""
    default = reading.DATASETS[source.location] if source.kind == "dataset" and name == "target" else None
    return getattr(source, name) or default


def load_split(entry: Entry) -> tuple[Table, Table]:
    """(train, holdout) of an entry, after what its `sample:` and `contract:` ask was checked against the columns."""
    table = load(entry.source, root=entry.root)
    check_request(entry, table)
    if not isinstance(entry.holdout, Source):
        return split(table, entry.holdout, entry.seed)
    label = f"holdout: {entry.holdout.location}"
    values = read(entry.holdout, root=entry.root)
    for column in table.schema.arrow:
        if column.name not in values.column_names:
            raise DataError(f"{label}: no column {column.name!r}, expected those of the source")
        values = reading.fit(values, column, label)
    values = values.select(table.schema.arrow.names)
    if values.num_rows < FEWEST_HELD_OUT:
        raise DataError(f"{label}: found {values.num_rows} rows, expected at least {FEWEST_HELD_OUT}")
    _finite(values)
    holdout = Table.of(values, table.schema)
    if holdout.values.equals(table.values):
        raise DataError(f"{label}: holds the very rows of the source, expected rows that it does not hold")
    return table, holdout


def split(table: Table, holdout: float, seed: int) -> tuple[Table, Table]:
    """(train, holdout), parted by subject: all rows of a subject stand on one side. Same seed, same split."""
    count = int(table.subjects.max(initial=-1)) + 1
    held = round(count * holdout)
    if min(held, count - held) < FEWEST_HELD_OUT:
        raise DataError(f"holdout: {holdout} of {count} subjects is {held}, expected at least {FEWEST_HELD_OUT} on each side")
    chosen = np.zeros(count, dtype=bool)
    chosen[np.random.default_rng(seed).permutation(count)[:held]] = True
    mask = chosen[table.subjects]
    return table.take(~mask), table.take(mask)


def fingerprint(source: Source, *, root: Path = Path()) -> str:
    """sha256 of the content: of the bytes of each part, in order of name. Names and times do not count."""
    total = hashlib.sha256()
    if source.kind == "dataset":
        values = reading.dataset(source.location)
        with pa.BufferOutputStream() as sink, pa.ipc.new_stream(sink, values.schema) as stream:
            stream.write_table(values)
        return hashlib.sha256(sink.getvalue()).hexdigest()
    for fs, path in reading.parts(source.location, root):
        with reading.problems(path), fs.open(path, "rb") as file:
            part = hashlib.sha256()
            while block := file.read(1 << 20):
                part.update(block)
        total.update(part.digest())
    return total.hexdigest()


def check_request(entry: Entry, table: Table) -> None:
    """Columns and expectations that `sample:` and `contract:` name exist, some row meets the conditions, and the rows asked for fit into memory."""
    known = table.schema.arrow.names
    named = {"sample.balance": [entry.sample.balance], "sample.where": entry.sample.where}
    named["contract"] = [given[key] for item in entry.contract for given in item.values() for key in given if key.startswith("column")]
    for key, names in named.items():
        for name in (n for value in names for n in (value if isinstance(value, list) else [value])):
            if name is not None and name not in known:
                raise DataError(f"{entry.name}.{key}: no column {name!r}{closest(name, known)}; the columns are {', '.join(known)}")
    for key, kinds in (("balance", ("category", "boolean")), ("where", ("category", "boolean", "numeric"))):
        for name in [entry.sample.balance] if key == "balance" else entry.sample.where:
            if name is not None and table.schema[name].kind not in kinds:
                kind = table.schema[name].kind
                raise DataError(f"{entry.name}.sample.{key}: column {name!r} is of kind {kind}, expected one of {', '.join(kinds)}")
    if entry.sample.balance in entry.sample.where:
        raise DataError(f"{entry.name}.sample: column {entry.sample.balance!r} stands under balance and where, expected only one of the two")
    if entry.contract:
        from validation import contract

        contract.known(table, entry.contract)
    rows, memory = entry.sample.rows or 0, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if (needed := rows * len(known) * CELL) > memory:
        most = int(memory / CELL / len(known))
        raise DataError(f"{entry.name}.sample.rows: found {rows}, which take {needed / 1e9:.0f} GB to judge; expected at most {most} on this machine")
    _check_where(entry, table)


def _check_where(entry: Entry, table: Table) -> None:
    """A condition is met by enough subjects to be learned; a number need only lie within the column's range."""
    together = np.ones(len(table), dtype=bool)
    for name, value in entry.sample.where.items():
        where = f"{entry.name}.sample.where.{name}"
        column = table.column(name)
        if value is None:
            met = column.is_null()
        elif table.schema[name].kind == "numeric":
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise DataError(f"{where}: found {value!r}, expected a number")
            if pa.types.is_integer(column.type) and value != int(value):
                raise DataError(f"{where}: found {value!r}, which no row can meet; expected a whole number")
            bounds = pc.min_max(column.cast(pa.float64(), safe=False))
            if not (bounds["min"].as_py() or 0) <= value <= (bounds["max"].as_py() or 0):
                raise DataError(f"{where}: found {value!r}, which no row can meet; expected a number within the column's range")
            continue
        else:
            met = _equal(column, value, where)
        met = np.asarray(pc.fill_null(met, False))
        held = len(np.unique(table.subjects[met]))
        if held < entry.rare_below:
            raise DataError(f"{where}: met by fewer than {entry.rare_below} subjects (rare_below), expected a value that more hold")
        together &= met
    if not together.any():
        raise DataError(f"{entry.name}.sample.where: no row meets all of its conditions together")


def _equal(column: pa.ChunkedArray, value: object, where: str) -> pa.ChunkedArray:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    try:
        scalar = pa.scalar(value).cast(kind)
        if isinstance(value, str) != (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise DataError(f"{where}: found {value!r}, expected a value of type {kind}")
    except pa.ArrowException:
        raise DataError(f"{where}: found {value!r}, expected a value of type {kind}") from None
    return pc.equal(column.cast(kind), scalar)


def _table(values: pa.Table, columns: tuple, subject: str | None, target: str | None) -> Table:
    """A Table in which NaN is null, and its schema says so."""
    table = Table.of(values, Schema(values.schema, columns, subject, target))
    return Table(table.values, Schema(table.values.schema, columns, subject, target))


def _finite(values: pa.Table) -> None:
    for name, column in zip(values.column_names, values.columns, strict=True):
        if pa.types.is_floating(column.type) and pc.any(pc.is_inf(column)).as_py():
            raise DataError(f"column {name!r}: holds infinite numbers, expected finite numbers or nulls")


def _enough(found: int, what: str) -> None:
    if found < FEWEST:
        raise DataError(f"found {found} {what}, expected at least {FEWEST}: too few to be judged")
