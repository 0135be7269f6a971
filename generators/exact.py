"""Exact: answers without noise, so that learning with and without privacy is one and the same code."""

from __future__ import annotations

import torch
from torch import Tensor


class Exact:
    """A base.Mechanism that protects nobody."""

    rest = 1.0
    rows = steps = None
    training = None

    def sd(self, share: float) -> float:
        return 0.0

    def counts(self, exact: Tensor, share: float) -> Tensor:
        self.rest -= share
        return exact

    def sums(self, exact: Tensor, norm: float, share: float) -> Tensor:
        self.rest -= share
        return exact

    def kept(self, people: Tensor, least: int, share: float) -> Tensor:
        self.rest -= share
        return people * (people >= least)

    def choose(self, scores: Tensor, sensitivity: float, share: float) -> int:
        self.rest -= share
        return int(scores.argmax())

    def batch(self, rows: int) -> Tensor:
        return torch.arange(rows)

    def step(self, total: Tensor, norm: float) -> Tensor:
        return total

    def part(self, share: float, name: str) -> Exact:
        self.rest -= share
        return Exact()
