"""Directions in which pictures vary, and how much along each: a normal density of pictures, low rank and noise.

    x ~ N(mean, V diag(s_1^2 .. s_r^2) V' + s_rest^2 (I - V V'))

Probabilistic principal component analysis; M. Tipping, C. Bishop; 1999; https://doi.org/10.1111/1467-9868.00196
Finding structure with randomness; N. Halko, P. Martinsson, J. Tropp; 2011; https://doi.org/10.1137/090771806
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from generators.streams import drawn, stream

MOST = 2**14  # pictures that directions are looked for in
KEPT = 512  # directions with a spread of their own, at most


class Directions(nn.Module):
    """mean (pixels,), turn (pixels, kept) orthonormal, spread (kept + 1,): along each direction, and along every one beyond."""

    def __init__(self, pixels: int = 0, kept: int = 0):
        super().__init__()
        for name, shape in (("mean", (pixels,)), ("turn", (pixels, kept)), ("spread", (kept + 1,))):
            self.register_buffer(name, torch.zeros(shape))

    @torch.no_grad()
    def fit(self, x: Tensor, held_out: Tensor, rng: torch.Generator, kept: int = KEPT) -> Directions:
        """At most `kept` directions. x (n, pixels); held_out (m, pixels) say how much pictures vary along those found: those they were found in vary more."""
        self.mean = x.mean(0)
        away, kept = x - self.mean, min(kept, *(side - 1 for side in x.shape))
        with stream(drawn(rng)):
            _, _, self.turn = torch.svd_lowrank(away, kept, niter=4)
        away = held_out - self.mean
        total, own = away.square().sum() / len(away), (away @ self.turn).square().mean(0)
        rest = (total - own.sum()).clamp_min(0) / max(x.shape[1] - kept, 1)
        self.spread = torch.cat([own, rest[None]]).clamp_min(1e-8).sqrt()
        return self

    @property
    def kept(self) -> int:
        return self.turn.shape[1]

    def along(self, x: Tensor) -> Tensor:
        """x (n, pixels) -> (n, kept), in units of what pictures vary along each."""
        return (x - self.mean) @ self.turn / self.spread[:-1]

    def scaled(self, away: Tensor, gains: Tensor, beyond: Tensor) -> Tensor:
        """away (n, pixels) with what is along each direction multiplied by gains (n or 1, kept), and all beyond by (n or 1, 1)."""
        return beyond * away + ((gains - beyond) * (away @ self.turn)) @ self.turn.t()

    def pictures(self, z: Tensor, rng: torch.Generator, gains: Tensor | None = None) -> Tensor:
        """z (n, kept) along the directions -> (n, pixels), and beyond them noise; with gains (n, 1) exactly so much in each, in units of what there is."""
        noise = torch.randn(len(z), len(self.mean), generator=rng)
        beyond = self.scaled(noise, torch.zeros(1, self.kept), self.spread[-1:, None])
        if gains is not None:
            beyond = beyond * gains * self.spread[-1] * (noise.shape[1] - self.kept) ** 0.5 / beyond.norm(dim=1, keepdim=True)
        return self.mean + (z * self.spread[:-1]) @ self.turn.t() + beyond

    def units(self) -> Tensor:
        """log of how much of a picture one unit along every direction, and beyond them, is: log p(x) less that of what lies along them."""
        return -self.spread[:-1].log().sum() - (len(self.mean) - self.kept) * self.spread[-1].log()
