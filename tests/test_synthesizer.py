"""The synthesizer from table to table: parts, conditions, saving, protection end to end, and tables of every shape."""

import base64
import itertools
import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from tables import awkward, patients, table

from generators.data import DataError
from generators.synthesizer import Synthesizer

QUICK = {"passes": 3}


@pytest.fixture(scope="module")
def source():
    return patients()


@pytest.fixture(scope="module")
def model(source):
    return Synthesizer("gmm", **QUICK).fit(source)


def share(column: pa.ChunkedArray, value) -> float:
    return pc.mean(pc.equal(column, pa.scalar(value, column.type)).fill_null(False).cast(pa.float64())).as_py()


# Rows


def test_a_sample_is_valid_and_like_the_source(model, source):
    out = model.sample(4000)
    out.values.validate(full=True)
    assert len(out) == 4000
    assert out.values.schema.equals(source.schema.arrow, check_metadata=True)
    for name in source.schema.arrow.names:
        real, made = source.column(name), out.column(name)
        assert abs(real.null_count / len(source) - made.null_count / 4000) < 0.02
        assert made.null_count == 0 or real.null_count > 0
    for ward in ("north", "south", "west"):
        assert share(out.column("ward"), ward) == pytest.approx(share(source.column("ward"), ward), abs=0.03)
    assert share(out.column("gain"), 0.0) == pytest.approx(share(source.column("gain"), 0.0), abs=0.03)
    assert pc.all(pc.equal(pc.round(out.column("dose"), 2), out.column("dose"))).as_py()
    assert len(pc.unique(out.column("number"))) == 4000
    assert not set(out.column("number").to_pylist()) & set(source.column("number").to_pylist())


def test_parts_in_any_order_are_the_same_rows(model):
    request = {"where": {"ward": "south"}, "balance": "died", "seed": 7}
    whole = [model.part(i, 400, **request) for i in range(4)]
    for order in itertools.islice(itertools.permutations(range(4)), 5, 24, 6):
        for i in order:
            assert model.part(i, 400, **request).values.equals(whole[i].values)
    numbers = pa.chunked_array([c for part in whole for c in part.column("number").chunks])
    assert len(pc.unique(numbers)) == 1600
    assert not whole[0].values.drop(["number"]).equals(whole[1].values.drop(["number"]))


def test_a_sample_is_its_parts(model):
    rows = 50_000 + 123
    parts = list(model.parts(rows, seed=2))
    assert [len(p) for p in parts] == [50_000, 123]
    whole = model.sample(rows, seed=2)
    assert pa.concat_tables([p.values for p in parts]).equals(whole.values)
    assert len(pc.unique(whole.column("number"))) == rows


def test_seeds(model, source):
    again = Synthesizer("gmm", **QUICK).fit(source)
    assert again.sample(500).values.equals(model.sample(500).values)
    assert not model.sample(500, seed=1).values.equals(model.sample(500).values)
    other = Synthesizer("gmm", seed=1, **QUICK).fit(source)
    assert not other.sample(500, seed=0).values.equals(model.sample(500).values)


def test_no_rows(model, source):
    assert model.sample(0).values.schema.equals(source.schema.arrow)
    assert len(model.sample(0)) == 0


# Conditions


def test_where(model, source):
    day = source.column("seen")[0].as_py()
    for where in (
        {"ward": "west"},
        {"died": None},
        {"died": True, "age": 40},
        {"gain": 0.0},
        {"dose": 12.34},
        {"lab": None},
        {"seen": day},
        {"ward": "north", "lab": 0.5},
    ):
        out = model.sample(300, where=where)
        out.values.validate(full=True)
        for name, value in where.items():
            assert set(out.column(name).to_pylist()) == {value}


def test_a_condition_moves_what_depends_on_it():
    """Who died is commoner in the west; a dose is higher there."""
    source = patients(3000)
    model = Synthesizer("gmm").fit(source)
    west, north = (model.sample(3000, where={"ward": w}) for w in ("west", "north"))
    real = [pc.mean(source.values.filter(pc.equal(source.column("ward"), w))["dose"]).as_py() for w in ("west", "north")]
    assert pc.mean(west.column("dose")).as_py() == pytest.approx(real[0], rel=0.15)
    assert pc.mean(north.column("dose")).as_py() == pytest.approx(real[1], rel=0.15)
    assert share(west.column("died"), True) > share(north.column("died"), True) + 0.1


