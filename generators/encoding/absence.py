"""Absence: columns that are empty in every step of some subjects, because a test was never made, say. That stays, and so it is said once.

Where values are missing here and there, a short series may hold none by chance; columns are absent where far more subjects hold none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from generators.data import Table
from generators.layout import Field

CHANCE = 2.0  # times as many subjects as scattered gaps would leave without a value


class Absence:
    """groups: columns that are absent together, always; each side is held by `rare_below` subjects at least.
    filled: those of them that nobody else lacks at any step."""

    def __init__(self, rare_below: int, groups: Sequence[Sequence[str]] = (), filled: Sequence[str] = ()):
        self.k, self.groups, self.filled = rare_below, [list(names) for names in groups], list(filled)

    def fit(self, data: Table) -> Absence:
        """data: steps by subject, whose null columns are looked at."""
        schema, found = data.schema, {}
        for name in schema.changing():
            if not data.column(name).null_count:
                continue
            never, chance = absent(data, name), (data.column(name).null_count / len(data)) ** data.lengths
            if self.k <= never.sum() <= len(never) - self.k and never.sum() > CHANCE * chance.sum():
                found.setdefault(never.tobytes(), []).append(name)
                if data.column(name).null_count == data.lengths[never].sum():
                    self.filled.append(name)
        self.groups = list(found.values())
        return self

    @property
    def fields(self) -> list[Field]:
        return [Field(classes=2)] * len(self.groups)

    def encode(self, data: Table) -> np.ndarray:
        """(subjects, groups) float32: 1 where columns are absent."""
        columns = [absent(data, names[0]) for names in self.groups]
        return np.column_stack([np.zeros((len(data.lengths), 0)), *columns]).astype(np.float32)

    def decode(self, values: dict[str, pa.ChunkedArray], x: np.ndarray, whose: np.ndarray) -> None:
        """Empties columns of steps where x (subjects, groups) says so, and fills where it does not what is then never empty, with what the
        subject holds at the nearest step before, or after. whose (rows,): of which subject a row is."""
        for names, on in zip(self.groups, x.T, strict=True):
            gone = pa.array(on[whose] == 1)
            for name in names:
                there = _carried(values[name], whose) if name in self.filled else values[name]
                values[name] = pc.if_else(gone, pa.scalar(None, there.type), there)


def _carried(values: pa.ChunkedArray, whose: np.ndarray) -> pa.ChunkedArray:
    """The values, and for a null that of the nearest step before, or else after, that holds one; a subject that holds none keeps its nulls."""
    if not values.null_count:
        return values
    there, own, last = pc.is_valid(values).to_numpy(zero_copy_only=False), np.arange(len(whose)), len(whose) - 1
    before = np.maximum.accumulate(np.where(there, own, 0))
    after = np.minimum.accumulate(np.where(there, own, last)[::-1])[::-1]
    return values.take(pa.array(np.where(there[before] & (whose[before] == whose), before, np.where(whose[after] == whose, after, own))))


def absent(data: Table, name: str) -> np.ndarray:
    """(subjects,) bool: whether a column is empty in all steps."""
    there = pc.is_valid(data.column(name)).to_numpy(zero_copy_only=False)
    return np.bincount(data.subjects, there, len(data.lengths)) == 0
