"""How judges see a table: their own encoding, learned from the training rows alone.

Numbers and datetimes become floats (null is NaN), categories and booleans become codes. Values held by fewer than
`rare_below` training subjects share one code, so nothing here remembers a value of a single person.
Columns that are invented (id, pii, text) and the subject column are seen by their null pattern only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from generators.data import Table
from validation.resampling import people

NULL, RARE = 0, 1  # the first two codes of every category; kept values follow
SLOTS = 512  # places of a one-hot category, and codes of a category that is compared, at most
KNOTS = 512  # at how many quantiles a rank is remembered
ROWS, CELLS = 200_000, 2**27  # of a table: rows that attacks look at, and numbers that those rows' space holds, at most


def flat(table: Table, name: str) -> pa.Array:
    """One column as one Arrow array without a dictionary."""
    column = table.column(name).combine_chunks()
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column


def numbers(table: Table, name: str) -> np.ndarray:
    """(rows,) float64 of a numeric, decimal, boolean or temporal column; null is NaN. Times are in their Arrow unit."""
    column = flat(table, name)
    kind = column.type
    if pa.types.is_temporal(kind):
        column = column.cast(pa.int32() if kind.bit_width == 32 else pa.int64())
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind):
        return np.full(len(column), np.nan)
    return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)


def labels(table: Table, name: str) -> pa.Array:
    """(rows,) strings of a category or boolean column; null stays null."""
    column = flat(table, name)
    return column.cast(pa.large_string()) if not pa.types.is_binary(column.type) else column


def holders(values: pa.Array, subjects: np.ndarray) -> tuple[pa.Array, np.ndarray]:
    """The distinct values, and how many subjects hold each (nulls apart)."""
    encoded = values.dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    known = codes >= 0
    return encoded.dictionary, people(codes[known], subjects[known], len(encoded.dictionary))


def match(values: pa.Array, vocabulary: pa.Array) -> np.ndarray:
    """(rows,) codes against a vocabulary: NULL, RARE for what it does not hold, then its own order."""
    codes = pc.index_in(values, value_set=vocabulary.cast(values.type)).fill_null(-1).to_numpy(zero_copy_only=False) + 2
    return np.where(pc.is_null(values).to_numpy(zero_copy_only=False), NULL, codes).astype(np.int64)


def grouped(rank: np.ndarray, most: int) -> np.ndarray:
    """Ranks of values, 0 the most frequent -> codes 0 .. most - 1: half of them stand for one value each, other values share the rest in turn."""
    alone = most // 2
    return np.where(rank < alone, rank, alone + (rank - alone) % (most - alone))


def shared_codes(real: pa.Array, other: pa.Array, most: int = SLOTS) -> tuple[np.ndarray, np.ndarray, int]:
    """(rows,) codes of strings of both tables in one coding, null being a value, and how many codes there are.

    More than `most` values are grouped: with a code for every value of very many, chance alone would set any two samples apart.
    """
    codes = pa.concat_arrays([real, other]).dictionary_encode(null_encoding="encode").indices.to_numpy(zero_copy_only=False).astype(np.int64)
    ours, theirs, size = codes[: len(real)], codes[len(real) :], int(codes.max(initial=0)) + 1
    if size <= most:
        return ours, theirs, size
    code = np.empty(size, np.int64)
    code[np.argsort(-np.bincount(ours, minlength=size), kind="stable")] = grouped(np.arange(size), most)
    return code[ours], code[theirs], most


def learnable(x: np.ndarray) -> np.ndarray:
    """(rows, columns) with 0 in columns that hold no number at all: scikit-learn's trees cannot bin those, nor split them."""
    return np.where(np.isnan(x).all(0), 0.0, x)


