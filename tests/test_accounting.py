"""What is spent, against the exact curve of the Gaussian mechanism and the classical bound of zero-concentrated privacy."""

import math

import pytest
from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtr

from generators.data import DataError
from privacy.accounting import Steps, epsilon_of, noise_of, rho_of

CASES = [(0.001, 1e-6), (0.02, 1e-6), (0.02, 1e-9), (0.3, 1e-5), (4.0, 1e-5)]


def exact(rho: float, delta: float) -> float:
    """Of the Gaussian mechanism with mu = sqrt(2 rho): Improving the Gaussian mechanism for differential privacy; B. Balle, Y.-X. Wang; 2018; theorem 8."""
    mu = math.sqrt(2 * rho)
    left = lambda e: ndtr(mu / 2 - e / mu) - math.exp(e + log_ndtr(-mu / 2 - e / mu)) - delta  # noqa: E731
    return brentq(left, 0, 200)


@pytest.mark.parametrize(("rho", "delta"), CASES)
def test_between_the_exact_gaussian_and_the_classical_bound(rho, delta):
    found = epsilon_of(delta, rho)
    assert exact(rho, delta) <= found <= rho + 2 * math.sqrt(rho * math.log(1 / delta))
    assert found < 1.3 * exact(rho, delta)


@pytest.mark.parametrize(("rho", "delta"), CASES)
def test_steps_on_everybody_are_counts(rho, delta):
    """A step into which all come, with noise of s, is s^-2 / 2 of rho; and two halves are one whole."""
    steps = Steps(1 / math.sqrt(rho), 1.0, 2)
    assert epsilon_of(delta, 0.0, [steps]) == pytest.approx(epsilon_of(delta, rho), rel=1e-9)
    assert epsilon_of(delta, rho / 2, [steps._replace(count=1)]) == pytest.approx(epsilon_of(delta, rho), rel=1e-9)


def test_a_batch_of_few_spends_less():
    """Noise of 1.1, batches of 256 of 60,000, 60 passes, delta 1e-5: the tutorial of TensorFlow Privacy says 3.01, by an older and looser conversion."""
    spent = epsilon_of(1e-5, 0.0, [Steps(1.1, 256 / 60_000, 60 * 60_000 // 256)])
    assert 2.4 < spent < 3.01
    assert spent < epsilon_of(1e-5, 0.0, [Steps(1.1, 1.0, 60 * 60_000 // 256)]) / 50


@pytest.mark.parametrize(("epsilon", "delta"), [(0.1, 1e-6), (1, 1e-6), (3, 1e-6), (10, 1e-5), (50, 1e-5)])
def test_rho_is_the_most_that_is_allowed(epsilon, delta):
    rho = rho_of(epsilon, delta)
    assert epsilon_of(delta, rho) <= epsilon
    assert epsilon_of(delta, 1.0001 * rho) > epsilon


def test_nothing_costs_nothing():
    assert epsilon_of(1e-6) == 0


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-6, math.nan])
def test_bad_delta(delta):
    with pytest.raises(DataError, match=r"delta: found .*, expected a number between 0 and 1"):
        epsilon_of(delta, 0.1)


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.inf, math.nan])
def test_bad_epsilon(epsilon):
    with pytest.raises(DataError, match=r"epsilon: found .*, expected a number above 0"):
        rho_of(epsilon, 1e-6)


def test_steps_alike_add_up_at_once():
    """Of a fit each night, for years, and what they are together."""
    nights = [Steps(1.1, 0.01, 300)] * 2000 + [Steps(2.0, 0.02, 10)]
    assert epsilon_of(1e-6, 0.1, nights) == pytest.approx(epsilon_of(1e-6, 0.1, [Steps(2.0, 0.02, 10), Steps(1.1, 0.01, 600_000)]))
    assert epsilon_of(1e-6, 0.1, nights[:1]) < epsilon_of(1e-6, 0.1, nights[:2])


@pytest.mark.parametrize(("epsilon", "delta"), [(0.01, 1e-6), (0.03, 1e-9), (0.07, 1e-15)])
def test_the_smallest_promises_are_kept(epsilon, delta):
    rho = rho_of(epsilon, delta)
    noise = noise_of(epsilon, delta, rho / 2, 0.01, 100)
    assert 0.999 * epsilon < epsilon_of(delta, rho) <= epsilon
    assert 0.98 * epsilon < epsilon_of(delta, rho / 2, [Steps(noise, 0.01, 100)]) <= epsilon


def test_what_is_too_small_to_be_accounted_is_refused():
    with pytest.raises(DataError, match=r"epsilon: found 0\.001 at delta 1e-15, expected more"):
        rho_of(0.001, 1e-15)
    with pytest.raises(DataError, match=r"epsilon: found 0\.01 at delta 1e-15, expected more of either, or a generator that is not trained by steps"):
        noise_of(0.01, 1e-15, rho_of(0.01, 1e-15) / 2, 0.01, 100)
