"""Passages of one person's series: the surprise of one by hand, copies and orders of events that must be caught, fresh series that must pass."""

import longitudinal
import numpy as np
import pyarrow as pa
import pytest

from generators.data import Table
from pipelines.gates import METRICS
from privacy.passages import View, chance, farthest, surprise


def judged(*tables: Table) -> float:
    return METRICS["privacy.passages"](*tables).value


def ordered(people: int, seed: int) -> dict:
    """Eight events each, always in the order of the alphabet, and a number."""
    rng = np.random.default_rng(seed)
    events = np.sort(rng.choice(list("abcd"), (people, 8)), axis=1)
    who, when = np.repeat(np.arange(people), 8) + 10_000 * seed, np.tile(np.arange(8), people)
    return {"who": who, "when": when, "event": events, "x": rng.integers(0, 10, 8 * people)}


def table(columns: dict) -> Table:
    return longitudinal.of(columns | {"event": columns["event"].reshape(-1)}, {"event": "category"})


def with_copies(train: Table, fresh: Table, copies: int, noise: float = 0.0) -> Table:
    """Fresh series of which some are training series instead, their numbers blurred by so much of their spread."""
    ours, theirs = train.take(train.subjects < copies), fresh.take(fresh.subjects >= copies)
    values = pa.concat_tables([ours.values, theirs.values])
    marker = values.column("marker").to_numpy().copy()
    marker[: len(ours)] += noise * np.nanstd(marker) * np.random.default_rng(0).normal(size=len(ours))
    who = np.concatenate([ours.subjects + 10**6, theirs.subjects])
    values = values.set_column(values.schema.get_field_index("marker"), "marker", pa.array(marker, from_pandas=True))
    return Table(values.set_column(0, values.schema.field(0), pa.array(who)), fresh.schema)


def test_surprise_by_hand():
    """Four people, of whom the last alone goes from 1 to 0; what is said of a person's step is counted of the others."""
    view = View(np.array([[0, 1, 0, 1, 0, 1, 1, 0, 1, 0]]), np.array([0, 0, 1, 1, 2, 2, 3, 3, 3, 3]), (False,))
    first, later = surprise(view)
    assert first[0] == pytest.approx(-np.log((4 + 0.5) / (8 + 1)))  # 4 of the others' 8 steps are 0
    moved = (5 + 0.5) / (5 + 1)  # all of the others' 5 steps are to another value, and there is but one
    assert later[1] == pytest.approx(-np.log((3 + moved) / (3 + 1)))  # the others that leave 0 go to 1, thrice
    moved = (3 + 0.5) / (3 + 1)
    assert later[7] == pytest.approx(-np.log((0 + moved) / (0 + 1)))  # no other leaves 1
    assert later[0] == 0
    assert later[9] == pytest.approx(-np.log((1 + moved) / (1 + 1)))  # once at 1 before, and went to 0 then
    numbers = surprise(View(view.codes * 3 + 1, view.subjects, (True,)))[1]
    assert numbers[7] == pytest.approx(-np.log((0 + (0 + 0.5) / (3 + 1)) / (0 + 1)))  # no other goes down by 3
    gone = surprise(View(np.array([[1, 0, 2, 0, 3, 0, 9, 0]]), np.array([0, 0, 1, 1, 2, 2, 3, 3]), (True,)))[1]
    assert gone[7] == pytest.approx(-np.log((0 + (3 + 0.5) / (3 + 1)) / (0 + 1)))  # nobody else was at 9; all others went to nothing
    many = surprise(View(np.array([[0, 1, 0, 2, 0, 3, 0, 4]]), np.array([0, 0, 1, 1, 2, 2, 3, 3]), (False,)))[1]
    share, half = (0 + 0.5) / (6 + 0.5 * 5), (3 + 0.5) / (6 + 0.5 * 5)  # of 4, and of 0, with others
    assert many[7] == pytest.approx(-np.log((0 + 4 * (3 + 0.5) / (3 + 1) * share / (1 - half)) / (3 + 4)))  # four different steps from 0


def test_only_passages_of_few_that_came_out_count():
    steps = np.array([[0, 1, 2, 3, 0, 1, 0, 1, 3, 2, 0, 3]])
    real = View(steps, np.array([0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 3, 3]), (False,))
    fake = View(np.array([[2, 3, 0, 1]]), np.array([0, 0, 0, 0]), (False,))
    first, later = surprise(real)
    over = max(np.log(0.25 / np.exp(-first[8:]).mean()), 0)  # of the four last steps of fake each is one
    far = farthest(real, fake, strangers=3, rare_below=3)
    assert far[0] == pytest.approx(first[2] + later[3] - 2 * over)  # 2, 3; not 0, 1, which three people hold
    assert far[1] == far[2] == 0


def test_chance_by_hand():
    """Of 100 strangers eleven come 10 far or farther: those fall off by 2 in the mean, and of 100 people one in a hundred times comes beyond what that says."""
    control = np.r_[np.zeros(50), np.full(39, 9.0), np.full(10, 12.2), 10.0]
    assert chance(control, 100, 1.0, 1) == pytest.approx(10 + 2 * (1 + 1.64 / 11**0.5) * np.log(11 * 100))
    assert chance(control, 100, 1e30, 2) == pytest.approx(np.log(1e30 * 2 * 100))
    assert chance(np.zeros(100), 100, 1e9, 1) == pytest.approx(np.log(1e9 * 100))


@pytest.mark.parametrize(("copies", "noise", "least"), [(1, 0.0, 1), (5, 0.0, 4), (20, 0.02, 4)])
def test_copied_patients_are_counted(copies, noise, least):
    train, holdout, fresh = (longitudinal.visits(n, s) for n, s in ((400, 0), (300, 1), (400, 2)))
    assert judged(train, holdout, with_copies(train, fresh, copies, noise)) >= least


def test_an_order_of_common_events_that_one_patient_alone_has_is_caught():
    train, holdout, fresh = ordered(400, 1), ordered(300, 2), ordered(400, 3)
    train["event"][7] = list("dcbadcba")
    assert judged(table(train), table(holdout), table(fresh)) == 0
    fresh["event"][0] = list("dccbadcb")  # lasting as long as they like
    assert judged(table(train), table(holdout), table(fresh)) == 1


def test_fresh_series_pass_in_all_of_forty():
    """By its construction one in a hundred is to be called too much."""
    kinds = [lambda n, s: longitudinal.visits(n, s)] * 30 + [lambda n, s: longitudinal.signals(n, seed=s)] * 10
    found = [judged(*(make(n, 100 * s + i) for i, n in enumerate((300, 200, 300)))) for s, make in enumerate(kinds)]
    assert sum(v > 0 for v in found) <= 2, found


def test_series_of_one_column_and_of_one_step_are_judged():
    one, other, fresh = (
        longitudinal.of({"who": np.arange(120), "when": np.zeros(120), "x": np.random.default_rng(seed).normal(size=120)}, {}) for seed in range(3)
    )
    assert judged(one, other, fresh) == 0  # one number of a person says too little to tell it from chance
