"""Runs under differential privacy: what they need, what they say, and that no crash spends twice or forgets what was spent."""

import json
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from projects import lay, patients, refused, run, spawn

from generators.data import Column, DataError, Schema, Table
from generators.synthesizer import Synthesizer
from pipelines.cli import main
from pipelines.config import load_entry
from pipelines.house import hidden
from pipelines.spending import refusal
from privacy.accounting import epsilon_of
from privacy.ledger import Ledger, Record, summed

GATES = "{fidelity.shape: null, fidelity.dependence: null, fidelity.coverage: null, fidelity.missingness: null, fidelity.detection: null, utility.target: null}"
COLUMNS = (
    "{age: {kind: numeric, low: 18, high: 95}, crea: {kind: numeric}, urea: {kind: numeric}, ward: {kind: category, values: [surgery, medicine, cardiology]}, "
    "admitted: {kind: datetime}, smoker: {kind: boolean}, dead: {kind: boolean}}"
)
ENTRY = f"""ward:
  source:
    table: patients.parquet
    target: dead
    columns: {COLUMNS}
  privacy: {{epsilon: 5, delta: 1.0e-5}}
  generator: {{marginals: {{rounds: 4}}}}
  gates: {GATES}
"""


def fits(project: Path) -> list[Record]:
    return [r for r in Ledger(project / "runs" / "ledger.jsonl").records() if r.kind == "fit"]


def test_what_a_run_under_differential_privacy_says(project):
    config = lay(project, ENTRY)
    code, said = run(config)
    assert code == 0, said
    published = next((project / "published" / "ward").glob("*/manifest.json"))
    manifest = json.loads(published.read_text())
    promise = manifest["privacy"]["differential_privacy"]
    assert (promise["epsilon"], promise["delta"], promise["rows_of_a_subject"]) == (5, 1e-5, 1)
    assert sum(promise["shares"].values()) == pytest.approx(1)
    assert promise["reproducible"] is False and "no seed controls it" in promise["why"]
    assert epsilon_of(1e-5 - promise["delta_of_unknown_values"], promise["rho"]) == pytest.approx(5, rel=1e-3)
    assert manifest["source"]["fingerprint"] is None  # which would tell who knows all others
    assert not any(metric.startswith("privacy.") for metric in manifest["verdicts"])
    assert any(name.startswith("privacy.") for name in said["scores"])  # measured all the same, and kept inside
    metadata = pq.read_schema(next(published.parent.glob("data/*.parquet"))).metadata
    assert (metadata[b"likeness.epsilon"], metadata[b"likeness.delta"]) == (b"5", b"1e-05")
    assert manifest["rows"] == Synthesizer.load(next((project / "runs" / "ward").glob("*/model"))).rows != 900
    card = (published.parent / "card.md").read_text()
    assert "epsilon 5, delta 1e-05" in card and "no seed controls it" in card and "Fingerprint" not in card
    report = next((project / "runs" / "ward").glob("*/report.html")).read_text()
    assert "Differential privacy" in report and "the number of rows" in report and "subjects who were held out" in report
    (one,) = fits(project)
    assert (one.private, one.rho, one.delta) == (True, promise["rho"], promise["delta_of_unknown_values"])


def test_a_run_warns_of_noise_that_drowns_columns_before_it_spends(project):
    run(lay(project, ENTRY.replace("epsilon: 5", "epsilon: 0.1")))
    assert "noise drowns what one subject in twenty holds" in next((project / "runs" / "ward").glob("*/log.txt")).read_text()
    run(lay(project, ENTRY.replace("epsilon: 5", "epsilon: 10").replace("1.0e-5", "5.0e-4")))
    assert sum("noise drowns" in log.read_text() for log in (project / "runs" / "ward").glob("*/log.txt")) == 1


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
    assert run(config)[0] == 0
    assert len(fits(project)) == 1
    assert not list((project / "runs" / "ward").glob("*/.spending"))


def test_a_budget_refuses_the_run_that_would_go_over(project, capsys):
    config = lay(project, ENTRY.replace("delta: 1.0e-5}", "delta: 1.0e-5, budget: {epsilon: 6, delta: 1.0e-4}}"))
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
    assert run(config)[0] == 0  # nothing is done, and it is in the ledger again
    assert summary(project) == {"ward": (1, 1, 1)} and fits(project)[0].rho == spent.rho
    book.unlink()
    assert run(config, "--set", "sample={rows: 500}")[0] == 0  # another version, of the same model
    assert summary(project) == {"ward": (1, 1, 1)} and fits(project)[0].rho == spent.rho


