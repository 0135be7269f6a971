"""Rates of success, and what is left of them when chance and plain statistics are taken away.

An attack that is right about 80 % of the people it was trained on has learned nothing about them if it is right about
80 % of strangers too. So every rate stands beside its control, and every figure has an interval.
"A unified framework for quantifying privacy risk in synthetic data" (Anonymeter), Giomi, Boenisch, Wehmeyer and
Tasnádi, 2023, https://arxiv.org/abs/2211.10459
"""

from __future__ import annotations

import math

from validation.resampling import NORMAL

MILD = 0.1  # a residual risk that no gate minds


def wilson(hits: float, trials: float, z: float = NORMAL) -> tuple[float, float]:
    """95 % interval of a rate hits / trials; (0, 1) without trials.

    (p + z²/2n ± z sqrt(p (1 - p) / n + z²/4n²)) / (1 + z²/n).
    "Probable inference, the law of succession, and statistical inference", Wilson, 1927, https://doi.org/10.1080/01621459.1927.10502953
    """
    if trials <= 0:
        return 0.0, 1.0
    p, scale = hits / trials, 1 + z * z / trials
    centre = (p + z * z / (2 * trials)) / scale
    half = z * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials)) / scale
    return max(0.0, centre - half), min(1.0, centre + half)


def residual(attack: float, control: float) -> float:
    """Residual risk (attack - control) / (1 - control): of what strangers keep secret, the share that members lose."""
    return (attack - control) / (1 - control) if control < 1 else 0.0


def residual_interval(attack: tuple[float, float], control: tuple[float, float], z: float = NORMAL) -> tuple[float, float]:
    """95 % interval of the residual risk of two rates given as (hits, trials).

    The residual risk is 1 - q / p, the ratio of the attacker's failures q = 1 - attack, p = 1 - control. MOVER-R puts
    the Wilson limits of both together: q/p has the upper limit (q p + sqrt((q p)² - Q)) / P, with Q = q_u (2 q - q_u) P
    and P = p_l (2 p - p_l); the lower limit likewise with q_l, p_u and a minus.
    "MOVER-R confidence intervals for ratios and products of two independently estimated quantities", Newcombe, 2016,
    https://doi.org/10.1177/0962280213502144
    """
    (q, q_low, q_high), (p, p_low, p_high) = (failures(*rate, z) for rate in (attack, control))

    def limit(edge: float, base: float, sign: int) -> float:
        square = base * (2 * p - base)
        root = math.sqrt(max(0.0, (q * p) ** 2 - edge * (2 * q - edge) * square))
        return 1 - (q * p + sign * root) / square if square > 0 else -float(sign)  # nothing can be said

    return max(-1.0, limit(q_high, p_low, 1)), min(1.0, limit(q_low, p_high, -1))


def powerless(attack: tuple[float, float], control: tuple[float, float]) -> str | None:
    """Why an attack tells nothing, from what it does with a verbatim copy, as (hits, trials); None where it tells something: it is surely better
    than with strangers, or it surely takes less than MILD, so that not even the training table itself would do harm by it."""
    low, high = residual_interval(attack, control)
    return None if low > 0 or high < MILD else f"on a verbatim copy its residual risk is {low:.2f} to {high:.2f}, so the table is too small to tell"


def failures(hits: float, trials: float, z: float) -> tuple[float, float, float]:
    """The rate of failures and its Wilson limits."""
    low, high = wilson(hits, trials, z)
    return 1 - hits / trials if trials else 1.0, 1 - high, 1 - low
