"""What is invented anew: ids, personal data and free texts, alike and new, nobody's, and never learned."""

import decimal
import json
import re
import uuid

import numpy as np
import pyarrow as pa
import pytest
import torch
from tables import decoded, fitted, plain, rng, table, there_and_back, valid, values

from generators.data import DataError
from generators.encoding.table import TableEncoder


def ids(array: pa.Array, kind: str = "id", parts: int = 3, rows: int = 1500, **options) -> list:
    """Values issued over several parts, in any order, after the usual checks."""
    data = table({"x": array}, kind, options={"x": options})
    encoder = fitted(data)
    again = TableEncoder.restore(json.loads(json.dumps(encoder.state())))
    out = []
    for part in reversed(range(parts)):
        x = torch.zeros(rows, len(encoder.layout))
        made = encoder.decode(x, rng=rng(part), start=part * rows)
        assert valid(made, data)
        assert made.values.equals(again.decode(x, rng=rng(part), start=part * rows).values)
        out += plain(made).to_pylist()
    assert not set(out) & set(array.to_pylist())
    return out


STREAM = np.random.default_rng(11)
N = 800
PICKED = STREAM.choice(10**6, N, replace=False)
IDS = {
    "mrn": (pa.array([f"MRN-{v:06d}" for v in PICKED]), r"MRN-\d{6}"),
    "dense mrn": (pa.array([f"MRN-{v:06d}" for v in range(1, N + 1)]), r"MRN-\d+"),
    "uuid": (pa.array([str(uuid.UUID(bytes=STREAM.bytes(16), version=4)) for _ in range(N)]), r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"),
    "UUID": (pa.array([str(uuid.UUID(bytes=STREAM.bytes(16))).upper() for _ in range(N)]), r"[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}"),
    "letters": (pa.array(["".join(chr(65 + c) for c in STREAM.integers(0, 26, 8)) for _ in range(N)]), r"[A-Z]{8}"),
    "mixed lengths": (pa.array([f"P{v}" for v in range(1, N + 1)]), r"P\d+"),
    "dictionary": (pa.array([f"MRN-{v:06d}" for v in PICKED]).dictionary_encode(), r"MRN-\d{6}"),
    "large strings": (pa.array([f"{v:09d}" for v in STREAM.choice(10**9, N, replace=False)], pa.large_string()), r"\d{9}"),
    "national numbers": (pa.array(STREAM.integers(10**9, 10**10, N)), r"[1-9]\d{9}"),
    "national numbers as floats": (pa.array(STREAM.integers(10**9, 10**10, N).astype(float)), r"[1-9]\d{9}\.0"),
    "int32 near its end": (pa.array(STREAM.integers(10**9, 2**31 - 1, N).astype("int32")), r"1\d{9}"),
    "uint32 near its end": (pa.array(STREAM.integers(10**9, 2**32 - 1, N).astype("uint32")), r"[123]\d{9}"),
    "int64 near its end": (pa.array(STREAM.integers(10**18, 2**63 - 1, N)), r"[1-8]\d{18}"),
    "uint64 near its end": (pa.array(STREAM.integers(10**19, 2**64 - 1, N, dtype=np.uint64)), r"1[0-7]\d{18}"),
    "float32": (pa.array(STREAM.choice(np.arange(10**6, 10**7), N, replace=False).astype("float32")), r"[1-9]\d{6}\.0"),
    "decimals": (pa.array([decimal.Decimal(int(v)) for v in PICKED + 10**6], pa.decimal128(12, 2)), r"\d{7}\.00"),
    "long decimals": (pa.array([decimal.Decimal(int(v)) * 10**20 for v in PICKED + 10**6], pa.decimal128(38, 0)), r"\d{27}"),
    "negative": (pa.array(-STREAM.integers(10**8, 10**9, N)), r"[1-9]\d{8}"),
    "dense": (pa.array(np.arange(1, N + 1)), r"1\d+"),
    "dense int32": (pa.array(np.arange(1, N + 1, dtype="int32")), r"1\d+"),
    "dense int16": (pa.array(np.arange(1, N + 1, dtype="int16")), r"1\d{3,4}"),
}


@pytest.mark.parametrize("name", IDS)
def test_ids_are_new_unique_and_alike(name):
    array, look = IDS[name]
    parts, rows = (1, 900) if name == "dense int16" else (3, 1500)
    issued = ids(array, parts=parts, rows=rows)
    assert len(set(issued)) == len(issued)
    assert all(re.fullmatch(look, str(v)) for v in issued)


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint8()])
def test_ids_without_room_are_refused(kind):
    with pytest.raises(DataError, match=f"'x': no unused {kind} numbers are left to issue"):
        fitted(table({"x": pa.array(np.arange(1, 101)).cast(kind)}, "id"))


