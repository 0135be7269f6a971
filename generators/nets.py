"""Networks that families share."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.codes import Codes
from generators.layout import Layout

BINS = 16  # of a number that a condition holds


class AnyOrder(nn.Module):
    """For every field j a hidden state that knows the fields which j sees, and no other, whatever their order.

    h_j = f(place_j + sum over seen i of A_ji * (vector of i's value + seen_i)), f layer normalisation, GELU and dropout,
    with one learned weight A_ji for each pair of fields.
    The neural autoregressive distribution estimator; H. Larochelle, I. Murray; 2011; https://proceedings.mlr.press/v15/larochelle11a
    """

    def __init__(self, fields: int, width: int, dropout: float):
        super().__init__()
        self.place, self.seen = nn.Parameter(torch.randn(fields, width) * 0.1), nn.Parameter(torch.randn(fields, width) * 0.1)
        self.pairs = nn.Parameter(torch.ones(fields, fields))
        self.norm, self.dropout = nn.LayerNorm(width), dropout

    def forward(self, vectors: Tensor, sees: Tensor, context: Tensor | float = 0.0) -> Tensor:
        """vectors (n, fields, width), sees (n or 1, fields, fields) of 0 and 1 -> (n, fields, width). context (n, 1, width): what all fields see."""
        h = (sees * self.pairs) @ (vectors + self.seen) + self.place + context
        return dropout(F.gelu(self.norm(h)), self.dropout, self.training)

    def first(self, field: int) -> Tensor:
        """Hidden state of a field that sees none, (width,)."""
        return F.gelu(self.norm(self.place[field]))

    def draw(self, codes: Tensor, order: list[int], known: int, vectors: Tensor, pick: Callable[[int, Tensor], Tensor], context: Tensor | float = 0.0) -> None:
        """Fills codes (n, fields) field by field in this order, but for the first `known`, with what `pick` makes of (field, hidden (n, width)).
        context (n, width): what all fields see."""
        shown = torch.empty(len(order), len(codes), vectors.shape[1])  # vectors of the fields seen so far, in the order
        for k, j in enumerate(order):
            if k >= known:
                h = self.place[j] + context + (self.pairs[j, order[:k]] @ shown[:k].flatten(1)).view(shown.shape[1:])
                codes[:, j] = pick(j, F.gelu(self.norm(h)))
            torch.add(F.embedding(codes[:, j], vectors), self.seen[j], out=shown[k])

    def orders(self, n: int, ordered: float) -> Tensor:
        """sees (n, fields, fields): for a share `ordered` of the rows in the order of the fields, else in orders at random."""
        where, fields = self.place.device, len(self.place)
        rank = torch.rand(n, fields, device=where)
        rank = torch.where(torch.rand(n, 1, device=where) < ordered, torch.arange(fields, device=where) / fields, rank)
        return (rank[:, None, :] < rank[:, :, None]).float()

    def natural(self) -> Tensor:
        """sees (1, fields, fields): every field sees those before it."""
        return torch.ones(1, *self.pairs.shape, device=self.place.device).tril(-1)


def dropout(x: Tensor, share: float, training: bool) -> Tensor:
    """Dropout with one random byte a number, many times faster on a CPU than torch's; the share is rounded to 1 / 256.

    Dropout: a simple way to prevent neural networks from overfitting; N. Srivastava et al.; 2014; https://jmlr.org/papers/v15/srivastava14a.html
    """
    off = round(256 * share)
    if not training or not off:
        return x
    words = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device).random_(-(2**63), None)
    keep = (words.view(torch.uint8)[: x.numel()] >= off).view(x.shape)
    return x * keep * (256 / (256 - off))


class Residual(nn.Module):
    """x + W2 f(W1 x), `depth` times, f layer normalisation before and GELU and dropout after the first map; (n, width) both ways."""

    def __init__(self, width: int, depth: int, dropout: float):
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(depth)])
        self.wide = nn.ModuleList([nn.Linear(width, 2 * width) for _ in range(depth)])
        self.back = nn.ModuleList([nn.Linear(2 * width, width) for _ in range(depth)])
        for layer in self.back:
            nn.init.zeros_(layer.weight)
        self.last, self.dropout = nn.LayerNorm(width), dropout

    def forward(self, x: Tensor) -> Tensor:
        for norm, wide, back in zip(self.norms, self.wide, self.back, strict=True):
            x = x + back(dropout(F.gelu(wide(norm(x))), self.dropout, self.training))
        return self.last(x)


def log_mixture(z: Tensor, weight: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """log of sum_m weight_m N(z; mean_m, exp(scale_m)), up to a constant, (n,). weight (n or 1, modes) in logarithms."""
    return (weight + (-0.5 * ((z[:, None] - mean) * (-scale).exp()) ** 2 - scale).sum(2)).logsumexp(1)


class Stays(nn.Module):
    """What stays of a subject, or stands beside a picture, as a vector: static (n, fields) -> (n, width)."""

    def __init__(self, layout: Layout, width: int):
        super().__init__()
        self.codes = Codes.single(layout, BINS)
        self.vectors = nn.EmbeddingBag(self.codes.size + 2, width, mode="sum")
        nn.init.normal_(self.vectors.weight, std=0.1)

    def forward(self, static: Tensor) -> Tensor:
        return self.vectors(self.codes.encode(static))
