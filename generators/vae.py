"""VAE: p(x) = int p(z) prod_j p(x_j | z) dz, learned through a lower bound, with a prior that can be conditioned on any fields.

    log p(x | given) >= E_q(z|x) [ sum_j log p(x_j | z) - beta (log q(z | x) - log p(z | given)) ]
q is a diagonal Gaussian; p(z | given) is a mixture of them whose weights, means and scales are a network's answer to the
fields that are given, none as a rule; p(x_j | z) is a probability for each class, or each fine bin of a number. beta rises to
its value over the first part of the training (KL warm-up). A row that must hold something has its z from
    p(z | given) ~ p(z) prod over given j of p(x_j | z)
by importance resampling of candidates from that network, and from the prior that is given nothing: so it counts little how much that network learned.

Auto-encoding variational Bayes; D. Kingma, M. Welling; 2014; https://arxiv.org/abs/1312.6114
beta-VAE; I. Higgins et al.; 2017; https://openreview.net/forum?id=Sy2fzU9gl
Variational autoencoder with arbitrary conditioning; O. Ivanov, M. Figurnov, D. Vetrov; 2019; https://arxiv.org/abs/1806.02382
VAE with a VampPrior (a mixture for a prior); J. Tomczak, M. Welling; 2018; https://arxiv.org/abs/1705.07120
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.arguments import number, whole
from generators.codes import Codes
from generators.descent import Descent
from generators.heads import Values, spread
from generators.layout import Layout
from generators.nets import Residual, log_mixture
from generators.neural import Neural
from generators.train import Plan

CHUNK = 8192  # held-out rows that go through the networks at a time
WARM = 0.1  # share of the training over which beta rises
TRIED = 64  # candidates for z of a row that must hold something

Mixture = tuple[Tensor, Tensor, Tensor]  # log weights (n or 1, modes), means and log scales (n or 1, modes, latent)


class VAE(Neural):
    """layout: what a row is.

    latent:  numbers in z
    width, depth: hidden units, 256 unless said, and residual blocks, of the encoder, the decoder and the prior
    modes:   Gaussians in the prior, 64 unless said
    beta:    weight of the divergence of q from the prior
    bins:    bins of a number, of equal probability, at most; None: one for 20 rows, 16 to 128
    dropout: share of hidden units that are left out while training
    given:   share of the rows that are learned from with some fields given
    asked:   of train.Plan, passes and minutes above all
    """

    unit = "Nats a row on held-out rows, at least"
    descent = Descent()

    def __init__(
        self, layout: Layout, latent: int = 16, width: int | None = None, depth: int = 1, modes: int | None = None, beta: float = 0.8, bins: int | None = None,
        dropout: float = 0.0, given: float = 0.15, **asked: Any,
    ):  # fmt: skip
        super().__init__(layout, asked)
        whole(latent=latent, width=width, modes=modes, bins=bins), whole(0, depth=depth)
        number(beta=beta), number(high=0.99, dropout=dropout), number(high=1, given=given)
        self.latent, self.width, self.depth, self.modes, self.beta, self.bins = latent, width, depth, modes, beta, bins
        self.dropout, self.given = dropout, given

    def plan(self, n: int) -> Plan:
        return Plan(passes=25 * max(30_000 / max(n, 1), 1) ** 0.25, batch=min(max(n // 50, 32), 256), rate=5e-3, decay=0.1)

    def sizes(self, n: int) -> dict:
        return {"width": self.width or 256, "modes": self.modes or 64, "bins": self.bins or min(max(n // 20, 16), 128)}

    def small(self, n: int) -> dict:
        return {"width": self.width or 64, "modes": self.modes or 8, "bins": self.bins or 24}

    def build(self, width: int, modes: int, bins: int) -> None:
        self.parts = modes
        self.codes = Codes.single(self.layout, bins)
        self.values = Values(self.codes, width)
        self.place = nn.Parameter(torch.randn(len(self.layout), width) * 0.1)
        self.encoder, self.decoder, self.asked_for = (Residual(width, self.depth, self.dropout) for _ in range(3))
        self.code, self.back = nn.Linear(width, 2 * self.latent), nn.Linear(self.latent, width)
        self.prior = nn.Linear(width, modes * (2 * self.latent + 1))
        self.start = nn.Parameter(torch.zeros(width))  # what the prior sees when nothing is given
        nn.init.normal_(self.prior.bias)
        with torch.no_grad():
            weight, mean, scale = self.prior.bias.split([modes, modes * self.latent, modes * self.latent])
            weight.zero_(), mean.mul_(0.5), scale.zero_()

    def _posterior(self, codes: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """codes (n, fields) -> mean and log scale of q(z | x), (n, latent) each."""
        h = self.encoder((F.embedding(codes, vectors) + self.place).sum(1) / math.sqrt(len(self.layout)))
        mean, scale = self.code(h).chunk(2, 1)
        return mean, scale.clamp(-7, 3)

    def _prior(self, codes: Tensor, seen: Tensor, vectors: Tensor) -> Mixture:
        """p(z | fields seen). codes, seen (n, fields), seen of 0 and 1."""
        h = ((F.embedding(codes, vectors) + self.place) * seen[:, :, None]).sum(1) / math.sqrt(len(self.layout))
        numbers = self.parts * self.latent
        weight, mean, scale = self.prior(self.asked_for(h + self.start)).split([self.parts, numbers, numbers], 1)
        shape = (-1, self.parts, self.latent)
        return weight.log_softmax(1), mean.reshape(shape), scale.reshape(shape).clamp(-7, 3)

    def _bound(self, codes: Tensor, seen: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """-log p(x | z), and log q(z | x) - log p(z | given), (n,) each. seen (k, fields) of the first k rows; noise (n, latent) standard normal."""
        vectors, k = self.values.vectors(), len(seen)
        mean, scale = self._posterior(codes, vectors)
        z = mean + scale.exp() * noise
        log_q = (-0.5 * noise**2 - scale).sum(1)
        some = self._prior(codes[: k + 1], F.pad(seen, (0, 0, 0, 1)), vectors)  # the last is given nothing, and stands for all others
        log_p = torch.cat([log_mixture(z[:k], *(v[:k] for v in some)), log_mixture(z[k:], *(v[k:] for v in some))])
        h = self.decoder(self.back(z))
        return self.values.nats([h] * len(self.layout), self.codes.within(codes)), log_q - log_p

    def objective(self, x: Tensor, held_out: Tensor, rng: torch.Generator):
        rows, held, density = self.codes.encode(x, torch.int32), self.codes.encode(held_out), self.codes.log_density(held_out)
        noise, none = torch.randn(len(held), self.latent, generator=rng).to(x.device), x[:0]
        self.values.start(rows, self.counted)

        def loss(i: Tensor, done: float) -> Tensor:
            seen = torch.rand(round(self.given * len(i)), len(self.layout), device=x.device)
            seen = (seen < torch.rand(len(seen), 1, device=x.device)).float()  # any number of fields is as likely as any other
            nats, divergence = self._bound(rows[i].long(), seen, torch.randn(len(i), self.latent, device=x.device))
            return (nats + self.beta * min(done / WARM, 1.0) * divergence).mean()

        def score() -> Tensor:
            parts = zip(held.split(CHUNK), noise.split(CHUNK), strict=True)
            return density - torch.cat([sum(self._bound(c, none, e)) for c, e in parts])

        return {"": loss}, score

    def drawer(self, known: Tensor, rng: torch.Generator):
        """z from the prior, or from the posterior of what is known, then every other field from its own distribution."""
        vectors, heads, seen = self.values.vectors(), self.values.heads(), known.float()

        def fill(codes: Tensor, inside: Tensor) -> int:
            start = torch.rand(1 + len(known), generator=rng, dtype=torch.double).tolist()
            free = self._prior(codes[:1], torch.zeros(1, len(known)), vectors)
            if known.any():
                z = self._chosen(codes, known, free, self._prior(codes, seen.expand(len(codes), -1), vectors), heads, rng)
            else:
                z = _drawn(free, spread(free[0].exp().expand(len(codes), -1), start[0]), rng)
            h = self.decoder(self.back(z))
            for j in (~known).nonzero()[:, 0].tolist():
                codes[:, j] = self.codes.gated(j, self.codes.offsets[j] + spread(F.linear(h, *heads[j]).softmax(1), start[1 + j]), codes)
            return len(codes)

        return fill

    def _chosen(self, codes: Tensor, known: Tensor, free: Mixture, told: Mixture, heads: list[tuple[Tensor, Tensor]], rng: torch.Generator) -> Tensor:
        """z (n, latent) from p(z | known), by candidates from the prior that is told what is known, and from that which is not."""
        n, within = len(codes), self.codes.within(codes)
        total, z = torch.full((n,), -torch.inf, dtype=torch.double), torch.zeros(n, self.latent)
        for t in range(TRIED):
            source = told if t % 2 else free
            candidate = _drawn(source, source[0].exp().expand(n, -1).multinomial(1, generator=rng)[:, 0], rng)
            h, ours, theirs = self.decoder(self.back(candidate)), log_mixture(candidate, *free), log_mixture(candidate, *told)
            weight = ours - torch.logaddexp(ours, theirs)
            for j in known.nonzero()[:, 0].tolist():
                weight = weight - F.cross_entropy(F.linear(h, *heads[j]), within[:, j], reduction="none")
            total = torch.logaddexp(total, weight.double())
            take = torch.rand(n, generator=rng, dtype=torch.double) < (weight - total).exp()
            z = torch.where(take[:, None], candidate, z)
        return z


def _drawn(mixture: Mixture, mode: Tensor, rng: torch.Generator) -> Tensor:
    """z (n, latent) from these modes (n,) of a mixture for all rows, or one for each."""
    i = torch.arange(len(mode)) if len(mixture[1]) == len(mode) else torch.zeros_like(mode)
    return mixture[1][i, mode] + mixture[2][i, mode].exp() * torch.randn(len(mode), mixture[1].shape[2], generator=rng)
