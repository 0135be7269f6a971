"""What is learned under differential privacy is in the ledger once, however a run ends, and budgets hold."""

import json
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
from projects import GATES, fits, lay, patients, run, spawn
from projects import PRIVATE as ENTRY

from generators.synthesizer import Synthesizer
from pipelines.cli import main
from pipelines.house import fit_of
from pipelines.spending import refusal
from privacy.ledger import Ledger, Record, summed

PLAIN = f"plain:\n  source: {{table: patients.parquet, target: dead}}\n  privacy: {{population: ward}}\n  gates: {GATES}\n"
BUDGET = "delta: 1.0e-5, budget: {epsilon: 6, delta: 1.0e-4}}"


def test_the_same_run_spends_once_and_other_judges_spend_nothing(project):
    config = lay(project, ENTRY)
    assert run(config)[0] == 0
    assert run(config)[0] == 0
    assert run(config, "--set", "gates.fidelity.shape={min: 0.01}")[0] == 0  # the same model
    assert len(fits(project)) == 1
    assert run(config, "--set", "seed=1")[0] == 0
    assert len(fits(project)) == 2
    for model in (project / "runs" / "ward").glob("*/model"):
        (model / "weights.safetensors").unlink()
    for published in (project / "published" / "ward").glob("*/data/*"):
        published.unlink()
    run(config)  # what it told before may be known to somebody: learning again tells more
    assert len(fits(project)) == 3


def test_a_kill_spends_once_and_nothing_is_forgotten(project):
    """Killed as soon as it is entered, or while it learns: what was spent is in the ledger, and the run after it goes on under the same name."""
    config = lay(project, ENTRY.replace("rounds: 4", "rounds: 200, cells: 20000"))
    ledger = project / "runs" / "ledger.jsonl"
    for pause in (0.0, 0.3, 1.0):
        process = spawn(config)
        until = time.monotonic() + 120
        while not (ledger.is_file() and ledger.stat().st_size) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(pause)
        os.killpg(process.pid, signal.SIGKILL) if os.getpgid(process.pid) == process.pid else process.kill()
        process.wait()
        assert len(fits(project)) == 1
        assert not list((project / "runs" / "ward").glob("*/model"))
        assert "counted together" not in next((project / "runs" / "ward").glob("*/log.txt")).read_text()  # what was told, nobody heard
    assert run(config)[0] == 0
    assert len(fits(project)) == 1
    assert not list((project / "runs" / "ward").glob("*/.spending"))
    assert "counted together" in next((project / "runs" / "ward").glob("*/log.txt")).read_text()


def test_a_model_that_is_there_is_told_of_once(project):
    """Killed between a model and whatever comes after, a run takes it, and does not look again under the same charge."""
    config = lay(project, ENTRY)
    first = run(config)[1]
    folder = project / first["run"]
    published = project / "published" / "ward" / first["version"]
    charge, parts = json.loads((folder / "model" / "fit.json").read_text())["charge"]["name"], json.loads((published / "manifest.json").read_text())["parts"]
    for lost in ("facts.json", "report.html", "data"):
        shutil.rmtree(folder.parent / ".steps")
        (folder / ".spending").write_text(charge)
        shutil.rmtree(folder / lost) if (folder / lost).is_dir() else (folder / lost).unlink()
        shutil.rmtree(published)
        code, said = run(config)
        assert (code, said["version"]) == (0, first["version"]) and not (folder / ".spending").exists()
        assert json.loads((published / "manifest.json").read_text())["parts"] == parts
    assert summary(project) == {"ward": (1, 1, 1)}
    (folder / "model" / "weights.safetensors").write_bytes(b"")  # no model any more: another one, another name, another charge
    (folder / ".spending").write_text(charge)
    code, said = run(config)
    assert code == 0 and said["version"] != first["version"] and summary(project) == {"ward": (2, 2, 2)}
    assert json.loads((published / "manifest.json").read_text())["parts"] == parts