def test_balance_is_exact(model):
    for rows in (300, 301, 1000):
        counts = pc.value_counts(model.sample(rows, balance="ward").column("ward")).to_pylist()
        assert sorted(c["counts"] for c in counts) == sorted(rows // 3 + (i < rows % 3) for i in range(3))
    out = model.sample(200, balance="died", where={"ward": "south"})
    assert share(out.column("died"), True) == 0.5
    assert share(out.column("ward"), "south") == 1


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"where": {"wards": "west"}}, "no column 'wards'"),
        ({"where": {"ward": "east"}}, "'ward': the value asked for cannot be met by any row"),
        ({"where": {"age": 4000}}, "'age': the value asked for cannot be met by any row"),
        ({"where": {"age": "old"}}, "'age': a str was asked for, expected a value of type int64"),
        ({"where": {"age": None}}, "'age': the value asked for cannot be met"),
        ({"where": {"number": 7}}, "'number': kind id is invented anew"),
        ({"balance": "age"}, "found numeric, expected a category or boolean column"),
        ({"balance": "nothing"}, "found no such column"),
        ({"balance": "ward", "where": {"ward": "west"}}, "expected only one of the two"),
    ],
)
def test_requests_that_cannot_be_met(model, request_, message):
    for call in (model.check, lambda **r: model.sample(10, **r)):
        with pytest.raises(DataError, match=message):
            call(**request_)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"rows": -3}, "rows: found -3, expected a whole number"),
        ({"rows": 2.5}, "rows: found 2.5"),
        ({"rows": "x"}, "rows: found 'x'"),
        ({"where": {"ward": ["west"]}}, "where: column 'ward': found a list, expected one value"),
        ({"where": "ward"}, "where: found a str, expected a mapping"),
        ({"balance": ["ward"]}, "balance: found a list, expected the name of a column"),
    ],
)
def test_requests_that_are_none(model, request_, message):
    with pytest.raises(DataError, match=message):
        model.sample(**({"rows": 10} | request_))


def test_values_that_never_meet():
    data = table({"a": ["x", "y"] * 200, "b": ["x", "y"] * 200}, "category")
    model = Synthesizer("gmm").fit(data)
    model.check(where={"a": "x", "b": "x"})
    with pytest.raises(DataError, match="where/balance on a, b: 0 of 12 rows can be as asked"):
        model.check(where={"a": "x", "b": "y"}, rows=12)


def test_a_number_that_cannot_be_met_comes_with_those_that_can(model):
    with pytest.raises(DataError, match=r"'age': .*expected .*a value from \d+ to \d+, .*at least 10 subjects hold"):
        model.check(where={"age": 4000})


@pytest.mark.parametrize(
    "name",
    [
        "dictionary of numbers",
        "date32",
        "date64",
        "decimal with negatives",
        "moments timestamp[us, tz=Europe/Berlin]",
        "midnights timestamp[ns]",
        "float32 with nulls",
    ],
)
def test_where_on_numbers_of_every_type(name):
    array, kind = awkward()[name]
    data = table({"x": array, "group": ["a", "b"] * 200}, [kind, "category"])
    values = data.column("x").drop_null().combine_chunks()
    values = values.dictionary_decode() if isinstance(values, pa.DictionaryArray) else values
    middle = values.take(pc.sort_indices(values))[len(values) // 2].as_py()
    out = Synthesizer("gmm", **QUICK).fit(data).sample(50, where={"x": middle})
    out.values.validate(full=True)
    assert out.values.schema.equals(data.schema.arrow)
    assert set(out.column("x").to_pylist()) == {middle}


# Saving


def saved(model, folder):
    pytest.importorskip("safetensors")
    model.save(folder)
    return folder


def test_save_and_load(model, tmp_path):
    folder = saved(model, tmp_path / "model")
    assert {p.name for p in folder.iterdir()} == {"model.json", "weights.safetensors"}
    again = Synthesizer.load(folder)
    for request in ({}, {"seed": 4}, {"balance": "ward"}, {"where": {"died": True}}):
        assert again.sample(700, **request).values.equals(model.sample(700, **request).values)
    assert again.curve == model.curve
    assert again.parameters == model.parameters
    assert json.dumps(again.protected) == json.dumps(model.protected)
    assert {p.read_bytes() for p in saved(again, tmp_path / "again").iterdir()} == {p.read_bytes() for p in folder.iterdir()}


@pytest.mark.parametrize("numbers", ["gaussian", "binned"])
def test_save_and_load_every_kind_of_leaf(numbers, tmp_path):
    stream = np.random.default_rng(0)
    data = table({"a": stream.normal(size=300), "b": stream.normal(size=300)}, "numeric")
    model = Synthesizer("gmm", numbers=numbers, **QUICK).fit(data)
    assert Synthesizer.load(saved(model, tmp_path)).sample(50).values.equals(model.sample(50).values)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda m, w: m.unlink(), "no model here, expected model.json and weights.safetensors"),
        (lambda m, w: w.unlink(), "no model here, expected model.json and weights.safetensors"),
        (lambda m, w: m.write_text(m.read_text()[:-100]), r"model\.json: truncated or damaged"),
        (lambda m, w: m.write_text(""), r"model\.json: truncated or damaged"),
        (lambda m, w: m.write_text("[]"), r"model\.json: truncated or damaged"),
        (lambda m, w: m.write_bytes(b"\xff\xfe\x00"), r"model\.json: truncated or damaged"),
        (lambda m, w: m.write_text(json.dumps({k: v for k, v in json.loads(m.read_text()).items() if k != "encoder"})), r"model\.json: truncated or damaged"),
        (lambda m, w: m.write_text(json.dumps(json.loads(m.read_text()) | {"format": 99})), "model of format 99, expected 1; fit it again"),
        (lambda m, w: m.write_text(json.dumps(json.loads(m.read_text()) | {"family": "oracle"})), "unknown family 'oracle'"),
        (lambda m, w: w.write_bytes(w.read_bytes()[:-100]), r"weights\.safetensors: truncated or damaged"),
        (lambda m, w: w.write_bytes(b""), r"weights\.safetensors: truncated or damaged"),
        (lambda m, w: w.write_bytes(b"x" * 500), r"weights\.safetensors: truncated or damaged"),
        (lambda m, w: m.write_text(json.dumps(json.loads(m.read_text()) | {"structure": {}})), r"weights\.safetensors: truncated or damaged"),
    ],
)  # fmt: skip
def test_damaged_models(model, tmp_path, damage, message):
    folder = saved(model, tmp_path)
    damage(folder / "model.json", folder / "weights.safetensors")
    with pytest.raises(DataError, match=message) as raised:
        Synthesizer.load(folder)
    assert "\n" not in str(raised.value)
    assert str(folder) in str(raised.value) or "family" in str(raised.value)


