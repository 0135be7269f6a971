"""Every run is written down: what was learned, drawn and released, whether it passed or not, and once."""

import json

from projects import ENTRY, lay, run

from pipelines.cli import main
from privacy.ledger import Ledger


def kinds(project, population: str = "ward") -> list[str]:
    return [r.kind for r in Ledger(project / "runs" / "ledger.jsonl").records(population)]


def test_runs_are_counted_once(project, capsys):
    """The same run again is no new release; another seed is; a refused one is a draw all the same."""
    config = lay(project)
    assert run(config)[0] == 0
    assert kinds(project) == ["fit", "draw", "release"]
    assert run(config)[0] == 0
    assert kinds(project) == ["fit", "draw", "release"]
    assert run(config, "--set", "gates.fidelity.shape={min: 1}")[0] == 1  # the same model, judged by others
    assert kinds(project) == ["fit", "draw", "release", "draw"]
    assert run(config, "--set", "privacy.population=clinic", "--set", "seed=1")[0] == 0
    assert kinds(project, "clinic") == ["fit", "draw", "release"]
    assert oct((project / "runs" / "ledger.jsonl").stat().st_mode & 0o777) == "0o600"
    capsys.readouterr()
    assert main(["ledger", "--config", str(config), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["populations"]
    assert {name: (of["fits"], of["draws"], of["releases"], of["rows"]) for name, of in found.items()} == {"ward": (1, 2, 1, 900), "clinic": (1, 1, 1, 900)}


def test_a_release_that_was_not_written_down_is_before_it_is_made_again(project):
    """A ledger that was lost knows again what is still there when that is run again; nobody else's is touched."""
    config = lay(project)
    assert run(config)[0] == 0
    (project / "runs" / "ledger.jsonl").unlink()
    assert run(config)[0] == 0
    assert sorted(kinds(project)) == ["draw", "fit", "release"]


def test_nothing_is_released_beside_a_damaged_ledger(project, capsys):
    config = lay(project, ENTRY)
    (project / "runs").mkdir(mode=0o700)
    (project / "runs" / "ledger.jsonl").write_text("{}\n")
    assert main(["run", "ward", "--config", str(config)]) == 2
    assert "ledger.jsonl, line 1: no record as this program writes them" in capsys.readouterr().err
    assert not (project / "published").exists()


def test_an_empty_house_has_an_empty_ledger(project, capsys):
    config = lay(project)
    assert main(["ledger", "--config", str(config), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"populations": {}}
    assert not (project / "runs").exists()
