"""Autoregressive: p(x) = prod_j p(x_j | the fields before j), for any order of the fields, by one network.

The network sees some fields i of a row and gives the distribution of every other field j:
    h_j = f(place_j + sum over seen i of A_ji * e(x_i)),   p(x_j = v | seen) = softmax_v(u_v . h_j + b_v)
with an embedding e of every value, and A_ji one learned weight for each pair of fields. Most rows are learned from in the
layout's order, in which rows are drawn; the others in orders drawn at random, so that what is given may stand first and
conditions hold exactly. Numbers are fine bins, entered and predicted through smooth functions over their bins, so that
neighbours share what they learn. Rows are drawn together, with evenly spread random numbers over rows that are alike
(array-RQMC).

The neural autoregressive distribution estimator; H. Larochelle, I. Murray; 2011; https://proceedings.mlr.press/v15/larochelle11a
A deep and tractable density estimator; B. Uria, I. Murray, H. Larochelle; 2014; https://arxiv.org/abs/1310.1757
A randomized quasi-Monte Carlo simulation method for Markov chains; P. L'Ecuyer, C. Lecot, B. Tuffin; 2008; https://doi.org/10.1287/opre.1070.0492
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.codes import Codes
from generators.layout import Given, Layout
from generators.streams import drawn, stream
from generators.train import Plan, device, train

KNOTS = 16  # smooth functions over the bins of a number
CHUNK = 8192  # rows that go through the network at a time
HELD_OUT = 4000  # held-out rows that are looked at, at most
TABLE = 2**25  # numbers that are held while rows are drawn, about
GOLDEN, SILVER = 0.6180339887498949, 0.4142135623730950  # steps that spread numbers evenly: of rows, and of chunks of rows


class Autoregressive(nn.Module):
    """layout: what a row is.

    width:   hidden units
    bins:    bins of a number, of equal probability, at most; None: one for 20 rows, 16 to 128
    passes:  over the rows at most; None: 10 over 30,000 rows, more over fewer
    minutes: a time budget; None sets none
    rate, decay, dropout, batch: of the training; batch None: 32 to 256 rows, as many as make 50 steps a pass
    ordered: share of the rows that are learned from in the layout's order
    """

    def __init__(
        self, layout: Layout, width: int = 256, bins: int | None = None, passes: float | None = None, minutes: float | None = None,
        rate: float = 0.015, decay: float = 1.0, dropout: float = 0.45, batch: int | None = None, ordered: float = 0.75,
    ):  # fmt: skip
        super().__init__()
        self.layout, self.width, self.bins = layout, width, bins
        self.passes, self.minutes, self.rate, self.decay, self.batch = passes, minutes, rate, decay, batch
        self.dropout, self.ordered = dropout, ordered
        self.curve: list[dict] = []
        self.device = "cpu"
        with stream(0):
            self._build(bins or 16)

    def _build(self, bins: int) -> None:
        """Weights at random, from torch's own stream."""
        self.codes = codes = Codes.single(self.layout, bins)
        fields, values, width = len(self.layout), codes.size, self.width
        smooth = [_smooth(edges) if len(edges) else torch.zeros(k, 0) for edges, k in zip(codes.edges, codes.offsets.diff().tolist(), strict=True)]
        self.register_buffer("basis", torch.block_diag(*smooth), persistent=False)  # (V, functions)
        functions = self.basis.shape[1]
        self.embed, self.embed_smooth = _normal(values + 2, width), _normal(functions, width)
        self.embed.data[:-2][self.basis.any(1)] = 0  # bins of numbers start as their smooth functions say
        self.place, self.seen = _normal(fields, width), _normal(fields, width)
        self.pairs = nn.Parameter(torch.ones(fields, fields))
        self.norm = nn.LayerNorm(width)
        self.out, self.out_smooth = nn.Parameter(torch.zeros(values, width)), nn.Parameter(torch.zeros(functions, width))
        self.bias = nn.Parameter(torch.zeros(values))

    def _embedded(self, codes: Tensor) -> Tensor:
        """codes (n, fields) -> (n, fields, width)."""
        table = self.embed + F.pad(self.basis @ self.embed_smooth, (0, 0, 0, 2))
        return F.embedding(codes, table) + self.seen

    def _hidden(self, embedded: Tensor, sees: Tensor) -> Tensor:
        """embedded (n, fields, width), sees (n or 1, fields, fields) of 0 and 1 -> (n, fields, width)."""
        h = (sees * self.pairs) @ embedded + self.place
        return F.dropout(F.gelu(self.norm(h)), self.dropout, self.training)

    def _heads(self) -> list[tuple[Tensor, Tensor]]:
        """For each field (values, width) and (values,): what turns a hidden state into logits."""
        sizes = self.codes.offsets.diff().tolist()
        return list(zip((self.out + self.basis @ self.out_smooth).split(sizes), self.bias.split(sizes), strict=True))

    def _nats(self, codes: Tensor, sees: Tensor) -> Tensor:
        """(n,): minus the sum over fields that are switched on of log p(field | what it sees)."""
        hidden = self._hidden(self._embedded(codes), sees).unbind(1)
        value = torch.where(codes < self.codes.size, codes - self.codes.offsets[:-1], -100)  # -100 counts nothing
        return sum(F.cross_entropy(F.linear(h, *head), v, reduction="none") for h, v, head in zip(hidden, value.unbind(1), self._heads(), strict=True))

    def _orders(self, n: int) -> Tensor:
        """(n, fields, fields): 1 where field j (rows) sees field i (columns), in an order of each row's own."""
        where, fields = self.bias.device, len(self.layout)
        rank = torch.rand(n, fields, device=where)
        rank = torch.where(torch.rand(n, 1, device=where) < self.ordered, torch.arange(fields, device=where) / fields, rank)
        return (rank[:, None, :] < rank[:, :, None]).float()

    def fit(self, x: Tensor, held_out: Tensor, *, rng: torch.Generator, log: Callable[[str], None] = lambda line: None, checkpoint: Path | None = None):
        """x (n, fields), held_out (m, fields). On a GPU where there is one; the model comes back to the CPU."""
        n = len(x)
        bins = self.bins or min(max(n // 20, 16), 128)
        with stream(drawn(rng)):
            self._build(bins)
        held_out = held_out[torch.randperm(len(held_out), generator=rng)[:HELD_OUT]]
        rows, held = self.codes.encode(x), self.codes.encode(held_out)
        counts = torch.bincount(rows.reshape(-1), minlength=self.codes.size + 2)[: self.codes.size].float()
        self.bias.data.copy_((counts + 0.5).log())
        density = float(self.codes.log_density(held_out).mean())
        where = device()
        self.device = where.type
        self.to(where)
        rows, held = rows.to(where), held.to(where)

        def score() -> float:
            return density - float(torch.cat([self._nats(c, self._natural()) for c in held.split(CHUNK)]).mean())

        passes, batch = self.passes or 10 * max(30_000 / n, 1) ** 0.25, self.batch or min(max(n // 50, 32), 256)
        plan = Plan(passes, batch, self.rate, decay=self.decay, minutes=self.minutes)
        losses = {"": lambda i: self._nats(rows[i], self._orders(len(i))).mean()}
        history = train(self, losses, n, plan, rng=rng, score=score, log=lambda line: log(f"autoregressive: {line}"), checkpoint=checkpoint)
        self.cpu()
        self.curve = [{"rows": n, "width": self.width, "bins": bins, "held_out": history, "chosen": True}]
        return self

    def _natural(self) -> Tensor:
        """(1, fields, fields): every field sees those before it."""
        return torch.ones(1, len(self.layout), len(self.layout), device=self.bias.device).tril(-1)

    @torch.no_grad()
    def log_prob(self, x: Tensor) -> Tensor:
        """(n, fields) -> (n,) nats, in the layout's order."""
        return self.codes.log_density(x) - torch.cat([self._nats(c, self._natural()) for c in self.codes.encode(x).split(CHUNK)])

    @torch.no_grad()
    def sample(self, n: int, given: Given | None = None, *, rng: torch.Generator) -> Tensor:
        """(n, fields), field by field in the layout's order, what is given first."""
        fields, x = len(self.layout), torch.zeros(n, len(self.layout))
        fixed = given.mask if given is not None else torch.zeros(fields, dtype=torch.bool)
        order = torch.cat([fixed.nonzero()[:, 0], (~fixed).nonzero()[:, 0]]).tolist()
        start, heads = torch.rand(fields, generator=rng, dtype=torch.double), self._heads()
        table = self.embed + F.pad(self.basis @ self.embed_smooth, (0, 0, 0, 2))
        chunk = max(TABLE // (fields * self.width), 256)
        for c, at in enumerate(range(0, n, chunk)):
            rows = slice(at, at + chunk)
            part = given.values[rows] if given is not None else x[rows]
            codes = self._drawn(self.codes.encode(part), order, int(fixed.sum()), table, heads, (start + c * SILVER) % 1)
            self.codes.decode(codes, x[rows], rng=rng)
        return x if given is None else torch.where(given.mask, given.values, x)

    def _drawn(self, codes: Tensor, order: list[int], known: int, table: Tensor, heads: list, start: Tensor) -> Tensor:
        """codes (n, fields): the first `known` fields of the order stay, the others are drawn. start (fields,): where its random numbers start."""
        n, offsets = len(codes), self.codes.offsets.tolist()
        shown = torch.empty(len(order), n * self.width)  # embeddings of the fields seen so far, in the order
        for position, j in enumerate(order):
            if position >= known:
                h = self.place[j] + (self.pairs[j, order[:position]] @ shown[:position]).view(n, self.width)
                logits = F.linear(F.gelu(self.norm(h)), *heads[j])
                value, gate = offsets[j] + _spread(logits.softmax(1), float(start[j])), self.layout.fields[j].gate
                codes[:, j] = value if gate is None else torch.where(codes[:, gate] == offsets[gate], value, offsets[-1] + 1)
            torch.add(F.embedding(codes[:, j], table), self.seen[j], out=shown[position].view(n, self.width))
        return torch.where(codes < offsets[-1], codes, self.codes.offsets[:-1])

    def size(self, rows: int) -> str:
        """In words, what would be fitted to so many rows."""
        return f"a network of {sum(p.numel() for p in self.parameters() if p.requires_grad):,} weights"

    def structure(self) -> dict:
        """What `restore` needs beside the tensors of the state."""
        return {"curve": self.curve, "bins": self.curve[0]["bins"]}

    def restore(self, structure: dict, tensors: dict[str, Tensor]):
        self.curve = structure["curve"]
        with stream(0):
            self._build(structure["bins"])
        self.load_state_dict(tensors)
        return self.eval()


def _normal(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape) * 0.1)


def _smooth(edges: Tensor) -> Tensor:
    """Edges of a number's bins (bins + 1,) -> (bins, KNOTS + 2): bumps over its shares, and its value and square."""
    share = torch.special.ndtr(edges)
    middle = (share[1:] + share[:-1]) / 2
    bumps = torch.exp(-0.5 * ((middle[:, None] - torch.linspace(0, 1, KNOTS)) * KNOTS) ** 2)
    z = torch.special.ndtri(middle.clamp(1e-4, 1 - 1e-4))[:, None] / 3
    return torch.cat([bumps, z, z**2], 1)


def _spread(p: Tensor, start: float) -> Tensor:
    """(n, k) probabilities -> (n,) classes: random numbers are spread evenly over rows in the order of their mean class."""
    n, k = p.shape
    u = torch.empty(n, dtype=torch.double)
    u[(p @ torch.arange(k, dtype=p.dtype)).argsort()] = (torch.arange(n, dtype=torch.double) * GOLDEN + start) % 1
    cumulative = p.double().cumsum(1)
    return torch.searchsorted(cumulative, (u * cumulative[:, -1])[:, None], right=True)[:, 0].clamp_max(k - 1)
