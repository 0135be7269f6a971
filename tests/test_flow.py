"""The main job: a real table in, a vetted synthetic table out. Real flows against a real Prefect server."""

import json
import os
import stat
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from projects import ENTRY, PRIVATE, lay, patients, run, spawn, whole

from generators.data import DataError
from pipelines import card
from pipelines.cli import main
from pipelines.config import load
from pipelines.flows import likeness
from pipelines.house import hash_of, open_run
from pipelines.steps import ingest
from pipelines.work import said
from privacy.ledger import Ledger, Record


@pytest.fixture(scope="module")
def published(tmp_path_factory, prefect):
    """A project whose pipeline ran once and passed."""
    config = lay(tmp_path_factory.mktemp("published"))
    code, result = run(config)
    assert code == 0, result
    return config, result


def log_of(result) -> str:
    return (Path(result["run"]) / "log.txt").read_text()


def parts(result) -> list[Path]:
    return sorted((Path(result["published"]) / "data").glob("*.parquet"))


def test_publishes_the_exact_schema_with_provenance(published):
    config, result = published
    folder = Path(result["published"])
    assert result["verdict"] == "PASS" and result["rows"] == 900
    assert {p.name for p in folder.iterdir()} == {"data", "manifest.json", "card.md"}
    table = pq.read_table(parts(result)[0])
    assert table.schema.equals(pq.read_schema(config.parent / "patients.parquet"))
    assert table.schema.metadata[b"likeness.synthetic"] == b"true" and table.schema.metadata[b"likeness.version"] == result["version"].encode()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert [p["sha256"] for p in manifest["parts"]] == [hash_of(p) for p in parts(result)]
    assert json.loads((folder.parent / "latest.json").read_text())["version"] == result["version"]
    assert set(manifest["verdicts"].values()) == {"PASS"}


def test_no_figure_of_an_attack_leaves_the_house(published):
    _, result = published
    text = "".join((Path(result["published"]) / name).read_text() for name in ("manifest.json", "card.md"))
    for name, value in result["scores"].items():
        if name.startswith("privacy.") and value not in (0, 1):
            assert f"{value:.3g}" not in text and f"{value:.4f}" not in text


def test_prefect_gets_no_figure_and_no_pickle(project):
    code, result = run(lay(project, ENTRY.replace("utility.target: {min: 0.5}", "fidelity.shape: {min: 0.9999}")))
    assert code == 1
    home = Path(os.environ["PREFECT_HOME"])
    held = {p: p.read_bytes() for p in home.rglob("*") if p.is_file()}
    figures = [repr(value)[:10].encode() for value in result["scores"].values() if len(repr(value)) >= 10]
    assert len(figures) >= 6  # a short one, such as .985, would also be found in a time
    for figure in figures:
        assert not [p for p, text in held.items() if figure in text]
    assert [json.loads(text) for p, text in held.items() if p.parent.name == "storage" and b"NotPublished" in text]
    assert not [p for p, text in held.items() if text[:1] == b"\x80" or b"cloudpickle" in text]


def test_what_stays_is_for_the_owner_only_and_real_rows_are_gone(published):
    _, result = published
    folder = Path(result["run"])
    for path in (folder.parents[1], folder.parent, folder):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert {p.name for p in folder.iterdir()} >= {"report.html", "scores.json", "model", "log.txt"}
    assert not list(folder.parent.rglob("*.arrow"))


def test_a_folder_that_was_open_to_others_is_closed_to_them(project):
    entry, folder = load(lay(project))["ward"], project / "runs" / "ward" / "v"
    folder.mkdir(parents=True)
    for path in (folder.parents[1], folder.parent, folder):
        path.chmod(0o755)
    open_run(entry, "v")
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder.parents[1], folder.parent, folder)} == {0o700}


def test_nothing_runs_where_runs_is_a_file_or_a_link_to_nothing(project):
    entry = load(lay(project))["ward"]
    (project / "runs").symlink_to(project / "gone")
    with pytest.raises(DataError, match=r"runs: found a file, or a link to nothing, expected a folder"):
        open_run(entry, "v")
    (project / "gone").mkdir()
    open_run(entry, "v")
    assert stat.S_IMODE((project / "gone").stat().st_mode) == 0o700


