"""Regression: numbers of a step as a linear function of those of the steps before it, for smooth signals. A leaf of a hidden Markov model.

z_t | k, z_t-1 .. z_t-p ~ N(W_k [1 z_t-1 .. z_t-p], C_k),  z_0 | k ~ N(m_k, D_k); before the first step stands the first again.

A new approach to the economic analysis of nonstationary time series and the business cycle; J. Hamilton; 1989; https://doi.org/10.2307/1912559
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from generators.leaves import CHUNK, FLOOR, STRENGTHS, Gaussian


class Regression(nn.Module):
    """fields: of a step, d of them, continuous and always there; lags: p; behind the `width` fields of a step its row holds the
    fields of the step before it, and of that before it, and 1 of a first step, 0 of any other (see past.with_past).

    The sums of a component are raised by those of all data, `strength` rows of them, so that components of few rows keep near
    the regression of all; the strength is chosen on held-out rows.
    """

    def __init__(self, fields: list[int], lags: int, width: int, components: int):
        super().__init__()
        d = len(fields)
        self.fields, self.lags, self.width = fields, lags, width
        self.first = Gaussian(fields, components)
        self.register_buffer("weight", torch.zeros(components, d, 1 + lags * d, dtype=torch.double))
        self.register_buffer("cholesky", torch.eye(d, dtype=torch.double).repeat(components, 1, 1))
        self.register_buffer("strength", torch.tensor(3.0))
        self.pooled, self.linear = torch.empty(0), None

    def of_all(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What `pooled` is, of the first steps and of the others, from the rows of all data (n, all columns)."""
        first, later = sum(self.sums(c, torch.ones(len(c[1]), 1)) for c in self.prepare(x))[0].split(self._sizes())
        return _spread(first), later / later[0]

    def _sizes(self) -> list[int]:
        d = len(self.fields)
        return [(1 + d) ** 2, (1 + self.lags * d + d) ** 2]

    def prepare(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        """In chunks: [1 past now]' (m, 1 + p d + d), and whether a first step, (m,)."""
        out = []
        for some in x.split(CHUNK):
            past = some[:, self.width : self.width + self.lags * len(self.fields)]
            out.append((torch.cat([torch.ones(len(some), 1), past, some[:, self.fields]], 1).double(), some[:, -1] > 0))
        return out

    def log_prob(self, chunk: tuple[Tensor, Tensor]) -> Tensor:
        """(m, K)."""
        row, first = chunk
        if self.linear is None:
            d = len(self.fields)
            whole = torch.cat([-self.weight, torch.eye(d, dtype=torch.double).expand(len(self.weight), d, d)], 2)
            scale = self.cholesky.diagonal(dim1=1, dim2=2).log().sum(1) + 0.5 * d * math.log(2 * math.pi)
            self.linear = torch.linalg.solve_triangular(self.cholesky, whole, upper=False), scale
        whole, scale = self.linear  # (K, d, columns): what makes a row white
        white = (row @ whole.reshape(-1, whole.shape[2]).t()).view(len(row), *whole.shape[:2])
        out = (-0.5 * white.square().sum(2) - scale).float()
        if first.any():
            out[first] = self.first.log_prob(row[first, -len(self.fields) :])
        return out

    def sums(self, chunk: tuple[Tensor, Tensor], r: Tensor) -> Tensor:
        """Responsibilities r (m, K) -> weighted sums of products, of first steps and of the others, (K, both)."""
        row, first = chunk
        r = r.double()
        later = _products(row, r * ~first[:, None])
        at = torch.nn.functional.pad(row[first, -len(self.fields) :], (1, 0), value=1.0)
        return torch.cat([_products(at, r[first]).flatten(1), later.flatten(1)], 1)

    def update(self, sums: Tensor) -> None:
        d = len(self.fields)
        first, later = sums.split(self._sizes(), 1)
        self.first.update(first)
        u = 1 + self.lags * d
        total = (later + self.strength * self.pooled).view(-1, u + d, u + d)
        past, both, now = total[:, :u, :u], total[:, :u, u:], total[:, u:, u:]
        ridge = FLOOR * past.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] * torch.eye(u)
        self.weight = torch.linalg.solve(past + ridge, both).mT  # (K, d, u)
        left = now - self.weight @ both - both.mT @ self.weight.mT + self.weight @ past @ self.weight.mT
        self.cholesky = torch.linalg.cholesky(left / total[:, :1, :1] + FLOOR * torch.eye(d))
        self.linear = None

    def tune(self, sums: Tensor, chunks: list, r: list[Tensor]) -> None:
        """The strength under which held-out rows are most likely."""
        found = []
        for strength in STRENGTHS[:-1]:
            self.strength.copy_(strength)
            self.update(sums)
            found.append(sum(float((w * self.log_prob(c)).sum()) for c, w in zip(chunks, r, strict=True)))
        self.strength.copy_(STRENGTHS[torch.tensor(found).argmax()])
        self.update(sums)

    def draw(self, k: Tensor, past: Tensor | None, *, rng: torch.Generator) -> Tensor:
        """The numbers (n, d) of steps in components k (n,), after past (n, p d), nearest step first, or of first steps."""
        noise = torch.randn(len(k), len(self.fields), generator=rng, dtype=torch.double)
        if past is None:
            return (self.first.mean[k] + (self.first.cholesky[k] @ noise[:, :, None])[:, :, 0]).float()
        row = torch.nn.functional.pad(past.double(), (1, 0), value=1.0)
        return ((self.weight[k] @ row[:, :, None] + self.cholesky[k] @ noise[:, :, None])[:, :, 0]).float()


def _products(x: Tensor, r: Tensor) -> Tensor:
    """x (m, c), r (m, K) -> (K, c, c): sums of r x x'."""
    return (r.t() @ (x[:, :, None] * x[:, None, :]).flatten(1)).view(r.shape[1], x.shape[1], -1)


def _spread(sums: Tensor) -> Tensor:
    """Sums of products of [1 z] -> the covariance of z."""
    d = int(len(sums) ** 0.5) - 1
    sums = sums.view(d + 1, d + 1) / sums[0]
    return sums[1:, 1:] - sums[0, 1:, None] * sums[0, None, 1:] + FLOOR * torch.eye(d)
