"""flows.yaml: what an Entry holds, overrides, canonical form. What it refuses stands in test_bad_input.py."""

import json
import subprocess
import sys

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from generators.data import DataError
from pipelines import init
from pipelines.config import Sample, Schedule, Source, load, load_entry, names

FULL = """
icu-stays:
  source:
    table: data/support2.csv
    target: hospdead
    subject: sno
    columns:
      dzgroup: {kind: category}
      d.time: {kind: numeric, low: 0}
  holdout: {table: data/other.csv}
  seed: 3
  sample: {rows: 9105, balance: hospdead, where: {hospdead: 1}}
  privacy: {rare_below: 20}
  contract:
    - expect_column_values_to_be_between: {column: age, min_value: 0}
  publish: s3://house/published
  schedule: {cron: "0 2 * * *", timezone: Europe/Berlin}
small: {source: {dataset: iris}}
"""


@pytest.fixture
def path(tmp_path):
    (tmp_path / "flows.yaml").write_text(FULL)
    return tmp_path / "flows.yaml"


def test_a_full_entry(path):
    entry = load(path)["icu-stays"]
    columns = {"dzgroup": {"kind": "category"}, "d.time": {"kind": "numeric", "low": 0}}
    assert entry.source == Source("table", "data/support2.csv", "hospdead", "sno", columns)
    assert entry.holdout == Source("table", "data/other.csv")
    assert (entry.seed, entry.rare_below, entry.publish, entry.root) == (3, 20, "s3://house/published", path.parent)
    assert entry.sample == Sample(9105, "hospdead", {"hospdead": 1})
    assert entry.schedule == Schedule("0 2 * * *", "Europe/Berlin")
    assert entry.contract == ({"expect_column_values_to_be_between": {"column": "age", "min_value": 0}},)


def test_defaults(path):
    entry = load_entry(path, "small")
    assert (entry.source, entry.holdout, entry.seed, entry.family, entry.rare_below) == (Source("dataset", "iris"), 0.25, 0, "gmm", 10)
    assert entry.sample == Sample() and entry.schedule is None and entry.publish == "published"


def test_canonical_form_does_not_depend_on_the_folder_or_the_order_of_keys(path, tmp_path):
    entry = load_entry(path, "icu-stays")
    (tmp_path / "elsewhere").mkdir()
    turned = {"icu-stays": dict(reversed(yaml.safe_load(FULL)["icu-stays"].items()))}
    (tmp_path / "elsewhere" / "f.yaml").write_text(yaml.safe_dump(turned, sort_keys=False))
    other = load_entry(tmp_path / "elsewhere" / "f.yaml", "icu-stays")
    assert entry.digest == other.digest and json.dumps(entry.to_json()) == json.dumps(other.to_json())
    assert entry.digest != load_entry(path, "icu-stays", ["seed=4"]).digest


OVERRIDES = [
    ("seed=7", lambda e: e.seed == 7),
    ("generator.gmm.components=50", lambda e: (e.family, dict(e.arguments)) == ("gmm", {"components": 50})),
    ("generator=gmm", lambda e: e.family == "gmm"),
    ("gates.fidelity.shape.min=0.5", lambda e: e.gates == {"fidelity.shape": {"min": 0.5}}),
    ("gates.fidelity.shape=null", lambda e: e.gates == {"fidelity.shape": None}),
    ("source.columns.d.time.low=1e-3", lambda e: e.source.columns["d.time"]["low"] == 0.001),
    ("sample.where.d.time=4", lambda e: e.sample.where == {"hospdead": 1, "d.time": 4}),
    ("sample.rows=10", lambda e: e.sample.rows == 10 and e.sample.balance == "hospdead"),
    ("schedule=null", None),
    ("holdout.rows=1", None),
    ("seed.x=1", None),
    ("seed", None),
    ("seed=[", None),
]


@pytest.mark.parametrize(("override", "holds"), OVERRIDES, ids=[o for o, _ in OVERRIDES])
def test_overrides(path, override, holds):
    if holds is None:
        with pytest.raises(DataError):
            load_entry(path, "icu-stays", [override])
    else:
        assert holds(load_entry(path, "icu-stays", [override]))


def test_an_override_reaches_into_a_family_given_by_name(tmp_path):
    (tmp_path / "f.yaml").write_text("p: {source: {dataset: iris}, generator: gmm}")
    assert load_entry(tmp_path / "f.yaml", "p", ["generator.gmm.components=5"]).arguments == {"components": 5}


