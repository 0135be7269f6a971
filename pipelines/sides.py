"""Who is learned from, and who is held out."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
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
    named, before, key = table.schema.subject, Counter(), str(seed).encode()
    drawn = np.empty(len(table))
    for i, row in enumerate(_written(table.values.select([named]) if named else table.values)):
        again = 0 if named else before[row]
        before[row] = again + 1
        drawn[i] = int.from_bytes(hashlib.blake2b(f"{again} {row}".encode(), digest_size=8, key=key).digest()) / 2.0**64
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
        column = column.cast(kind.value_type)
    elif pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        column = column.cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=False).cast(pa.int64())
    elif pa.types.is_time(kind) or pa.types.is_duration(kind):
        column = column.cast(pa.int32() if kind.bit_width == 32 else pa.int64())
    elif not (pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or kind in (pa.string(), pa.large_string(), pa.null())):
        column = pa.chunked_array([[v if v is None else hashlib.blake2b(repr(v).encode()).hexdigest() for v in column.to_pylist()]])
    return column.cast(pa.large_string())
