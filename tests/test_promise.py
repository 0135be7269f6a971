"""Runs under differential privacy: what they need, what they say, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from projects import PRIVATE as ENTRY
from projects import fits, lay, patients, refused, run

from generators.data import Column, DataError, Schema, Table
from generators.synthesizer import Synthesizer
from pipelines.config import Source, families_for, load_entry
from pipelines.house import hidden
from privacy.accounting import epsilon_of


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
    ("{epsilon: 5, delta: 1.0e-5}", f"{{epsilon: 1{400 * '0'}, delta: 1.0e-5}}", ["privacy.epsilon", "from 0.01 to 10"]),
    (
        "{epsilon: 5, delta: 1.0e-5}\n  generator: {marginals: {rounds: 4}}",
        "{epsilon: 0.01, delta: 1.0e-15}\n  generator: autoregressive",
        ["ward.privacy.epsilon: found 0.01", "not trained by steps"],
    ),
    ("{marginals: {rounds: 4}}", "gan", ["gan does not learn tables under differential privacy", "marginals"]),
    ("fidelity.shape: null", "privacy.membership: {max: 0.2}", ["gates.privacy.membership", "the very people who are protected"]),
    ("smoker: {kind: boolean}", "smoker: {kind: boolean, values: [1]}", ["smoker", "values"]),
    ("values: [surgery, medicine, cardiology]", "values: surgery", ["source.columns.ward.values", "a list"]),
    ("values: [surgery, medicine, cardiology]", "values: [surgery, surgery]", ["source.columns.ward.values", "twice"]),
]


@pytest.mark.parametrize(("old", "new", "words"), REFUSED, ids=[new[:60] for _, new, _ in REFUSED])
def test_what_cannot_be_promised_is_refused_before_anything_is_learned(project, old, new, words):
    assert old in ENTRY
    said = refused(lay(project, ENTRY.replace(old, new)), "ward")
    assert all(word in said for word in words), said
    assert not (project / "runs").exists()


def test_those_that_can_are_compared():
    held = {kind: Source("table", "t.csv", time="t" if kind == "series" else None) for kind in ("table", "series")}
    for source in held.values():
        able = families_for(source, promised=True)
        assert "marginals" in able and set(able) < set(families_for(source))


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
