"""What all that was told adds up to: (epsilon, delta) of counts, choices and noisy gradient steps together.

Each has a curve of Renyi differential privacy over orders a: rho-zCDP is  a rho;  a step of DP-SGD, on a batch into which every person
comes with the same probability (Poisson), is the subsampled Gaussian's. Curves of one and the same people add up; Opacus turns them into
(epsilon, delta). Only people who are added or taken away count as neighbours.

Renyi differential privacy of the sampled Gaussian mechanism; I. Mironov, K. Talwar, L. Zhang; 2019; https://arxiv.org/abs/1908.10530
The discrete Gaussian for differential privacy; C. Canonne, G. Kamath, T. Steinke; 2020; https://arxiv.org/abs/2004.00010 (the conversion)
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from generators.data import DataError

ORDERS = [1 + x / 20 for x in range(1, 200)] + [float(x) for x in range(11, 64)] + [float(round(64 * 1.15**x)) for x in range(34)]
CLOSE_NOISE = 1e-3  # by which share of itself a noise is found
CLOSE = 1e-6  # by which share of itself a rho is found
LEAST = 1e-12  # rho
LOUDEST = 1e6  # noise, beyond which no more of it helps


class Steps(NamedTuple):
    """Steps of DP-SGD. noise: standard deviation of the noise over the norm that a person's gradient is clipped to; rate: of the batches"""

    noise: float
    rate: float
    count: int


@lru_cache(maxsize=4096)
def _of_one(noise: float, rate: float) -> np.ndarray:
    """The curve of one step, at ORDERS."""
    from opacus.accountants.analysis import rdp

    return np.array(rdp.compute_rdp(q=rate, noise_multiplier=noise, steps=1, orders=ORDERS))


def epsilon_of(delta: float, rho: float = 0.0, steps: Sequence[Steps] = ()) -> float:
    """What (epsilon, delta) rho and such steps on the same people spend together. Raises DataError for a delta outside (0, 1)."""
    from opacus.accountants.analysis import rdp

    if not 0 < delta < 1:
        raise DataError(f"delta: found {delta}, expected a number between 0 and 1, far below one over the number of people")
    if rho == 0 and not steps:
        return 0.0
    curve = np.array(ORDERS) * rho
    for noise, rate in sorted({s[:2] for s in steps}):
        curve = curve + _of_one(noise, rate) * sum(s.count for s in steps if s[:2] == (noise, rate))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the best order is the first or the last: what it says holds all the same
        told = np.isfinite(curve)  # of the largest orders too much for a floating-point number
        return max(float(rdp.get_privacy_spent(orders=np.array(ORDERS)[told], rdp=curve[told], delta=delta)[0]), 0.0)


def noise_of(epsilon: float, delta: float, rho: float, rate: float, count: int) -> float:
    """The least noise with which so many steps and rho together keep (epsilon, delta). Raises DataError where rho alone is too much, or no noise is enough."""
    if epsilon_of(delta, rho) >= epsilon:
        raise DataError(f"epsilon: found {epsilon}, of which all is spent before the first step, expected more")
    low, high = 0.0, 1.0
    while epsilon_of(delta, rho, [Steps(high, rate, count)]) > epsilon:
        low, high = high, 2 * high
        if high > LOUDEST:  # of so small a delta the accountant needs orders that it does not reach for steps
            raise DataError(f"epsilon: found {epsilon:g} at delta {delta:g}, expected more of either, or a generator that is not trained by steps")
    while high - low > CLOSE_NOISE * high:
        middle = (low + high) / 2
        low, high = (low, middle) if epsilon_of(delta, rho, [Steps(middle, rate, count)]) <= epsilon else (middle, high)
    return high


def rho_of(epsilon: float, delta: float) -> float:
    """The most zero-concentrated privacy loss that (epsilon, delta) allows. Raises DataError for an epsilon that is not above 0, or too small."""
    if not (epsilon > 0 and math.isfinite(epsilon)):
        raise DataError(f"epsilon: found {epsilon}, expected a number above 0; 1 is a strong promise, 10 a weak one")
    if epsilon_of(delta, LEAST) > epsilon:
        raise DataError(f"epsilon: found {epsilon:g} at delta {delta:g}, expected more: accountants do not reach so far down")
    low, high = LEAST, epsilon
    while epsilon_of(delta, high) <= epsilon:
        high *= 2
    while high - low > CLOSE * high:
        middle = (low + high) / 2
        low, high = (middle, high) if epsilon_of(delta, middle) <= epsilon else (low, middle)
    return low
