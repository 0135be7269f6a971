"""Ties: how much more probable a value is after that of the step before than anyhow. What networks learn is beyond that.

    tie(a, b) = log p(b | a) - log p(b),   p(b | a) = (n_ab + STRENGTH q(b | a)) / (n_a + STRENGTH),   q(b | a) = s 1[a = b] + (1 - s) p(b)
n counts pairs of steps, s is the share of steps that all values together keep beyond chance. A diagnosis that stays for years says so in
few records, and a network that is held back from learning few records by heart would hardly see it.

Where counts have noise, of sd e each, what n has beyond chance, n - N p p', is a matrix with independent noise, whose singular values alone
reach 2 e sqrt(values). So what is below is left out, and a larger y becomes sqrt(y^2 - 4 e^2 values).

Statistical inference about Markov chains; T. Anderson, L. Goodman; 1957; https://doi.org/10.1214/aoms/1177707039
Optimal shrinkage of singular values; M. Gavish, D. Donoho; 2017; https://arxiv.org/abs/1405.7511
Estimation with quadratic loss; W. James, C. Stein; 1961; https://projecteuclid.org/euclid.bsmsp/1200512173
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from generators.codes import Codes

STRENGTH = 5.0  # pairs of steps that what holds for all values together counts as
MOST = 1024  # values of a field that is tied, at most


class Ties(nn.Module):
    """A table for each field of classes, and with `numbers` of bins, whose last row is of steps without a value before them, so of first steps."""

    def __init__(self, codes: Codes, numbers: bool = False):
        super().__init__()
        self.sizes = [k if numbers or f.classes else 0 for k, f in zip(codes.offsets.diff().tolist(), codes.layout.fields, strict=True)]
        self.fields = [j for j, k in enumerate(self.sizes) if 1 < k <= MOST]
        for j in self.fields:
            self.register_buffer(f"tie_{j}", torch.zeros(self.sizes[j] + 1, self.sizes[j]))

    def counts(self, j: int, now: Tensor, then: Tensor, weight: Tensor | None = None) -> Tensor:
        """Of a field of k values, (k + 1, k): how many steps have which value, (steps,), after which, negative where there is none; or their weights."""
        k, there = self.sizes[j], now >= 0
        pair = torch.where(then < 0, k, then)[there] * k + now[there]
        return torch.bincount(pair, weight if weight is None else weight[there], (k + 1) * k).view(k + 1, k).double()

    def start(self, within: Tensor, before: Tensor) -> None:
        """within and before (steps, fields): numbers of the values at every step and at that before, negative where there is none."""
        for j in self.fields:
            n = self.counts(j, within[:, j], before[:, j])
            p = n.sum(0) + 0.5
            p, pairs = p / p.sum(), n[:-1]
            same, chance = float(pairs.diagonal().sum() / pairs.sum().clamp_min(1)), float(p.square().sum())
            most = 1 - 1 / (float(pairs.sum()) + 2)  # what never changed may change: the next pair of steps could be the first to
            kept = min(max((same - chance) / max(1 - chance, 1e-9), 0.0), most)
            q = (1 - kept) * p + kept * torch.eye(len(p), dtype=p.dtype, device=p.device)
            self._put(j, n, torch.cat([q, p[None]]), p)

    def hear(self, told: Sequence[Tensor], off: float) -> list[Tensor]:
        """From counts (k + 1, k) of each tied field, each so far off; returns how often each value is there, (k,) of each."""
        found = []
        for j, n in zip(self.fields, told, strict=True):
            k = len(n) - 1
            p = n.sum(0).clamp_min(off + 0.5)
            p = p / p.sum()
            pairs, first = (float(part.sum().clamp_min(1)) for part in (n[:-1], n[-1]))
            u, size, v = torch.linalg.svd(n[:-1] - pairs * torch.outer(p, p))
            more = (u * (size.square() - 4 * k * off**2).clamp_min(0).sqrt()) @ v
            own = n[-1] - first * p
            own = own * (1 - k * off**2 / own.square().sum().clamp_min(1e-9)).clamp_min(0)
            self._put(j, torch.cat([pairs * torch.outer(p, p) + more, (first * p + own)[None]]).clamp_min(0), p, p)
            found.append(p * (pairs + first))
        return found

    def _put(self, j: int, n: Tensor, q: Tensor, p: Tensor) -> None:
        getattr(self, f"tie_{j}").copy_(((n + STRENGTH * q) / (n.sum(1, keepdim=True) + STRENGTH) / p).log())

    def forward(self, before: Tensor) -> dict[int, Tensor]:
        """before (n, fields), see start -> for each tied field (n, values), to be added to the logits."""
        return {j: self.of(j, before[:, j]) for j in self.fields}

    def of(self, j: int, before: Tensor) -> Tensor:
        """Of one field, (n,) -> (n, values), or zero."""
        if j not in self.fields:
            return before.new_zeros(len(before), 1, dtype=torch.float)
        table = getattr(self, f"tie_{j}")
        return table[torch.where(before < 0, table.shape[1], before)]