def test_a_kill_while_a_model_is_saved_spends_once(project, capsys):
    """A whole one is taken up; of a part nothing was seen, and the fit goes on under the same charge."""
    config = lay(project, ENTRY)
    folder = project / run(config)[1]["run"]
    unsaved, files = folder / ".model", {p.name: p.read_bytes() for p in (folder / "model").iterdir()}
    version, charge = folder.name, json.loads(files["fit.json"])["charge"]["name"]

    def killed(*there: str, torn: str = "") -> None:
        """As if it had been, with so much of the model on the disk, and one file of it cut off."""
        shutil.rmtree(folder / "model")
        unsaved.mkdir()
        for name in there:
            (unsaved / name).write_bytes(files[name])
        if torn:
            (unsaved / torn).write_bytes(files[torn][: len(files[torn]) // 2])
        (folder / ".spending").write_text(charge)
        shutil.rmtree(folder.parent / ".steps")
        (project / "runs" / "ledger.jsonl").write_text("\n".join(fit_lines) + "\n")
        (folder / "facts.json").unlink()
        shutil.rmtree(project / "published")

    fit_lines = [line for line in (project / "runs" / "ledger.jsonl").read_text().splitlines() if json.loads(line)["kind"] == "fit"]
    assert len(fit_lines) == 1
    killed(*files)
    code, said = run(config)
    assert (code, said["version"]) == (0, version) and (folder / "model" / "weights.safetensors").read_bytes() == files["weights.safetensors"]
    rest = ["model.json", "weights.safetensors"]
    for there, torn in (((), ""), ((), rest[0]), (rest[:1], ""), (rest[:1], rest[1]), (rest, ""), (rest, "fit.json")):
        killed(*there, torn=torn)
        assert main(["sample", str(unsaved), "--rows", "5", "--out", str(project / "out")]) == 2
        code, said = run(config)
        assert (code, said["version"], [r.name for r in fits(project)]) == (0, version, [f"ward {charge}"])
        assert not (folder / ".spending").exists() and not unsaved.exists() and fit_of(folder / "model")["charge"]["name"] == charge
    killed(*files)
    assert main(["sample", str(unsaved), "--rows", "5", "--out", str(project / "out")]) == 2  # whole, and not in its place
    assert "not as it was" in capsys.readouterr().err and not (project / "out").exists()


def test_another_models_rows_are_drawn_and_judged_anew(project):
    """Where the ledger was lost, and the model too, nothing that comes from another model is taken up."""
    config = lay(project, ENTRY)
    folder = project / run(config)[1]["run"]
    old = json.loads((folder / "scores.json").read_text())["scores"]
    (project / "runs" / "ledger.jsonl").unlink()
    (folder / "model" / "weights.safetensors").write_bytes(b"")
    shutil.rmtree(project / "published")
    code, said = run(config)
    assert code == 0 and said["rows"] == Synthesizer.load(folder / "model").rows == sum(pq.read_metadata(p).num_rows for p in folder.glob("data/*"))
    assert json.loads((folder / "scores.json").read_text())["scores"] != old
    (folder / "facts.json").write_text("{"), (folder / "sample.json").unlink()
    assert run(config)[1]["rows"] == said["rows"] and summary(project) == {"ward": (1, 1, 1)}
    (folder / "report.html").write_text("")
    assert run(config)[0] == 0 and "</html>" in (folder / "report.html").read_text()


def test_what_others_refused_meanwhile_is_not_kept(project, monkeypatch, capsys):
    """Without privacy, learned while others declared a budget for the same people."""
    config = lay(project, ENTRY.replace("delta: 1.0e-5}", BUDGET) + PLAIN)
    fitted = Synthesizer.fit

    def fit(self, *arguments, mechanism=None, **more):
        found = fitted(self, *arguments, mechanism=mechanism, **more)
        if mechanism is None:
            Ledger(project / "runs" / "ledger.jsonl").enter(Record("ward", "budget", "other", "now", 0, budget=(6.0, 1e-4)))
        return found

    monkeypatch.setattr(Synthesizer, "fit", fit)
    assert run(config, name="plain")[0] == 2
    assert "beside which a model without differential privacy (plain" in capsys.readouterr().err
    assert not list((project / "runs" / "plain").glob("*/model")) and not list((project / "runs" / "plain").glob("*/.model"))
    assert fits(project) == []


def test_who_interrupts_a_fit_has_spent_it_and_who_is_asked_to_end_is_killed(project):
    """The one may have seen something that made him; a machine that goes down has not, and does so often."""
    config = lay(project, ENTRY.replace("marginals: {rounds: 4}", "autoregressive: {passes: 400}"))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # of a process in the background it would be ignored, and by those that it starts
    told, logs = 0, ""
    for asked, entries in ((signal.SIGINT, 1), (signal.SIGTERM, 2), (signal.SIGTERM, 2), (signal.SIGINT, 2), (signal.SIGINT, 3)):
        process, until = spawn(config), time.monotonic() + 300
        while time.monotonic() < until and process.poll() is None:
            logs = "".join(log.read_text() for log in (project / "runs" / "ward").glob("*/log.txt"))
            if logs.count(": step ") > told:
                break
            time.sleep(0.02)
        told = logs.count(": step ")
        os.killpg(process.pid, asked) if os.getpgid(process.pid) == process.pid else process.send_signal(asked)
        process.wait()
        assert process.returncode != 0 and len(fits(project)) == entries and not list((project / "runs" / "ward").glob("*/model"))
        assert bool(list((project / "runs" / "ward").glob("*/.spending"))) == (asked == signal.SIGTERM)


def test_what_is_drawn_from_a_model_of_an_unfinished_run_is_in_the_ledger(project, capsys):
    config = lay(project, ENTRY)
    folder = project / run(config)[1]["run"]
    (folder / "facts.json").unlink()
    draw = lambda out: main(["sample", str(folder / "model"), "--rows", "50", "--out", str(project / out)])  # noqa: E731
    assert draw("one") == draw("two") == 0  # the same rows, twice
    assert summary(project) == {"ward": (1, 2, 1)}
    (project / "runs" / "ledger.jsonl").unlink()
    assert draw("again") == 0 and summary(project) == {"ward": (1, 1, 0)}  # of a model whose fit it forgot
    (project / "disk").mkdir()
    (project / "runs").rename(project / "disk" / "kept")
    (project / "runs").symlink_to(project / "disk" / "kept")
    for n, model in enumerate((folder, project / "disk" / "kept" / folder.parent.name / folder.name), 2):
        assert main(["sample", str(model / "model"), "--rows", str(n), "--out", str(project / f"link{n}")]) == 0 and summary(project) == {"ward": (1, n, 0)}
    shutil.copytree(folder / "model", project / "taken")
    assert main(["sample", str(project / "taken"), "--rows", "50", "--out", str(project / "elsewhere")]) == 0 and summary(project) == {"ward": (1, 3, 0)}
    facts = folder / "model" / "fit.json"
    facts.write_text(facts.read_text().replace('"files": "', '"files": "0'))
    assert draw("three") == 2 and "not as it was when it was fitted" in capsys.readouterr().err
    assert not (project / "three").exists() and not list(project.glob(".three*"))
    (folder / "source.json").write_text("{}")
    assert draw("three") == 2 and "run ward again" in capsys.readouterr().err


def test_a_budget_refuses_the_run_that_would_go_over(project, capsys):
    config = lay(project, ENTRY.replace("delta: 1.0e-5}", BUDGET))
    assert run(config)[0] == 0
    code, said = run(config, "--set", "seed=1")
    assert code == 2 and said is None
    told = capsys.readouterr().err
    assert "'ward' has spent epsilon" in told and "of 6 at delta 0.0001" in told and "nothing was learned" in told
    assert len(fits(project)) == 1
    assert run(config, "--set", "seed=1", "--set", "privacy.population=clinic")[0] == 0  # other people
    assert main(["ledger", "--config", str(config)]) == 0
    assert "epsilon" in capsys.readouterr().out


def test_what_adds_up_and_what_does_not():
    free = Record("ward", "fit", "a", "now", 9, private=True, rho=0.1, delta=1e-7)
    one, plain = replace(free, budget=(5.0, 1e-5)), replace(free, private=False)
    assert refusal([free]) is None is refusal([one])
    assert refusal([replace(free, name=str(i)) for i in range(40)]) is None
    assert "would have spent" in refusal([replace(one, name=str(i)) for i in range(40)])
    assert "would have spent" in refusal([one, *(replace(free, name=str(i)) for i in range(40))])  # the last one that was declared holds
    assert refusal([replace(one, budget=(1e3, 1e-5)) for i in range(40)]) is None
    budget = Record("ward", "budget", "a", "now", 0, budget=(0.1, 1e-5))
    assert "delta 1e-07 of 1e-09 on values" in refusal([replace(budget, budget=(5.0, 1e-9)), free])
    assert refusal([replace(budget, budget=(5.0, 1e-9)), free, replace(free, kind="draw")]) is None
    assert refusal([free, budget]) is None and "would have spent" in refusal([free, budget, replace(free, name="b")])
    assert "without differential privacy (a)" in refusal([plain, budget])
    assert all("without differential privacy (a)" in refusal(both) for both in ([plain, one], [one, plain]))
    assert refusal([replace(plain, kind="draw"), one]) is None is refusal([free, plain])


def summary(project: Path) -> dict:
    return {name: (of["fits"], of["draws"], of["releases"]) for name, of in summed(Ledger(project / "runs" / "ledger.jsonl").records()).items()}


def test_a_fit_that_ends_in_an_error_is_spent(project, capsys):
    """What comes out after so many errors would depend on all that was told before."""
    table = patients()
    names = table.column("ward").to_pylist()
    table = table.set_column(table.column_names.index("ward"), "ward", [["hospice"] * 40 + names[40:]])
    declared = ENTRY.replace(", values: [surgery, medicine, cardiology]", "").replace("epsilon: 5", "epsilon: 0.5")  # noise drowns forty
    config = lay(project, declared.replace("  generator:", "  sample: {where: {ward: hospice}}\n  generator:"), table)
    for n in (1, 2):
        assert run(config)[0] == 2
        assert "ward" in capsys.readouterr().err
        assert len({r.name for r in fits(project)}) == n
    assert summary(project) == {"ward": (2, 0, 0)}


def test_a_model_is_entered_wherever_it_is_used(project):
    config = lay(project, ENTRY)
    assert run(config)[0] == 0
    book = project / "runs" / "ledger.jsonl"
    spent = fits(project)[0]
    assert run(config, "--set", "privacy.population=clinic")[0] == 0
    assert summary(project) == {"ward": (1, 1, 1), "clinic": (1, 1, 1)}
    assert {(r.rho, r.delta, r.name) for r in fits(project)} == {(spent.rho, spent.delta, spent.name)}
    book.unlink()
    assert run(config)[0] == 0  # nothing is done, and it is in the ledger again, and so are all models that are there
    assert summary(project) == {"ward": (1, 1, 1), "clinic": (1, 0, 0)} and fits(project)[0].rho == spent.rho
    book.unlink()
    assert run(config, "--set", "sample={rows: 500}")[0] == 0  # another version, of the same model
    assert summary(project) == {"ward": (1, 1, 1), "clinic": (1, 0, 0)} and fits(project)[0].rho == spent.rho


def test_a_model_without_privacy_is_refused_company(project, capsys):
    config = lay(project, ENTRY.replace("delta: 1.0e-5}", BUDGET) + PLAIN)
    assert run(config)[0] == 0
    assert run(config, name="plain")[0] == 2
    assert "'ward' has one, beside which a model without differential privacy (plain" in capsys.readouterr().err
    assert summary(project) == {"ward": (1, 1, 1)} and not list((project / "runs" / "plain").glob("*/model"))


def test_a_budget_that_is_declared_of_a_model_that_is_there_holds_too(project, capsys):
    others = (
        ENTRY.replace("ward:", "other:", 1).replace("delta: 1.0e-5}", "delta: 1.0e-5, population: ward}").replace("  generator:", "  seed: 1\n  generator:")
    )
    assert run(lay(project, ENTRY + others + PLAIN))[0] == 0
    config = lay(project, ENTRY.replace("delta: 1.0e-5}", BUDGET) + others + PLAIN)
    assert run(config)[0] == 0 and len(fits(project)) == 1
    for name, said in (("other", "of 6 at delta 0.0001, and would have spent"), ("plain", "beside which a model without differential privacy")):
        assert run(config, name=name)[0] == 2
        assert said in capsys.readouterr().err
    assert len(fits(project)) == 1 and not [*(project / "runs").glob("other/*/model"), *(project / "runs").glob("plain/*/model")]
    assert main(["ledger", "--config", str(config)]) == 0
    assert "  6  " in capsys.readouterr().out


def test_a_budget_is_not_declared_beside_a_model_without_privacy(project, capsys):
    config = lay(project, ENTRY + PLAIN)
    assert run(config)[0] == 0 and run(config, name="plain")[0] == 0
    assert run(lay(project, ENTRY.replace("delta: 1.0e-5}", BUDGET) + PLAIN))[0] == 2  # though its model is there
    assert "beside which a model without differential privacy (plain" in capsys.readouterr().err
    assert run(config, "--set", "seed=1", name="plain")[0] == 0  # nothing was declared


def test_another_models_table_has_another_name(project):
    """Two tables by one name, of which one was judged and the other published, would be worse than none."""
    config = lay(project, ENTRY)
    first = run(config)[1]
    shutil.rmtree(project / "runs" / "ward")
    second = run(config)[1]
    assert second["version"] != first["version"] and summary(project) == {"ward": (2, 2, 2)}
    assert run(config)[1]["version"] == second["version"]
    for said in (first, second):
        manifest = json.loads((project / "published" / "ward" / said["version"] / "manifest.json").read_text())
        assert manifest["rows"] == said["rows"]
    (project / "runs" / "ledger.jsonl").unlink()
    shutil.rmtree(project / "runs" / "ward")
    assert run(config)[0] == 2  # nobody can tell any more that this name was used: nothing is written over
