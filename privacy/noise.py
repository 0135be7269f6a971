"""Noise that nobody can foretell: from the operating system's secure stream, which no seed controls."""

from __future__ import annotations

import os

import numpy as np
from scipy.special import ndtri

BITS = 53  # of a uniform number


def uniforms(n: int) -> np.ndarray:
    """(n,) float64 strictly within 0 and 1, the middles of 2^53 equal stretches."""
    return ((np.frombuffer(os.urandom(8 * n), dtype=np.uint64) >> np.uint64(64 - BITS)) + 0.5) / 2**BITS


def gaussians(n: int, sd: float) -> np.ndarray:
    """(n,) normal numbers."""
    return sd * ndtri(uniforms(n))


def gumbels(n: int, scale: float) -> np.ndarray:
    """(n,) numbers of the distribution exp(-exp(-x / scale))."""
    return -scale * np.log(-np.log(uniforms(n)))