def test_a_model_without_privacy_is_refused_company(project, capsys):
    config = lay(
        project,
        ENTRY.replace("delta: 1.0e-5}", "delta: 1.0e-5, budget: {epsilon: 6, delta: 1.0e-4}}")
        + f"""plain:
  source: {{table: patients.parquet, target: dead}}
  privacy: {{population: ward}}
  gates: {GATES}
""",
    )
    assert run(config)[0] == 0
    assert run(config, name="plain")[0] == 2
    assert "'ward' has one, beside which a model without differential privacy (plain" in capsys.readouterr().err
    assert summary(project) == {"ward": (1, 1, 1)} and not list((project / "runs" / "plain").glob("*/model"))


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


REFUSED = [
    (
        "kind: category, values: [surgery, medicine, cardiology]",
        "values: [surgery, medicine, cardiology]",
        ["source.columns.ward", "no kind is declared", "init"],
    ),
    ("{epsilon: 5, delta: 1.0e-5}", "{epsilon: 5}", ["privacy", "epsilon: without delta:", "both"]),
    ("{epsilon: 5, delta: 1.0e-5}", "{delta: 1.0e-5}", ["privacy", "delta: without epsilon:"]),
    ("{epsilon: 5, delta: 1.0e-5}", "{epsilon: 50, delta: 1.0e-5}", ["privacy.epsilon", "50", "to 10"]),
    ("{epsilon: 5, delta: 1.0e-5}", "{epsilon: 0, delta: 1.0e-5}", ["privacy.epsilon", "found 0"]),
    ("{epsilon: 5, delta: 1.0e-5}", "{epsilon: 5, delta: 0.005}", ["privacy.delta", "0.005", "0.0008"]),
    ("{epsilon: 5, delta: 1.0e-5}", "{rows: 5}", ["privacy.rows", "without epsilon:"]),
    ("{epsilon: 5, delta: 1.0e-5}", "{budget: {epsilon: 5}}", ["privacy.budget", "without epsilon:"]),
    ("delta: 1.0e-5}", "delta: 1.0e-5, budget: {epsilon: 4}}", ["privacy.budget", "below what one run spends", "epsilon 5"]),
    ("{marginals: {rounds: 4}}", "{autoregressive: {minutes: 1}}", ["generator: minutes", "beside differential privacy", "passes and rate"]),
    ("{marginals: {rounds: 4}}", "gan", ["gan does not learn tables under differential privacy", "marginals"]),
    ("fidelity.shape: null", "privacy.membership: {max: 0.2}", ["gates.privacy.membership", "the very people who are protected"]),
    ("smoker: {kind: boolean}", "smoker: {kind: boolean, values: [1]}", ["smoker", "values"]),
    ("values: [surgery, medicine, cardiology]", "values: surgery", ["source.columns.ward.values", "a list"]),
    ("values: [surgery, medicine, cardiology]", "values: [surgery, surgery]", ["source.columns.ward.values", "twice"]),
]


@pytest.mark.parametrize(("old", "new", "words"), REFUSED, ids=[new for _, new, _ in REFUSED])
def test_what_cannot_be_promised_is_refused_before_anything_is_learned(project, old, new, words):
    assert old in ENTRY
    said = refused(lay(project, ENTRY.replace(old, new)), "ward")
    assert all(word in said for word in words), said
    assert not (project / "runs").exists()


def test_series_and_images_are_refused_or_learned_by_a_family_that_can():
    values = pa.table({"who": np.repeat(np.arange(40), 5), "t": np.tile(np.arange(5), 40), "x": np.random.default_rng(0).normal(size=200)})
    schema = Schema(values.schema, (Column("who", "id"), Column("t", "numeric"), Column("x", "numeric")), "who", time="t")
    from privacy.mechanism import Private

    with pytest.raises(DataError, match="hmm does not learn series under differential privacy"):
        Synthesizer("hmm").fit(Table.of(values, schema), mechanism=Private(0.1, 1, 1e-7))


def test_a_version_tells_nothing_to_who_has_not_the_secret_of_the_house(project, tmp_path):
    config = lay(project, ENTRY)
    entry = load_entry(config, "ward")
    assert hidden(entry, "abc") == hidden(entry, "abc") != hidden(entry, "abd")
    secret = project / "runs" / ".secret"
    assert oct(secret.stat().st_mode & 0o777) == "0o600"
    before = hidden(entry, "abc")
    secret.unlink()
    assert hidden(entry, "abc") != before
    assert hidden(replace(entry, promise=None), "abc") == "abc"
    assert patients().num_rows == 1200
