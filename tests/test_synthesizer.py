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
from tables import QUICK, learned, share, table

from generators.data import DataError
from generators.synthesizer import Synthesizer


@pytest.fixture(scope="module")
def source():
    return learned()[0]


@pytest.fixture(scope="module")
def model():
    return learned()[1]


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
        (lambda m, w: m.write_text(json.dumps(json.loads(m.read_text()) | {"format": 99})), "model of format 99, expected 4; fit it again"),
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
