"""The judge of rows that were asked for by a condition."""

import numpy as np
import planted
import pytest

from generators.data import DataError
from pipelines.gates import DEFAULTS, METRICS, gates
from validation.condition import said


def test_rows_under_a_condition_are_judged_by_the_real_ones_that_meet_it():
    """The dead are older and sicker: the right rows for them pass, and rows of anybody that were only called dead do not."""
    train, holdout, fresh = (planted.patients(n, seed) for n, seed in ((3000, 0), (1500, 1), (6000, 2)))
    died = np.array(fresh.column("died").to_pylist())
    right = fresh.take(np.r_[np.flatnonzero(died)[:400], np.flatnonzero(~died)[:400]])
    wrong = planted.put(fresh.take(np.arange(800)), died=np.arange(800) < 400)
    judge, bound = METRICS["fidelity.condition"], DEFAULTS["fidelity.condition"]["min"]
    good, bad = (judge(train, holdout, t, given=("died",)) for t in (right, wrong))
    assert good.value > 0.93 > good.value - 0.06 > bad.value and good.low <= good.value <= good.high
    assert good.details["groups"] == good.details["judged"] == 2
    one = judge(train, holdout, right.take(np.arange(400)), given=("died", "smoker"))
    assert one.value > bound and one.details["groups"] == 3  # smokers, others, and those of whom it is not known
    rare = judge(train.take(np.arange(300)), holdout.take(np.arange(180)), right, given=("ward",))  # four wards, of which two are small
    assert 0 < rare.details["judged"] < rare.details["groups"]
    assert said(rare.details).startswith(f"judged in {rare.details['judged']} of {rare.details['groups']} classes; in the others fewer than 50")
    assert said(good.details) == "judged" and said(None).startswith("not judged: fewer than 50")
    few = judge(train.take(np.arange(60)), holdout.take(np.arange(60)), right, given=("died", "ward"))
    assert few.power and "50" in few.power


def test_a_condition_is_judged_only_where_one_is_asked_for():
    schema = planted.patients(1, 0).schema
    assert "fidelity.condition" not in gates(schema) and "fidelity.condition" in gates(schema, {}, ["ward"])
    with pytest.raises(DataError, match=r"fidelity\.condition needs sample"):
        gates(schema, {"fidelity.condition": {"min": 0.5}})