@dataclass(frozen=True)
class Features:
    """Which columns are numbers, which categories, which are only looked at for nulls, and what was kept of each."""

    numeric: tuple[str, ...]
    category: tuple[str, ...]
    hidden: tuple[str, ...]
    vocabulary: dict[str, pa.Array]
    knots: dict[str, np.ndarray]

    @classmethod
    def of(cls, train: Table, rare_below: int = 10) -> Features:
        """Learn from the training table: categories held by `rare_below` subjects, quantiles of the numbers."""
        schema, vocabulary, knots = train.schema, {}, {}
        seen = [c for c in schema.columns if c.name != schema.subject and c.kind != "drop"]
        numeric = tuple(c.name for c in seen if c.kind in ("numeric", "datetime"))
        category = tuple(c.name for c in seen if c.kind in ("category", "boolean"))
        hidden = tuple(c.name for c in seen if c.kind in ("id", "pii", "text"))
        for name in category:
            distinct, held = holders(labels(train, name), train.subjects)
            kept = np.flatnonzero(held >= rare_below)
            vocabulary[name] = distinct.take(pa.array(kept[np.argsort(-held[kept], kind="stable")]))
        for name in numeric:
            values = numbers(train, name)
            values = values[~np.isnan(values)]
            knots[name] = np.unique(np.quantile(values, np.linspace(0, 1, KNOTS))) if len(values) else np.zeros(1)
        return cls(numeric, category, hidden, vocabulary, knots)

    def codes(self, table: Table, name: str) -> np.ndarray:
        """(rows,) int codes of a category column."""
        return match(labels(table, name), self.vocabulary[name])

    def rank(self, table: Table, name: str) -> np.ndarray:
        """(rows,) in [0, 1]: the quantile among the training rows, linear in between; NaN for null."""
        knots = self.knots[name]
        return np.interp(numbers(table, name), knots, np.linspace(0, 1, len(knots))) if len(knots) > 1 else 0.5 + 0 * numbers(table, name)

    def nulls(self, table: Table) -> np.ndarray:
        """(rows, columns) bool: what is missing, in the order numeric, category, hidden."""
        names = (*self.numeric, *self.category, *self.hidden)
        columns = [pc.is_null(flat(table, n)).to_numpy(zero_copy_only=False) for n in names]
        return np.column_stack(columns) if columns else np.zeros((len(table), 0), bool)

    def trees(self, table: Table, without: str | None = None) -> np.ndarray:
        """(rows, columns) float for boosted trees: numbers as they are (NaN for null), codes, nulls of hidden columns."""
        columns = [numbers(table, n) for n in self.numeric if n != without]
        columns += [self.codes(table, n).astype(float) for n in self.category if n != without]
        columns += [pc.is_null(flat(table, n)).to_numpy(zero_copy_only=False).astype(float) for n in self.hidden]
        return np.column_stack(columns) if columns else np.zeros((len(table), 1))

    def _widths(self, names: list[str] | tuple[str, ...]) -> list[int]:
        return [min(len(self.vocabulary[n]) + 2, SLOTS) for n in names]

    @property
    def rows(self) -> int:
        """So many rows of a table are looked at by attacks, at most: those whose space half a GB holds."""
        return min(ROWS, max(CELLS // max(2 * len(self.numeric) + sum(self._widths(self.category)), 1), 1))

    def space(self, table: Table, without: str | None = None) -> np.ndarray:
        """(rows, m) float32 in which Euclidean distance is meant: what differs by a whole column is 1 apart.

        A number is its training rank in [0, 1], the middle and a null flag where it is missing; a category is one-hot
        over sqrt(2), in at most 512 slots. So d(x, y)^2 = sum of squared rank differences + number of categories (and nulls) that differ.
        """
        numeric, category = ([n for n in names if n != without] for names in (self.numeric, self.category))
        widths = self._widths(category)
        out = np.zeros((len(table), 2 * len(numeric) + sum(widths) or 1), np.float32)
        for i, name in enumerate(numeric):
            rank = self.rank(table, name)
            gone = np.isnan(rank)
            out[:, 2 * i], out[:, 2 * i + 1] = np.where(gone, 0.5, rank), gone
        first = 2 * len(numeric)
        for name, width in zip(category, widths, strict=True):
            codes = self.codes(table, name)
            if len(self.vocabulary[name]) + 2 > SLOTS:
                codes = np.where(codes > RARE, RARE + 1 + grouped(codes - RARE - 1, SLOTS - 2), codes)
            out[np.arange(len(table)), first + codes] = np.sqrt(0.5)
            first += width
        return out
