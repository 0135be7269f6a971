"""Audits: the bound holds for mechanisms whose epsilon is known, and finds those that break their promise."""

import math

import numpy as np
import pytest
import torch
from tables import rng

from generators.layout import Field, Layout
from generators.marginals import Marginals
from privacy.accounting import epsilon_of
from privacy.audit import lower_bound
from privacy.mechanism import Private

LAYOUT = Layout((Field(3), Field(4), Field(5)))
CANARY = torch.tensor([[2.0, 3.0, 4.0]])
MODELS = 160


def test_rates_worked_out_by_hand():
    """Nobody is wrong in 50: rates of at least .929 and at most .071 (Clopper and Pearson at 95 %)."""
    present, absent = np.arange(100) + 1000.0, np.arange(100) * 1.0
    assert lower_bound(present, absent, 0.0) == pytest.approx(math.log(0.92887 / 0.07113), abs=1e-3)
    assert lower_bound(absent, present, 0.0) == pytest.approx(math.log(0.92887 / 0.07113), abs=1e-3)  # told by low scores as well
    assert lower_bound(present, absent, 0.5) == pytest.approx(math.log((0.92887 - 0.5) / 0.07113), abs=1e-3)
    assert lower_bound(np.zeros(100), np.zeros(100), 0.0) == 0
    with pytest.raises(ValueError, match="found 3 models with the canary and 100 without, expected at least 4 of each"):
        lower_bound(np.zeros(3), np.zeros(100), 0.0)


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 2.0])
def test_a_mechanism_that_keeps_its_promise_is_not_accused_and_one_that_does_not_is(epsilon):
    """Randomised response: a coin says the truth with probability e^epsilon / (1 + e^epsilon), which is epsilon exactly."""
    stream, n, accused = np.random.default_rng(0), 4000, 0
    truth = math.exp(epsilon) / (1 + math.exp(epsilon))
    found = [lower_bound((stream.random(n) < truth) * 1.0, (stream.random(n) >= truth) * 1.0, 0.0) for _ in range(40)]
    accused = sum(f > epsilon for f in found)
    assert accused <= 5  # of 40 at 95 %: more than five come once in 500 times
    assert np.median(found) > 0.7 * epsilon
    assert np.median(found) > epsilon / 2  # so one that promises half of that is found out


def scores(rho: float, drowned: float) -> tuple[np.ndarray, np.ndarray]:
    """How probable the canary's values, which nobody else has, are to models that learned it and to others. drowned: so many times less noise than rho says."""
    x = torch.stack([torch.randint(0, 2, (300,), generator=rng(i)).float() for i in range(3)], 1)

    def score(rows: torch.Tensor, i: int) -> float:
        model = Marginals(LAYOUT).fit(rows, x[:0], rng=rng(i), mechanism=Private(rho * drowned**2))
        return sum(float(model.tree.marginal(list(model.beliefs), (j,))[int(CANARY[0, j])].log()) for j in range(3))

    return np.array([score(torch.cat([x, CANARY]), i) for i in range(MODELS)]), np.array([score(x, i) for i in range(MODELS)])


@pytest.mark.slow
@pytest.mark.parametrize("drowned", [1.0, 100.0], ids=["as promised", "a hundred times too little noise"])
def test_marginals_lose_no_more_than_they_say_or_are_found_out(drowned):
    rho, delta = 0.005, 1e-6
    found, claimed = lower_bound(*scores(rho, drowned), delta), epsilon_of(delta, rho)
    print(f"measured at least {found:.2f}, claimed {claimed:.2f}")
    assert (found > claimed) == (drowned > 1)
