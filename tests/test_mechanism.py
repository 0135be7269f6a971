"""Noise and choices under differential privacy: what they spend, how far off they are, and that no seed controls them."""

import math

import numpy as np
import pytest
import torch

from generators.exact import Exact
from privacy.mechanism import Private
from privacy.noise import gaussians, gumbels, uniforms


def test_uniforms_are_even_and_never_the_ends():
    u = uniforms(200_000)
    assert 0 < u.min() < u.max() < 1
    assert abs(u.mean() - 0.5) < 5 / math.sqrt(12 * len(u))
    counts = np.bincount((u * 20).astype(int), minlength=20)
    assert ((counts - 10_000) ** 2 / 10_000).sum() < 50  # chi-square of 19 degrees: once in 7,000 times


def test_noise_has_the_spread_that_it_says():
    g, n = gaussians(200_000, 7.0), 200_000
    assert abs(g.mean()) < 5 * 7 / math.sqrt(n)
    assert abs(g.std() / 7 - 1) < 5 / math.sqrt(2 * n)
    assert abs((np.abs(g) > 1.96 * 7).mean() - 0.05) < 0.0025
    x = gumbels(n, 2.0)
    assert abs(x.mean() - 2 * 0.5772) < 5 * 2 * 1.2826 / math.sqrt(n)
    assert abs((x <= 0).mean() - math.exp(-1)) < 0.006


def test_no_seed_controls_the_noise():
    def told():
        torch.manual_seed(0)
        np.random.seed(0)
        return Private(0.1).counts(torch.zeros(64, dtype=torch.double), 0.5)

    assert not torch.equal(told(), told())


@pytest.mark.parametrize("rows", [1, 3])
def test_counts_are_as_far_off_as_their_share_buys(rows):
    mechanism, exact = Private(0.02, rows), torch.full((100_000,), 50.0, dtype=torch.double)
    noise = mechanism.counts(exact, 0.25) - exact
    assert mechanism.sd(0.25) == pytest.approx(rows / math.sqrt(2 * 0.02 * 0.25))
    assert torch.equal(noise, noise.round())
    assert abs(float(noise.std()) / mechanism.sd(0.25) - 1) < 0.015
    assert mechanism.rest == 0.75


def test_a_choice_is_the_exponential_mechanism():
    """Of two scores, P(first) = logistic(eps (a - b) / (2 s rows)), with eps^2 / 8 = rho share."""
    rho, share, gap, rows = 0.5, 1e-4, 3.0, 2
    mechanism = Private(rho, rows)
    eps = math.sqrt(8 * rho * share)
    chosen = [mechanism.choose(torch.tensor([gap * 40, 0.0]), 5.0, share) for _ in range(5000)]
    expected = 1 / (1 + math.exp(-eps * gap * 40 / (2 * 5.0 * rows)))
    assert abs(chosen.count(0) / 5000 - expected) < 5 * math.sqrt(expected * (1 - expected) / 5000)


def test_no_more_is_told_than_the_budget_allows():
    mechanism = Private(1.0)
    mechanism.counts(torch.zeros(3), 0.6), mechanism.choose(torch.zeros(3), 1.0, 0.4)
    assert mechanism.answers == [("counts", 0.6), ("choice", 0.4)]
    with pytest.raises(ValueError, match=r"a share of 0\.01 is asked for, of 0 that are left"):
        mechanism.counts(torch.zeros(3), 0.01)
    with pytest.raises(ValueError, match="a share of 0 is asked for"):
        Private(1.0).counts(torch.zeros(3), 0.0)
    for rho, rows in ((0.0, 1), (-1.0, 1), (math.nan, 1), (1.0, 0)):
        with pytest.raises(ValueError, match="expected rho above 0, a row at least, and delta from 0 to 1"):
            Private(rho, rows)


def test_without_privacy_answers_are_exact():
    exact = torch.arange(5.0)
    assert torch.equal(Exact().counts(exact, 0.1), exact)
    assert Exact().choose(exact, 1.0, 0.1) == 4
    assert Exact().sd(0.1) == 0
