"""Lengths: how many steps series have, from how many those had that were learned from.

Of a few hundred subjects no two halves have the same numbers of steps, and a number that nobody has is as likely as its neighbours. So
with a probability `share` a number is one of those near it, by the normal density around it, `spread` steps wide; both are those under
which every series is likeliest given the others, if by more than two numbers gain by being chosen (Akaike's criterion). Numbers that
many series hold exactly, as where steps are a design, stay; and where all are multiples of a number apart, so are those drawn.

An alternative method of cross-validation for the smoothing of density estimates; A. Bowman; 1984; https://doi.org/10.1093/biomet/71.2.353
Multivariate binary discrimination by the kernel method; J. Aitchison, C. Aitken; 1976; https://doi.org/10.1093/biomet/63.3.413
"""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from torch import Tensor

from generators.layout import SeriesLayout
from generators.leaves import spread_within

SHARES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
LEAST = 1e-300  # that a probability is taken for, where all others say 0


class Lengths:
    """apart: what numbers of steps differ by, or a multiple of it
    near:  (spans, longest + 1) double, how probable each number of steps is, for a series that is drawn in a span
    """

    def __init__(self, layout: SeriesLayout):
        self.layout, self.share, self.spread, self.apart = layout, 0.0, 0.0, 1
        self.low, self.high = min(low for low, _ in layout.spans), layout.longest
        self._near()

    def fit(self, lengths: Tensor) -> Lengths:
        """lengths (n,): steps of each series."""
        more = lengths.clamp(self.low, self.high).numpy() - self.low
        self.apart = max(int(np.gcd.reduce(more)), 1)
        held = np.bincount(more // self.apart, minlength=(self.high - self.low) // self.apart + 1).astype(float)
        n, far, best = held.sum(), len(held) - 1, (-np.inf, 0.0, 0.0)
        if n < 2:
            return self._near()
        met, own = held > 0, (held - 1) / (n - 1)  # how probable every number is by the others that have it
        widths = [0.5 * 2 ** (j / 2) for j in range(64) if 0.5 * 2 ** (j / 2) <= far / 4]
        for share, spread in [(0.0, 0.0), *product(SHARES, widths)]:
            p = own
            if share:
                kernel = _kernel(spread, far)
                room = np.convolve(np.ones_like(held), kernel, "same")  # what of a kernel is not beyond the ends
                near = np.convolve(held / room, kernel, "same") - kernel.max() / room
                p = (1 - share) * own + share * near / (n - 1)
            likely = float(held[met] @ np.log(np.maximum(p[met], LEAST))) - (2 if share else 0)
            best = max(best, (likely, share, spread))
        _, self.share, self.spread = best
        return self._near()

    def _near(self) -> Lengths:
        first, last = torch.tensor(self.layout.spans).t()[:, :, None]
        held = torch.arange(self.low, self.high + 1, self.apart)
        within = ((held >= first) & (held <= last)).double()
        p = within / within.sum(1, keepdim=True)
        if self.share:
            kernel = _kernel(self.spread, len(held) - 1)
            room = np.convolve(np.ones(len(held)), kernel, "same")
            wide = np.stack([np.convolve(row / room, kernel, "same") for row in p.numpy()])
            p = (1 - self.share) * p + self.share * torch.from_numpy(wide)
        self.near = torch.zeros(len(p), self.high + 1, dtype=torch.double)
        self.near[:, held] = p
        return self

    def sample(self, spans: Tensor, rng: torch.Generator) -> Tensor:
        """spans (n,), in which series are drawn -> their numbers of steps (n,)."""
        return spread_within(self.near, spans, rng)

    def log_prob(self, lengths: Tensor) -> Tensor:
        """(spans, n) nats of numbers of steps (n,); one that is never drawn is taken for the next that is."""
        drawn = (self.near.sum(0) > 0).nonzero()[:, 0]
        return self.near[:, drawn[torch.searchsorted(drawn, lengths).clamp_max(len(drawn) - 1)]].log()

    def state(self) -> list[float]:
        return [self.share, self.spread, self.apart]

    def restore(self, state: list[float]) -> Lengths:
        self.share, self.spread, self.apart = state
        return self._near()


def _kernel(spread: float, far: int) -> np.ndarray:
    """The normal density at so many steps to either side at most, four spreads at most; of odd size, with sum 1."""
    k = np.arange(-min(far // 2, int(np.ceil(4 * spread))), min(far // 2, int(np.ceil(4 * spread))) + 1)
    p = np.exp(-0.5 * (k / spread) ** 2)
    return p / p.sum()
