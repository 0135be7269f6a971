"""Small tables, random streams and awkward columns for the tests of generators. Needs no more than generators do."""

import base64
import decimal
import json
import re
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from generators.data import Column, Schema, Table
from generators.encoding.table import TableEncoder
from generators.layout import Layout
from generators.synthesizer import Synthesizer

ROWS = 400
QUICK = {"passes": 3}
HUGE = float(torch.finfo(torch.float32).max)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def table(columns: dict, kinds: list[str] | str, *, options: dict | None = None, nullable: bool = True, subject: str | None = None) -> Table:
    """columns: name -> values; kinds: one for each column, or one for all; options: name -> options of the column."""
    values = pa.table(columns)
    values = values.cast(pa.schema([f.with_nullable(nullable) for f in values.schema]))
    kinds = [kinds] * values.num_columns if isinstance(kinds, str) else kinds
    described = [Column(name, kind, (options or {}).get(name, {})) for name, kind in zip(values.column_names, kinds, strict=True)]
    return Table.of(values, Schema(values.schema, tuple(described), subject))


def fitted(data: Table, rare_below: int = 10) -> TableEncoder:
    return TableEncoder(rare_below).fit(data, rng=rng())


def there_and_back(data: Table, rare_below: int = 10) -> Table:
    encoder = fitted(data, rare_below)
    return encoder.decode(encoder.encode(data, rng=rng(1)), rng=rng(2))


def values(data: Table, name: str = "x") -> pa.ChunkedArray:
    return data.column(name)


def decoded(encoder: TableEncoder, rows: int, scale: float = 1.0, start: int = 0) -> Table:
    x = (torch.randn(rows, len(encoder.layout), generator=rng(5)).double() * scale).clamp(-HUGE, HUGE).float()
    return encoder.decode(x, rng=rng(start), start=start)


def valid(data: Table, like: Table) -> bool:
    data.values.validate(full=True)
    return data.values.schema.equals(like.schema.arrow, check_metadata=True)


def plain(data: Table) -> pa.Array:
    array = data.column("x").combine_chunks()
    return array.dictionary_decode() if isinstance(array, pa.DictionaryArray) else array


def chained(layout: Layout, n: int, seed: int = 0) -> torch.Tensor:
    """Numbers of a layout, of which each field follows the one before."""
    stream, x = rng(seed), torch.zeros(n, len(layout))
    before = torch.rand(n, generator=stream)
    for i, field in enumerate(layout.fields):
        before = (before + 0.3 * torch.rand(n, generator=stream)) % 1
        x[:, i] = (before * field.classes).floor() if field.classes else torch.special.ndtri(before.clamp(0.001, 0.999))
    return x * layout.active(x)


def patients(n: int = 600, seed: int = 0) -> Table:
    """Every kind of field that a generator meets: spikes, nulls, whole numbers, decimals, dates, categories, booleans, ids."""
    stream = np.random.default_rng(seed)
    group, gone = stream.integers(0, 3, n), stream.random(n) < 0.2
    columns = {
        "number": pa.array(np.arange(n) + 500_000),
        "age": stream.integers(18, 90, n),
        "dose": np.round(stream.gamma(2, 10, n) * (1 + group), 2),
        "gain": np.where(stream.random(n) < 0.9, 0.0, np.round(stream.gamma(2, 1000, n))),
        "lab": pa.array(stream.normal(group, 1), mask=gone),
        "seen": pa.array(18_000 + stream.integers(0, 700, n).astype("int32"), pa.int32()).view(pa.date32()),
        "ward": [("north", "south", "west")[g] for g in group],
        "died": pa.array(stream.random(n) < 0.2 + 0.2 * group, mask=stream.random(n) < 0.1),
    }
    return table(columns, ["id", "numeric", "numeric", "numeric", "numeric", "datetime", "category", "boolean"])


def _times(kind: pa.DataType, numbers: np.ndarray, mask=None) -> pa.Array:
    return pa.array(numbers, pa.int32() if kind.bit_width == 32 else pa.int64(), mask=mask).view(kind)