@pytest.mark.parametrize("cut", ["manifest.json", "data", "../latest.json"])
def test_what_was_cut_off_at_a_url_is_written_again(cut, project):
    config = lay(project, ENTRY + f"  publish: {(project / 'there').as_uri()}\n")
    assert run(config)[0] == 0
    shelf = project / "there" / "ward"
    (version,) = (f for f in shelf.iterdir() if f.is_dir())
    if cut == "data":  # a part, and what comes after it
        next((version / "data").glob("*.parquet")).write_bytes(b"PAR1")
        (version / "manifest.json").unlink()
    else:
        (version / cut).write_text((version / cut).read_text()[:20])
    assert run(config)[0] == 0 and whole(shelf)


def test_a_place_on_this_machine_that_cannot_be_written_stops_a_run_also_as_a_url(project, capsys):
    config = lay(project, ENTRY + f"  publish: {(project / 'patients.parquet').as_uri()}\n")
    assert main(["run", "ward", "--config", str(config)]) == 2
    assert "expected a folder that can be written to" in capsys.readouterr().err and not list((project / "runs").rglob("model"))


def test_who_looks_after_a_schedule_is_told_what_stopped_a_run(project, capsys, monkeypatch):
    """On the output of `likeness serve`, and in the log of the run; by hand it is said once."""
    config = lay(project, PRIVATE.replace("delta: 1.0e-5}", "delta: 1.0e-5, budget: {epsilon: 6, delta: 1.0e-4}}"))
    (project / "runs").mkdir(mode=0o700)
    Ledger(project / "runs" / "ledger.jsonl").enter(Record("ward", "fit", "other", "now", 1, True, rho=1.0))
    words = "'ward' has spent epsilon"
    assert main(["run", "ward", "--config", str(config)]) == 2
    assert capsys.readouterr().err.count(words) == 1
    log = next((project / "runs" / "ward").glob("*/log.txt"))
    assert log.read_text().count(words) == 1
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "a deployment")
    with pytest.raises(DataError, match=words):
        likeness(str(config), "ward")
    assert capsys.readouterr().err.count(words) == 1
    assert log.read_text().count(words) == 2


@pytest.mark.parametrize("number", [None, 28, "a word", 10**30])
def test_whatever_a_library_raises_is_said_without_its_words(number):
    problem = OSError(number, "patient 4711") if number is not None else OSError("patient 4711")
    problem.errno = number
    assert "4711" not in said(problem) and " at " in said(problem)


@pytest.mark.parametrize("empty", [0, 1])
def test_rows_that_name_nobody_are_spoken_of(empty, project, caplog):
    names = pa.array([None if i < empty else f"p{i // 2}" for i in range(1200)])
    pq.write_table(patients().append_column("who", names), project / "patients.parquet")
    lines = "ward:\n  source: {table: patients.parquet, target: dead, subject: who}\n"
    (project / "flows.yaml").write_text(lines)
    with caplog.at_level("WARNING"):
        ingest(open_run(load(project / "flows.yaml")["ward"], "v"))
    assert caplog.text.count("some rows name nobody in 'who'") == empty


@pytest.mark.parametrize(
    ("more", "named", "too_few"),
    [
        (pa.array(["x", None, "y"] * 400), "[z, x, y]", "[x]"),
        (pa.array(["x", None, "y"] * 400).dictionary_encode(), "[y, x]", "[x]"),
        (pa.array([1, 2, None] * 400, pa.int8()), "[1, 2]", "[2]"),
        (pa.array([None] * 1199 + ["x"]), "[x]", "[y]"),
    ],
)
def test_values_that_are_not_declared_are_spoken_of(more, named, too_few, project, caplog):
    pq.write_table(patients().append_column("more", more), project / "patients.parquet")
    for values, told in ((named, 0), (too_few, 1)):
        (project / "flows.yaml").write_text(
            f"ward:\n  source: {{table: patients.parquet, target: dead, columns: {{more: {{kind: category, values: {values}}}}}}}\n"
        )
        caplog.clear()
        with caplog.at_level("WARNING"):
            ingest(open_run(load(project / "flows.yaml")["ward"], f"v{told}"))
        assert caplog.text.count("some rows hold in 'more' a value") == told


def test_the_same_again_does_nothing_again(published):
    config, first = published
    model = Path(first["run"]) / "model" / "weights.safetensors"
    before = model.stat().st_mtime_ns
    code, second = run(config)
    assert code == 0 and second["version"] == first["version"] and second["published"] == first["published"]
    assert model.stat().st_mtime_ns == before and "nothing has changed" in log_of(second)


