"""The command line: exit codes, one clear line, nothing half-written, nothing heavy for --help."""

import importlib.util
import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from projects import ENTRY, ROOT, lay, patients, run
from test_bad_input import CASES

from generators.data import Column, Schema, Table
from pipelines.cli import main
from privacy.ledger import Ledger


@pytest.mark.parametrize(("name", "make", "words"), CASES, ids=[name for name, *_ in CASES])
def test_bad_input_exits_with_two(name, make, words, tmp_path, prefect, capsys):
    config = make(tmp_path)
    assert main(["run", "p", "--config", str(config)]) == 2
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if line.startswith("likeness: ")]
    assert len(lines) == 1 and "Traceback" not in said.err
    assert not list((tmp_path / "published").rglob("*.*"))


def test_help_imports_nothing_heavy():
    script = "import sys; from pipelines.cli import _parser; _parser().format_help(); print(sorted(m for m in sys.modules if '.' not in m))"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert not {"torch", "numpy", "pandas", "pyarrow", "prefect", "sklearn", "great_expectations", "sdv"} & set(json.loads(out.replace("'", '"')))


def test_dry_run_says_what_would_be_done_and_writes_nothing(project, capsys):
    config = lay(project)
    before = sorted(p.name for p in project.rglob("*"))
    assert main(["run", "ward", "--config", str(config), "--dry-run"]) == 0
    said = capsys.readouterr().out
    for word in ("900 to learn from", "300 held out", "gmm", "components", " MB", " s on two cores", "admitted", "datetime", "fidelity.shape"):
        assert word in said
    assert sorted(p.name for p in project.rglob("*")) == before
    assert "beware" not in said
    assert main(["run", "ward", "--config", str(config), "--dry-run", "--set", "holdout=0.05"]) == 0
    assert "privacy.membership cannot tell: holdout has 60 subjects, 100 are needed, holdout: 0.09 gives so many" in capsys.readouterr().out


def test_list_and_init(project, capsys):
    config = lay(project)
    assert main(["init", "patients.parquet", "--config", str(config)]) == 0
    assert main(["list", "--config", str(config)]) == 0
    said = capsys.readouterr().out
    assert "ward" in said and "patients " in said
    assert main(["run", "patients", "--config", str(config), "--dry-run"]) == 0
    assert main(["init", "patients.parquet", "--config", str(config)]) == 2


def test_sample_from_a_saved_model(project):
    config = lay(project)
    _, result = run(config)
    model = os.path.join(result["run"], "model")
    asked = ["sample", model, "--rows", "50", "--where", "dead=true", "--out", str(project / "more")]
    assert main(asked) == 0
    table = pq.read_table(project / "more")
    assert table.num_rows == 50 and set(table["dead"].to_pylist()) == {True}
    assert main(asked) == 2  # the folder is there already
    assert main([*asked[:-1], str(project / "again")]) == 0 and main([*asked[:-1], str(project / "other"), "--seed", "5"]) == 0
    draws = [r for r in Ledger(project / "runs" / "ledger.jsonl").records("ward") if r.kind == "draw"]
    assert [r.rows for r in draws] == [result["rows"], 50, 50]  # the run's, these, and those of another seed
    assert main([*asked[:-1], str(project / "none"), "--where", "ward=radiology"]) == 2
    assert not (project / "none").exists()
    assert main(["sample", str(project), "--rows", "5", "--out", str(project / "none")]) == 2


def test_words_on_a_command_line_are_words(tmp_path, capsys):
    """`no` in a column of words is a word, and 01 is no number."""
    from generators.synthesizer import Synthesizer

    values = pa.table({"smoker": ["no", "yes"] * 100, "code": ["01", "1"] * 100, "old": [True, False] * 100})
    schema = Schema(values.schema, tuple(Column(n, k) for n, k in (("smoker", "category"), ("code", "category"), ("old", "boolean"))))
    Synthesizer("gmm", passes=1).fit(Table(values, schema)).save(tmp_path / "model")
    for i, (where, found) in enumerate([("smoker=no", "no"), ("code=01", "01"), ("code='1'", "1"), ("old=no", False)]):
        out = tmp_path / str(i)
        assert main(["sample", str(tmp_path / "model"), "--rows", "9", "--out", str(out), "--where", where]) == 0
        assert set(pq.read_table(out)[where.split("=")[0]].to_pylist()) == {found}
    assert main(["sample", str(tmp_path / "model"), "--rows", "9", "--out", str(tmp_path / "0" / "part-00000.parquet" / "x")]) == 2
    assert "cannot be made" in capsys.readouterr().err


@pytest.mark.parametrize("age", [119, 18.5])
def test_a_number_beyond_what_enough_hold_is_refused_before_anything_is_fitted(project, capsys, age):
    table = patients(600)
    ages = table["age"].to_pylist()
    ages[0] = 120
    config = lay(project, ENTRY, table.set_column(0, "age", pa.array(ages)))
    for more in (["--dry-run"], []):
        assert main(["run", "ward", "--config", str(config), "--set", f"sample.where.age={age}", *more]) == 2
        said = capsys.readouterr().err
        assert "sample.where" in said and "age" in said
        assert "fitted" not in said and "120" not in said


def test_publish_folder_that_cannot_be_written(project, capsys):
    config = lay(project, ENTRY + "  publish: patients.parquet\n")
    assert main(["run", "ward", "--config", str(config)]) == 2
    assert "publish: patients.parquet" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["wat://x", '"a\\0b"', "x" * 300, "runs", "s3://bucket/x"])
def test_publish_targets_that_can_never_work_stop_the_run_before_it_starts(project, capsys, where):
    if where.startswith("s3") and importlib.util.find_spec("s3fs"):
        pytest.skip("s3fs is installed")
    config = lay(project, ENTRY + f"  publish: {where}\n")
    for more in (["--dry-run"], []):
        assert main(["run", "ward", "--config", str(config), *more]) == 2
        said = capsys.readouterr().err
        assert "publish: " in said and "expected a folder" in said and "fitted" not in said


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_publish_folder_without_permission(project, capsys):
    config = lay(project)
    (project / "published").mkdir(mode=0o500)
    assert main(["run", "ward", "--config", str(config)]) == 2
    assert "no permission to write" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="a full disk is made by mounting a small one")
@pytest.mark.parametrize("what", ["published", "runs"])
def test_full_disk(project, capsys, what):
    config = lay(project)
    (project / what).mkdir(mode=0o700)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", project / what], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        assert main(["run", "ward", "--config", str(config)]) == 2
        said = capsys.readouterr().err
        assert "no space left on the disk" in said and "Traceback" not in said
        assert not list((project / "published").rglob("manifest.json"))
    finally:
        subprocess.run(["umount", project / what], check=True)
