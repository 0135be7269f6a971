"""Gates and verdicts: what passes, what fails, what cannot be told, and how it is said."""

import math

import planted
import pyarrow as pa
import pytest

from generators.data import DataError
from pipelines.gates import DEFAULTS, FAIL, METRICS, NO_VERDICT, PASS, figure, gates, verdict, with_contract
from pipelines.words import WORDS
from validation.score import Score

TABLE = planted.table({"x": pa.array([1.0])}, {"x": "numeric"}, target="x")


def score(value, low=None, high=None, yardstick=1.0, name="fidelity.shape", **more):
    return Score(name, value, value if low is None else low, value if high is None else high, yardstick, **more)


def test_every_metric_has_a_default_gate_and_words():
    assert set(DEFAULTS) == set(METRICS) == {m for m, words in WORDS.items() if words.wrong}


def test_configuration_overrides_extends_and_lifts():
    chosen = gates(TABLE.schema, {"fidelity.shape": {"min": 0.5}, "fidelity.detection": None, "privacy.copies": {"min": -1, "max": 1}})
    assert chosen["fidelity.shape"] == {"min": 0.5} and "fidelity.detection" not in chosen and chosen["privacy.copies"] == {"min": -1, "max": 1}
    assert chosen["privacy.rare"] == DEFAULTS["privacy.rare"]


def test_no_target_no_utility():
    schema = planted.patients(1, 0).schema
    without = type(schema)(schema.arrow, schema.columns)
    assert "utility.target" in gates(schema) and "utility.target" not in gates(without)
    with pytest.raises(DataError, match="names none"):
        gates(without, {"utility.target": {"min": 0.5}})


@pytest.mark.parametrize("bound", [{}, {"least": 1}, 0.9, {"min": "0.9"}, {"max": math.nan}, {"min": True}])
def test_a_bad_bound_is_an_error(bound):
    with pytest.raises(DataError, match=r"fidelity\.shape"):
        gates(TABLE.schema, {"fidelity.shape": bound})


def test_an_unknown_metric_is_an_error_that_lists_the_known():
    with pytest.raises(DataError, match=r"'fidelity\.shap'.*privacy\.membership"):
        gates(TABLE.schema, {"fidelity.shap": {"min": 1}})
    with pytest.raises(DataError, match="no metric 'nonsense'"):
        verdict([], {"nonsense": {"min": 1}})


@pytest.mark.parametrize(
    ("one", "expected", "why"),
    [
        (score(0.95, 0.94, 0.96), PASS, "at least 0.9 is asked for"),
        (score(0.90, 0.89, 0.91), PASS, "0.9"),
        (score(0.80, 0.78, 0.82), FAIL, "a fresh real sample gets 1"),
        (score(0.80, 0.78, 0.82), FAIL, "is asked for: columns are not"),
        (score(0.80, 0.70, 0.92), FAIL, "is asked for: it may be that columns are not"),
        (score(0.80, 0.78, 0.82, details={"worst": "age"}), FAIL, "as the real ones (most of all: age)"),
        (score(0.80, 0.70, 0.90, yardstick=0.85), NO_VERDICT, "too small to tell"),
        (score(0.80, 0.79, 0.81, yardstick=0.70), NO_VERDICT, "too small to tell"),
        (score(0.99, power="only 12 subjects"), NO_VERDICT, "only 12 subjects"),
        (score(math.nan), NO_VERDICT, "could not be computed"),
        (None, NO_VERDICT, "was not measured"),
    ],
)
def test_the_verdict_of_one_gate(one, expected, why):
    outcome = verdict([one] if one else [], {"fidelity.shape": {"min": 0.9}})
    assert outcome.verdict == outcome.rows[0].verdict == expected and why in outcome.rows[0].reason


@pytest.mark.parametrize(
    ("one", "bound", "said"),
    [
        (
            score(0.0142, 0.0121, 0.0173, 0.981, "fidelity.detection"), {"min": 0.1},
            "fidelity.detection is 0.0142 [0.0121, 0.0173], at least 0.1 is asked for: "
            "a classifier tells synthetic rows from real ones; a fresh real sample gets 0.981",
        ),
        (
            score(1300.0, yardstick=0.0, name="privacy.rare", better="low"), {"max": 0},
            "privacy.rare is 1,300, at most 0 is asked for: values came out that only a few people hold",
        ),
        (score(0.849999, 0.84, 0.86, 0.99), {"min": 0.85}, "fidelity.shape is 0.849999 [0.84, 0.86], at least 0.85 is asked for: it may be that columns"),
        (score(0.99), {"max": 0.9}, "fidelity.shape is 0.99 [0.99, 0.99], at most 0.9 is asked for; a fresh real sample gets 1"),
        (score(0.9, power="no trees"), {"min": 0.1}, "fidelity.shape (is each column distributed as the real one?) cannot be told: no trees"),
    ],
)  # fmt: skip
def test_reasons_are_in_plain_words(one, bound, said):
    row = verdict([one], {one.name: bound}).rows[0]
    assert row.reason.startswith(said)
    assert (row.min, row.max) == (bound.get("min"), bound.get("max"))


@pytest.mark.parametrize(("value", "said"), [(0.00001234, "0.0000123"), (1300.4, "1,300"), (-0.0, "0"), (0.1, "0.1"), (2.0, "2"), (-0.02345, "-0.0234")])
def test_figures_have_no_exponent(value, said):
    assert figure(value) == said


def test_the_contract_is_a_gate_too():
    broken = {"expectation": "expect_x", "column": "age", "success": False, "crashed": False}
    outcome = with_contract(verdict([], {}), {"source": {"expectations": []}, "synthetic": {"expectations": [broken]}})
    assert outcome.verdict == FAIL and outcome.rows[0].metric == "contract.synthetic" and outcome.rows[0].min is None
    assert outcome.reasons == ["the synthetic table breaks its contract: expect_x on age"]


def test_a_count_past_its_bound_fails_whatever_real_data_gets():
    count = score(3.0, yardstick=3.0, name="privacy.rare", better="low")
    assert verdict([count], {"privacy.rare": {"max": 0}}).verdict == FAIL


def test_the_worst_gate_decides_and_comes_first():
    scores = [score(0.95), score(0.5, name="fidelity.dependence"), score(1.0, name="fidelity.detection", power="no trees")]
    outcome = verdict(scores, {s.name: {"min": 0.9} for s in scores})
    assert outcome.verdict == FAIL and [r.verdict for r in outcome.rows] == [FAIL, NO_VERDICT, PASS]
    assert len(outcome.reasons) == 2 and outcome.to_json()["reasons"] == outcome.reasons
    assert verdict(scores[::2], {s.name: {"min": 0.9} for s in scores[::2]}).verdict == NO_VERDICT