def test_what_comes_after_fitting_may_change_without_another_fit(project):
    config = lay(project)
    _, first = run(config)
    model = Path(first["run"]) / "model"
    for more in ("gates.fidelity.shape.min=0.5", "sample.rows=500"):
        code, other = run(config, "--set", more)
        assert code == 0 and other["version"] != first["version"]
        assert "fitted before, for version" in log_of(other) and hash_of(Path(other["run"]) / "model") == hash_of(model)
    assert "fitted in" in log_of(run(config, "--set", "seed=2")[1])
    for weights in config.parent.glob("runs/ward/*/model/weights.safetensors"):
        weights.write_bytes(weights.read_bytes() + b"?")
    assert "fitted in" in log_of(run(config, "--set", "sample.rows=510")[1])


def test_a_published_version_that_was_tampered_with_is_not_hidden(published, capsys):
    config, first = published
    part = parts(first)[0]
    whole_part = part.read_bytes()
    part.write_bytes(whole_part[:-1])
    try:
        assert run(config)[0] == 2
        assert "does not hold what its manifest says" in capsys.readouterr().err
    finally:
        part.write_bytes(whole_part)


def test_same_seed_same_bytes_another_seed_others(published, tmp_path_factory):
    _, first = published
    elsewhere = lay(tmp_path_factory.mktemp("elsewhere"))
    process = spawn(elsewhere)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    again = json.loads(out.strip().splitlines()[-1])
    again["published"] = str(elsewhere.parent / again["published"])
    _, other = run(elsewhere, "--set", "seed=1")
    hashes = [[hash_of(p) for p in parts(r)] for r in (first, again)]
    assert hashes[0] == hashes[1]
    assert hash_of(Path(other["run"]) / "data") != hash_of(Path(first["run"]) / "data")


def test_a_gate_that_fails_publishes_nothing_and_says_why(project):
    config = lay(project, ENTRY.replace("utility.target: {min: 0.5}", "privacy.rare: {max: -1}"))
    code, result = run(config)
    assert code == 1 and result["verdict"] == "FAIL" and result["published"] is None
    assert result["reasons"][0].startswith("privacy.rare is")
    assert not list((project / "published").rglob("*.parquet"))
    report = (Path(result["run"]) / "report.html").read_text()
    assert "privacy.rare" in report and "FAIL" in report


def test_a_broken_contract_fails(project):
    entry = ENTRY + "  contract:\n    - expect_column_values_to_be_between: {column: age, max_value: 70}\n"
    code, result = run(lay(project, entry))
    assert code == 1 and any("contract" in reason and "age" in reason for reason in result["reasons"])


def test_where_and_balance(project):
    entry = ENTRY + "  sample: {rows: 600, balance: ward, where: {dead: true}}\n"
    code, result = run(lay(project, entry))
    assert code in (0, 1)
    table = pq.read_table(sorted((Path(result["run"]) / "data").glob("*.parquet"))[0])
    assert table.num_rows == 600 and pc.all(table["dead"]).as_py()
    assert sorted(c["counts"] for c in pc.value_counts(table["ward"]).to_pylist()) == [200, 200, 200]
    facts = json.loads((Path(result["run"]) / "facts.json").read_text())
    page = (Path(result["run"]) / "report.html").read_text()
    assert "conditioned rows" in page and "Whether these rows are as the real ones" in card.render(facts)
    measured = {s["name"] for s in facts["scores"]}
    assert ("not judged: fewer than 50" in page) == ("not judged: fewer than 50" in card.render(facts)) == ("fidelity.condition" not in measured)
    assert ("fidelity.condition" in measured) == any(r["metric"] == "fidelity.condition" for r in facts["verdict"]["rows"])


def test_two_runs_at_once_both_end_well(project):
    config = lay(project)
    both = [spawn(config) for _ in range(2)]
    ends: dict = {}

    def finish(i):
        ends[i] = both[i].communicate(timeout=280)

    threads = [threading.Thread(target=finish, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [p.returncode for p in both] == [0, 0], ends
    assert len([f for f in (project / "published" / "ward").iterdir() if f.is_dir()]) == 1
    assert whole(project / "published" / "ward")


def test_a_source_that_changed_is_another_version(published, tmp_path):
    _, first = published
    config = lay(tmp_path, ENTRY.replace("gates:", f"publish: {Path(first['published']).parents[1]}\n  gates:"))
    pq.write_table(patients(seed=9), config.parent / "patients.parquet")
    code, second = run(config)
    assert code == 0 and second["version"] != first["version"]
    assert Path(first["published"]).is_dir() and Path(second["published"]).is_dir()
