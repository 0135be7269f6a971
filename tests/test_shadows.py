"""Shadow models: copies are found, who learned from nobody gives nobody away, and series and images go the same way."""

import json

import longitudinal
import numpy as np
import planted
import pyarrow as pa
import pytest
from projects import lay

from generators.data import DataError, Table
from pipelines import read
from pipelines.audit import audit, table
from pipelines.cli import main
from privacy.shadows import ALL, NAMES, chosen, shadows
from validation.resampling import count


def some_copied(part: float):
    """A generator that copies so many of its rows, in any order, and invents the others from strangers."""

    def make(rows: Table, i: int) -> Table:
        stream = np.random.default_rng(i)
        kept = rows.take(np.sort(stream.choice(len(rows), round(part * len(rows)), replace=False)))
        return Table(pa.concat_tables([kept.values, planted.patients(len(rows) - len(kept), 100 + i).values]), rows.schema)

    return make


def test_who_is_copied_is_found_and_who_is_not_is_not():
    """Half of the rows copied; none; and the coin that nobody acted on."""
    train, holdout = planted.patients(400, 0), planted.patients(300, 1)
    copied, fresh = (shadows(train, holdout, some_copied(part), 16, 40) for part in (0.5, 0.0))
    assert set(copied["attacks"]) == {*NAMES, ALL} and len(NAMES) == 9
    assert copied["attacks"][ALL]["auc"] > 0.68 and copied["attacks"][ALL]["interval"][0] > 0.6  # 0.75 is what can be told of half
    assert copied["attacks"][ALL]["tpr_at_1_fpr"] > 0.2
    for found in (copied, fresh):
        assert found["attacks"][ALL]["of_a_copy"] > 0.95
        assert found["nobody"]["interval"][0] < 0.5 < found["nobody"]["interval"][1]
    low, high = fresh["attacks"][ALL]["interval"]
    assert low < 0.5 < high and high - low < 0.25
    assert (copied["shadows"], copied["targets"]) == (16, 40)


def test_half_of_those_looked_for_are_far_from_everybody():
    train = planted.patients(300, 0)
    odd = planted.put(train, age=pa.array([99 if i < 5 else 50 for i in range(300)]), stay=pa.array([900.0 * (i + 1) if i < 5 else 3.0 for i in range(300)]))
    whom, far = chosen(odd, 20, np.random.default_rng(0), 10)
    assert far.sum() == 10 and len(set(whom)) == 20 and (np.diff(whom) > 0).all()
    assert len(set(range(5)) & set(whom[far])) >= 4


def test_series_are_told_apart_by_subject():
    """Everybody's own steps published: the subject is found, however many steps it has."""
    train, holdout = longitudinal.visits(120), longitudinal.visits(120, seed=1)
    found = shadows(train, holdout, lambda rows, i: rows, 8, 20, rare_below=2)
    assert found["attacks"][ALL]["auc"] > 0.95 and found["attacks"][ALL]["of_a_copy"] > 0.95


@pytest.mark.slow
def test_images_are_told_apart():
    digits = read("digits", images=True, label="digit")
    order = np.random.default_rng(0).permutation(len(digits))
    train, holdout = digits.take(np.sort(order[:200])), digits.take(np.sort(order[200:400]))
    found = shadows(train, holdout, lambda rows, i: rows, 8, 20, rare_below=2)
    assert found["attacks"][ALL]["auc"] > 0.9


def test_what_cannot_be_done_is_refused():
    train = planted.patients(60, 0)
    for number, targets in ((4, 20), (8, 31), (8, 1)):
        with pytest.raises(ValueError, match="shadows and"):
            shadows(train, train, lambda rows, i: rows, number, targets)
    assert count(train) == 60


def test_the_command_fits_shadows_and_says_what_they_tell(tmp_path, capsys):
    config = lay(tmp_path, "ward:\n  source: {table: patients.parquet, target: dead}\n  generator: {gmm: {components: 5, passes: 2}}\n")
    assert main(["audit", "ward", "--config", str(config), "--shadows", "8", "--targets", "12", "--json"]) == 0
    said = capsys.readouterr().out
    assert "8 shadow models, 12 people" in said and "together, exposed half" in said and "a coin" in said
    found = json.loads(said.strip().splitlines()[-1])
    path = tmp_path / "runs" / "ward" / "audit.json"
    assert json.loads(path.read_text())["attacks"] == found["attacks"]
    assert all((folder.stat().st_mode & 0o777) == 0o700 for folder in (tmp_path / "runs", tmp_path / "runs" / "ward"))
    assert not (tmp_path / "published").exists() and not (tmp_path / "runs" / "ledger.jsonl").exists()
    assert "NO VERDICT" in table(found | {"attacks": {k: v | {"of_a_copy": 0.6} for k, v in found["attacks"].items()}})
    for asked, word in ((["--shadows", "3"], "--shadows: found 3, expected at least 8"), (["--targets", "9000"], "--targets: found 9000")):
        assert main(["audit", "ward", "--config", str(config), *asked]) == 2
        assert word in capsys.readouterr().err


def test_shadows_under_a_promise_keep_it_too(tmp_path):
    kinds = "{age: {kind: numeric}, crea: {kind: numeric}, urea: {kind: numeric}, ward: {kind: category}, admitted: {kind: datetime}, "
    kinds += "smoker: {kind: boolean}, dead: {kind: boolean}}"
    entry = (
        f"ward:\n  source: {{table: patients.parquet, columns: {kinds}}}\n  privacy: {{epsilon: 3, delta: 1.0e-5}}\n  generator: {{gmm: {{components: 3}}}}\n"
    )
    found = audit(lay(tmp_path, entry), "ward", 8, 20)
    assert found["attacks"][ALL]["auc"] < 0.75 and found["attacks"][ALL]["of_a_copy"] > 0.9
    with pytest.raises(DataError, match="no pipeline"):
        audit(tmp_path / "flows.yaml", "nobody", 8, 20)
