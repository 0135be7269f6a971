"""Sources: what an entry names, as a Table with the exact Arrow schema, the kind of every column, and a split by subject."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from generators.data import LEARNED, DataError, Schema, Table
from pipelines import asked, images, reading, series
from pipelines.asked import FEWEST
from pipelines.config import Entry, Source
from pipelines.sides import FEWEST_HELD_OUT, split, split_by_content

EXACT = 2.0**53  # up to which fractions tell whole numbers apart
MOST = 1e150  # of a number, so that its square is one too


def load(source: Source, *, root: Path = Path(), letters: bool = False) -> Table:
    """Read a source whole, find the kind of each of its columns, and refuse what cannot be learned from. letters: as `read`."""
    return _of_images(source, root) if source.kind == "images" else of_values(read(source, root=root, letters=letters), source)


def _of_images(source: Source, root: Path) -> Table:
    """Images, and what stands beside them, as a Table."""
    from privacy.disclosure import detect

    try:
        values, image = images.read(source.location, root, source.size, source.target, source.split)
        _enough(values.num_rows, "images")
        declared = dict(source.columns) | ({source.target: {"kind": "category"} | dict(source.columns.get(source.target, {}))} if source.target else {})
        beside = values.drop_columns([image.name])
        columns = [c for c in detect(beside, declared, target=source.target) if c.kind != "drop"]
        values = values.select([image.name, *(c.name for c in columns)])
        _finite(values)
        table = _table(values, (image, *columns), None, source.target)
        if source.target:
            held = pc.value_counts(table.column(source.target).drop_null()).field("counts")
            if len(held) < 2:
                raise DataError(f"label: column {source.target!r} holds one class or none, expected at least two, or no label:")
            if alone := pc.sum(pc.equal(held, 1)).as_py():
                raise DataError(f"label: {alone} of {len(held)} classes have one image alone, expected more of each; leave them out, or add some")
    except DataError as error:
        said = str(error)
        for name in (source.location, Path(source.location).name):
            said = said.removeprefix(f"{name}: ")
        raise DataError(f"{source.location}: {said}") from None
    return table


def of_values(values: pa.Table, source: Source) -> Table:
    """The same for values that were read already."""
    from privacy.disclosure import detect

    target, subject, time = (source.role(name) for name in ("target", "subject", "time"))
    try:
        _enough(values.num_rows, "rows")
        declared = dict(source.columns)
        if source.is_series:
            series.timed(values, time)
            if source.window:
                values, time = series.windows(values, source.window, source.stride or source.window, time)
                subject = series.WINDOW
            own = "datetime" if pa.types.is_temporal(values.schema.field(time).type) else "numeric"
            declared[time] = {"kind": own} | dict(declared.get(time, {}))
            if declared[time]["kind"] != own:
                raise DataError(f"columns.{time}.kind: found {declared[time]['kind']}, expected {own}: it is the time of a series")
        columns = detect(values, declared, subject=subject, target=target)
        if source.window:
            columns = tuple(series.window_column(source.stride or source.window) if c.name == subject else c for c in columns)
        kept = tuple(c for c in columns if c.kind != "drop")
        values = values.select([c.name for c in kept])
        _finite(values)
        _apart(values, subject)
        if not any(c.kind in LEARNED and c.name != time for c in kept):
            raise DataError(f"no column to learn from, expected at least one that is {', '.join(LEARNED)}")
        table = _table(values, kept, subject, target)
        _enough(int(table.subjects.max()) + 1, "windows (a smaller window: or stride: makes more)" if source.window else "subjects")
        if time is not None:
            table = series.arranged(table, time, source.static)
            series.label(table)
        if target is not None and len(pc.unique(table.column(target).drop_null())) < 2:
            raise DataError(f"target: column {target!r} holds one value or none, expected at least two to tell apart")
    except DataError as error:
        raise DataError(f"{source.location}: {error}") from None
    return table


def read(source: Source, *, root: Path = Path(), letters: bool = False) -> pa.Table:
    """The values of a source as they are, before any kind is known. letters: of a text file who is who goes by the letters of the subject column, which
    one more value could make numbers of, or not, so that two become one."""
    if source.kind == "dataset":
        return reading.dataset(source.location)
    numeric = [name for name, options in source.columns.items() if options.get("kind") == "numeric"]
    return reading.read(source.location, root, numeric, source.role("subject"), letters)


def _like(table: Table, holdout: Table, label: str) -> Table:
    """Held-out series, arranged as those of the source are. Raises DataError where what stays in the source changes."""
    try:
        series.timed(holdout.values, table.schema.time)
        arranged = series.arranged(holdout, table.schema.time)
    except DataError as error:
        raise DataError(f"{label}: {error}") from None
    if changes := [name for name in table.schema.static if name not in arranged.schema.static]:
        raise DataError(f"{label}: column {changes[0]!r} changes within a subject, expected one that stays, as in the source")
    return replace(arranged, schema=table.schema)


def load_split(entry: Entry) -> tuple[Table, Table]:
    """(train, holdout) of an entry, after what its `sample:` and `contract:` ask was checked against the columns."""
    source, window, promised = entry.source, entry.source.window, entry.promise is not None
    table = load(source, root=entry.root, letters=promised)
    asked.check(entry, table)
    if promised and not isinstance(entry.holdout, Source):
        cells = None if source.kind in ("images", "dataset") else reading.words(source.location, entry.root)
        return split_by_content(table, entry.holdout, entry.seed, cells)
    if not isinstance(entry.holdout, Source):
        parts = series.by_calendar(table, entry.holdout, window, entry.source.stride or window) if window else split(table, entry.holdout, entry.seed)
        if window and min(int(part.subjects.max(initial=-1)) + 1 for part in parts) < FEWEST_HELD_OUT:
            raise DataError(f"holdout: {entry.holdout} of the rows holds too few windows, expected at least {FEWEST_HELD_OUT} on each side")
        return parts
    label = f"holdout: {entry.holdout.location}"
    if table.schema.image:
        return table, _held_images(table, entry, label)
    named = table.schema.subject
    letters = promised and named is not None and pa.types.is_string(table.column(named).type)
    values = read(replace(entry.holdout, subject=named), root=entry.root, letters=letters)
    for column in table.schema.arrow:
        if column.name not in values.column_names:
            raise DataError(f"{label}: no column {column.name!r}, expected those of the source")
        at = values.column_names.index(column.name)
        if letters and column.name == named and pa.types.is_integer(values.schema.types[at]):
            values = values.set_column(at, column.name, values.column(at).cast(pa.string()))
        values = reading.fit(values, column, label)
    values = values.select(table.schema.arrow.names)
    if entry.source.window:
        raise DataError(f"{label}: found beside window:, expected a share: the last part of the series is held out")
    if values.num_rows < FEWEST_HELD_OUT:
        raise DataError(f"{label}: found {values.num_rows} rows, expected at least {FEWEST_HELD_OUT}")
    _finite(values)
    holdout = Table.of(values, table.schema)
    if table.schema.time:
        holdout = _like(table, holdout, label)
    if both := _shared(table, holdout):
        raise DataError(f"{label}: {both} subjects stand in the source too, expected others: what was learned is judged by people of whom nothing was")
    if _same_rows(holdout, table):
        raise DataError(f"{label}: holds the very rows of the source, expected rows that it does not hold")
    return table, holdout


def _held_images(table: Table, entry: Entry, label: str) -> Table:
    """Held-out images, as those of the source are. Raises DataError where they are not, or are the same."""
    source = entry.holdout
    if source.kind != "images":
        raise DataError(f"{label}: found {source.kind}:, expected images: as the source is")
    try:
        of = entry.source
        alike = replace(source, target=source.target or of.target, size=source.size or of.size, columns=of.columns)
        holdout = _of_images(alike, entry.root)
    except DataError as problem:
        raise DataError(f"holdout: {problem}") from None
    values = holdout.values.select([n for n in table.schema.arrow.names if n in holdout.schema.arrow.names])
    if values.schema != table.schema.arrow or holdout.schema.image != table.schema.image:
        raise DataError(f"{label}: images or columns of another kind than those of the source, expected the same size, colours and columns")
    if pc.sum(pc.is_in(values.column(table.schema.image.name), value_set=table.column(table.schema.image.name).combine_chunks())).as_py():
        raise DataError(f"{label}: holds images of the source, expected others: what was learned is judged by images of which nothing was")
    return Table(values, table.schema)


def _shared(one: Table, other: Table) -> int:
    """How many subjects stand in both."""
    if one.schema.subject is None:
        return 0
    ours, theirs = (pc.unique(t.column(one.schema.subject).drop_null()) for t in (one, other))
    return pc.sum(pc.is_in(theirs, value_set=ours)).as_py() or 0


def _same_rows(one: Table, other: Table) -> bool:
    """Whether the same rows, in whatever order."""
    import pandas as pd

    if len(one) != len(other):
        return False
    hashes = [np.sort(pd.util.hash_pandas_object(t.values.to_pandas(), index=False).to_numpy()) for t in (one, other)]
    return bool((hashes[0] == hashes[1]).all())


def fingerprint(source: Source, *, root: Path = Path()) -> str:
    """sha256 of the content: of the bytes of each part, in order of name. Names and times do not count."""
    if source.kind == "dataset":
        values = reading.dataset(source.location)
        with pa.BufferOutputStream() as sink, pa.ipc.new_stream(sink, values.schema) as stream:
            stream.write_table(values)
        return hashlib.sha256(sink.getvalue()).hexdigest()
    return images.fingerprint(source.location, root) if source.kind == "images" else reading.fingerprint(source.location, root)


def _table(values: pa.Table, columns: tuple, subject: str | None, target: str | None) -> Table:
    """A Table in which NaN is null, and its schema says so."""
    table = Table.of(values, Schema(values.schema, columns, subject, target))
    return Table(table.values, Schema(table.values.schema, columns, subject, target))


def _apart(values: pa.Table, subject: str | None) -> None:
    """Raises DataError where two subjects may have become one: a fraction holds no more than so many digits."""
    if subject is not None and pa.types.is_floating(values.schema.field(subject).type) and (pc.max(pc.abs(values.column(subject))).as_py() or 0) >= EXACT:
        raise DataError(f"subject: column {subject!r} reads as fractions, and holds longer numbers than these can tell apart; expected whole numbers or words")


def _finite(values: pa.Table) -> None:
    for name, column in zip(values.column_names, values.columns, strict=True):
        if pa.types.is_floating(column.type):
            if pc.any(pc.is_inf(column)).as_py():
                raise DataError(f"column {name!r}: holds infinite numbers, expected finite numbers or nulls")
            if (pc.max(pc.abs(column)).as_py() or 0) > MOST:
                raise DataError(f"column {name!r}: holds numbers beyond {MOST:g}, expected smaller ones, which can be computed with")
        elif pa.types.is_temporal(column.type):
            _within_calendar(name, column)


def _within_calendar(name: str, column: pa.ChunkedArray) -> None:
    """Of the years 1 to 9999, which dates have everywhere."""
    try:
        years = pc.year(column)
        if not 1 <= (pc.min(years).as_py() or 1) <= (pc.max(years).as_py() or 1) <= 9999:
            raise pa.ArrowInvalid
    except pa.ArrowException:
        raise DataError(f"column {name!r}: holds dates outside the years 1 to 9999, expected real dates") from None


def _enough(found: int, what: str) -> None:
    if found < FEWEST:
        raise DataError(f"found {found} {what}, expected at least {FEWEST}: too few to be judged")
