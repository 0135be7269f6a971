"""Layout: which field of an encoded tensor is what.

A row of a table is a vector of fields, x (n, fields) float32. A field is continuous, a number on a scale where the
training data are about standard normal; or one-of-k, held as its index 0 .. k - 1. Nothing is ever NaN.

A series is what stays, a row of fields, and steps, each a row of fields too. A picture is pixels, and a row of fields beside them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
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


def after(count: int, fields: Sequence[Field]) -> list[Field]:
    """Fields that now stand behind so many others."""
    return [f if f.gate is None else replace(f, gate=f.gate + count) for f in fields]


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

    @property
    def ungated(self) -> list[int]:
        """Continuous fields that mean something in every row."""
        return [i for i in self.continuous if self.fields[i].gate is None]

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


@dataclass(frozen=True)
class SeriesLayout:
    """static: fields of what stays; the first one is one-of-k and says into which of `spans` (from, to) the number of steps falls
    step:   fields of a step
    """

    static: Layout
    step: Layout
    spans: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.step)

    @property
    def longest(self) -> int:
        """Steps."""
        return max(high for _, high in self.spans)


@dataclass(frozen=True)
class Sequences:
    """n series: static (n, fields), lengths (n,) int64, and the steps of all, one series after the other, (sum of lengths, fields)."""

    static: Tensor
    lengths: Tensor
    steps: Tensor

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, which: Tensor | slice) -> Sequences:
        """The series at these positions, (m,) int64 or a slice, or where this mask is true, (n,) bool."""
        which = torch.arange(len(self))[which] if isinstance(which, slice) else which
        which = which.nonzero()[:, 0] if which.dtype == torch.bool else which
        return Sequences(self.static[which], self.lengths[which], self.steps[positions(self.lengths, which)])

    def beside(self, others: Sequences) -> Sequences:
        """These, and then others."""
        return Sequences(*(torch.cat([a, b]) for a, b in ((self.static, others.static), (self.lengths, others.lengths), (self.steps, others.steps))))

    def to(self, where: torch.device) -> Sequences:
        return Sequences(self.static.to(where), self.lengths.to(where), self.steps.to(where))


def positions(lengths: Tensor, which: Tensor) -> Tensor:
    """Where the steps of series `which` (m,) stand among those of all, lengths (n,), in a row."""
    held, first = lengths[which], (lengths.cumsum(0) - lengths)[which]
    return torch.repeat_interleave(first, held) + moments(held)


def moments(lengths: Tensor) -> Tensor:
    """lengths (n,) -> of every step its number within its series, 0, 1, ..., (sum of lengths,)."""
    return torch.arange(int(lengths.sum()), device=lengths.device) - torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)


@dataclass(frozen=True)
class ImageLayout:
    """static: fields of what is known beside a picture, its label among them
    shape:  (channels, height, width)
    levels: that a pixel can have: 256, or 65,536
    """

    static: Layout
    shape: tuple[int, int, int]
    levels: int = 256

    def __len__(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Pictures:
    """n pictures: static (n, fields), and pixels (n, channels, height, width), whole numbers from 0."""

    static: Tensor
    pixels: Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, which: Tensor) -> Pictures:
        """Those at these positions, (m,) int64, or where this mask is true, (n,) bool."""
        return Pictures(self.static[which], self.pixels[which])

    def to(self, where: torch.device) -> Pictures:
        return Pictures(self.static.to(where), self.pixels.to(where))


def shades(pixels: Tensor, levels: int) -> Tensor:
    """Pixels as numbers within -1 and 1, the middle of each level."""
    return (pixels.float() + 0.5) * (2 / levels) - 1


def levelled(shades: Tensor, levels: int) -> Tensor:
    """And back, to the nearest level: (…) uint8, or int32 where there are more than 256."""
    return ((shades + 1) * (levels / 2)).floor().clamp(0, levels - 1).to(torch.uint8 if levels <= 256 else torch.int32)
