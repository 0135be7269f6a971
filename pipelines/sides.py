"""Who is learned from, and who is held out."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from generators.data import DataError, Table

LARGE = 1e14  # from here on Arrow writes a whole number among fractions in another way
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


def split_by_content(table: Table, holdout: float, seed: int, cells: pa.Table | None = None) -> tuple[Table, Table]:
    """The same, but on which side a subject stands depends on nobody else: one more, or one less, moves no other.

    That is the hash of the seed and the subject's name, or of the row where there is none, and how many equal rows came before. cells: of a
    text file, what stands there, letter by letter; types, which follow from all values of a column, do not count then."""
    names: list[str | None] = [None] * len(table)
    if subject := table.schema.subject:
        column = table.column(subject)
        names = [name if known else None for name, known in zip(_written(pa.table([column], ["name"])), column.is_valid().to_pylist(), strict=True)]
    rows = _written((table.values if cells is None else cells).select(sorted(table.schema.arrow.names))) if None in names else names
    before, drawn, key = Counter(), np.empty(len(table)), str(seed).encode()
    for i, (name, row) in enumerate(zip(names, rows, strict=True)):
        text = f"0 {name}" if name is not None else f"{before[row]} {row}"
        before[row] += name is None
        drawn[i] = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, key=key).digest()) / 2.0**64
    held = drawn < holdout
    sides = [len(np.unique(table.subjects[side])) for side in (held, ~held)]
    if min(sides) < FEWEST_HELD_OUT:
        raise DataError(f"holdout: {holdout} of {sum(sides)} subjects is {sides[0]}, expected at least {FEWEST_HELD_OUT} on each side")
    return table.take(~held), table.take(held)


def _written(values: pa.Table) -> list[str]:
    """Each row as a text that no other row has, in which nothing depends on what else stands in a column."""
    cells = [pc.replace_substring(_text(column), "\\", "\\\\").fill_null("\\n") for column in values.columns]
    return pc.binary_join_element_wise(*cells, pa.scalar("\\s", pa.large_string())).to_pylist()


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Numbers of whatever type are written alike, and so are times."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _text(column.cast(kind.value_type))
    if pa.types.is_floating(kind):
        column = column.cast(pa.float64() if kind == pa.float16() else kind)
        size = pc.abs(column)
        large = pc.and_(pc.equal(column, pc.floor(column)), pc.and_(pc.greater(size, LARGE), pc.less(size, 2.0**63)))
        return pc.if_else(large, pc.if_else(large, column, 0).cast(pa.int64()).cast(pa.large_string()), column.cast(pa.large_string()))
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        micro = column.cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=False)
        text = micro.cast(pa.int64()).cast(pa.large_string())
        if kind == pa.timestamp("ns", getattr(kind, "tz", None)):
            rest = pc.subtract(column.cast(pa.int64()), micro.cast(kind).cast(pa.int64()))
            text = pc.if_else(pc.equal(rest, 0), text, pc.binary_join_element_wise(text, rest.cast(pa.large_string()), pa.scalar(".", pa.large_string())))
        return text
    if pa.types.is_time(kind) or pa.types.is_duration(kind):
        column = column.cast(pa.int32() if kind.bit_width == 32 else pa.int64())
    elif not (pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or kind in (pa.string(), pa.large_string(), pa.null())):
        column = pa.chunked_array([[v if v is None else hashlib.blake2b(repr(v).encode()).hexdigest() for v in column.to_pylist()]])
    return column.cast(pa.large_string())
