"""Attacks that say who was in the training table: each a function (Nearness) -> score, higher = more likely a member.

x is a candidate, S the synthetic rows, R reference rows of the same population that are in neither table.
d is the distance of validation.features.Features.space.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from privacy.nearness import nearest

NEIGHBOURS = 8


class Nearness(NamedTuple):
    """What an attack may look at: distances, near to far, of n candidates."""

    synthetic: np.ndarray  # (n, k) to the nearest synthetic rows
    reference: np.ndarray  # (n, k) to the nearest reference rows
    density: np.ndarray  # (n, k) log of the reference density at each of those synthetic rows, up to a constant
    width: float  # in units of d: a distance that one candidate in fifty has a stranger within
    bandwidth: float  # of that density: width / 3
    rows: int  # of R


def look(x: np.ndarray, reference: tuple[np.ndarray, np.ndarray], rows: np.ndarray, rows_reference: np.ndarray, width: float) -> Nearness:
    """Find the neighbours of the candidates x; those among the reference rows are already known."""
    bandwidth = width / 3
    near, at = nearest(x, rows, NEIGHBOURS, np.float32)
    used, back = np.unique(at, return_inverse=True)
    near_reference = nearest(rows[used], rows_reference, NEIGHBOURS, np.float32)[0]
    density = np.logaddexp.reduce(-np.square(near_reference / bandwidth) / 2, axis=1) - np.log(len(rows_reference))
    return Nearness(near, reference[0], density[back.reshape(at.shape)], width, bandwidth, len(rows_reference))


def dcr(near: Nearness) -> np.ndarray:
    """-min_S d(x, .): near to a synthetic row.

    "GAN-Leaks: a taxonomy of membership inference attacks against generative models", Chen, Yu, Zhang and Fritz, 2020,
    https://arxiv.org/abs/1909.03935 (the full black box)
    """
    return -near.synthetic[:, 0]


def dcr_difference(near: Nearness) -> np.ndarray:
    """min_R d(x, .) - min_S d(x, .): nearer to the synthetic rows than to strangers.

    "GAN-Leaks", as above, calibrated by the reference rows instead of a reference model.
    """
    return near.reference[:, 0] - near.synthetic[:, 0]


def domias(near: Nearness) -> np.ndarray:
    """log p_S(x) - log p_R(x) up to a factor: log min_R d(x, .) - log min_S d(x, .), local overfitting.

    Both densities are nearest-neighbour estimates, p(x) ~ 1 / (rows d_1(x)^m): they see a verbatim copy, which a
    kernel wide enough for many columns does not.
    "Membership inference attacks against synthetic data through overfitting detection" (DOMIAS), van Breugel, Sun,
    Qian and van der Schaar, 2023, https://arxiv.org/abs/2302.12580
    """
    return np.log(near.reference[:, 0] + 1e-9) - np.log(near.synthetic[:, 0] + 1e-9)


def local_count(near: Nearness) -> np.ndarray:
    """#{s in S: d(x, s) <= width}, at most 8: synthetic rows where hardly any stranger is.

    "Monte Carlo and reconstruction membership inference attacks against generative models", Hilprecht, Härterich and
    Bernau, 2019, https://petsymposium.org/popets/2019/popets-2019-0067.pdf
    """
    return (near.synthetic <= near.width).sum(1).astype(float)


def gen_lra(near: Nearness) -> np.ndarray:
    """sum over the k nearest s of log[(n + K_h(s - x) / p_R(s)) / (n + 1)], n = |R|: how much x explains of S.

    K is Gaussian with h = width / 3; p_R(s) is at least that of one reference row 2 h away, so that no s far from
    everybody outweighs the rest.
    "Privacy auditing synthetic data release through local likelihood attacks" (Gen-LRA), Ward, Wang and Cheng, 2025,
    https://arxiv.org/abs/2508.21146: the likelihood of the synthetic rows near x with and without x among the reference
    """
    log_kernel, n = -np.square(near.synthetic / near.bandwidth) / 2, near.rows
    density = np.maximum(near.density, -2 - np.log(n))
    return (np.logaddexp(np.log(n), log_kernel - density) - np.log(n + 1)).sum(1)


def dpi(near: Nearness) -> np.ndarray:
    """#S / #R among the 8 nearest of S and R together, as the number of S: what the neighbourhood is made of.

    "Data plagiarism index: characterizing the privacy risk of data-copying in tabular generative models" (DPI), Ward, Wang and
    Cheng, 2024, https://arxiv.org/abs/2406.13012
    """
    both = np.concatenate([near.synthetic, near.reference], axis=1)
    first = np.argsort(both, axis=1, kind="stable")[:, :NEIGHBOURS]
    return (first < near.synthetic.shape[1]).sum(1).astype(float)


ATTACKS = {"dcr": dcr, "dcr_difference": dcr_difference, "domias": domias, "local_count": local_count, "gen_lra": gen_lra, "dpi": dpi}
