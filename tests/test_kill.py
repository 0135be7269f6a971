"""Killed at any moment, a run leaves published/ whole, and the next one goes on and succeeds."""

import random
import time
from dataclasses import replace
from pathlib import Path

import pytest
from projects import ENTRY, lay, run, spawn, whole

from pipelines.config import load_entry
from pipelines.house import alone, clean, home, open_run


def kill_and_go_on(folder, kills: int, seed: int) -> None:
    rng = random.Random(seed)
    for i in range(kills):
        config = lay(folder, ENTRY + f"  seed: {i}\n")
        process = spawn(config)
        time.sleep(rng.uniform(0.5, 14))
        process.kill()
        process.communicate()
        assert whole(folder / "published" / "ward")
        code, result = run(config)
        assert code in (0, 1), result
        assert whole(folder / "published" / "ward")
        assert not list((folder / "runs").rglob("*.arrow"))


def test_two_kills(project):
    kill_and_go_on(project, 2, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_twenty_five_kills(project):
    kill_and_go_on(project, 25, seed=0)


def test_a_killed_run_goes_on_after_the_last_finished_step(project):
    config = lay(project)
    process = spawn(config)
    steps = project / "runs" / "ward" / ".steps"
    until = time.monotonic() + 120
    while not list(steps.glob("fit-*")) and time.monotonic() < until and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    (model,) = (project / "runs" / "ward").glob("*/model/weights.safetensors")
    before = model.stat().st_mtime_ns
    code, _ = run(config)
    assert code == 0 and model.stat().st_mtime_ns == before


def test_a_run_killed_in_the_middle_of_training_ends_with_the_same_weights(project, tmp_path_factory):
    entry = ENTRY + "  generator: {autoregressive: {passes: 40, width: 64, patience: 100}}\n"
    config = lay(project, entry)
    process = spawn(config)
    until = time.monotonic() + 120
    logs = (project / "runs").glob
    while not any("round 3 of 40" in p.read_text() for p in logs("ward/*/log.txt")) and time.monotonic() < until and process.poll() is None:
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert not list((project / "runs").glob("ward/*/model"))
    _, result = run(config)
    log = Path(result["run"] if Path(result["run"]).is_absolute() else project / result["run"], "log.txt").read_text()
    assert "round 40 of 40" in log and log.count("round 1 of 40") == 1  # the first process's; the second one went on
    other = lay(tmp_path_factory.mktemp("whole"), entry)
    run(other)
    weights = [next(c.parent.glob("runs/ward/*/model/weights.safetensors")).read_bytes() for c in (config, other)]
    assert weights[0] == weights[1]


def test_rows_that_a_killed_run_left_go_when_any_pipeline_starts_unless_it_runs_elsewhere(tmp_path):
    entry = load_entry(lay(tmp_path), "ward")
    run = open_run(entry, "a" * 12)
    other = {name: replace(entry, name=name) for name in ("gone", "going")}
    left = {name: open_run(e, "b" * 12).real for name, e in other.items()}
    for e, folder in zip(other.values(), left.values(), strict=True):
        folder.mkdir()
        (home(e) / ".lock").touch()
    with alone(entry, None), alone(other["going"], None):
        clean(run.entry.root, run.home)
    assert not left["gone"].exists() and left["going"].exists()


def test_rows_that_a_killed_run_left_go_also_where_the_next_run_cannot_start(tmp_path, capsys):
    config = lay(tmp_path)
    entry = load_entry(config, "ward")
    left = open_run(entry, "a" * 12).real
    for broken in (lambda: (tmp_path / "patients.parquet").unlink(), lambda: config.write_text("ward: 3\n")):
        left.mkdir(exist_ok=True)
        (home(entry) / ".lock").touch()
        broken()
        assert run(config)[0] == 2 and not left.exists()


def test_the_server_of_a_killed_run_ends_with_it(tmp_path):
    process = spawn(lay(tmp_path), env={"PREFECT_API_URL": "", "PREFECT_HOME": str(tmp_path / "prefect")})
    listed, children = Path(f"/proc/{process.pid}/task/{process.pid}/children"), []
    until = time.monotonic() + 60
    while not children and time.monotonic() < until and process.poll() is None:
        time.sleep(0.05)
        children = listed.read_text().split()
    process.kill()
    process.communicate()
    until = time.monotonic() + 20
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < until:
        time.sleep(0.1)
    assert children and not any(Path(f"/proc/{child}").exists() for child in children)
