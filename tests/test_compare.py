"""`likeness compare`: one table of several families, the best one with the reason, nothing published, and work that `run` takes over."""

import json

import pyarrow.parquet as pq
import pytest
from projects import ENTRY, lay, patients, run

from pipelines.cli import main
from pipelines.compare import choose, label, reached, said_of, table

GATES = "  gates: {utility.target: {min: 0.3}, privacy.attribute: null, privacy.membership: null, fidelity.detection: null}\n"
ENTRY = ENTRY.split("  gates")[0] + GATES


def row(family: str, verdict: str = "PASS", quality: float = 0.9, fit_s: float = 1.0) -> dict:
    return {"family": family, "verdict": verdict, "quality": quality, "fit_s": fit_s}


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        ([row("a", quality=0.95), row("b", quality=0.9)], "a"),
        ([row("a", quality=0.95, fit_s=9), row("b", quality=0.948, fit_s=2)], "b"),
        ([row("a", "FAIL", 0.99), row("b", quality=0.5)], "b"),
        ([row("a", "NO-VERDICT", 0.99), row("b", "FAIL")], None),
        ([{"family": "a", "failed": "no memory"}], None),
    ],
)
def test_the_best_is_the_one_of_highest_quality_that_passes(rows, best):
    found, why = choose(rows)
    assert found == best and why


@pytest.mark.parametrize(("value", "real", "better", "share"), [(0.6, 0.8, "high", 0.75), (0.9, 0.8, "high", 1), (4, 1, "low", 0.25), (0, 1, "low", 1)])
def test_quality_knows_which_way_is_good(value, real, better, share):
    assert reached({"value": value, "yardstick": real, "better": better}) == pytest.approx(share)


def test_families_are_compared_and_run_goes_on_from_there(project, capsys):
    config = lay(project, ENTRY, patients(600))
    asked = ["compare", "ward", "--config", str(config), "--generators", "gmm,vae,gan", "--json"]
    small = ["--set", "generator.vae.passes=8", "--set", "generator.vae.width=32"]
    assert main([*asked, *small]) == 0
    lines = capsys.readouterr().out.rstrip().splitlines()
    found = json.loads(lines[-1])
    assert {r["family"] for r in found["rows"]} == {"gmm", "vae", "gan"}
    for r in found["rows"]:
        assert "failed" not in r, r
        assert 0 < r["quality"] <= 1 and r["fit_s"] > 0 and 100 < r["peak_mb"] < 4000
        assert r["figures"]["fidelity.shape"]["yardstick"] == found["rows"][0]["figures"]["fidelity.shape"]["yardstick"]
    assert found["best"] is None or any(r["family"] == found["best"] and r["verdict"] == "PASS" for r in found["rows"])
    assert table(found).splitlines() == lines[:-1] and "fresh real rows" in lines[4]
    page = (project / "runs" / "ward" / "compare.html").read_text()
    assert all(f"<b>{label(row)}</b>" in page for row in found["rows"])
    assert not list((project / "published").rglob("*")) and not list((project / "runs").rglob("work/*"))
    gmm = next(r for r in found["rows"] if r["family"] == "gmm")
    model = project / "runs" / "ward" / gmm["run"].split("/")[-1] / "model" / "weights.safetensors"
    before = model.stat().st_mtime_ns
    code, result = run(config, "--set", "generator=gmm")
    assert result["run"].endswith(gmm["run"].split("/")[-1]) and model.stat().st_mtime_ns == before
    assert gmm["verdict"] == "PASS" and code == 0 and pq.read_table(result["published"] + "/data").num_rows
    assert result["published"] in (project / result["run"] / "report.html").read_text()


def test_a_family_that_fails_takes_nothing_with_it(project, capsys):
    config = lay(project, ENTRY, patients(600))
    diverging = ["--set", "generator.flow.rate=1000000"]
    assert main(["compare", "ward", "--config", str(config), "--generators", "flow,gmm", *diverging]) == 0
    said = capsys.readouterr().out
    assert "flow" in said and "diverged" in said and "try a rate below" in said and "gmm" in said


@pytest.mark.parametrize(("names", "words"), [("gmm,vea", ["'vea'", "did you mean 'vae'"]), ("", ["--generators"]), ("vae,gmm, vae", ["'vae' 2 times"])])
def test_an_unknown_family_is_refused_before_anything_is_fitted(project, capsys, names, words):
    config = lay(project, ENTRY, patients(600))
    assert main(["compare", "ward", "--config", str(config), "--generators", names]) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in words) and not (project / "runs").exists()


def test_where_every_family_fails_nothing_was_compared(project, capsys):
    config = lay(project, ENTRY, patients(600))
    assert main(["compare", "ward", "--config", str(config), "--generators", " flow ,", "--set", "generator.flow.rate=1000000"]) == 2  # an empty name
    assert main(["compare", "ward", "--config", str(config), "--generators", " flow ", "--set", "generator.flow.rate=1000000"]) == 1
    said = capsys.readouterr().out
    assert "every family failed, so nothing was compared" in said and "flow (rate 1000000)" in said and "fresh real rows" not in said
    assert "every family failed" in (project / "runs" / "ward" / "compare.html").read_text()


def test_too_few_held_out_is_said_before_anything_is_fitted(project, capsys):
    config = lay(project, ENTRY, patients(160))
    assert main(["compare", "ward", "--config", str(config), "--generators", "gmm"]) == 2
    assert "the holdout has 40 subjects, expected at least 50" in capsys.readouterr().err


def test_what_holds_for_all_is_said_once():
    rows = [{"family": f, "reasons": ["too few", *more]} for f, more in (("a", []), ("b", ["odd"]))]
    assert said_of(rows) == ["all: too few", "b: odd"]
    assert said_of(rows[:1]) == ["a: too few"]
