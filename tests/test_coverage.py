"""Coverage finds what a generator left out: by hand, and on a table of three groups of which one never comes."""

import numpy as np
import planted
import pyarrow as pa
import pytest

from validation.coverage import coverage, covered, modes


def groups(rows: int, seed: int, shares=(0.5, 0.3, 0.2)):
    """Three groups far apart in three columns."""
    rng = np.random.default_rng(seed)
    which = rng.choice(3, rows, p=shares)
    values = {
        "x": pa.array(5.0 * which + rng.random(rows)),
        "y": pa.array(3.0 * (which == 1) + rng.random(rows)),
        "c": pa.array(np.array(["a", "b", "c"])[which]),
    }
    return planted.table(values, {"x": "numeric", "y": "numeric", "c": "category"})


def test_by_hand():
    """Rows 0 .. 9 on a line: the fifth neighbour of 0 is 5 away, of 4 it is 3 away."""
    real = np.arange(10.0)[:, None]
    assert covered(real, np.array([[-4.9]])).tolist() == [True, *[False] * 9]
    assert covered(real, np.array([[4.0], [100.0]])).tolist() == [abs(r - 4) <= far for r, far in zip(range(10), [5, 4, 3, 3, 3, 3, 3, 3, 4, 5], strict=True)]
    assert covered(real, real).all()


def test_a_lost_group_is_found_and_named():
    train, holdout, fresh = groups(3000, 0), groups(1000, 1), groups(3000, 2)
    good, collapsed = coverage(train, holdout, fresh), coverage(train, holdout, groups(3000, 3, (0.6, 0.4, 0.0)))
    assert good.value > 0.93 and good.yardstick > 0.93 and good.details["lost"] == 0
    assert collapsed.value == pytest.approx(0.8, abs=0.04) and collapsed.high < good.low
    lost = [m for m in collapsed.details["modes"] if m["synthetic"] == 0]
    assert collapsed.details["lost"] == len(lost) and sum(m["real"] for m in lost) == pytest.approx(0.2, abs=0.03)


def test_groups_of_few_people_are_not_shown():
    real = np.concatenate([np.zeros((95, 1)), np.full((5, 1), 9.0)]) + np.random.default_rng(0).random((100, 1)) * 1e-3
    assert all(m["real"] >= 0.1 for m in modes(real, np.arange(100), real, 10, 0))
    one_person = np.array([0] * 50 + list(range(1, 51)))
    assert len(modes(np.repeat([[0.0], [9.0]], 50, 0), one_person, real, 10, 0)) == 1
