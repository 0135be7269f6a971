"""VAE of pictures: p(x | beside) = int p(z | beside) p(x | z, beside) dz, learned through a lower bound.

    log p(x | beside) >= E_q(z | x, beside) [ log p(x | z, beside) - beta (log q(z | x, beside) - log p(z | beside)) ]
    x = mean(z) + spread(z) e
q is a diagonal Gaussian; p(z | beside) is a mixture of Gaussians that what stands beside tells of; a pixel has a mean and a spread of its
own. While that is learned, e is white; then e becomes a normal density of low rank and noise (directions.py), learned from what the
decoder leaves: so a picture is as sharp, and as grainy, as real ones are. beta rises to its value over the first part of the
training (KL warm-up).

Auto-encoding variational Bayes; D. Kingma, M. Welling; 2014; https://arxiv.org/abs/1312.6114
VAE with a VampPrior (a mixture for a prior); J. Tomczak, M. Welling; 2018; https://arxiv.org/abs/1705.07120
Simple and effective VAE training with calibrated decoders; O. Rybkin, K. Daniilidis, S. Levine; 2021; https://arxiv.org/abs/2006.13202
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.arguments import number, whole
from generators.heads import spread
from generators.images.directions import MOST, Directions
from generators.images.nets import Painter, Reader
from generators.images.painted import Painted, schedule
from generators.layout import ImageLayout, Pictures
from generators.nets import log_mixture
from generators.train import Plan

WARM = 0.1  # share of the training over which beta rises
STEPS = 2000  # of the training
LEAST = 0.02  # spread of a pixel, of that of all
CHUNK = 512  # pictures that are looked at together


class PictureVAE(Painted):
    """layout: what an image is.

    latent:  numbers in z
    width:   channels of the networks where a picture is largest
    modes:   Gaussians in the prior
    beta:    weight of the divergence of q from the prior
    dropout: share of hidden units that are left out while training
    asked:   of train.Plan, passes and minutes above all
    """

    called = "vae"
    unit = "Nats an image on held-out images, at least"

    def __init__(self, layout: ImageLayout, latent: int = 32, width: int = 32, modes: int = 16, beta: float = 1.0, dropout: float = 0.1, **asked: Any):
        super().__init__(layout, asked)
        whole(latent=latent, width=width, modes=modes), number(beta=beta), number(high=0.99, dropout=dropout)
        self.latent, self.width, self.modes, self.beta, self.dropout, self.kept = latent, width, modes, beta, dropout, 0

    def plan(self, n: int) -> Plan:
        return schedule(n, STEPS, rate=1e-3, decay=0.01)

    def build(self) -> None:
        channels, *shape = self.layout.shape
        wide = 4 * self.width
        self.frame(wide)
        self.reader = Reader(channels, 2 * self.latent, tuple(shape), self.width, wide, self.dropout)
        self.painter = Painter(self.latent, 2 * channels, tuple(shape), self.width, wide, self.dropout)
        self.told = nn.Linear(self.latent, wide)
        self.prior = nn.Linear(wide, self.modes * (2 * self.latent + 1))
        self.grain = Directions(len(self.layout), self.kept)
        with torch.no_grad():
            self.prior.weight.mul_(0.1)
            weight, mean, scale = self.prior.bias.split([self.modes, self.modes * self.latent, self.modes * self.latent])
            weight.zero_(), mean.normal_(std=0.5), scale.zero_()

    def _posterior(self, x: Tensor, beside: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log scale of q(z | x, beside), (n, latent) each."""
        mean, scale = self.reader(x, beside).chunk(2, 1)
        return mean, scale.clamp(-7, 3)

    def _prior(self, beside: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of p(z | beside): log weights (n, modes), means and log scales (n, modes, latent)."""
        weight, mean, scale = self.prior(beside).split([self.modes, self.modes * self.latent, self.modes * self.latent], 1)
        shape = (-1, self.modes, self.latent)
        return weight.log_softmax(1), mean.reshape(shape), scale.reshape(shape).clamp(-7, 3)

    def _painted(self, z: Tensor, beside: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and spread of each pixel, (n, channels, height, width) each."""
        mean, scale = self.painter(z, beside + self.told(z)).chunk(2, 1)
        return mean, LEAST + F.softplus(scale)

    def _bound(self, x: Tensor, beside: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """-log p(x | z, beside), and log q(z | x, beside) - log p(z | beside), (n,) each. noise (n, latent) standard normal."""
        mean, scale = self._posterior(x, beside)
        z = mean + scale.exp() * noise
        divergence = (-0.5 * noise**2 - scale).sum(1) - log_mixture(z, *self._prior(beside))
        mean, scale = self._painted(z, beside)
        nats = 0.5 * ((x - mean) / scale).square() + scale.log() + 0.5 * math.log(2 * math.pi)
        return nats.flatten(1).sum(1), divergence

    def objective(self, x: Pictures, held_out: Pictures, rng: torch.Generator):
        where, pixels = x.pixels.device, len(self.layout)
        self.measure(x.pixels, rng)
        held = self.within(self.scaled(held_out.pixels), rng)
        noise = torch.randn(len(held), self.latent, generator=rng).to(where)

        def loss(i: Tensor, done: float) -> Tensor:
            some = self.within(self.scaled(x.pixels[i]))
            nats, divergence = self._bound(some, self.stays(x.static[i]), torch.randn(len(i), self.latent, device=where))
            return (nats + self.beta * min(done / WARM, 1.0) * divergence).mean() / pixels

        def score() -> Tensor:
            parts = torch.arange(len(held), device=where).split(CHUNK)
            return -torch.cat([sum(self._bound(held[i], self.stays(held_out.static[i]), noise[i])) for i in parts])

        return {"": loss}, score

    def fit(self, x: Pictures, held_out: Pictures, *, rng: torch.Generator, **more: Any) -> PictureVAE:
        super().fit(x, held_out, rng=rng, **more)
        some = x[torch.randperm(len(x), generator=rng)[:MOST]]
        self.grain.fit(self._left(some, rng), self._left(held_out[torch.arange(min(len(held_out), MOST))], rng), rng)
        self.kept = self.grain.kept
        return self

    @torch.no_grad()
    def _left(self, x: Pictures, rng: torch.Generator) -> Tensor:
        """e of pictures, (n, pixels)."""
        out = []
        for i in torch.arange(len(x)).split(CHUNK):
            real, beside = self.within(self.scaled(x.pixels[i]), rng), self.stays(x.static[i])
            mean, scale = self._posterior(real, beside)
            mean, scale = self._painted(mean + scale.exp() * torch.randn(mean.shape, generator=rng), beside)
            out.append(((real - mean) / scale).flatten(1))
        return torch.cat(out)

    def draw(self, static: Tensor, rng: torch.Generator) -> Tensor:
        beside = self.stays(static)
        return self._whole(self._latent(beside, rng), beside, rng)

    @torch.no_grad()
    def between(self, static: Tensor, steps: int, rng: torch.Generator) -> Tensor:
        """For each row two synthetic pictures and what lies between them, `steps` in all with the ends: (rows * steps, channels, height, width).

        z turns from one end to the other along a sphere; the grain stays."""
        beside = self.stays(static)
        a, b = self._latent(beside, rng), self._latent(beside, rng)
        share = torch.linspace(0, 1, steps)[:, None]
        angle = torch.acos(F.cosine_similarity(a, b).clamp(-1 + 1e-6, 1 - 1e-6))[:, None, None]
        path = (((1 - share) * angle).sin() * a[:, None] + (share * angle).sin() * b[:, None]) / angle.sin()
        mean, scale = self._painted(path.flatten(0, 1), beside.repeat_interleave(steps, 0))
        e = self.grain.pictures(torch.randn(len(static), self.grain.kept, generator=rng), rng).repeat_interleave(steps, 0)
        return self.whole(mean + scale * e.view_as(mean))

    def _latent(self, beside: Tensor, rng: torch.Generator) -> Tensor:
        """z (n, latent) from the prior."""
        weight, mean, scale = self._prior(beside)
        mode = spread(weight.exp(), float(torch.rand((), generator=rng)))[:, None, None].expand(-1, 1, self.latent)
        return mean.gather(1, mode)[:, 0] + scale.gather(1, mode)[:, 0].exp() * torch.randn(len(beside), self.latent, generator=rng)

    def _whole(self, z: Tensor, beside: Tensor, rng: torch.Generator) -> Tensor:
        """Pixels with their grain."""
        mean, scale = self._painted(z, beside)
        e = self.grain.pictures(torch.randn(len(z), self.grain.kept, generator=rng), rng)
        return self.whole(mean + scale * e.view_as(mean))

    def structure(self) -> dict:
        return super().structure() | {"kept": self.kept}

    def restore(self, structure: dict, tensors: dict[str, Tensor]) -> PictureVAE:
        self.kept = structure["kept"]
        return super().restore(structure, tensors)
