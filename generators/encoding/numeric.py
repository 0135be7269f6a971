"""Numeric: numbers, dates and timestamps as a code field (number, missing, spikes) and a continuous field."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import ndtr, ndtri

from generators.base import Mechanism
from generators.data import Column, DataError
from generators.encoding import told
from generators.encoding.quantiles import Quantiles, fit_quantiles
from generators.encoding.scale import Scale
from generators.layout import Field

SPIKE = 0.8  # a number that so large a share of the rows holds is a code of its own
FINENESS, ATOMS = 0.1, 0.45  # shares of what may be told that go to how finely numbers are written, and to those that many hold
END = float(ndtri(1 - 1e-6))  # where the continuous scale ends


class Numeric:
    """The continuous field is the normal score of the protected distribution function: z = Phi^-1(F(x)).

    `codes` names what the code field can say: "number" (look at the continuous field), None (missing), or a spike.
    There is no code field if there is only "number", and no continuous field if there is no "number".
    """

    def __init__(self, column: Column, arrow: pa.Field, rare_below: int):
        self.name, self.type, self.nullable, self.k = column.name, arrow.type, arrow.nullable, rare_below
        self.bounds = column.options.get("low"), column.options.get("high")
        self.quantiles: Quantiles | None = None
        self.noisy = False  # while it is fitted

    def fit(self, values: pa.ChunkedArray, subjects: np.ndarray, ask: Mechanism | None = None) -> Numeric:
        if pa.types.is_floating(values.type) and pc.any(pc.is_inf(values)).as_py():
            raise DataError(f"column {self.name!r}: holds infinite numbers, expected finite numbers or nulls")
        if ask is not None and ask.sd(1.0) > 0:
            return self._told(values, subjects, ask)
        self.scale = Scale.of(values, subjects, self.k)
        x, null = self.scale.to_number(values)
        x, subjects = x[~null], subjects[~null]
        spikes: list[float] = []
        if len(np.unique(subjects)) >= self.k:
            distinct, rows = np.unique(x, return_counts=True)
            frequent = distinct[rows >= SPIKE * len(x)]
            spikes = [float(v) for v in frequent if len(np.unique(subjects[x == v])) >= self.k]
            rest = ~np.isin(x, spikes)
            if not spikes or len(np.unique(subjects[rest])) >= self.k:  # else the rest comes back as the first spike
                self.quantiles = fit_quantiles(x[rest], subjects[rest], self.k)
        elif not self.nullable:
            raise DataError(
                f"column {self.name!r}: {len(np.unique(subjects))} subjects, expected at least {self.k} to learn a number from; declare its kind as drop"
            )
        nothing = not spikes and self.quantiles is None
        self.codes: list = ["number"] * (self.quantiles is not None) + spikes + [None] * bool(null.any() or nothing)
        return self

    def _told(self, values: pa.ChunkedArray, subjects: np.ndarray, ask: Mechanism) -> Numeric:
        """The same from noisy counts."""
        self.noisy = True
        missing = told.there(ask, values.null_count, told.THERE) and self.nullable
        self.scale = told.scale(values, ask.part(FINENESS, "how finely it is written"))
        (x, null), whole = self.scale.to_number(values), bool(self.scale.step)
        low, high = self._limits()
        x, subjects = np.clip(x[~null], low, high), subjects[~null]
        exact, held = told.atoms(x, subjects, self.k, ask.part(ATOMS, "numbers that many hold"))
        rest = ~np.isin(x, exact)
        among = told.cells(x[rest], subjects[rest], low, high, whole, ask.part(ask.rest, "all other numbers"))
        spikes = held >= SPIKE * (held.sum() + among[:, 2].sum())
        self.quantiles = told.joined(exact[~spikes], held[~spikes], among, whole)
        if self.quantiles is None and not spikes.any() and np.isfinite([low, high]).all():
            self.quantiles = Quantiles(np.array([low]), np.array([high]), np.array([0.0, 1.0]))  # noise drowned all but what was declared
        self.codes = ["number"] * (self.quantiles is not None) + [float(v) for v in exact[spikes]]
        if not (self.codes or self.nullable):
            self.codes = [float(np.clip(1.0, low, high))]
        self.codes += [None] * (missing or not self.codes)
        return self

    def _limits(self) -> tuple[float, float]:
        """What was declared, as numbers of the scale, on a lattice the ends of it within; infinite where nothing was."""
        low, high = (end if b is None else self.scale.number(b) for b, end in zip(self.bounds, (-np.inf, np.inf), strict=True))
        return (np.ceil(low), np.floor(high)) if self.scale.step else (low, high)

    @property
    def fields(self) -> list[Field]:
        code = [Field(classes=len(self.codes))] if self.codes != ["number"] else []
        if self.quantiles is None:
            return code
        cuts = tuple(float(z) for z in ndtri(self.quantiles.edges[1:-1]))
        return [*code, Field(gate=0 if code else None, cuts=cuts)]

    def encode(self, values: pa.ChunkedArray, rng: np.random.Generator) -> np.ndarray:
        x, null = self.scale.to_number(values)
        code = np.zeros(len(x), dtype=np.float32)
        for i, meaning in enumerate(self.codes):
            code[null if meaning is None else (~null & (x == meaning)) if meaning != "number" else []] = i
        out = [code] if self.codes != ["number"] else []
        if self.quantiles is not None:
            z = ndtri(self.quantiles.to_unit(x, rng, float(bool(self.scale.step))))
            out.append(np.where(code == 0, np.clip(z, -END, END), 0).astype(np.float32))
        return np.stack(out, 1)

    def decode(self, x: np.ndarray, rng: np.random.Generator, start: int) -> pa.Array:
        code = np.zeros(len(x))
        if self.codes != ["number"]:
            code = np.clip(np.rint(x[:, 0]), 0, len(self.codes) - 1)
        number = np.zeros(len(x))
        if self.quantiles is not None:
            number = self.quantiles.from_unit(ndtr(x[:, -1].astype(np.float64)))
            if self.scale.step:
                number = np.clip(np.rint(number), np.ceil(self.quantiles.low[0]), np.floor(self.quantiles.high[-1]))
        number = np.clip(number, *self._limits())
        null = np.zeros(len(x), dtype=bool)
        for i, meaning in enumerate(self.codes):
            if meaning is None:
                null = code == i
            elif meaning != "number":
                number[code == i] = meaning
        array = self.scale.to_arrow(number, null)
        return array.dictionary_encode().cast(self.type) if pa.types.is_dictionary(self.type) else array

    def request(self, value: Any) -> np.ndarray:
        """A value asked for, as its fields. Raises DataError where no row can have it."""
        number = np.nan
        value = None if isinstance(value, float | np.floating) and np.isnan(value) else value
        if value is not None:
            try:
                number = self.scale.number(value)
            except (ValueError, TypeError, ArithmeticError, pa.ArrowException):
                raise DataError(f"column {self.name!r}: a {type(value).__name__} was asked for, expected a value of type {self.type}") from None
        for i, meaning in enumerate(self.codes):
            if meaning == (None if value is None else number):
                return np.array([i, 0][: len(self.fields)], dtype=np.float32)
        between = bool(self.scale.step) and abs(number - np.rint(number)) > 1e-6
        if value is None or between or self.quantiles is None or not self.quantiles.low[0] <= number <= self.quantiles.high[-1]:
            raise DataError(f"column {self.name!r}: the value asked for cannot be met by any row; expected {self._possible()}")
        middle = np.full(1, number)
        u = self.quantiles.to_unit(middle, _Middle(), 0.0)
        return np.array([0.0, ndtri(u)[0]][-len(self.fields) :], dtype=np.float32)

    def _possible(self) -> str:
        """What may be asked for, in words: the range that enough subjects hold, and no extreme of anybody."""
        words = ["null"] if None in self.codes else []
        if self.quantiles is not None:
            ends = self.scale.to_arrow(np.array([self.quantiles.low[0], self.quantiles.high[-1]]), np.zeros(2, dtype=bool))
            low, high = map(str, ends.to_pylist())
            words.append(f"a value from {low} to {high}{', on the steps that the column has' if self.scale.step else ''}")
        return f"{' or '.join(words) or 'the value that all rows have'}, a range that at least {self.k} subjects hold"

    @property
    def protected(self) -> dict:
        exact = len(self.codes) - self.codes.count(None) - self.codes.count("number")
        if self.quantiles is not None:
            exact += int((self.quantiles.low == self.quantiles.high).sum())
        return {"numbers kept exactly": exact, "extremes": "from noisy counts" if self.noisy else f"at least {self.k} subjects at or beyond each"}

    def state(self) -> dict:
        q = self.quantiles
        return {
            "scale": self.scale.state(),
            "codes": self.codes,
            "quantiles": None if q is None else {"low": q.low.tolist(), "high": q.high.tolist(), "edges": q.edges.tolist()},
        }

    def restore(self, state: dict) -> Numeric:
        plain = self.type.value_type if pa.types.is_dictionary(self.type) else self.type
        self.scale, self.codes = Scale(plain, **state["scale"]), state["codes"]
        if state["quantiles"] is not None:
            self.quantiles = Quantiles(**{k: np.array(v) for k, v in state["quantiles"].items()})
        return self


class _Middle:
    """Stands in for a random stream where the middle of a stretch is wanted."""

    def random(self, n: int) -> np.ndarray:
        return np.full(n, 0.5)
