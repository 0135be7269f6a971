"""Counts and choices under zero-concentrated differential privacy, of which every answer spends a share.

A count that one person changes by at most `rows` gets normal noise of sd = rows / sqrt(2 rho): rho-zCDP. A choice among scores that
one person changes by at most s is the highest of score + Gumbel noise of 2 s / sqrt(8 rho): the exponential mechanism, rho-zCDP. What
all answers spent is the sum of their rho. Counts are whole numbers and their noise is rounded, which takes nothing away.

Concentrated differential privacy: simplifications, extensions, and lower bounds; M. Bun, T. Steinke; 2016; https://arxiv.org/abs/1605.02065
Optimal differential privacy composition for exponential mechanisms; J. Dong, D. Durfee, R. Rogers; 2020; https://arxiv.org/abs/1909.13830
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from privacy.noise import gaussians, gumbels

SLACK = 1e-9  # by which shares may add up to more than 1, as floating-point numbers do


class Private:
    """A generators.base.Mechanism. rho: what all answers together may spend; rows: that one person has in the data, at most."""

    def __init__(self, rho: float, rows: int = 1):
        if not (rho > 0 and rows >= 1):
            raise ValueError(f"found rho {rho} and {rows} rows, expected rho above 0 and a row at least")
        self.rho, self.rows, self.rest = rho, rows, 1.0
        self.answers: list[tuple[str, float]] = []  # what each was, and the share that it took

    def sd(self, share: float) -> float:
        """The standard deviation of each count that this share buys."""
        return self.rows / math.sqrt(2 * self.rho * share)

    def counts(self, exact: Tensor, share: float) -> Tensor:
        """Raises ValueError where the share is no longer there."""
        self._take("counts", share)
        return exact + torch.from_numpy(np.rint(gaussians(exact.numel(), self.sd(share)))).reshape(exact.shape).to(exact.dtype)

    def choose(self, scores: Tensor, sensitivity: float, share: float) -> int:
        """Raises ValueError where the share is no longer there."""
        self._take("choice", share)
        scale = 2 * sensitivity * self.rows / math.sqrt(8 * self.rho * share)
        return int((scores.double() + torch.from_numpy(gumbels(len(scores), scale))).argmax())

    def _take(self, what: str, share: float) -> None:
        if not 0 < share <= self.rest + SLACK:
            raise ValueError(f"a share of {share:.3g} is asked for, of {self.rest:.3g} that are left")
        self.rest = self.rest - share if self.rest - share > SLACK else 0.0
        self.answers.append((what, share))
