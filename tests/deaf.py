"""Mechanisms that answer the same whatever they are asked: what reaches a model beside their answers shows, and what one row more changes."""

import torch

from generators.exact import Exact
from privacy.accounting import Steps


class Deaf(Exact):
    """Answers the same whatever is asked, and keeps what was asked."""

    rows, training = 1, Steps(1.0, 0.02, 10)

    def __init__(self):
        self.asked: list[tuple[str, torch.Tensor, float]] = []

    def sd(self, share):
        return 3.0

    def _same(self, what, exact, norm, share):
        self.rest -= share
        self.asked.append((what, exact.double().clone(), norm))
        return torch.linspace(0, 20, exact.numel(), dtype=torch.double).reshape(exact.shape).to(exact.dtype)

    def counts(self, exact, share):
        return self._same("counts", exact, 1.0, share)

    def sums(self, exact, norm, share):
        return self._same("sums", exact, norm, share)

    def choose(self, scores, sensitivity, share):
        self._same("choice", scores, sensitivity, share)
        return 0

    def batch(self, rows):
        return torch.arange(rows)

    def step(self, total, norm):
        self.asked.append(("step", total.double().clone(), norm))
        return torch.linspace(-1, 1, total.numel())

    def part(self, share, name):
        return self


class Lone(Deaf):
    """Of which every batch is the last row alone."""

    def batch(self, rows):
        return torch.tensor([rows - 1])


def farthest(without: Deaf, with_one: Deaf) -> dict[str, float]:
    """Of each kind of question, how far one row more moved an answer at most, by what it says."""
    moved: dict[str, float] = {}
    for (what, one, norm), (_, other, _) in zip(without.asked, with_one.asked, strict=True):
        gap = other.abs() if what == "step" else (one - other).abs()
        far = float(gap.max() if what == "choice" else gap.norm()) / norm
        moved[what] = max(moved.get(what, 0.0), far)
    return moved
