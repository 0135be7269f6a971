"""Heads: values of fields as vectors, and vectors as distributions over the values of fields. What nets over a layout share.

Every field is one of some values: the classes of a category, or fine bins of a number. A value's vector is its own, plus, for
a bin, smooth functions of where the bin lies; so neighbours share what they learn, on the way in and on the way out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.codes import Codes

KNOTS = 16  # bumps over the bins of a number
GOLDEN = 0.6180339887498949  # a step that spreads numbers evenly over [0, 1)


class Values(nn.Module):
    """V values of all fields together. Codes (n, fields) number them; V and V + 1 stand for what is not known and what does not
    count, which have vectors but are never predicted."""

    def __init__(self, codes: Codes, width: int):
        super().__init__()
        self.offsets = codes.offsets.tolist()
        edges = [e for e in codes.edges if len(e)]
        most = max((len(e) - 1 for e in edges), default=0)
        basis = torch.stack([F.pad(_smooth(e), (0, 0, 0, most + 1 - len(e))) for e in edges]) if edges else torch.zeros(0, 0, KNOTS + 2)
        self.register_buffer("basis", basis, persistent=False)  # (numbers, most bins of one, functions)
        filled = torch.tensor([i * most + b for i, e in enumerate(edges) for b in range(len(e) - 1)], dtype=torch.long)
        self.register_buffer("filled", filled, persistent=False)  # (bins of all numbers,): where they are in basis
        size = codes.size
        bins_of = [v for i in codes.layout.continuous for v in range(self.offsets[i], self.offsets[i + 1])]
        self.register_buffer("numeric", torch.tensor(bins_of, dtype=torch.long), persistent=False)  # and which values they are
        self.vector, self.vector_smooth = _normal(size + 2, width), _normal(len(edges), KNOTS + 2, width)
        self.vector.data[self.numeric] = 0  # a bin starts as its smooth functions say
        self.out, self.out_smooth = nn.Parameter(torch.zeros(size, width)), nn.Parameter(torch.zeros(len(edges), KNOTS + 2, width))
        self.bias = nn.Parameter(torch.zeros(size))

    def _all(self, own: Tensor, smooth: Tensor) -> Tensor:
        shared = (self.basis @ smooth).flatten(0, 1)[self.filled]  # (bins of all numbers, width)
        return own.index_add(0, self.numeric, shared)

    def vectors(self) -> Tensor:
        """(V + 2, width)."""
        return self._all(self.vector, self.vector_smooth)

    def heads(self) -> list[tuple[Tensor, Tensor]]:
        """For each field (its values, width) and (its values,): what turns a hidden state into logits."""
        sizes = [b - a for a, b in pairwise(self.offsets)]
        return list(zip(self._all(self.out, self.out_smooth).split(sizes), self.bias.split(sizes), strict=True))

    def start(self, codes: Tensor, told: Tensor | None = None) -> None:
        """Predictions start as the margins of codes (n, fields), or of what is told of those, (V,)."""
        counts = told if told is not None else torch.bincount(codes.reshape(-1), minlength=len(self.bias) + 2)[: len(self.bias)].float()
        self.bias.data.copy_((counts + 0.5).log())

    def nats(self, hidden: Sequence[Tensor], within: Tensor, more: Mapping[int, Tensor] | None = None) -> Tensor:
        """(n,): minus the sum over fields that count of log p(value | hidden state). hidden: for each field (n, width); within: see Codes;
        more: of some fields what is added to the logits (n, values)."""
        found, more = 0.0, more or {}
        for j, (h, v, head) in enumerate(zip(hidden, within.unbind(1), self.heads(), strict=True)):
            logits = F.linear(h, *head)
            found = found + F.cross_entropy(logits + more[j] if j in more else logits, v, reduction="none")
        return found


def even(p: Tensor, start: float) -> Tensor:
    """(n, k) probabilities -> (n,) numbers in [0, 1), spread evenly over rows in the order of their mean class.

    A randomized quasi-Monte Carlo simulation method for Markov chains; P. L'Ecuyer, C. Lecot, B. Tuffin; 2008; https://doi.org/10.1287/opre.1070.0492
    """
    n, k = p.shape
    u = torch.empty(n, dtype=torch.double)
    u[(p @ torch.arange(k, dtype=p.dtype)).argsort()] = (torch.arange(n, dtype=torch.double) * GOLDEN + start) % 1
    return u


def spread(p: Tensor, start: float) -> Tensor:
    """(n, k) probabilities -> (n,) classes, by evenly spread random numbers."""
    cumulative = p.double().cumsum(1)
    wanted = even(p, start) * cumulative[:, -1]
    return torch.searchsorted(cumulative, wanted[:, None], right=True)[:, 0].clamp_max(p.shape[1] - 1)


def _normal(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape) * 0.1)


def _smooth(edges: Tensor) -> Tensor:
    """Edges of a number's bins (bins + 1,) -> (bins, KNOTS + 2): bumps over its shares, and its value and square."""
    share = torch.special.ndtr(edges)
    middle = (share[1:] + share[:-1]) / 2
    bumps = torch.exp(-0.5 * ((middle[:, None] - torch.linspace(0, 1, KNOTS)) * KNOTS) ** 2)
    z = torch.special.ndtri(middle.clamp(1e-4, 1 - 1e-4))[:, None] / 3
    return torch.cat([bumps, z, z**2], 1)