# Protection


def test_nothing_rare_is_saved_or_drawn(tmp_path):
    """A ward of one person with 300 rows, a lone income, ids and a free text: in no file, however encoded, and in no row."""
    n, stream = 1200, np.random.default_rng(0)
    person = np.where(np.arange(n) < 300, 0, np.arange(n))
    secrets = {"ward": "Xanadu-9", "mrn": [f"MRN-{v:07d}" for v in stream.choice(10**7, n, replace=False)], "income": 987_654_321.0}
    columns = {
        "person": [f"person-{p:05d}" for p in person],
        "mrn": secrets["mrn"],
        "ward": np.where(person == 0, secrets["ward"], np.where(stream.random(n) < 0.5, "north", "south")),
        "stage": pa.array(np.where(person == 0, "Ω-odd", "common")).dictionary_encode(),
        "income": np.where(np.arange(n) == 700, secrets["income"], stream.choice([1000.0, 2000.0, 3000.0], n)),
        "lab": stream.normal(5, 1, n),
    }
    data = table(columns, ["id", "id", "category", "category", "numeric", "numeric"], subject="person")
    model = Synthesizer("gmm", **QUICK).fit(data)
    folder = saved(model, tmp_path)
    content = b"".join(p.read_bytes() for p in folder.iterdir())
    text = (folder / "model.json").read_text()
    content += b"".join(base64.b64decode(found) for found in re.findall(r'"((?:[A-Za-z0-9+/]{4}){10,}[A-Za-z0-9+/=]*)"', text))
    out = model.sample(3000)
    content += "\n".join(str(v) for c in out.values.columns for v in pc.unique(c).to_pylist()).encode()
    assert b"north" in content
    for secret in (secrets["ward"], "Ω-odd", str(secrets["income"]), "987654321", *secrets["mrn"], *pc.unique(data.column("person")).to_pylist()):
        assert secret.encode() not in content
    numbers = set(re.findall(r"-?\d+\.\d{6,}", text))
    assert not numbers & {repr(float(v)) for v in columns["lab"]}
    assert not set(out.column("lab").to_pylist()) & set(columns["lab"])
    assert model.protected["ward"]["rare values left out"]


def test_rows_of_one_subject_stay_together():
    """Held-out rows decide how far to learn: the model is the same, bit by bit, however a subject's rows are shuffled in among themselves."""
    stream = np.random.default_rng(0)
    person = np.repeat(np.arange(60), 10)
    columns = {"person": [f"p{p}" for p in person], "x": np.repeat(stream.normal(size=60), 10) + stream.normal(size=600) / 100}
    data = table(columns, ["id", "numeric"], subject="person")
    kept = {}

    def watch(line):
        kept.setdefault("lines", []).append(line)

    Synthesizer("gmm", **QUICK).fit(data, log=watch)
    assert all(" on " in line and "nats a row" in line for line in kept["lines"])
    rows = {int(re.search(r"on (\d+) rows", line)[1]) for line in kept["lines"]}
    assert rows == {480}  # 48 whole subjects of 60


# Streams


def test_global_streams_are_left_alone(source):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    Synthesizer("gmm", passes=1).fit(source).sample(100)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
