"""Arrow values to plain numbers and back, exactly: whole numbers, decimals, dates, timestamps and floats alike.

Numbers that lie on a lattice (whole numbers, two decimals, midnight of a day, steps of a half) are counted in its steps,
so that what comes back lies on it too.
"""

from __future__ import annotations

import decimal
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

EXACT = 2.0**53  # whole numbers up to here are floats without loss


@dataclass(frozen=True)
class Scale:
    """x = origin + step * m for a lattice (step > 0, counted in the type's own unit, 10^-digits for floats); else x = m."""

    type: pa.DataType
    origin: int = 0
    step: int = 0
    digits: int = 0

    @classmethod
    def of(cls, values: pa.ChunkedArray, subjects: np.ndarray, k: int) -> Scale:
        """The lattice that the values lie on, if it says nothing of any fewer than k subjects; else one of steps of 1."""
        kind, null = plain_type(values.type), is_null(values)
        raw, subjects, digits = raw_numbers(values)[~null], subjects[~null], 0
        largest = float(np.abs(raw.astype(np.float64)).max(initial=0))
        if pa.types.is_floating(kind):
            fits = (d for d in range(10) if largest < EXACT / 1e3 / 10**d and _equal(raw, np.round(raw, d), kind))
            digits = next(fits, None)
            if digits is None:
                return cls(kind)
            raw = np.rint(raw * 10**digits).astype(np.int64)
        elif largest > 2.0**61:  # differences would not fit
            return cls(kind)
        step = _step(raw, subjects, k, kind)
        return cls(kind, int(raw[0] % step) if len(raw) else 0, step, digits)

    def to_number(self, values: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
        """(m (rows,) float64 with 0 where null, null (rows,) bool)."""
        null, raw = is_null(values), raw_numbers(values)
        if not self.step:
            m = raw.astype(np.float64)
        elif pa.types.is_floating(self.type):
            m = (np.where(null, 0, raw) * 10.0**self.digits - self.origin) / self.step
            m = np.where(np.abs(m - np.rint(m)) < 1e-3, np.rint(m), m)
        else:
            offset = raw - self.origin
            m = (offset // self.step).astype(np.float64) + (offset % self.step) / self.step
        return np.where(null, 0.0, m), null

    def to_arrow(self, m: np.ndarray, null: np.ndarray) -> pa.Array:
        """Whole lattice steps m (rows,) and null (rows,) -> an array of the type."""
        if pa.types.is_null(self.type):
            return pa.nulls(len(m))
        if pa.types.is_floating(self.type):
            x = np.round((self.origin + np.rint(m) * self.step) / 10.0**self.digits, self.digits) if self.step else m
            x = x.astype(self.type.to_pandas_dtype())
            return pa.array(np.where(null, 0, x).astype(x.dtype), self.type, mask=null)
        if self.step:
            raw = np.where(null, 0, self.origin + np.rint(m).astype(np.int64) * self.step)
        else:
            raw = np.clip(np.where(null, 0, np.rint(m)), *_limits(self.type))
            raw = raw if pa.types.is_decimal(self.type) else raw.astype(np.uint64 if pa.types.is_unsigned_integer(self.type) else np.int64)
        if pa.types.is_decimal(self.type):
            exact = decimal.Context(prec=76)
            return pa.array([None if n else decimal.Decimal(int(v)).scaleb(-self.type.scale, exact) for v, n in zip(raw, null, strict=True)], self.type)
        if pa.types.is_temporal(self.type):
            width = pa.int32() if self.type.bit_width == 32 else pa.int64()
            return pa.array(raw, width, mask=null).view(self.type)
        return pa.array(raw, self.type, mask=null)

    def number(self, value: Any) -> float:
        """One value as a person writes it -> m. Raises ValueError or an Arrow error where it is none of this type."""
        kind = pa.float64() if pa.types.is_integer(self.type) and isinstance(value, float) else self.type
        if isinstance(value, str) and (pa.types.is_temporal(kind) or pa.types.is_decimal(kind)):
            scalar = pa.array([value]).cast(kind)
        elif pa.types.is_decimal(kind):
            scalar = pa.array([decimal.Decimal(str(value))]).cast(kind)
        else:
            scalar = pa.array([value]).cast(kind)
        if kind != self.type:
            return (float(value) - self.origin) / (self.step or 1)
        return float(self.to_number(pa.chunked_array([scalar]))[0][0])

    def state(self) -> dict:
        return {"origin": self.origin, "step": self.step, "digits": self.digits}


def plain_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def is_null(values: pa.ChunkedArray) -> np.ndarray:
    return pc.is_null(values, nan_is_null=pa.types.is_floating(plain_type(values.type))).to_numpy()


def raw_numbers(values: pa.ChunkedArray) -> np.ndarray:
    """(rows,) int64 in the type's own unit, or float64 (floats, and numbers too large for int64); 0 where null."""
    kind = plain_type(values.type)
    if pa.types.is_dictionary(values.type):
        values = values.cast(kind)
    if pa.types.is_floating(kind):
        return values.cast(pa.float64()).fill_null(0.0).to_numpy()
    if pa.types.is_decimal(kind):
        exact = decimal.Context(prec=76)
        whole = [0 if v is None else int(v.scaleb(kind.scale, exact)) for v in values.to_pylist()]
        return np.array(whole, np.float64 if max(map(abs, whole), default=0) >= 2**63 else np.int64)
    if pa.types.is_temporal(kind):
        width = pa.int32() if kind.bit_width == 32 else pa.int64()
        values = pa.chunked_array([c.view(width) for c in values.chunks], width)
    if kind == pa.uint64() and (pc.max(values).as_py() or 0) >= 2**63:
        return values.fill_null(0).to_numpy().astype(np.float64)
    return values.cast(pa.int64()).fill_null(0).to_numpy()


def _step(raw: np.ndarray, subjects: np.ndarray, k: int, kind: pa.DataType) -> int:
    """The greatest common step of whole numbers raw (n,), whose they are (n,), if each of k separate groups of subjects shows it.

    Else the decimals in use; the longest of day, hour, minute and second that times of as many subjects share; or 1.
    """
    step = int(np.gcd.reduce(raw - raw[0])) if len(raw) else 0
    for groups in (k, 4 * k, 16 * k):
        place = (subjects * 2_654_435_761 >> 16) % groups  # as good as at random
        order = np.argsort(place, kind="stable")
        first = np.flatnonzero(np.diff(place[order], prepend=-1))
        gaps = np.diff(raw[order], append=0)
        gaps[np.append(first[1:], len(raw))[: len(first)] - 1] = 0  # to another group
        if step and (np.gcd.reduceat(gaps, first) == step).sum() >= k:
            return step
    if pa.types.is_decimal(kind):
        return next(10**d for d in range(min(kind.scale, 18), -1, -1) if not (raw % 10**d).any()) if kind.scale > 0 else 1
    second = {"s": 1, "ms": 1000, "us": 10**6, "ns": 10**9}[kind.unit] if pa.types.is_timestamp(kind) else 1000 if kind == pa.date64() else 0
    least = 86400 * second if kind == pa.date64() else 1
    natural = [second * s for s in (86400, 3600, 60, 1) if second and step % (second * s) == 0]
    return natural[0] if natural and len(np.unique(subjects)) >= k else least


def _limits(kind: pa.DataType) -> tuple[float, float]:
    """The smallest and the largest number of a type that a float64 can hold."""
    if pa.types.is_decimal(kind):
        high = 10.0**kind.precision
        return np.nextafter(-high, 0), np.nextafter(high, 0)
    signed = not pa.types.is_unsigned_integer(kind)
    high = 2.0 ** (kind.bit_width - signed)
    return -high if signed else 0.0, np.nextafter(high, 0)


def _equal(a: np.ndarray, b: np.ndarray, kind: pa.DataType) -> bool:
    dtype = kind.to_pandas_dtype()
    return bool((a.astype(dtype) == b.astype(dtype)).all())
