"""The report of series: pictures of synthetic series and of aggregates of the real ones, and nothing of a single real one."""

import json

import longitudinal
import numpy as np
import pyarrow as pa
import pytest
from test_report import facts_of

from pipelines import charts, report
from validation.courses import lines
from validation.spectrum import BANDS, spectra

METRICS = ("fidelity.shape", "fidelity.course", "fidelity.autocorrelation", "fidelity.spectrum", "fidelity.timing")
STRANGE, WHEN = 987.654, 321.25  # a value of one patient, and when


def with_one_strange_patient(seed: int):
    data = longitudinal.visits(300, seed)
    marker, when = (np.array(data.column(n).to_pylist(), dtype=float) for n in ("marker", "when"))
    last = np.flatnonzero(data.subjects == 7)[-1]
    marker[last], when[last] = STRANGE, WHEN
    columns = {n: data.column(n) for n in data.schema.arrow.names} | {"marker": pa.array(marker, from_pandas=True), "when": pa.array(when)}
    return longitudinal.of(columns, {"sick": "boolean", "stage": "category"}, static=("sick", "age"), target="sick")


@pytest.fixture(scope="module")
def facts() -> dict:
    return facts_of(with_one_strange_patient(0), longitudinal.visits(200, 1), longitudinal.visits(300, 2), METRICS)


def test_passages_that_came_out_are_counted_by_column():
    train, holdout = longitudinal.visits(200, 0), longitudinal.visits(150, 1)
    copied = facts_of(train, holdout, train, ("privacy.passages",))
    assert "people's passages</b> came out, in:" in report.render(copied).replace("&#39;", "'")
    fresh = facts_of(train, holdout, longitudinal.visits(200, 2), ("privacy.passages",))
    assert "No people's passages came out of the" in report.render(fresh).replace("&#39;", "'")
    assert "people's passages" not in report.render(facts_of(train, holdout, train, ("privacy.rare",))).replace("&#39;", "'")


def test_each_number_is_drawn_over_time(facts):
    page, found = report.render(facts), {s["name"]: s["details"] for s in facts["scores"]}
    assert ">Series</h2>" in page and "synthetic series over the middle 80 % of the real ones" in page
    assert page.count('class="course"') == 1  # the marker; what stays has no course
    for words in ("correlation with itself", "share of power", "number of steps", "time between steps"):
        assert words in page
    shown = found["fidelity.course"]["lines"]["marker"]
    assert len(shown["series"]) == 12 and all(len(point) == 2 for one in shown["series"] for point in one)
    assert any(v is not None for v in shown["middle"])


def test_nothing_of_one_real_patient_is_shown(facts):
    told = json.dumps(facts) + report.render(facts)
    assert "987.6" not in told and "321.2" not in told
    ends = [
        v for key in ("low", "high") for v in {s["name"]: s["details"] for s in facts["scores"]}["fidelity.course"]["lines"]["marker"][key] if v is not None
    ]
    assert max(map(abs, ends)) < 50


def test_quantiles_of_few_people_are_not_shown():
    train, made = longitudinal.visits(60, 0), longitudinal.visits(60, 1)
    shown = lines(train, made, "marker", rare_below=10)
    assert all(v is None for key in ("low", "middle", "high") for v in shown[key])  # nowhere are so many that ten lie beyond each end
    assert any(v is not None for v in lines(train, made, "marker", rare_below=2)["middle"])


def test_a_table_has_no_such_section(facts):
    for score in facts["scores"]:
        score["details"].pop("lines", None), score["details"].pop("histograms", None)
    assert ">Series</h2>" not in report.render(facts)


def test_a_wave_has_its_power_where_it_turns():
    t = np.arange(32)
    columns = {"who": np.repeat([1, 2, 3], 32), "when": np.tile(t, 3), "x": np.r_[np.sin(2 * np.pi * t / 4), np.sin(2 * np.pi * t / 16), np.ones(32)]}
    found = spectra(longitudinal.of(columns, {}), "x")
    assert found.shape == (3, BANDS) and np.isinf(found[2]).all()  # one that does not move has none
    assert found[0, [5, 6]] == pytest.approx([0.5, 0.5])  # a quarter of a turn a step, where two bands meet
    assert found[1, 1] == pytest.approx(1)  # a sixteenth, well within one
    assert np.isnan(spectra(longitudinal.of({"who": [1] * 7, "when": range(7), "x": np.random.default_rng(0).normal(size=7)}, {}), "x")).all()


def test_charts_bear_what_is_missing():
    assert "no values to show" in charts.overlaid([], [], {}, "x", charts.figure) and "no values to show" in charts.beside([], [], ("1", "2"), "x", 0, 1)
    assert "<polyline" in charts.overlaid([[[0, 1], [1, 2]], []], [0.5], {"low": [None], "middle": [None], "high": [None]}, "x", charts.figure)
    assert "<polyline" in charts.beside([0.5, None, 0.2], [0.1, 0.2, None], ("1", "3"), "x", 0, 1)
