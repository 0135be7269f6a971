"""VAE of series: p(steps | static) = int p(z | static) prod_t p(x_t | z, the two steps before, static, t) dz, through a lower bound.

    log p(steps | static) >= E_q(z | steps, static) [ sum_t log p(x_t | z, ...) - beta (log q(z | steps, static) - log p(z | static)) ]
A step forgets all but two steps before it, so that what holds a series together must be in z. q is a diagonal Gaussian, read from
all steps alike; p(z | static) is a mixture of Gaussians that what stays tells of. beta rises to its value over the first part
of the training (KL warm-up). Margins are set right at the end.

Auto-encoding variational Bayes; D. Kingma, M. Welling; 2014; https://arxiv.org/abs/1312.6114
A recurrent latent variable model for sequential data; J. Chung et al.; 2015; https://arxiv.org/abs/1506.02216
VAE with a VampPrior (a mixture for a prior); J. Tomczak, M. Welling; 2018; https://arxiv.org/abs/1705.07120
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.arguments import number, whole
from generators.heads import spread
from generators.layout import Sequences, SeriesLayout, positions
from generators.nets import Residual, log_mixture
from generators.series.margins import Margins, SetRight
from generators.series.past import LAGS, by_series
from generators.series.stepwise import Coded, Stepwise
from generators.threads import single_thread
from generators.train import Plan

WARM = 0.1  # share of the training over which beta rises


class Latent(SetRight, Stepwise):
    """layout: what a series is.

    latent:  numbers in z
    width:   hidden units; None: 192, or 96 for fewer than 20,000 steps
    depth:   residual blocks of the decoder, one fewer of the encoder
    modes:   Gaussians in the prior
    beta:    weight of the divergence of q from the prior
    bins:    bins of a number, of equal probability, at most; None: as many as suit the number of steps
    dropout: share of hidden units that are left out while training
    asked:   of train.Plan, passes and minutes above all
    """

    called = "vae"
    unit, lags = "Nats a series on held-out series, at least", LAGS

    def __init__(
        self, layout: SeriesLayout, latent: int = 16, width: int | None = None, depth: int = 2, modes: int = 16, beta: float = 1.0, bins: int | None = None,
        dropout: float = 0.2, **asked: Any,
    ):  # fmt: skip
        super().__init__(layout, width, bins, dropout, asked)
        whole(latent=latent, depth=depth, modes=modes), number(beta=beta)
        self.latent, self.depth, self.modes, self.beta = latent, depth, modes, beta

    def plan(self, n: int) -> Plan:
        few = max(3000 / max(n, 1), 1)
        return Plan(passes=40 * few**0.5, batch=min(max(n // 30, 8), 64), rate=0.003, decay=self.decay(), patience=8)

    def remember(self, width: int) -> None:
        self.encoder, self.summary = Residual(width, self.depth - 1, self.dropout), Residual(width, 1, self.dropout)
        self.code, self.back = nn.Linear(width, 2 * self.latent), nn.Linear(self.latent, width)
        self.decoder, self.margins = Residual(width, self.depth, self.dropout), Margins(self.layout)
        self.prior = nn.Linear(width, self.modes * (2 * self.latent + 1))
        with torch.no_grad():
            self.prior.weight.mul_(0.1)
            weight, mean, scale = self.prior.bias.split([self.modes, self.modes * self.latent, self.modes * self.latent])
            weight.zero_(), mean.normal_(std=0.5), scale.zero_()

    def _posterior(self, x: Coded, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log scale of q(z | steps, static), (n, latent) each. seen (steps, width)."""
        told = self.encoder(F.embedding(x.codes, self.values.vectors()).sum(1) + seen)
        mean = by_series(told, x.lengths) / x.lengths[:, None]
        mean, scale = self.code(self.summary(mean * x.lengths[:, None].float().sqrt().clamp_max(8.0))).chunk(2, 1)
        return mean, scale.clamp(-7, 3)

    def _prior(self, static: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of p(z | static): log weights (n, modes), means and log scales (n, modes, latent). static (n, fields) of codes."""
        weight, mean, scale = self.prior(self.static(static)).split([self.modes, self.modes * self.latent, self.modes * self.latent], 1)
        shape = (-1, self.modes, self.latent)
        return weight.log_softmax(1), mean.reshape(shape), scale.reshape(shape).clamp(-7, 3)

    def _context(self, seen: Tensor, z: Tensor) -> Tensor:
        """seen (m, width), z (m, latent) -> (m, width)."""
        return self.decoder(seen + self.back(z))

    def _bound(self, x: Coded, noise: Tensor, sees: Tensor) -> tuple[Tensor, Tensor]:
        """-log p(x_t | z, ...) (steps,), and log q(z | x) - log p(z | static) (n,). noise (n, latent) standard normal."""
        seen = self.seen(x)
        mean, scale = self._posterior(x, seen)
        z = mean + scale.exp() * noise
        divergence = (-0.5 * noise**2 - scale).sum(1) - log_mixture(z, *self._prior(x.static))
        return self.nats(x, self._context(seen, z[x.whose]), sees), divergence

    def objective(self, x: Sequences, held_out: Sequences, rng: torch.Generator):
        coded, density = self.learned(x), by_series(self.log_density(held_out), held_out.lengths)
        held, noise = self.coded(held_out), torch.randn(len(held_out), self.latent, generator=rng).to(x.steps.device)

        def loss(i: Tensor, done: float) -> Tensor:
            some = coded.take(positions(x.lengths, i), i)
            noise = torch.randn(len(i), self.latent, device=x.steps.device)
            nats, divergence = self._bound(some, noise, self.net.orders(len(some.codes), 1.0))
            return (nats.sum() + self.beta * min(done / WARM, 1.0) * divergence.sum()) / len(some.codes)

        def score() -> Tensor:
            found = []
            for i in self.parts(len(held_out), x.steps.device):
                some = held.take(positions(held.lengths, i), i)
                nats, divergence = self._bound(some, noise[i], self.net.natural())
                found.append(by_series(nats, some.lengths) + divergence)
            return density - torch.cat(found)

        return {"": loss}, score

    @torch.no_grad()
    def sample(self, static: Tensor, lengths: Tensor, *, rng: torch.Generator) -> Tensor:
        """static (n, fields), lengths (n,) -> steps (sum of lengths, fields), moment by moment."""
        weight, mean, scale = self._prior(self.of_static.encode(static))
        mode = spread(weight.exp(), float(torch.rand((), generator=rng)))[:, None, None].expand(-1, 1, self.latent)
        z = mean.gather(1, mode)[:, 0] + scale.gather(1, mode)[:, 0].exp() * torch.randn(len(static), self.latent, generator=rng)
        with single_thread():
            return self.margins(self.draw(static, lengths, rng, lambda seen, series: self._context(seen, z[series])))
