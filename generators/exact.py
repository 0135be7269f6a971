"""Exact: answers without noise, so that learning with and without privacy is one and the same code."""

from __future__ import annotations

from torch import Tensor


class Exact:
    """A base.Mechanism that protects nobody."""

    rest = 1.0

    def sd(self, share: float) -> float:
        return 0.0

    def counts(self, exact: Tensor, share: float) -> Tensor:
        self.rest -= share
        return exact

    def choose(self, scores: Tensor, sensitivity: float, share: float) -> int:
        self.rest -= share
        return int(scores.argmax())
