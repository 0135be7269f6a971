"""The autoregressive family against exact oracles: it sums to one, samples what it states, and conditions as it states."""

import itertools

import pytest
import torch
from tables import rng
from test_generators import DISCRETE, MIXED, data

from generators.autoregressive import Autoregressive
from generators.heads import spread
from generators.layout import Given

EVERY = torch.tensor(list(itertools.product(range(3), range(2), range(5))), dtype=torch.float32)


@pytest.fixture(scope="module")
def model() -> Autoregressive:
    return Autoregressive(DISCRETE, passes=40, width=32, ordered=0.5).fit(data(DISCRETE), data(DISCRETE, 300, seed=1), rng=rng())


def shares(x: torch.Tensor) -> torch.Tensor:
    """How often each row of EVERY comes."""
    return (x[:, None] == EVERY).all(2).double().mean(0)


def test_probabilities_sum_to_one(model):
    assert float(model.log_prob(EVERY).exp().sum()) == pytest.approx(1, abs=1e-5)


def test_a_class_that_is_drawn_first_is_as_frequent_as_in_all_rows(model):
    rows = torch.cat([data(DISCRETE), data(DISCRETE, 300, seed=1)])[:, 0]
    assert model.log_prob(EVERY).exp().view(3, -1).sum(1) == pytest.approx(((torch.bincount(rows.long()) + 0.5) / (len(rows) + 1.5)).numpy(), abs=1e-5)


def test_samples_are_what_it_states(model):
    n = 60_000
    difference = shares(model.sample(n, rng=rng(1))) - model.log_prob(EVERY).exp()
    assert difference.abs().max() < 4 * (0.25 / n) ** 0.5


def test_a_condition_draws_from_the_distribution_given_it(model):
    """p(a, b | c) by Bayes from the joint, though c stands last."""
    values = torch.tensor([0.0, 0.0, 3.0]).repeat(40_000, 1)
    x = model.sample(40_000, Given(values, torch.tensor([False, False, True])), rng=rng(2))
    stated = model.log_prob(EVERY).exp() * (EVERY[:, 2] == 3)
    assert (x[:, 2] == 3).all()
    assert (shares(x) - stated / stated.sum()).abs().max() < 0.01


def test_any_order_agrees_with_the_layouts_order_on_what_it_learned(model):
    """p(a | c) by Bayes from the joint, against the network's own: the same data, learned in two ways."""
    joint = model.log_prob(EVERY).exp().view(3, 2, 5)
    by_bayes = joint.sum(1) / joint.sum((0, 1))
    values = torch.tensor([[0.0, 0.0, float(c)] for c in range(5)])
    sees = torch.tensor([[[0.0, 0.0, 1.0]] * 3])
    with torch.no_grad():
        codes = model.codes.encode(values)
        own = torch.nn.functional.linear(model.net(torch.nn.functional.embedding(codes, model.values.vectors()), sees)[:, 0], *model.values.heads()[0]).softmax(
            1
        )
    assert (own.t() - by_bayes).abs().max() < 0.06


def test_rows_that_are_alike_get_evenly_spread_numbers():
    p = torch.tensor([[0.2, 0.3, 0.5]]).repeat(1000, 1)
    counts = torch.bincount(spread(p, 0.3), minlength=3)
    assert (counts - torch.tensor([200, 300, 500])).abs().max() <= 3
    two = torch.cat([p, torch.tensor([[0.9, 0.05, 0.05]]).repeat(1000, 1)])
    counts = torch.bincount(spread(two, 0.3)[1000:], minlength=3)
    assert (counts - torch.tensor([900, 50, 50])).abs().max() <= 3


def test_values_without_probability_never_come():
    p = torch.zeros(5000, 4)
    p[:, 2] = 1
    assert (spread(p, 0.3) == 2).all()


def test_minutes_end_the_training():
    short = Autoregressive(MIXED, passes=100_000, minutes=0.01, width=32).fit(data(MIXED), data(MIXED, 300, seed=1), rng=rng())
    assert len(short.curve[0]["held_out"]) < 10_000
