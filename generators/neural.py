"""Neural: what families that are trained by gradients share. A family adds its formula: networks, a loss, and how rows are drawn."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from generators.base import Mechanism
from generators.data import DataError
from generators.descent import Descent, descend
from generators.layout import Given, Layout
from generators.streams import drawn, stream
from generators.train import Plan, device, train

COUNT = 0.1  # share of what may be told by counts that goes to the number of rows
STEPS = 8  # that are tried to tell how long a training takes
HELD_OUT = 4000  # held-out rows that are looked at, at most
STEERED = ("passes", "rate")  # arguments of a training through a mechanism
TABLE = 2**25  # numbers that are held for a batch of rows, about

Losses = dict[str, Callable[[Tensor, float], Tensor]]
Score = Callable[[], Tensor]


class Neural(nn.Module):
    """A generator over codes, one for each field of a row.

    A family defines
        sizes(n)      -> arguments of `build` that depend on the number n of rows to learn from; they are saved
        build(**sizes)   makes self.codes and its networks, with weights at random from torch's own stream
        plan(n)       -> how n rows are trained on, which arguments of the same names change
        objective(x, held_out, rng) -> losses and score, as `train` takes them; x (n, fields), held_out (m, fields)
        drawer(known, rng) -> fill(codes, inside) -> how many rows can be as asked. It writes codes (n, fields) of the fields
                         that are not known, and may write where inside its bin each number is, inside (n, fields) in [0, 1]

    With a `descent` it can be learned through a mechanism: then `counted` are noisy counts (V,) of all codes, and the loss may look at the rows that it
    is asked about and at nothing else; see descent.py.
    """

    unit = "Nats a row on held-out rows"  # of the score
    descent: Descent | None = None
    counted: Tensor | None = None
    called: str | None = None  # as users choose it, where the class is called otherwise
    width: int | None = None

    def __init__(self, layout: Layout, asked: Mapping[str, Any]):
        """asked: what to change in the plan; raises TypeError for a name that a plan does not have."""
        super().__init__()
        known = [f.name for f in fields(Plan)]
        if unknown := [name for name in asked if name not in known]:
            raise TypeError(f"unknown argument {unknown[0]!r}, expected one of those of {self.called or type(self).__name__} or {', '.join(known)}")
        self.layout, self.asked = layout, {k: v for k, v in asked.items() if v is not None}
        self.curve: list[dict] = []
        self.device = "cpu"
        self._plan(1000)

    def _plan(self, n: int) -> Plan:
        return replace(self.plan(n), **self.asked)

    def fit(
        self, x: Tensor, held_out: Tensor, *, rng: torch.Generator, log: Callable[[str], None] = lambda line: None,
        checkpoint: Path | None = None, mechanism: Mechanism | None = None,
    ):  # fmt: skip
        """x (n, fields), held_out (m, fields). On a GPU where there is one; the model comes back to the CPU.

        mechanism: sees to it that no more is told of the rows than may be, of a family with a `descent`"""
        if mechanism is not None:
            return self._fit_under(mechanism, x, rng, log)
        n, where = len(x), device()
        sizes, self.device = self.sizes(n), where.type
        with stream(drawn(rng)):
            self.build(**sizes)
        self.to(where)
        held_out = held_out[torch.randperm(len(held_out), generator=rng)[:HELD_OUT]]  # rows of a table, or series
        losses, score = self.objective(x.to(where), held_out.to(where), rng)
        name = self.called or type(self).__name__.lower()
        history = train(self, losses, n, self._plan(n), rng=rng, score=score, log=lambda line: log(f"{name}: {line}"), look=self.look, checkpoint=checkpoint)
        self.cpu()
        self.finish(rng)
        self.curve = [{"rows": n, "width": self.width, **sizes, "unit": self.unit, "held_out": history, "chosen": True}]
        return self

    @property
    def how(self) -> Descent:
        """How it is trained through a mechanism. Raises DataError for what only other trainings look at."""
        if other := [name for name in self.asked if name not in STEERED]:
            raise DataError(f"generator: {', '.join(other)}: found beside differential privacy, expected none: {' and '.join(STEERED)} say how it is trained")
        return replace(self.descent, **{k: v for k, v in self.asked.items() if k in STEERED})

    def _fit_under(self, ask: Mechanism, x: Tensor, rng: torch.Generator, log: Callable[[str], None]):
        """How large it is and how it is trained follows from the noisy number of rows; predictions start as noisy margins."""
        where, how = device(), self.how
        about = max(int(ask.counts(torch.tensor([len(x)], dtype=torch.double), COUNT * ask.rest)[0]), 1)
        self.dropout, self.device = 0.0, where.type
        sizes = self.small(about)
        with stream(drawn(rng)):
            self.build(**sizes)
            self.counted = self._margins(ask, x)
            self.to(where)
            losses, _ = self.objective(x.to(where), x[:0].to(where), rng)
            name = self.called or type(self).__name__.lower()
            descend(self, losses[""], len(x), about, how, ask, log=lambda line: log(f"{name}: {line}"))
        self.cpu()
        self.finish(rng)
        self.curve = [{"rows": about, "width": self.width, **sizes, "unit": self.unit, "held_out": [], "steps": how.steps, "chosen": True}]
        return self

    def _margins(self, ask: Mechanism, x: Tensor) -> Tensor:
        """(V,): how many rows have each value of each field, as far as is told."""
        codes, offsets, share = self.codes.encode(x), self.codes.offsets.tolist(), ask.rest / max(len(self.layout), 1)
        held = [torch.bincount(codes[:, j].clamp_max(b) - a, minlength=b - a + 1)[: b - a].double() for j, (a, b) in enumerate(pairwise(offsets))]
        return torch.cat([ask.counts(h, min(share, ask.rest)) for h in held]).clamp_min(0).float()

    def small(self, n: int) -> dict:
        """`sizes` where it is learned through a mechanism: each weight more is drowned in noise of its own."""
        return self.sizes(n)

    def look(self, done: float) -> None:
        """Called after each round of the training, with the averaged weights and the share that is over."""

    def finish(self, rng: torch.Generator) -> None:
        """What is left to do when the weights are learned."""

    @torch.no_grad()
    def sample(self, n: int, given: Given | None = None, *, rng: torch.Generator) -> Tensor:
        """(n, fields). Raises ValueError where some rows cannot be as asked, with the number of those that can."""
        x, can = torch.zeros(n, len(self.layout)), 0
        known = given.mask if given is not None else torch.zeros(len(self.layout), dtype=torch.bool)
        fill, offsets = self.drawer(known, rng), self.codes.offsets[:-1]
        chunk = max(TABLE // (max(len(self.layout), 1) * (self.curve[0]["width"] or 1)), 256)
        for at in range(0, n, chunk):
            out = x[at : at + chunk]
            codes = self.codes.encode(out if given is None else given.values[at : at + chunk])
            inside = torch.rand(out.shape, generator=rng, dtype=torch.double)
            can += fill(codes, inside)
            self.codes.decode(torch.where(codes < self.codes.size, codes, offsets), out, inside)
        if can < n:
            raise ValueError(f"{can} of {n} rows can be as asked: the model gives the others no probability")
        return x if given is None else torch.where(known, given.values, x)

    def size(self, rows: int) -> str:
        """In words, what would be fitted to so many rows."""
        with stream(0):
            self.build(**self.sizes(rows))
        return f"{sum(p.numel() for p in self.parameters() if p.requires_grad):,} weights, at most {self._plan(rows).passes:.0f} passes"

    def cost(self, x: Tensor, n: int) -> tuple[float, float]:
        """(seconds that a fit to n rows takes at most, bytes that it holds beside its rows), from a few steps on some rows x (m, fields)."""
        plan, rows = self._plan(n), min(len(x), STEPS * self._plan(n).batch)
        with stream(0):
            self.build(**self.sizes(n))
        self.to(device())
        losses, _ = self.objective(x.to(device()), x[torch.arange(min(len(x), HELD_OUT))].to(device()), torch.Generator().manual_seed(0))
        spent = []
        for _ in range(3):
            start = time.monotonic()
            train(self, losses, rows, replace(plan, passes=1, minutes=None), rng=torch.Generator().manual_seed(0))
            spent.append((time.monotonic() - start) / max(rows // min(plan.batch, rows), 1))
        self.cpu()
        weights = sum(p.numel() for p in self.parameters())
        values, hidden = self.codes.size, len(self.layout) * (self.width or self.sizes(n).get("width", 256))
        held = 1e8 + 4 * (7 * weights + 6 * plan.batch * (values + hidden) + 2 * min(TABLE, n * hidden)) + 12 * n * len(self.layout)
        return min(min(spent) * plan.passes * max(n // plan.batch, 1), 60 * (plan.minutes or 1e9)), held

    def structure(self) -> dict:
        """What `restore` needs beside the tensors of the state."""
        return {"curve": self.curve, "sizes": {k: self.curve[0][k] for k in self.sizes(0)}}

    def restore(self, structure: dict, tensors: dict[str, Tensor]):
        self.curve = structure["curve"]
        with stream(0):
            self.build(**structure["sizes"])
        self.load_state_dict(tensors)
        return self.eval()
