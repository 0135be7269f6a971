"""Category: a column with named values (booleans too) as one one-of-k field, or three where there are very many values."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from generators.base import Mechanism
from generators.data import Column, DataError
from generators.encoding.quantiles import subjects_in
from generators.encoding.scale import plain_type
from generators.encoding.told import THERE, there
from generators.exact import Exact
from generators.layout import Field

MANY = 1024  # values that one field holds, at most
MISSING, OTHER = -1, -2  # codes of a null, and of a value that is not declared
TOP = 254  # where there are more: the most common ones, which are classes of the first field by themselves


class Category:
    """One field: the kept values, then missing (where the source has nulls), then rare (where it has rare values).

    A value is kept if at least `rare_below` subjects hold it. Rare comes back as a kept value drawn by its share, so
    that the name of a rare value is needed nowhere.

    Of very many values only the most common are classes of the first field, whose class 0 says that it is another one. That
    one is a number of two digits, a field each, which count where the first field is 0. They are numbered in the order of the
    alphabet, so that values with a common beginning (codes of diseases, postal codes) share their first digit.
    """

    def __init__(self, column: Column, arrow: pa.Field, rare_below: int):
        self.name, self.type, self.nullable, self.k = column.name, arrow.type, arrow.nullable, rare_below
        self.declared = column.options.get("values")

    def fit(self, values: pa.ChunkedArray, subjects: np.ndarray, ask: Mechanism | None = None) -> Category:
        """Values that are declared are known to everybody: no others are kept, and under a mechanism with noise all of them are."""
        ask = ask or Exact()
        noisy = ask.sd(1.0) > 0
        everybody = [False, True] if noisy and self.declared is None and pa.types.is_boolean(self.type) else self.declared
        known = everybody is not None  # which values there may be
        codes, distinct = self._known(everybody, *_codes(values)) if known else _codes(values)
        if noisy and not known:  # the order must not say who came first
            codes, distinct = _sorted(codes, distinct)
        present = codes >= 0
        people = torch.from_numpy(subjects_in(codes[present], subjects[present], len(distinct)))
        self.missing = there(ask, int((codes == MISSING).sum()), THERE)
        if noisy and known:
            held, keep = ask.counts(people, ask.rest).clamp_min(1).numpy(), np.arange(len(distinct))
        else:
            held = ask.kept(people, self.k, ask.rest).numpy()
            keep = np.flatnonzero(held)
        rows = held[keep] if noisy else np.bincount(codes[present], minlength=len(distinct))[keep]
        order = np.argsort(-rows, kind="stable")
        if len(keep) > MANY:  # neighbours in the alphabet belong together, as codes with a common beginning do
            order = np.concatenate([order[:TOP], sorted(order[TOP:], key=lambda i: distinct[keep[i]])])
        if pa.types.is_dictionary(self.type) and self.type.ordered:
            place = {_key(v): i for i, v in enumerate(distinct if known else values.combine_chunks().dictionary.to_pylist())}
            order = np.argsort([place[_key(distinct[i])] for i in keep])
        self.values: list[Any] = [distinct[i] for i in keep[order]]
        self.rows: list[int] = rows[order].tolist()
        self.rare = noisy or not np.isin(codes[codes != MISSING], keep).all()
        if self.rare and not self.values and not self.nullable:
            raise DataError(
                f"column {self.name!r}: no value is held by at least {self.k} subjects, so none can be kept; "
                "declare its kind as id, pii, text or drop, or lower privacy.rare_below"
            )
        return self

    def _known(self, declared: list, codes: np.ndarray, distinct: list) -> tuple[np.ndarray, list]:
        """The same in terms of the declared values, OTHER for any other. Raises DataError for a declared value that the column's type cannot hold."""
        known = self._typed(declared).to_pylist()
        place = {_key(v): i for i, v in enumerate(known)}
        return np.array([place.get(_key(v), OTHER) for v in distinct] + [MISSING])[codes], known

    def _typed(self, declared: list) -> pa.Array:
        try:
            return pa.array(declared).cast(plain_type(self.type))
        except pa.ArrowException:
            raise DataError(
                f"column {self.name!r}: values: found one that is no {plain_type(self.type)}, expected values of the type that the column has"
            ) from None

    def strays(self, values: pa.ChunkedArray) -> bool:
        """Whether there are others than those that are declared. Raises DataError as `fit` does."""
        plain = values.cast(plain_type(self.type)).drop_null()
        return not pc.all(pc.is_in(plain, self._typed(self.declared)), min_count=0).as_py()

    @property
    def classes(self) -> int:
        """Codes of values: the kept ones, missing, rare; at least one."""
        return max(len(self.values) + self.missing + self.rare, 1)

    @property
    def digit(self) -> int | None:
        """How many last digits there are, where a value is not one field."""
        return math.isqrt(self.classes - TOP - 1) + 1 if self.classes > MANY else None

    @property
    def fields(self) -> list[Field]:
        if self.digit is None:
            return [Field(classes=self.classes)]
        others = self.classes - TOP
        return [Field(classes=TOP + 1), Field(classes=-(-others // self.digit), gate=0), Field(classes=self.digit, gate=0)]

    def _split(self, codes: np.ndarray) -> np.ndarray:
        """codes (rows,) -> (rows, fields) float32. Missing and rare are the last codes, and the first classes by themselves."""
        if self.digit is None:
            return codes[:, None].astype(np.float32)
        special = self.missing + self.rare
        alone = np.where(codes >= len(self.values), codes - len(self.values), codes + special)  # missing and rare first, then the common
        common = alone < TOP
        other = np.where(common, 0, alone - TOP)
        return np.column_stack([np.where(common, alone + 1, 0), other // self.digit, other % self.digit]).astype(np.float32)

    def _join(self, x: np.ndarray) -> np.ndarray:
        """(rows, fields), whatever it holds -> codes (rows,)."""
        whole = [np.clip(np.rint(x[:, i]), 0, f.classes - 1).astype(np.int64) for i, f in enumerate(self.fields)]
        if self.digit is None:
            return whole[0]
        special = self.missing + self.rare
        alone = np.where(whole[0] > 0, whole[0] - 1, np.minimum(TOP + whole[1] * self.digit + whole[2], self.classes - 1))
        return np.where(alone < special, alone + len(self.values), alone - special)

    def encode(self, values: pa.ChunkedArray, rng: np.random.Generator) -> np.ndarray:
        codes, distinct = _codes(values)
        known = {_key(v): i for i, v in enumerate(self.values)}
        missing = len(self.values)
        other = missing + self.missing if self.rare else 0
        place = np.array([known.get(_key(v), other) for v in distinct] + [missing if self.missing else other])
        return self._split(place[codes])  # code -1, null, is the last place

    def decode(self, x: np.ndarray, rng: np.random.Generator, start: int) -> pa.Array:
        codes = self._join(x)
        if self.rare and self.values:
            rare = codes == len(self.values) + self.missing
            codes[rare] = rng.choice(len(self.values), size=int(rare.sum()), p=np.array(self.rows) / sum(self.rows))
        null = codes >= len(self.values)
        indices = pa.array(np.where(null, 0, codes), pa.int32(), mask=null)
        plain = self.type.value_type if pa.types.is_dictionary(self.type) else self.type
        array = pa.DictionaryArray.from_arrays(indices, pa.array(self.values or [None], plain))
        return array.cast(self.type) if pa.types.is_dictionary(self.type) else array.dictionary_decode()

    def request(self, value: Any) -> np.ndarray:
        """A value asked for, as its fields. Raises DataError where no row can have it."""
        if value is None and self.missing:
            return self._split(np.array([len(self.values)]))[0]
        same = [i for i, v in enumerate(self.values) if _key(v) == _key(value)] or [i for i, v in enumerate(self.values) if str(v) == str(value)]
        if value is None or not same:
            raise DataError(
                f"column {self.name!r}: the value asked for cannot be met by any row; expected "
                f"{'null or ' if self.missing else ''}one of the {len(self.values)} values that the model knows"
            )
        return self._split(np.array(same[:1]))[0]

    @property
    def protected(self) -> dict:
        return {"values kept": len(self.values), "rare values left out": self.rare}

    def state(self) -> dict:
        stored = pa.RecordBatch.from_arrays([pa.array(self.values, plain_type(self.type))], ["values"])
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, stored.schema) as writer:
            writer.write_batch(stored)
        values = base64.b64encode(sink.getvalue().to_pybytes()).decode()
        return {"values": values, "rows": self.rows, "missing": self.missing, "rare": self.rare}

    def restore(self, state: dict) -> Category:
        with pa.ipc.open_stream(base64.b64decode(state["values"])) as reader:
            self.values = reader.read_all().column(0).to_pylist()
        self.rows, self.missing, self.rare = state["rows"], state["missing"], state["rare"]
        return self


def _sorted(codes: np.ndarray, distinct: list) -> tuple[np.ndarray, list]:
    """The same, values in the order of what they look like."""
    order = sorted(range(len(distinct)), key=lambda i: str(distinct[i]))
    return np.append(np.argsort(order), MISSING)[codes].astype(np.int64), [distinct[i] for i in order]


def _key(value: Any) -> tuple:
    """True is not 1."""
    return isinstance(value, bool), value


def _codes(values: pa.ChunkedArray) -> tuple[np.ndarray, list]:
    """(codes (rows,) int64, -1 where null; the distinct values)."""
    array = values.combine_chunks()
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    array = pc.dictionary_encode(array)
    array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    return array.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64), array.dictionary.to_pylist()
