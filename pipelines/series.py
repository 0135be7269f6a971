"""Series: a long table, one row for each step, as what a generator learns from: in order, whole, and with what stays told from what changes."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from generators.data import Column, DataError, Table
from privacy.disclosure import is_text

LONGEST = 5000  # steps of a series
WINDOW, STEP = "window", "step"  # columns of the pieces of one long series


def timed(values: pa.Table, time: str | None) -> None:
    """Raises DataError where the column is no time, or not always there."""
    if time is None:
        return
    if time not in values.column_names:
        raise DataError(f"time: no column {time!r}; the columns are {', '.join(values.column_names)}")
    column = values.column(time)
    kind = column.type
    if is_text(kind):
        said = column.drop_null().to_pylist()
        wrong = min(([i for i, v in enumerate(column.to_pylist()) if v is not None and not parses(v)] for parses in (_is_date, _is_number)), key=len)
        if not wrong:
            zoned = sum(re.search(r"(Z|[+-]\d\d:?\d\d)$", v) is not None for v in said)
            some = f", of which {zoned} of {len(said)} have a zone" if 0 < zoned < len(said) else ""
            raise DataError(
                f"time: column {time!r} holds times as text{some}, expected dates or timestamps, all with a zone or none (pandas.to_datetime makes them)"
            )
        raise DataError(
            f"time: column {time!r} is text, of which {len(wrong)} of {len(column)} values are no number, date or time, the first in row {wrong[0] + 1}; "
            "expected numbers, dates or timestamps"
        )
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_date(kind) or pa.types.is_timestamp(kind)):
        raise DataError(f"time: column {time!r} is of type {kind}, expected numbers, dates or timestamps")
    missing = column.null_count + (int(pc.sum(pc.is_nan(column)).as_py() or 0) if pa.types.is_floating(kind) else 0)
    if missing:
        first = pc.index(pc.is_null(column, nan_is_null=True), True).as_py() + 1
        raise DataError(f"time: column {time!r} is empty in {missing} of {len(column)} rows, the first is row {first}; expected a time in every row")
    if pa.types.is_integer(kind) and _are_days(column):
        raise DataError(f"time: column {time!r} holds dates written as whole numbers, expected dates (pandas.to_datetime with format='%Y%m%d' makes them)")


def _are_days(column: pa.ChunkedArray) -> bool:
    """Whether whole numbers are all dates as in 20240131, in more months than one: others are numbers that happen to be so large."""
    held = np.unique(column.to_numpy())
    if not len(held) or held[0] < 1800_01_01 or held[-1] > 2200_12_31 or len(np.unique(held // 100)) < 2:
        return False
    year, month, day = held // 10_000, held // 100 % 100, held % 100
    if not (((month >= 1) & (month <= 12)).all() and (day >= 1).all()):
        return False
    begin = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    return bool((day <= ((begin + 1).astype("datetime64[D]") - begin.astype("datetime64[D]")).astype(int)).all())


def _is_date(value: str) -> bool:
    """With a zone or without."""
    for zone in (None, "UTC"):
        try:
            return pa.scalar(value).cast(pa.timestamp("us", zone)) is not None
        except pa.ArrowException:
            continue
    return False


def _is_number(value: str) -> bool:
    try:
        return float(value) is not None
    except ValueError:
        return False


def arranged(table: Table, time: str, static: tuple[str, ...] | None = None) -> Table:
    """Rows by subject, in order of time, and a schema that says what stays: these columns, or all that do. Raises DataError for rows that stand at
    one time, or a column that should stay and does not."""
    subject = table.schema.subject
    if table.column(subject).null_count:
        raise DataError(f"subject: column {subject!r} is empty in {table.column(subject).null_count} rows, expected whose step it is in every row")
    moments = table.column(time)
    order = np.lexsort((pc.rank(moments, tiebreaker="dense").to_numpy(), table.subjects))
    table = Table(table.values.take(pa.array(order)).combine_chunks(), table.schema)
    same = table.subjects[1:] == table.subjects[:-1]
    moments = table.column(time).combine_chunks()
    twice = int((same & pc.equal(moments[1:], moments[:-1]).to_numpy(zero_copy_only=False)).sum())
    if twice:
        raise DataError(f"time: {twice} rows stand at the same time {time!r} as another row of their subject, expected one row for each subject and time")
    longest = int(table.lengths.max())
    if longest > LONGEST:
        raise DataError(f"found a series of {longest} steps, expected at most {LONGEST}; cut it with window:, or keep fewer steps")
    if not same.any():
        raise DataError("every subject has one row alone, expected series; for one row a subject there is table:")
    found = _static(table, time, same)
    for name in static or ():
        if name not in table.schema.arrow.names:
            raise DataError(f"static: no column {name!r}; the columns are {', '.join(table.schema.arrow.names)}")
        if name not in found:
            why = "is the subject or the time" if name in (table.schema.subject, time) else "changes within a subject"
            raise DataError(f"static: column {name!r} {why}, expected columns that stay: {', '.join(found) or 'there is none'}")
    found = found if static is None else tuple(name for name in found if name in static)
    return replace(table, schema=replace(table.schema, time=time, static=found))


def _static(table: Table, time: str, same: np.ndarray) -> tuple[str, ...]:
    """Columns that are the same in all steps of each subject. same (rows - 1,): whether a row and the next are of one."""
    return tuple(name for name in table.schema.arrow.names if name not in (table.schema.subject, time) and not (_changes(table.column(name)) & same).any())


def _changes(column: pa.ChunkedArray) -> np.ndarray:
    """(rows - 1,) whether a row holds another value than the one before."""
    codes = column.combine_chunks()
    codes = codes.dictionary_decode() if pa.types.is_dictionary(codes.type) else codes
    codes = pc.dictionary_encode(codes, null_encoding="encode").indices.to_numpy(zero_copy_only=False)
    return codes[1:] != codes[:-1]


def label(table: Table) -> None:
    """Raises DataError where the target is no label of a whole series."""
    target = table.schema.target
    if target is not None and target not in table.schema.static:
        raise DataError(f"target: column {target!r} changes within a subject, expected a label that is the same in all of its rows")


def windows(values: pa.Table, window: int, stride: int, time: str | None) -> tuple[pa.Table, str]:
    """One long series cut into pieces that may overlap, and the name of its time: WINDOW says which piece a row is of, STEP where in it,
    if the source says no time. Raises DataError for a series that is shorter, or has two rows at one time; distances are taken as they come
    (prices have weekends)."""
    if time is not None:
        values = values.sort_by(time)
        _regular(values.column(time), time)
    for name in (WINDOW, STEP) if time is None else (WINDOW,):
        if name in values.column_names:
            raise DataError(f"window: there is a column {name!r} already, which is what the pieces are told apart by; expected another name for it")
    starts = np.arange(0, values.num_rows - window + 1, stride)
    if not len(starts):
        raise DataError(f"window: found {window}, expected at most the {values.num_rows} rows of the source")
    rows = (starts[:, None] + np.arange(window)).reshape(-1)
    values = values.take(pa.array(rows))
    if time is None:
        values = values.add_column(0, STEP, pa.array(np.tile(np.arange(window), len(starts))))
    return values.add_column(0, WINDOW, pa.array(np.repeat(np.arange(len(starts)), window))), time or STEP


def _regular(times: pa.ChunkedArray, name: str) -> None:
    moments = (
        times.cast(pa.int64() if pa.types.is_temporal(times.type) else pa.float64(), safe=False)
        if not pa.types.is_date32(times.type)
        else times.cast(pa.int32())
    )
    gaps = np.diff(moments.to_numpy().astype(np.float64))
    if len(gaps) and gaps.min() <= 0:
        raise DataError(f"time: {int((gaps <= 0).sum())} rows stand at the same time {name!r} as another, expected one row for each time")


def by_calendar(table: Table, holdout: float, window: int, stride: int) -> tuple[Table, Table]:
    """(train, holdout): windows that end before a day, and windows that begin on it or later; those across it are left out."""
    starts = table.subjects * stride
    border = round((int(starts.max()) + window) * (1 - holdout))
    return table.take(starts + window <= border), table.take(starts >= border)


def window_column(stride: int) -> Column:
    """Window i begins at row i times stride."""
    return Column(WINDOW, "id", {"stride": stride})
