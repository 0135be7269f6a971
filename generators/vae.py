"""VAE: p(x) = int p(z) prod_j p(x_j | z) dz, learned through a lower bound, with a prior that can be conditioned on any fields.

    log p(x | given) >= E_q(z|x) [ sum_j log p(x_j | z) - beta (log q(z | x) - log p(z | given)) ]
q is a diagonal Gaussian; p(z | given) is a mixture of them whose weights, means and scales are a network's answer to the
fields that are given, none as a rule; p(x_j | z) is a probability for each class, or each fine bin of a number. beta rises to
its value over the first part of the training (KL warm-up).

Auto-encoding variational Bayes; D. Kingma, M. Welling; 2014; https://arxiv.org/abs/1312.6114
beta-VAE; I. Higgins et al.; 2017; https://openreview.net/forum?id=Sy2fzU9gl
Variational autoencoder with arbitrary conditioning; O. Ivanov, M. Figurnov, D. Vetrov; 2019; https://arxiv.org/abs/1806.02382
VAE with a VampPrior (a mixture for a prior); J. Tomczak, M. Welling; 2018; https://arxiv.org/abs/1705.07120
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.heads import Values, spread
from generators.layout import Given, Layout
from generators.nets import Residual
from generators.streams import drawn, stream
from generators.train import Plan, device, train

CHUNK = 8192  # rows that go through the networks at a time
HELD_OUT = 4000  # held-out rows that are looked at, at most
WARM = 0.1  # share of the training over which beta rises


class VAE(nn.Module):
    """layout: what a row is.

    latent:  numbers in z
    width, depth: hidden units, and residual blocks, of the encoder, the decoder and the prior
    modes:   Gaussians in the prior
    beta:    weight of the divergence of q from the prior
    bins:    bins of a number, of equal probability, at most; None: one for 20 rows, 16 to 128
    passes:  over the rows at most; None: 25 over 30,000 rows, more over fewer
    minutes: a time budget; None sets none
    given:   share of the rows that are learned from with some fields given
    """

    def __init__(
        self, layout: Layout, latent: int = 16, width: int = 256, depth: int = 1, modes: int = 64, beta: float = 0.8, bins: int | None = None,
        passes: float | None = None, minutes: float | None = None, rate: float = 5e-3, decay: float = 0.1, dropout: float = 0.0,
        batch: int | None = None, given: float = 0.15,
    ):  # fmt: skip
        super().__init__()
        self.layout, self.latent, self.width, self.depth, self.modes, self.beta, self.bins = layout, latent, width, depth, modes, beta, bins
        self.passes, self.minutes, self.rate, self.decay, self.dropout, self.batch, self.given = passes, minutes, rate, decay, dropout, batch, given
        self.curve: list[dict] = []
        self.device = "cpu"
        with stream(0):
            self._build(bins or 16)

    def _build(self, bins: int) -> None:
        """Weights at random, from torch's own stream."""
        width = self.width
        self.values = Values(self.layout, bins, width)
        self.place = nn.Parameter(torch.randn(len(self.layout), width) * 0.1)
        self.encoder, self.decoder, self.asked = (Residual(width, self.depth, self.dropout) for _ in range(3))
        self.code, self.back = nn.Linear(width, 2 * self.latent), nn.Linear(self.latent, width)
        self.prior = nn.Linear(width, self.modes * (2 * self.latent + 1))
        self.start = nn.Parameter(torch.zeros(width))  # what the prior sees when nothing is given
        nn.init.normal_(self.prior.bias)
        with torch.no_grad():
            weight, mean, scale = self.prior.bias.split([self.modes, self.modes * self.latent, self.modes * self.latent])
            weight.zero_(), mean.mul_(0.5), scale.zero_()

    def _posterior(self, codes: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """codes (n, fields) -> mean and log scale of q(z | x), (n, latent) each."""
        h = self.encoder((F.embedding(codes, vectors) + self.place).sum(1) / math.sqrt(len(self.layout)))
        mean, scale = self.code(h).chunk(2, 1)
        return mean, scale.clamp(-7, 3)

    def _prior(self, codes: Tensor, seen: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of p(z | fields seen): log weights (n, modes), means and log scales (n, modes, latent). codes, seen (n, fields), seen of 0 and 1."""
        h = ((F.embedding(codes, vectors) + self.place) * seen[:, :, None]).sum(1) / math.sqrt(len(self.layout))
        numbers = self.modes * self.latent
        weight, mean, scale = self.prior(self.asked(h + self.start)).split([self.modes, numbers, numbers], 1)
        shape = (-1, self.modes, self.latent)
        return weight.log_softmax(1), mean.reshape(shape), scale.reshape(shape).clamp(-7, 3)

    def _bound(self, codes: Tensor, seen: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """-log p(x | z), and log q(z | x) - log p(z | given), (n,) each. seen (k, fields) of the first k rows; noise (n, latent) standard normal."""
        vectors, k = self.values.vectors(), len(seen)
        mean, scale = self._posterior(codes, vectors)
        z = mean + scale.exp() * noise
        log_q = (-0.5 * noise**2 - scale).sum(1)
        some = self._prior(codes[: k + 1], F.pad(seen, (0, 0, 0, 1)), vectors)  # the last is given nothing, and stands for all others
        log_p = torch.cat([_log_mixture(z[:k], *(v[:k] for v in some)), _log_mixture(z[k:], *(v[k:] for v in some))])
        h = self.decoder(self.back(z))
        return self.values.nats([h] * len(self.layout), codes), log_q - log_p

    def fit(self, x: Tensor, held_out: Tensor, *, rng: torch.Generator, log: Callable[[str], None] = lambda line: None, checkpoint: Path | None = None):
        """x (n, fields), held_out (m, fields). On a GPU where there is one; the model comes back to the CPU."""
        n = len(x)
        bins = self.bins or min(max(n // 20, 16), 128)
        with stream(drawn(rng)):
            self._build(bins)
        held_out = held_out[torch.randperm(len(held_out), generator=rng)[:HELD_OUT]]
        codes = self.values.codes
        rows, held, density = codes.encode(x), codes.encode(held_out), codes.log_density(held_out)
        noise = torch.randn(len(held), self.latent, generator=rng)
        self.values.start(rows)
        where = device()
        self.device = where.type
        self.to(where)
        rows, held, noise, none = rows.to(where), held.to(where), noise.to(where), torch.zeros(0, len(self.layout), device=where)

        def loss(i: Tensor, done: float) -> Tensor:
            seen = torch.rand(round(self.given * len(i)), len(self.layout), device=where)
            seen = (seen < torch.rand(len(seen), 1, device=where)).float()  # any number of fields is as likely as any other
            nats, divergence = self._bound(rows[i], seen, torch.randn(len(i), self.latent, device=where))
            return (nats + self.beta * min(done / WARM, 1.0) * divergence).mean()

        def score() -> Tensor:
            parts = zip(held.split(CHUNK), noise.split(CHUNK), strict=True)
            return density - torch.cat([sum(self._bound(c, none, e)) for c, e in parts]).cpu()

        passes, batch = self.passes or 25 * max(30_000 / n, 1) ** 0.25, self.batch or min(max(n // 50, 32), 256)
        plan = Plan(passes, batch, self.rate, decay=self.decay, minutes=self.minutes)
        history = train(self, {"": loss}, n, plan, rng=rng, score=score, log=lambda line: log(f"vae: {line}"), checkpoint=checkpoint)
        self.cpu()
        unit = "Nats a row on held-out rows, at least"
        self.curve = [{"rows": n, "width": self.width, "latent": self.latent, "bins": bins, "unit": unit, "held_out": history, "chosen": True}]
        return self

    @torch.no_grad()
    def sample(self, n: int, given: Given | None = None, *, rng: torch.Generator) -> Tensor:
        """(n, fields): z from the prior given what is asked, then every other field from its own distribution."""
        x, vectors, heads, codes = torch.zeros(n, len(self.layout)), self.values.vectors(), self.values.heads(), self.values.codes
        seen = given.mask.float() if given is not None else torch.zeros(len(self.layout))
        for at in range(0, n, CHUNK):
            rows = slice(at, at + CHUNK)
            part = codes.encode(given.values[rows] if given is not None else x[rows])
            weight, mean, scale = self._prior(part, seen.expand(len(part), -1), vectors)
            start = torch.rand(1 + len(self.layout), generator=rng, dtype=torch.double).tolist()
            mode = spread(weight.exp(), start[0])[:, None, None].expand(-1, 1, self.latent)
            z = mean.gather(1, mode)[:, 0] + scale.gather(1, mode)[:, 0].exp() * torch.randn(len(part), self.latent, generator=rng)
            h = self.decoder(self.back(z))
            for j in (seen == 0).nonzero()[:, 0].tolist():
                part[:, j] = codes.gated(j, codes.offsets[j] + spread(F.linear(h, *heads[j]).softmax(1), start[1 + j]), part)
            codes.decode(torch.where(part < codes.size, part, codes.offsets[:-1]), x[rows], rng=rng)
        return x if given is None else torch.where(given.mask, given.values, x)

    def size(self, rows: int) -> str:
        """In words, what would be fitted to so many rows."""
        return f"networks of {sum(p.numel() for p in self.parameters() if p.requires_grad):,} weights"

    def structure(self) -> dict:
        """What `restore` needs beside the tensors of the state."""
        return {"curve": self.curve, "bins": self.curve[0]["bins"]}

    def restore(self, structure: dict, tensors: dict[str, Tensor]):
        self.curve = structure["curve"]
        with stream(0):
            self._build(structure["bins"])
        self.load_state_dict(tensors)
        return self.eval()


def _log_mixture(z: Tensor, weight: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """log of sum_m weight_m N(z; mean_m, exp(scale_m)), up to a constant, (n,). weight (n or 1, modes) in logarithms."""
    return (weight + (-0.5 * ((z[:, None] - mean) * (-scale).exp()) ** 2 - scale).sum(2)).logsumexp(1)
