"""ImageEncoder: pictures and what is known beside them as Pictures, and back. What stands beside is encoded, and protected, as a row of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from generators.base import Mechanism
from generators.data import DataError, Schema, Table, image_column, pixels_of
from generators.encoding.table import TableEncoder
from generators.layout import Field, Given, ImageLayout, Layout, Pictures, after


class ImageEncoder:
    """rare_below: values beside the pictures, labels too, that fewer have are neither kept nor reproduced (1 protects nothing)."""

    modality = "images"

    def __init__(self, rare_below: int = 10):
        self.rare_below = rare_below
        self.static = TableEncoder(rare_below)

    def fit(self, data: Table, *, rng: torch.Generator, avoid: Table | None = None, mechanism: Mechanism | None = None) -> ImageEncoder:
        """avoid: more real images, of which nothing is learned, but whose ids and personal data are not to be invented either.

        mechanism: what alone may tell something of what stands beside; of pictures nothing is learned here"""
        self.schema = data.schema
        self.static.fit(self._beside(data), rng=rng, avoid=avoid and self._beside(avoid), mechanism=mechanism)
        self._lay_out()
        return self

    def _beside(self, data: Table) -> Table:
        """All columns but the pictures."""
        schema, name = data.schema, data.schema.image.name
        columns = tuple(c for c in schema.columns if c.name != name)
        arrow = pa.schema([schema.arrow.field(c.name) for c in columns])
        return Table(data.values.select(arrow.names), Schema(arrow, columns, schema.subject))

    def _lay_out(self) -> None:
        options, self.columns = self.schema.image.options, self.static.columns
        static = Layout((Field(classes=1), *after(1, self.static.layout.fields)))  # the first: there is a picture
        self.layout = ImageLayout(static, (options["channels"], options["height"], options["width"]), 2 ** options["bits"])

    def encode(self, data: Table, *, rng: torch.Generator) -> Pictures:
        beside = self.beside(data, rng=rng)
        pixels = np.ascontiguousarray(pixels_of(data).transpose(0, 3, 1, 2))
        pixels = torch.from_numpy(pixels if self.layout.levels <= 256 else pixels.astype(np.int32))
        return Pictures(beside, pixels)

    def beside(self, data: Table, *, rng: torch.Generator) -> torch.Tensor:
        """(n, fields): what stands beside images, which may be of another size."""
        return torch.cat([torch.zeros(len(data), 1), self.static.encode(self._beside(data), rng=rng)], 1)

    def decode(self, x: Pictures, *, rng: torch.Generator, start: int = 0) -> Table:
        """Images number start, start + 1, ... of a synthetic dataset."""
        beside, name = self.static.decode(x.static[:, 1:], rng=rng, start=start), self.schema.image.name
        values = {n: beside.column(n) for n in beside.schema.arrow.names} | {name: image_column(name, self.pixels(x.pixels))[1]}
        return Table(pa.Table.from_arrays([values[n] for n in self.schema.arrow.names], schema=self.schema.arrow), self.schema)

    def pixels(self, drawn: torch.Tensor) -> np.ndarray:
        """(n, channels, height, width) as they are drawn -> (n, height, width, channels) as `pixels_of` gives those of a Table."""
        return drawn.permute(0, 2, 3, 1).numpy().astype(np.uint8 if self.layout.levels <= 256 else np.uint16)

    def given(self, rows: Mapping[str, Sequence[Any] | Any], n: int) -> Given:
        """What n images are asked to hold: column -> one value for all, or a list of n. Raises DataError where none can."""
        for name in rows:
            self._no_picture(name, "where")
        given, pad = self.static.given(rows, n), torch.nn.functional.pad
        return Given(pad(given.values, (1, 0)), pad(given.mask, (1, 0)))

    def classes(self, name: str) -> list[Any]:
        """The values that `balance:` makes equally frequent. Raises DataError for a column that has none."""
        self._no_picture(name, "balance")
        return self.static.classes(name)

    def _no_picture(self, name: str, key: str) -> None:
        if name == self.schema.image.name:
            others = ", ".join(n for n in self.schema.arrow.names if n != name) or "there is none"
            raise DataError(f"{key}: column {name!r} holds the images, expected one that stands beside them: {others}")

    def state(self) -> dict:
        return {"rare_below": self.rare_below, "schema": self.schema.to_json(), "static": self.static.state()}

    @classmethod
    def restore(cls, state: dict) -> ImageEncoder:
        self = cls(state["rare_below"])
        self.schema, self.static = Schema.from_json(state["schema"]), TableEncoder.restore(state["static"])
        self._lay_out()
        return self
