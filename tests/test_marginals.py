"""Marginals: what it is asked to count it has, and nothing reaches it but what a mechanism tells."""

import json

import pytest
import torch
from tables import chained, rng

from generators.columns import Columns
from generators.exact import Exact
from generators.layout import Field, Given, Layout
from generators.marginals import Marginals
from privacy.mechanism import Private

CUTS = tuple(torch.special.ndtri(torch.arange(1, 100) / 100).tolist())
MIXED = Layout((Field(3), Field(2), Field(gate=1, cuts=CUTS), Field(4), Field(cuts=CUTS)))
DISCRETE = Layout((Field(3), Field(2), Field(4), Field(2)))


def test_columns_come_back_as_they_were():
    layout = Layout((Field(3), Field(2), Field(gate=1, cuts=CUTS), Field(3), Field(4, gate=3), Field(5, gate=3), Field(cuts=CUTS)))
    x, columns = chained(layout, 2000), Columns(layout, 10)
    values = columns.encode(x)
    assert columns.sizes[:2] == [3, 1 + 10]  # a gate's other class and 10 bins are one column
    assert columns.sizes[2:4] == [2 + 4, 1 + 5]  # those that switch it off and the classes of the first that it gates; off, and those of the second
    assert (values >= 0).all() and (values < torch.tensor(columns.sizes)).all()
    back = columns.decode(values, rng())
    assert torch.equal(columns.encode(back), values)
    assert torch.equal(back[:, layout.discrete], x[:, layout.discrete])


def test_counts_that_were_taken_come_out():
    """Of a chain every pair of neighbours, and all else as it follows from those."""
    x = chained(DISCRETE, 20_000)
    model = Marginals(DISCRETE).fit(x[2000:], x[:2000], rng=rng())
    drawn = model.sample(50_000, rng=rng())
    for a, b in ((0, 1), (1, 2), (2, 3), (0, 3)):
        share = [torch.bincount((v[:, a] * 4 + v[:, b]).long(), minlength=16) / len(v) for v in (x, drawn)]
        assert (share[0] - share[1]).abs().max() < 0.01


def test_probabilities_of_all_rows_add_up_to_one():
    model = Marginals(DISCRETE).fit(chained(DISCRETE, 3000), chained(DISCRETE, 300, seed=1), rng=rng())
    rows = torch.cartesian_prod(*[torch.arange(float(f.classes)) for f in DISCRETE.fields])
    assert float(model.log_prob(rows).exp().sum()) == pytest.approx(1, abs=1e-5)


def test_what_a_gate_switches_off_is_off_and_all_else_is_on():
    """Two fields behind one gate, as the digits of a column of very many values: no probability is lost, and none goes where nothing can be."""
    layout = Layout((Field(3), Field(4, gate=0), Field(5, gate=0), Field(2)))
    x = chained(layout, 5000)
    model = Marginals(layout, order=1).fit(x[500:], x[:500], rng=rng())
    rows = torch.unique(torch.cartesian_prod(*[torch.arange(float(f.classes)) for f in layout.fields]), dim=0)
    rows = torch.unique(rows * layout.active(rows), dim=0)
    assert float(model.log_prob(rows).exp().sum()) == pytest.approx(1, abs=1e-5)
    drawn = model.sample(20_000, rng=rng())
    on = [v[v[:, 0] == 0][:, 2].long() for v in (x, drawn)]
    share = [torch.bincount(v, minlength=5) / len(v) for v in on]
    assert (share[0] - share[1]).abs().max() < 0.03


class Deaf(Exact):
    """A mechanism that never listens: the same answers whatever the data."""

    def __init__(self):
        self.asked = []

    def counts(self, exact, share):
        self.asked.append(tuple(exact.shape))
        return super().counts(torch.arange(exact.numel(), dtype=torch.double).reshape(exact.shape) % 7 * 10, share)

    def sd(self, share):
        return 2.0

    def choose(self, scores, sensitivity, share):
        assert sensitivity > 0
        super().choose(scores, sensitivity, share)
        return len(scores) // 2


def test_nothing_reaches_the_model_but_what_the_mechanism_tells():
    """Two tables of other people, and of another number of them, give the very same model, bit for bit, and the very same report."""
    found = []
    for n, seed in ((500, 0), (900, 5)):
        ask, lines = Deaf(), []
        model = Marginals(MIXED).fit(chained(MIXED, n, seed), torch.zeros(0, len(MIXED)), rng=rng(), log=lines.append, mechanism=ask)
        found.append((ask.asked, lines, json.dumps(model.structure()), model.state_dict(), model.sample(100, rng=rng())))
    one, other = found
    assert one[:3] == other[:3]
    assert len(one[0]) > 5  # all rows, columns alone, and then together
    assert one[3].keys() == other[3].keys()
    assert all(torch.equal(v, other[3][k]) for k, v in one[3].items())
    assert torch.equal(one[4], other[4])


@pytest.mark.parametrize("rho", [1.0, 0.02, 1e-5])
def test_the_whole_budget_is_spent_and_no_more(rho):
    """Under any noise: shares add up to one, rows are rows of the layout, and with little noise what depends on each other does so still."""
    mechanism, x = Private(rho), chained(MIXED, 5000)
    model = Marginals(MIXED).fit(x, x[:0], rng=rng(), mechanism=mechanism)
    assert mechanism.rest == pytest.approx(0, abs=1e-9)
    assert sum(share for _, share in mechanism.answers) == pytest.approx(1)
    kinds = [kind for kind, _ in mechanism.answers]
    assert kinds[:5] == ["counts"] * 5  # all rows, and each of four columns
    assert kinds[5:] == ["choice", "counts"] * (len(kinds[5:]) // 2)
    drawn = model.sample(5000, rng=rng())
    assert torch.isfinite(drawn).all()
    assert (drawn[~MIXED.active(drawn)] == 0).all()
    if rho == 1.0:
        assert (torch.corrcoef(x.t()) - torch.corrcoef(drawn.t())).abs().max() < 0.08


def test_what_is_given_comes_out_and_bends_the_rest():
    x = chained(DISCRETE, 20_000)
    model = Marginals(DISCRETE).fit(x[2000:], x[:2000], rng=rng())
    asked = torch.zeros(4000, 4)
    asked[:, 2] = torch.arange(4000) % 4
    drawn = model.sample(4000, Given(asked, torch.tensor([False, False, True, False])), rng=rng())
    assert torch.equal(drawn[:, 2], asked[:, 2])
    for v in range(4):
        share = [torch.bincount(rows[rows[:, 2] == v, 1].long(), minlength=2) / (rows[:, 2] == v).sum() for rows in (x, drawn)]
        assert (share[0] - share[1]).abs().max() < 0.05


@pytest.mark.parametrize("wrong", [{"bins": 0}, {"order": 6}, {"cells": 0}, {"rounds": 0}])
def test_bad_arguments(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Marginals(MIXED, **wrong)
