"""Directions of little: not what lies along each, only how much there is in a picture, band by band.

    z_band = exp(e / 2) sqrt(d) u,    u even on the unit sphere of d directions,    e the logarithm of the mean square of z_band
One picture has more grain than another, everywhere at once. e is learned with what pictures have along their main directions, of bands of
FEW directions or more; what lies along those of a smaller one is normal.

Scale mixtures of Gaussians and the statistics of natural images; M. Wainwright, E. Simoncelli; 1999; https://papers.nips.cc/paper/1750
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from generators.images.directions import Directions

FEW = 8  # directions of a band whose energy is learned
LEAST = 1e-6  # mean square of what there is in a band, in units of that of all pictures
FARTHEST = 3.0  # from the middle that an energy is drawn, in spreads


class Grain(nn.Module):
    """Of the directions from `main` on, bands that double, and one of all that is beyond the directions.

    middle, spread (learned bands,): of the energies e, of held-out pictures
    """

    def __init__(self, main: int, kept: int, pixels: int):
        super().__init__()
        edges = [main]
        while edges[-1] < kept:
            edges.append(min(2 * edges[-1], kept))
        self.main, self.bands = main, list(pairwise(edges))
        self.sizes = torch.tensor([b - a for a, b in self.bands] + [pixels - kept])
        self.learned = self.sizes >= FEW
        self.places = int(self.learned.sum())
        self.register_buffer("middle", torch.zeros(self.places))
        self.register_buffer("spread", torch.ones(self.places))

    def energies(self, z: Tensor, beyond: Tensor) -> Tensor:
        """z (n, kept) along the directions, beyond (n,) mean square of what is beyond them -> (n, bands)."""
        return torch.stack([*(z[:, a:b].square().mean(1) for a, b in self.bands), beyond], 1).clamp_min(LEAST).log()

    def fit(self, e: Tensor, held_out: Tensor) -> Tensor:
        """e (n, bands) of the pictures that the directions were found in, of which there is more along them than of held-out ones.
        Returns where they lie, (n, places), each of mean 0 and spread 1."""
        own, held_out = e[:, self.learned], held_out[:, self.learned]
        self.middle, self.spread = held_out.mean(0), (own - own.mean(0)).square().mean(0).sqrt().clamp_min(1e-3)
        return (own - own.mean(0)) / self.spread

    def placed(self, e: Tensor) -> Tensor:
        """(n, bands) -> where the learned ones lie, (n, places)."""
        return (e[:, self.learned] - self.middle) / self.spread

    def drawn(self, places: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """places (n, places) -> what lies along the directions from main on, (n, kept - main), and how much is beyond, (n, 1), if that is learned."""
        gains = torch.ones(len(places), len(self.sizes))
        gains[:, self.learned] = (places.clamp(-FARTHEST, FARTHEST) * self.spread + self.middle).div(2).exp()
        noise = [torch.randn(len(places), b - a, generator=rng) for a, b in self.bands]
        even = [x / x.square().mean(1, keepdim=True).sqrt() if learned else x for x, learned in zip(noise, self.learned, strict=False)]
        some = [x * g[:, None] for x, g in zip(even, gains.unbind(1), strict=False)]
        return torch.cat([torch.zeros(len(places), 0), *some], 1), gains[:, -1:] if self.learned[-1] else None

    def log_volume(self, e: Tensor) -> Tensor:
        """(n,) nats: log density of what lies along the bands less that of the places."""
        d, e = self.sizes.double(), e.double()
        radius = 0.5 * (e + d.log())  # its logarithm
        sphere = math.log(2) + 0.5 * d * math.log(math.pi) - torch.lgamma(d / 2)
        normal = -0.5 * d * (e.exp() + math.log(2 * math.pi))
        each = torch.where(self.learned, math.log(2) - sphere - d * radius, normal)
        return (each.sum(1) - self.spread.log().sum()).float()


def beyond(directions: Directions, x: Tensor) -> Tensor:
    """x (n, pixels) -> (n,) mean square of what is beyond the directions, in units of that of all pictures."""
    away = x - directions.mean
    left = away.square().sum(1) - (away @ directions.turn).square().sum(1)
    return left / directions.spread[-1] ** 2 / max(x.shape[1] - directions.kept, 1)
