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
    def of(cls, values: pa.ChunkedArray) -> Scale:
        """The lattice that the values lie on. It says nothing of any one value: 0 <= origin < step."""
        kind = _plain_type(values.type)
        raw = _raw(values)
        if pa.types.is_floating(kind):
            raw = raw[np.isfinite(raw)]
            for digits in range(10):
                if np.abs(raw).max(initial=0) * 10**digits < EXACT / 1e3 and _equal(raw, np.round(raw, digits), kind):
                    step = int(np.gcd.reduce(np.unique(np.rint(raw * 10**digits)).astype(np.int64))) if len(raw) else 1
                    return cls(kind, 0, max(step, 1), digits)
            return cls(kind)
        present = np.unique(raw[~_null(values)])
        step = int(np.gcd.reduce(np.diff(present))) if len(present) > 1 else 1
        step = max(step, 1)
        return cls(kind, int(present[0] % step) if len(present) else 0, step)

    def to_number(self, values: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
        """(m (rows,) float64 with 0 where null, null (rows,) bool)."""
        null, raw = _null(values), _raw(values)
        if not self.step:
            m = raw.astype(np.float64)
        elif pa.types.is_floating(self.type):
            m = np.where(null, 0, raw) * 10.0**self.digits / self.step
            m = np.where(np.abs(m - np.rint(m)) < 1e-3, np.rint(m), m)
        else:
            offset = raw - self.origin
            m = (offset // self.step).astype(np.float64) + (offset % self.step) / self.step
        return np.where(null, 0.0, m), null

    def to_arrow(self, m: np.ndarray, null: np.ndarray) -> pa.Array:
        """Whole lattice steps m (rows,) and null (rows,) -> an array of the type."""
        if pa.types.is_floating(self.type):
            x = np.round(np.rint(m) * self.step / 10.0**self.digits, self.digits) if self.step else m
            x = x.astype(self.type.to_pandas_dtype())
            return pa.array(np.where(null, 0, x).astype(x.dtype), self.type, mask=null)
        raw = np.where(null, 0, self.origin + np.rint(m).astype(np.int64) * self.step)
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


def _plain_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _null(values: pa.ChunkedArray) -> np.ndarray:
    return pc.is_null(values, nan_is_null=pa.types.is_floating(_plain_type(values.type))).to_numpy()


def _raw(values: pa.ChunkedArray) -> np.ndarray:
    """(rows,) int64 in the type's own unit, or float64; 0 where null."""
    kind = _plain_type(values.type)
    if pa.types.is_dictionary(values.type):
        values = values.cast(kind)
    if pa.types.is_floating(kind):
        return values.cast(pa.float64()).fill_null(0.0).to_numpy()
    if pa.types.is_decimal(kind):
        return np.array([0 if v is None else int(v.scaleb(kind.scale)) for v in values.to_pylist()], dtype=np.int64)
    if pa.types.is_temporal(kind):
        width = pa.int32() if kind.bit_width == 32 else pa.int64()
        values = pa.chunked_array([c.view(width) for c in values.chunks], width)
    return values.cast(pa.int64()).fill_null(0).to_numpy()


def _equal(a: np.ndarray, b: np.ndarray, kind: pa.DataType) -> bool:
    dtype = kind.to_pandas_dtype()
    return bool((a.astype(dtype) == b.astype(dtype)).all())