def test_a_bad_entry_stops_only_itself(path):
    path.write_text(FULL + "bad: {sourze: {dataset: iris}}\n")
    assert load_entry(path, "small").name == "small" and names(path) == ["icu-stays", "small", "bad"]
    with pytest.raises(DataError, match="bad: unknown key 'sourze', did you mean 'source'"):
        load(path)


@pytest.mark.parametrize("name", ["../up", "a b", "", "a/b", 3, None, ".hidden", "x" * 101])
def test_names_that_cannot_be_folders(tmp_path, name):
    (tmp_path / "f.yaml").write_text(yaml.safe_dump({name: {"source": {"dataset": "iris"}}}))
    with pytest.raises(DataError, match="a pipeline's name"):
        load(tmp_path / "f.yaml")


def test_merge_keys_are_not_double_keys(tmp_path):
    text = "a: &a {source: {dataset: iris}, seed: 1}\nb: &b {<<: *a, seed: 2}\nc: {<<: *b, seed: 3}\n"
    (tmp_path / "f.yaml").write_text(text)
    assert [e.seed for e in load(tmp_path / "f.yaml").values()] == [1, 2, 3]


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=9), x, max_size=3),
        max_leaves=8,
    )
)
def test_any_yaml_is_an_entry_or_a_data_error(tmp_path_factory, value):
    path, said = tmp_path_factory.mktemp("any") / "f.yaml", []
    for key in ("source", "holdout", "sample", "privacy", "contract", "schedule", "seed"):
        path.write_text(yaml.safe_dump({"p": {"source": {"dataset": "iris"}, key: value}}))
        try:
            load(path)
        except DataError as error:
            said.append(str(error))
    assert not [line for line in said if "\n" in line]


def test_importing_is_cheap():
    heavy = ("torch", "pandas", "sklearn", "prefect", "faker", "great_expectations", "fsspec")
    code = f"import sys, pipelines.config; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_init_writes_an_entry_that_loads_and_refuses_a_name_twice(tmp_path):
    secret = "Xylander"
    (tmp_path / "my data.csv").write_text(
        "id,d.time,who: am I,odd\n" + "".join(f"{i},{i % 7},{'fm'[i % 2]},{secret}{i * 31 % 997:x}~{i}\n" for i in range(200))
    )
    text = init.entry_for("my data.csv", root=tmp_path)
    name = init.write_entry(tmp_path / "flows.yaml", text)
    init.write_entry(tmp_path / "flows.yaml", init.entry_for("iris", root=tmp_path))
    entry = load(tmp_path / "flows.yaml")[name]
    assert name == "my-data" and secret not in text
    assert {k: v["kind"] for k, v in entry.source.columns.items()} == {"id": "id", "d.time": "numeric", "who: am I": "category", "odd": "drop"}
    before = (tmp_path / "flows.yaml").read_text()
    with pytest.raises(DataError, match="already holds a pipeline 'my-data'"):
        init.write_entry(tmp_path / "flows.yaml", text)
    assert (tmp_path / "flows.yaml").read_text() == before


@pytest.mark.parametrize(
    ("people", "said"),
    [(150, "holdout: 0.25          # kept apart to judge with; LOOK HERE: no verdict without 200 subjects, found 150"),
     (312, "holdout: 0.33 "), (400, "holdout: 0.25 "), (199, "LOOK HERE"), (204, "holdout: 0.5 ")],
)  # fmt: skip
def test_init_holds_out_as_many_as_a_verdict_needs(tmp_path, people, said):
    (tmp_path / "t.csv").write_text("who,day,y\n" + "".join(f"{i},{d},{d * 0.37 + i}\n" for i in range(people) for d in range(3)))
    assert said in init.entry_for("t.csv", root=tmp_path, subject="who", time="day")


def test_init_marks_what_is_not_recognised(tmp_path):
    (tmp_path / "t.csv").write_text("x,y\n" + "".join(f"{i * 7919 % 9973:x}~w,{i % 2}\n" for i in range(200)))
    text = init.entry_for("t.csv", root=tmp_path)
    assert "x: {kind: drop}" in text and "LOOK HERE" in text


def test_init_proposes_an_id_for_codes_of_several_rows_each(tmp_path):
    (tmp_path / "t.csv").write_text("chart,y\n" + "".join(f"C-{i // 3 * 7919 % 9973:04d},{i % 2}\n" for i in range(900)))
    assert "chart: {kind: id}" in init.entry_for("t.csv", root=tmp_path)
