"""Layout: which field of an encoded tensor is what.

A row of a table is a vector of fields, x (n, fields) float32. A field is continuous, a number on a scale where the
training data are about standard normal; or one-of-k, held as its index 0 .. k - 1. Nothing is ever NaN.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class Field:
    """One column of the tensor.

    classes: k of one-of-k; 0 for a continuous field
    gate:    a one-of-k field by its position: this field means something only in rows where that one is 0; elsewhere it is 0
    cuts:    for a continuous field, the places on its scale where the data have steps (the values of a whole number, say):
             natural edges for a model that bins
    """

    classes: int = 0
    gate: int | None = None
    cuts: tuple[float, ...] = ()


@dataclass(frozen=True)
class Layout:
    fields: tuple[Field, ...]

    def __len__(self) -> int:
        return len(self.fields)

    @property
    def discrete(self) -> list[int]:
        return [i for i, f in enumerate(self.fields) if f.classes]

    @property
    def continuous(self) -> list[int]:
        return [i for i, f in enumerate(self.fields) if not f.classes]

    def active(self, x: Tensor) -> Tensor:
        """x (n, fields) -> bool (n, fields): where a field means something."""
        on = torch.ones_like(x, dtype=torch.bool)
        for i, field in enumerate(self.fields):
            if field.gate is not None:
                on[:, i] = x[:, field.gate] == 0
        return on

    def to_json(self) -> list[dict]:
        return [asdict(f) for f in self.fields]

    @classmethod
    def from_json(cls, state: list[dict]) -> Layout:
        return cls(tuple(Field(f["classes"], f["gate"], tuple(f["cuts"])) for f in state))


class Given(NamedTuple):
    """What is asked of every row that is drawn: values (n, fields), and which fields they fix, mask (fields,) bool."""

    values: Tensor
    mask: Tensor
