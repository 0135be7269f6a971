"""Who is learned from, and who is held out."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from generators.data import DataError, Table

FEWEST_HELD_OUT = 20  # subjects, at least, that are learned from, and that are held out


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


def split_by_content(table: Table, holdout: float, seed: int) -> tuple[Table, Table]:
    """The same, but on which side a subject stands depends on nobody else: one more, or one less, moves no other.

    That is the hash of the seed and the subject's name, or of the row where there is none, and how many equal rows came before."""
    names, rows = [None] * len(table), [("", "")] * len(table)
    if table.schema.subject:
        names = _written(pa.table([table.column(table.schema.subject)], ["name"]))
        names = [name if known else None for name, known in zip(names, table.column(table.schema.subject).is_valid().to_pylist(), strict=True)]
    if None in names:
        rows = list(zip(_written(table.values), _written(table.values, exactly=True), strict=True))
    before, drawn, key = Counter(), np.empty(len(table)), str(seed).encode()
    for i, (name, (row, exactly)) in enumerate(zip(names, rows, strict=True)):
        text = f"0 {name}" if name is not None else f"{before[exactly]} {row}"
        before[exactly] += name is None
        drawn[i] = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, key=key).digest()) / 2.0**64
    held = drawn < holdout
    sides = [len(np.unique(table.subjects[side])) for side in (held, ~held)]
    if min(sides) < FEWEST_HELD_OUT:
        raise DataError(f"holdout: {holdout} of {sum(sides)} subjects is {sides[0]}, expected at least {FEWEST_HELD_OUT} on each side")
    return table.take(~held), table.take(held)


NUMBER = r"^-?([0-9]{1,15}([.][0-9]*)?|[.][0-9]{1,15})([eE][+-]?[0-9]{1,2})?$"
EXACT = 17  # letters of a number, none of whose digits are lost
TIME = r"^[0-9]{4}-[01][0-9]-[0-3][0-9]([ T][0-2][0-9]:[0-5][0-9](:[0-5][0-9]([.][0-9]{1,9})?)?(Z|[+-][0-9]{2}:?[0-9]{2})?)?$"


def _written(values: pa.Table, exactly: bool = False) -> list[str]:
    """Each row as a text in which nothing depends on what else stands in a column; exactly: and that no other row has."""
    text = _text if exactly else lambda column: _read(_text(column))
    cells = [pc.replace_substring(text(column), "\\", "\\\\").fill_null("\\n") for column in values.columns]
    return pc.binary_join_element_wise(*cells, pa.scalar("\\s", pa.large_string())).to_pylist()


def _read(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """What reads as a number, a time, true or false, written as if it had that type: one value more may take it from a column of a text file."""
    nothing = pa.scalar(None, column.type)
    number = pc.and_(pc.match_substring_regex(column, NUMBER), pc.less_equal(pc.utf8_length(column), EXACT))
    numbers = _text(pc.if_else(number, column, nothing).cast(pa.float64()))
    times = pc.if_else(pc.match_substring_regex(column, TIME), column, nothing)
    if times.null_count < len(times):
        found = pd.to_datetime(times.to_pandas(), format="ISO8601", errors="coerce", utc=True).dt.tz_localize(None)
        times = _text(pa.chunked_array([pa.array(found, from_pandas=True)]))
    words = pc.if_else(pc.match_substring_regex(column, "(?i)^(true|false)$"), pc.utf8_lower(column), column)
    return pc.coalesce(numbers, times, words)


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Numbers of whatever type are written alike, and so are times."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _text(column.cast(kind.value_type))
    if pa.types.is_floating(kind):
        column = column.cast(pa.float32()) if kind == pa.float16() else column
        whole = pc.and_(pc.equal(column, pc.floor(column)), pc.less(pc.abs(column), 2.0**63))
        return pc.if_else(whole, pc.if_else(whole, column, 0).cast(pa.int64()).cast(pa.large_string()), column.cast(pa.large_string()))
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        column = column.cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=False).cast(pa.int64())
    elif pa.types.is_time(kind) or pa.types.is_duration(kind):
        column = column.cast(pa.int32() if kind.bit_width == 32 else pa.int64())
    elif not (pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or kind in (pa.string(), pa.large_string(), pa.null())):
        column = pa.chunked_array([[v if v is None else hashlib.blake2b(repr(v).encode()).hexdigest() for v in column.to_pylist()]])
    return column.cast(pa.large_string())