def test_more_ids_than_there_is_room_for():
    encoder = fitted(table({"x": np.arange(1, 801, dtype="int16")}, "id"))
    with pytest.raises(DataError, match=r"'x': only \d+ of this look can be issued"):
        encoder.decode(torch.zeros(5, 0), rng=rng(), start=10**7)


def test_ids_of_nobody():
    for kind in (pa.string(), pa.int64()):
        data = table({"x": pa.nulls(50, kind)}, "id")
        encoder = fitted(data)
        assert values(encoder.decode(torch.ones(3000, 1), rng=rng())).null_count == 3000
        assert valid(decoded(encoder, 3000), data)


def test_nulls_of_what_is_invented_are_kept():
    gone = np.random.default_rng(0).random(N) < 0.3
    data = table({"x": pa.array([f"MRN-{v:06d}" for v in PICKED], mask=gone), "n": pa.array(PICKED, mask=gone)}, "id")
    back = there_and_back(data)
    for name in ("x", "n"):
        assert values(back, name).is_null().to_numpy().tolist() == gone.tolist()
    assert valid(back, data)


def test_numbers_of_people_are_issued_not_learned():
    """Phone and national numbers need no Faker."""
    for faker, made in (("phone_number", [f"+44 7{v:09d}" for v in PICKED * 997]), ("ssn", [f"{v % 900:03d}-{v % 89:02d}-{v % 9973:04d}" for v in PICKED])):
        out = ids(pa.array(made), "pii", faker=faker)
        assert len(set(out)) == len(out)
        assert {len(v) for v in out} <= {len(v) for v in made} | {max(map(len, made)) + 1}


@pytest.mark.parametrize(
    ("kind", "options", "look"),
    [
        ("pii", {"faker": "name"}, r"\S+( \S+)+"),
        ("pii", {"faker": "last_name"}, r"[^\d]+"),
        ("pii", {"faker": "email"}, r"[\w.]+@[\w.]+"),
        ("pii", {"faker": "address"}, r"[^\n]+"),
        ("pii", {"faker": "name", "locale": "de_DE"}, r"\S+( \S+)+"),
        ("text", {}, r"[A-Z].*\."),
    ],
)
def test_personal_data_are_invented(kind, options, look):
    """The source is what Faker would make, with every case and space, so that a careless pool would copy it."""
    faker = pytest.importorskip("faker").Faker(options.get("locale"))
    faker.seed_instance(5)
    method = options.get("faker", "sentence")
    made = [str(getattr(faker, method)()) for _ in range(2500)]
    if method == "email":
        made = [f"{v.split('@')[0]}{i}@example.com" for i, v in enumerate(made)]
    source = pa.array([v.upper() if i % 2 and method != "email" else v for i, v in enumerate(made)], mask=np.arange(2500) % 5 == 0)
    out = ids(source, kind, **options)
    real = {v.casefold() for v in source.to_pylist() if v is not None}
    assert not {v.casefold() for v in out} & real
    assert all(re.fullmatch(look, v) for v in out)
    assert method != "email" or len(set(out)) == len(out)
    data = table({"x": source}, kind, options={"x": options})
    encoder = fitted(data)
    assert values(encoder.decode(encoder.encode(data, rng=rng()), rng=rng())).is_null().equals(values(data).is_null())
    assert not set(encoder.state()["columns"]["x"]["pool"]) & set(source.to_pylist())


def test_what_cannot_be_invented():
    pytest.importorskip("faker")
    for array, kind, options, message in (
        (pa.array(["a"] * 50), "pii", {"faker": "nope"}, "faker: 'nope' is no provider"),
        (pa.array(["a"] * 50), "pii", {"locale": "xx_YY"}, "Faker has no 'xx_YY'"),
        (pa.array([True] * 50), "id", {}, "kind id is of type bool, expected text or whole numbers"),
    ):
        with pytest.raises(DataError, match=message):
            fitted(table({"x": array}, kind, options={"x": options}))
    encoder = fitted(table({"x": pa.array([f"{v}" for v in range(50)])}, "id"))
    with pytest.raises(DataError, match="is invented anew, so no value of it can be asked for"):
        encoder.given({"x": "7"}, 1)


def test_no_invented_text_starts_a_formula_unless_the_source_has_such():
    """Passwords start with signs, one in six with @, + or =; a spreadsheet would run what follows."""
    plainly, signs = (pa.array([f"{start}secret {i}" for i in range(N)]) for start in ("", "@"))
    assert not {v[0] for v in ids(plainly, "pii", faker="password")} & set("=+-@\t\r")
    assert {v[0] for v in ids(signs, "pii", faker="password")} & set("=+-@\t\r") == {"@"}
