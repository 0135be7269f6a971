"""Counts and choices under differential privacy, of which every answer spends a share.

A count that one person changes by at most `rows` gets normal noise of sd = rows / sqrt(2 rho): rho-zCDP. A choice among scores that
one person changes by at most s is the highest of score + Gumbel noise of 2 s / sqrt(8 rho): the exponential mechanism, rho-zCDP. Values
that nobody knew beforehand are told if their number of people, with noise, reaches 1 + sd z: a person has `rows` of them at most, so one
that is his alone is told with a probability of at most delta, where z = Phi^-1(1 - delta / rows). What all answers spent is the sum of
their rho and of their delta. A step of a training is told a sum over a batch into which every row comes by the same chance, with normal
noise; what all steps spend beside is what accounting.py says of them. Counts are whole numbers and their noise is rounded, which takes nothing away.

Concentrated differential privacy: simplifications, extensions, and lower bounds; M. Bun, T. Steinke; 2016; https://arxiv.org/abs/1605.02065
Optimal differential privacy composition for exponential mechanisms; J. Dong, D. Durfee, R. Rogers; 2020; https://arxiv.org/abs/1909.13830
Releasing search queries and clicks privately; A. Korolova, K. Kenthapadi, N. Mishra, A. Ntoulas; 2009; https://doi.org/10.1145/1526709.1526733
Differentially private set union; S. Gopi, P. Gulhane, J. Kulkarni, J. Shen, M. Shokouhi, S. Yekhanin; 2020; https://arxiv.org/abs/2002.09745
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor

from privacy.accounting import Steps
from privacy.noise import gaussians, gumbels, uniforms

SLACK = 1e-9  # by which shares may add up to more than 1, as floating-point numbers do


class Private:
    """A generators.base.Mechanism.

    rho:   what all answers together may spend
    rows:  that one person has in the data, at most
    delta: what all that is told of unknown values may spend beside; 0: none can be told
    training: steps by noisy gradients that may be told beside rho
    steps: of one person's series, at most, who is one row then
    """

    def __init__(self, rho: float, rows: int = 1, delta: float = 0.0, training: Steps | None = None, steps: int | None = None):
        if not (rho > 0 and rows >= 1 and 0 <= delta < 1):
            raise ValueError(f"found rho {rho}, {rows} rows and delta {delta}, expected rho above 0, a row at least, and delta from 0 to 1")
        if training is not None and rows > 1:
            raise ValueError(f"found {rows} rows of a person and a training by steps, expected one row: a step knows rows alone")
        if steps is not None and rows > 1:
            raise ValueError(f"found {rows} rows of a person and {steps} steps, expected one row: a series is one")
        self.rho, self.rows, self.delta, self.rest, self.steps = rho, rows, delta, 1.0, steps
        self.training, self.left = training, training.count if training else 0
        self.answers: list[tuple[str, float]] = []  # what each was, and the share that it took

    def sd(self, share: float) -> float:
        """The standard deviation of each count that this share buys."""
        return self.rows / math.sqrt(2 * self.rho * share)

    def counts(self, exact: Tensor, share: float) -> Tensor:
        """Raises ValueError where the share is no longer there."""
        self._take("counts", share)
        return _noisy(exact, self.sd(share))

    def sums(self, exact: Tensor, norm: float, share: float) -> Tensor:
        """Raises ValueError where the share is no longer there."""
        self._take("sums", share)
        return exact + torch.from_numpy(gaussians(exact.numel(), norm * self.sd(share))).reshape(exact.shape).to(exact.dtype)

    def kept(self, people: Tensor, least: int, share: float) -> Tensor:
        """Raises ValueError where the share is no longer there, or nothing is set aside for unknown values."""
        if not self.delta:
            raise ValueError("found no delta, expected some, which unknown values take")
        self._take("values", share)
        sd = math.sqrt(self.rows / (2 * self.rho * share))  # a person changes as many counts as he has rows, each by one
        told = _noisy(people, sd)
        bar = max(1 - sd * float(ndtri(self.delta * share / self.rows)) + 0.5, least)  # a half, for what rounding adds
        return told * ((told >= bar) & (people > 0))

    def choose(self, scores: Tensor, sensitivity: float, share: float) -> int:
        """Raises ValueError where the share is no longer there."""
        self._take("choice", share)
        scale = 2 * sensitivity * self.rows / math.sqrt(8 * self.rho * share)
        return int((scores.double() + torch.from_numpy(gumbels(len(scores), scale))).argmax())

    def batch(self, rows: int) -> Tensor:
        """Raises ValueError where no training was agreed on."""
        return torch.from_numpy(np.flatnonzero(uniforms(rows) < self._agreed().rate))

    def step(self, total: Tensor, norm: float) -> Tensor:
        """Raises ValueError where all steps that were agreed on are done."""
        noise = self._agreed().noise
        if self.left < 1:
            raise ValueError("a step is asked for after the last one of the training that was agreed on")
        self.left -= 1
        return total + torch.from_numpy(gaussians(total.numel(), noise * norm)).reshape(total.shape).to(total.dtype)

    def _agreed(self) -> Steps:
        if self.training is None:
            raise ValueError("found no training that was agreed on, expected how many steps, on what batches")
        return self.training

    def part(self, share: float, name: str) -> Private:
        """With the training, if there is one, where all that is left is taken. Raises ValueError where the share is no longer there."""
        training = self.training if share >= self.rest - SLACK else None
        self._take(name, share)
        return Private(self.rho * share, self.rows, self.delta * share, training, self.steps)

    def _take(self, what: str, share: float) -> None:
        if not 0 < share <= self.rest + SLACK:
            raise ValueError(f"a share of {share:.3g} is asked for, of {self.rest:.3g} that are left")
        self.rest = self.rest - share if self.rest - share > SLACK else 0.0
        self.answers.append((what, share))


def _noisy(exact: Tensor, sd: float) -> Tensor:
    return exact + torch.from_numpy(np.rint(gaussians(exact.numel(), sd))).reshape(exact.shape).to(exact.dtype)
