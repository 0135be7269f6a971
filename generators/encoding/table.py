"""TableEncoder: a Table as rows of fields, column by column, and back. Holds no value of fewer than `rare_below` subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from generators.base import Mechanism
from generators.data import DataError, Schema, Table
from generators.encoding.category import Category
from generators.encoding.numeric import Numeric
from generators.encoding.surrogate import Surrogate
from generators.exact import Exact
from generators.layout import Given, Layout

KINDS = {
    "numeric": Numeric, "datetime": Numeric,
    "category": Category, "boolean": Category,
    "id": Surrogate, "pii": Surrogate, "text": Surrogate,
}  # fmt: skip
INVENTED = 0.1  # of what may be told of a column that is learned goes to one that is not, of which only nulls are


class TableEncoder:
    """rare_below: values held by fewer subjects are neither kept nor reproduced (1 protects nothing)."""

    modality = "table"

    def __init__(self, rare_below: int = 10):
        self.rare_below = rare_below

    def fit(
        self, data: Table, *, rng: torch.Generator, avoid: Table | None = None, subjects: np.ndarray | None = None, mechanism: Mechanism | None = None
    ) -> TableEncoder:  # fmt: skip
        """avoid: more real rows, of which nothing is learned, but whose ids and personal data are not to be invented either.
        subjects: whose row each is, (rows,), where data do not say so themselves.
        mechanism: what alone may tell something of the data, the same of every column; that ids and personal data are others is then chance."""
        self._prepare(data.schema)
        stream, subjects, ask = numpy_stream(rng), data.subjects if subjects is None else subjects, mechanism or Exact()
        weights = {name: INVENTED if isinstance(column, Surrogate) else 1.0 for name, column in self.columns.items()}
        for name, column in self.columns.items():
            own = ask.part(weights[name] / sum(weights.values()), f"column {name}")
            if isinstance(column, Surrogate):
                column.fit(data.column(name), stream, [] if avoid is None else avoid.column(name).chunks, own)
            else:
                column.fit(data.column(name), subjects, own)
        self._lay_out()
        return self

    def _prepare(self, schema: Schema) -> None:
        self.schema = schema
        self.columns = {c.name: KINDS[c.kind](c, f, self.rare_below) for c, f in zip(schema.columns, schema.arrow, strict=True)}

    def _lay_out(self) -> None:
        fields, self.places = [], {}
        for name, column in self.columns.items():
            first = len(fields)
            self.places[name] = slice(first, first + len(column.fields))
            fields += [f if f.gate is None else replace(f, gate=first + f.gate) for f in column.fields]
        self.layout = Layout(tuple(fields))

    def encode(self, data: Table, *, rng: torch.Generator) -> Tensor:
        """(rows, fields) float32."""
        stream, x = numpy_stream(rng), np.empty((len(data), len(self.layout)), dtype=np.float32)
        for name, column in self.columns.items():
            x[:, self.places[name]] = column.encode(data.column(name), stream)
        return torch.from_numpy(x)

    def decode(self, x: Tensor, *, rng: torch.Generator, start: int = 0) -> Table:
        stream, values = numpy_stream(rng), x.cpu().numpy()
        arrays = [column.decode(values[:, self.places[name]], stream, start) for name, column in self.columns.items()]
        return Table(pa.Table.from_arrays(arrays, schema=self.schema.arrow), self.schema)

    def given(self, rows: Mapping[str, Sequence[Any] | Any], n: int) -> Given:
        """What n rows are asked to hold: column -> one value for all, or a list of n. Raises DataError where none can."""
        values, mask = torch.zeros(n, len(self.layout)), torch.zeros(len(self.layout), dtype=torch.bool)
        for name, wanted in rows.items():
            if name not in self.columns:
                raise DataError(f"where: no column {name!r}; the columns are {', '.join(self.columns)}")
            column = self.columns[name]
            each = wanted if isinstance(wanted, list) else [wanted]
            known = {v: column.request(v) for v in dict.fromkeys(each)}
            values[:, self.places[name]] = torch.from_numpy(np.stack([known[v] for v in each])).expand(n, -1)
            mask[self.places[name]] = True
        return Given(values, mask)

    def classes(self, name: str) -> list[Any]:
        """The values that `balance:` makes equally frequent. Raises DataError for a column that has none."""
        column = self.columns.get(name)
        if not isinstance(column, Category):
            kind = "no such column" if column is None else self.schema[name].kind
            raise DataError(f"balance: column {name!r}: found {kind}, expected a category or boolean column")
        return list(column.values)

    def state(self) -> dict:
        columns = {name: column.state() for name, column in self.columns.items()}
        return {"rare_below": self.rare_below, "schema": self.schema.to_json(), "columns": columns}

    @classmethod
    def restore(cls, state: dict) -> TableEncoder:
        self = cls(state["rare_below"])
        self._prepare(Schema.from_json(state["schema"]))
        for name, column in self.columns.items():
            column.restore(state["columns"][name])
        self._lay_out()
        return self


def numpy_stream(rng: torch.Generator) -> np.random.Generator:
    """A numpy stream that depends on the torch stream alone."""
    return np.random.default_rng(int(torch.randint(2**62, (1,), generator=rng)))