def awkward() -> dict[str, tuple[pa.Array, str]]:
    """name -> (values, kind): columns of every type, whose round trip must keep type, nulls and what many rows hold."""
    stream = np.random.default_rng(7)
    small, gone = stream.integers(0, 12, ROWS), stream.random(ROWS) < 0.2
    days = stream.integers(0, 20_000, ROWS)
    words = pa.array([f"v{v % 5}" for v in small], mask=gone)
    tens = [None if g else decimal.Decimal(int(v) - 50).scaleb(-2) for v, g in zip(small * 7, gone, strict=True)]
    out: dict[str, tuple[pa.Array, str]] = {}
    for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"):
        out[f"{name} with nulls"] = pa.array(small, mask=gone).cast(getattr(pa, name)()), "numeric"
        out[f"{name} as category"] = pa.array(small, mask=gone).cast(getattr(pa, name)()), "category"
    for unit, second in (("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)):
        for zone in (None, "Europe/Berlin"):
            kind = pa.timestamp(unit, zone)
            out[f"midnights {kind}"] = _times(kind, days * 86_400 * second, gone), "datetime"
            out[f"moments {kind}"] = _times(kind, stream.integers(0, 1_700_000_000 * second, ROWS), gone), "datetime"
    out |= {
        "int64 at both ends": (pa.array(np.where(small < 6, -(2**63), 2**63 - 1)), "numeric"),
        "int64 all over": (pa.array(stream.integers(-(2**63), 2**63 - 1, ROWS)), "numeric"),
        "uint64 above int64": (pa.array(stream.integers(2**63, 2**64 - 1, ROWS, dtype=np.uint64)), "numeric"),
        "uint8 full": (pa.array(stream.integers(0, 256, ROWS).astype(np.uint8)), "numeric"),
        "float64 huge": (pa.array(stream.standard_cauchy(ROWS) * 1e300), "numeric"),
        "float64 tiny": (pa.array(stream.normal(size=ROWS) * 1e-310), "numeric"),
        "negative zero": (pa.array(np.where(small < 6, -0.0, 0.0)), "numeric"),
        "constant": (pa.array(np.full(ROWS, 3.25)), "numeric"),
        "spikes": (pa.array(np.where(stream.random(ROWS) < 0.9, 0, stream.gamma(2, 1000, ROWS))), "numeric"),
        "date32": (_times(pa.date32(), days.astype("int32"), gone), "datetime"),
        "date64": (_times(pa.date64(), days * 86_400_000, gone), "datetime"),
        "date64 constant": (_times(pa.date64(), np.full(ROWS, 77 * 86_400_000)), "datetime"),
        "time32": (_times(pa.time32("s"), stream.integers(0, 86_400, ROWS).astype("int32")), "datetime"),
        "time64": (_times(pa.time64("ns"), stream.integers(0, 86_400, ROWS) * 10**9), "datetime"),
        "duration": (_times(pa.duration("ms"), stream.integers(0, 86_400, ROWS) * 10**3), "datetime"),
        "decimal with negatives": (pa.array(tens, pa.decimal128(12, 4)), "numeric"),
        "decimal beyond int64": (pa.array([decimal.Decimal(int(v) - 4).scaleb(25) for v in small], pa.decimal128(38, 4)), "numeric"),
        "decimal as category": (pa.array(tens, pa.decimal128(12, 2)), "category"),
        "words": (words, "category"),
        "large words": (words.cast(pa.large_string()), "category"),
        "dictionary": (words.dictionary_encode(), "category"),
        "small dictionary": (words.dictionary_encode().cast(pa.dictionary(pa.int8(), pa.large_string())), "category"),
        "dictionary of numbers": (pa.array(small, mask=gone).dictionary_encode(), "numeric"),
        "booleans": (pa.array(small < 6, mask=gone), "boolean"),
        "untyped nulls": (pa.nulls(ROWS), "category"),
        "untyped nulls as numbers": (pa.nulls(ROWS), "numeric"),
    }
    for kind in (pa.int32(), pa.float64(), pa.date32(), pa.timestamp("us", "UTC"), pa.decimal128(5, 1)):
        out[f"all null {kind}"] = pa.nulls(ROWS, kind), "numeric"
    for kind in (pa.string(), pa.bool_(), words.dictionary_encode().type):
        out[f"all null {kind}"] = pa.nulls(ROWS, kind), "category"
    return out


def share(column: pa.ChunkedArray, value) -> float:
    return pc.mean(pc.equal(column, pa.scalar(value, column.type)).fill_null(False).cast(pa.float64())).as_py()


def told(encoder: TableEncoder, value) -> bool:
    """Whether a saved encoder holds a value: as a number, in a string, or in the Arrow bytes of one."""

    def walk(node):
        if isinstance(node, dict):
            return any(walk(v) for pair in node.items() for v in pair)
        if isinstance(node, list | tuple):
            return any(map(walk, node))
        if isinstance(node, str):
            text = str(value).encode()
            return text in node.encode() or (len(node) > 40 and re.fullmatch(r"[\w+/=]+", node) and text in base64.b64decode(node + "==", validate=False))
        return isinstance(value, float) and isinstance(node, int | float) and node == value

    return bool(walk(json.loads(json.dumps(encoder.state()))))


@cache
def learned() -> tuple[Table, Synthesizer]:
    """Patients, and a mixture of few passes over them."""
    return patients(), Synthesizer("gmm", **QUICK).fit(patients())
