"""Ties: how much more probable a value of a category is after that of the step before than anyhow. What networks learn is beyond that.

    tie(a, b) = log p(b | a) - log p(b),   p(b | a) = (n_ab + STRENGTH q(b | a)) / (n_a + STRENGTH),   q(b | a) = s 1[a = b] + (1 - s) p(b)
n counts pairs of steps, s is the share of steps that all values together keep beyond chance. A diagnosis that stays for years says so in
few records, and a network that is held back from learning few records by heart would hardly see it.

Statistical inference about Markov chains; T. Anderson, L. Goodman; 1957; https://doi.org/10.1214/aoms/1177707039
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from generators.codes import Codes

STRENGTH = 5.0  # pairs of steps that what holds for all values together counts as
MOST = 1024  # values of a field that is tied, at most


class Ties(nn.Module):
    """A table for each field of classes, whose last row is of steps without a value before them, so of first steps."""

    def __init__(self, codes: Codes):
        super().__init__()
        sizes = [f.classes for f in codes.layout.fields]
        self.fields = [j for j, k in enumerate(sizes) if 1 < k <= MOST]
        for j in self.fields:
            self.register_buffer(f"tie_{j}", torch.zeros(sizes[j] + 1, sizes[j]))

    def start(self, within: Tensor, before: Tensor) -> None:
        """within and before (steps, fields): numbers of the values at every step and at that before, negative where there is none."""
        for j in self.fields:
            table, now, then = getattr(self, f"tie_{j}"), within[:, j], before[:, j]
            k = table.shape[1]
            p = (torch.bincount(now[now >= 0], minlength=k) + 0.5).double()
            p, both = p / p.sum(), (now >= 0) & (then >= 0)
            n = torch.bincount(then[both] * k + now[both], minlength=k * k).view(k, k).double()
            same, chance = float(n.diagonal().sum() / n.sum().clamp_min(1)), float(p.square().sum())
            most = 1 - 1 / (float(n.sum()) + 2)  # what never changed may change: the next pair of steps could be the first to
            kept = min(max((same - chance) / max(1 - chance, 1e-9), 0.0), most)
            q = (1 - kept) * p + kept * torch.eye(k, dtype=p.dtype, device=p.device)
            first = torch.bincount(now[(now >= 0) & (then < 0)], minlength=k).double()
            n, q = torch.cat([n, first[None]]), torch.cat([q, p[None]])
            table.copy_(((n + STRENGTH * q) / (n.sum(1, keepdim=True) + STRENGTH) / p).log())

    def forward(self, before: Tensor) -> dict[int, Tensor]:
        """before (n, fields), see start -> for each tied field (n, values), to be added to the logits."""
        return {j: self.of(j, before[:, j]) for j in self.fields}

    def of(self, j: int, before: Tensor) -> Tensor:
        """Of one field, (n,) -> (n, values), or zero."""
        if j not in self.fields:
            return before.new_zeros(len(before), 1, dtype=torch.float)
        table = getattr(self, f"tie_{j}")
        return table[torch.where(before < 0, table.shape[1], before)]
