"""Marginals of series: graphical models of a first step given what stays, and of a step given the one before, what stays and where it is.

    p(steps | static) = p(x_1 | static) prod_t p(x_t | x_t-1, static, cell of t),   both from a distribution of all these fields together
that agrees with noisy or exact counts of a few of them at a time (generators/marginals.py). Where a mechanism tells the counts, each series adds
its first step to those of the one, and one of all its steps, any of them, to those of the other.

Differentially private sequential data publication via variable-length n-grams; R. Chen, G. Acs, C. Castelluccia; 2012; https://doi.org/10.1145/2382196.2382263
AIM: an adaptive and iterative mechanism for differentially private synthetic data; R. McKenna, B. Mullins, D. Sheldon, G. Miklau; 2022; https://arxiv.org/abs/2201.12677
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from generators.base import Mechanism
from generators.columns import Columns
from generators.layout import Field, Layout, Sequences, SeriesLayout, after, moments
from generators.marginals import Marginals
from generators.series.chain import packed
from generators.series.past import by_series
from generators.streams import drawn
from generators.threads import single_thread

CELLS = 16  # of moments, at most
FIRST = 0.35  # share of what may be told that goes to first steps
ROWS = 200_000  # steps that are learned from, at most
CHUNK = 2**14  # steps whose probability is looked at together


class Markov(nn.Module):
    """layout: what a series is. Arguments: see Marginals, of which there are two."""

    device = "cpu"
    private = True  # can be learned through a mechanism

    def __init__(self, layout: SeriesLayout, bins: int | None = None, order: int = 3, cells: int = 400_000, rounds: int | None = None):
        super().__init__()
        self.layout, self.cells = layout, min(CELLS, max(layout.longest - 1, 1))
        static, step = layout.static.fields, layout.step.fields
        self.known = len(static), len(static) + 1 + len(step)  # fields that are given: of a first step, and of another
        begin = Layout((*static, *after(len(static), step)))
        onward = Layout((*static, Field(classes=self.cells), *after(len(static) + 1, step), *after(self.known[1], step)))
        self.first, self.later = (Marginals(own, bins, order, cells, rounds) for own in (begin, onward))

    @torch.no_grad()
    def fit(
        self, x: Sequences, held_out: Sequences, *, rng: torch.Generator, log: Callable[[str], None] = lambda line: None,
        checkpoint: Path | None = None, mechanism: Mechanism | None = None,
    ) -> Markov:  # fmt: skip
        """checkpoint: not used, a fit takes a minute or two"""
        parts = {}, {}
        if mechanism is not None:
            begin = mechanism.part(FIRST, "first steps")
            parts = {"mechanism": begin}, {"mechanism": mechanism.part(mechanism.rest, "steps after steps")}
        for name, model, rows, more in (("first steps", self.first, self._begun, parts[0]), ("steps after steps", self.later, self._followed, parts[1])):
            own = lambda line, name=name: log(f"{name}, {line}")  # noqa: E731
            model.fit(rows(x, rng, mechanism is not None), rows(held_out, rng, False), rng=rng, log=own, **more)
        return self

    def _begun(self, x: Sequences, rng: torch.Generator, one: bool) -> Tensor:
        """Rows of what stays and of first steps, (n, fields)."""
        rows = torch.cat([x.static, x.steps[x.lengths.cumsum(0) - x.lengths]], 1)
        return rows if one else rows[torch.randperm(len(rows), generator=rng)[:ROWS]]

    def _followed(self, x: Sequences, rng: torch.Generator, one: bool) -> Tensor:
        """Rows of what stays, where a step is, the step before and the step, (m, fields); with `one` of any one step of each series that has two."""
        if one:
            has = (x.lengths > 1).nonzero()[:, 0]
            first = (x.lengths.cumsum(0) - x.lengths)[has]
            own = torch.Generator().manual_seed(drawn(rng))  # so that what comes after depends on nobody
            at = first + 1 + (torch.rand(len(has), generator=own) * (x.lengths[has] - 1)).long()
        else:
            at = (moments(x.lengths) > 0).nonzero()[:, 0]
            at = at[torch.randperm(len(at), generator=rng)[:ROWS]].sort().values
        return self._beside(x, at)

    def _beside(self, x: Sequences, at: Tensor) -> Tensor:
        """Steps at these places, none of which is a first one, beside what is known of them."""
        whose = torch.repeat_interleave(torch.arange(len(x)), x.lengths)[at]
        return torch.cat([x.static[whose], self._cell(moments(x.lengths)[at])[:, None], x.steps[at - 1], x.steps[at]], 1)

    def _cell(self, moment: Tensor) -> Tensor:
        return ((moment - 1) * self.cells // max(self.layout.longest - 1, 1)).clamp(0, self.cells - 1).float()

    @torch.no_grad()
    def sample(self, static: Tensor, lengths: Tensor, *, rng: torch.Generator) -> Tensor:
        """static (n, fields), lengths (n,) -> steps (sum of lengths, fields), moment by moment."""
        at, out = packed(lengths), []
        static, nothing = static[at.order], torch.zeros(len(lengths), len(self.layout))
        with single_thread():
            for t, n in enumerate(at.live):
                cell = self._cell(torch.full((n, 1), t))
                known = torch.cat([static[:n], cell, out[-1][:n], nothing[:n]], 1) if t else torch.cat([static, nothing], 1)
                out.append(_drawn(self.later if t else self.first, known, self.known[bool(t)], rng))
        return torch.zeros(int(lengths.sum()), len(self.layout)).index_copy_(0, at.rows, torch.cat(out))

    @torch.no_grad()
    def log_prob(self, x: Sequences) -> Tensor:
        """(n,) nats of the steps given what stays."""
        out, moment = torch.zeros(len(x.steps)), moments(x.lengths)
        begin, rest = (moment == 0).nonzero()[:, 0], (moment > 0).nonzero()[:, 0]
        out[begin] = torch.cat(
            [self._nats(self.first, torch.cat([x.static[i], x.steps[begin[i]]], 1), self.known[0]) for i in torch.arange(len(x)).split(CHUNK)]
        )
        for some in rest.split(CHUNK):
            out[some] = self._nats(self.later, self._beside(x, some), self.known[1])
        return by_series(out, x.lengths)

    def _nats(self, model: Marginals, x: Tensor, known: int) -> Tensor:
        """(n,): log p(fields after the first `known` | those)."""
        values, density = model.columns.encode(x), Columns(self.layout.step, model.curve[0]["bins"]).log_density(x[:, known:])
        before = model.tree.posterior(list(model.beliefs), values, _given(model.columns, known))[1]
        return (model.tree.log_prob(list(model.beliefs), values) - before + density).float()

    @property
    def curve(self) -> list[dict]:
        return [*self.first.curve, *self.later.curve]

    def size(self, rows: int) -> str:
        """In words, what would be fitted to so many series."""
        return f"{self.first.size(rows)}, of first steps, and one of steps after steps"

    def cost(self, x: Sequences, n: int) -> tuple[float, float]:
        """(seconds that a fit to n series takes, about, bytes that it holds beside its rows)."""
        steps = min(round(n * float(x.lengths.float().mean())), ROWS)
        parts = self.first.cost(x.static, min(n, ROWS)), self.later.cost(x.steps, steps)
        return parts[0][0] + parts[1][0], max(parts[0][1], parts[1][1])

    def structure(self) -> dict:
        """What `restore` needs beside the tensors of the state."""
        return {"first": self.first.structure(), "later": self.later.structure()}

    def restore(self, structure: dict, tensors: dict[str, Tensor]) -> Markov:
        for name in ("first", "later"):
            own = {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}
            getattr(self, name).restore(structure[name], own)
        return self


def _given(columns: Columns, fields: int) -> set[int]:
    """The columns that are made of the first so many fields."""
    return {j for j, i in enumerate(columns.first) if i < fields}


def _drawn(model: Marginals, x: Tensor, known: int, rng: torch.Generator) -> Tensor:
    """Rows (n, fields) of which the first `known` fields are given -> the others, drawn."""
    columns = model.columns
    values = model.tree.complete(list(model.beliefs), columns.encode(x), _given(columns, known), rng=rng)
    return columns.decode(values, rng)[:, known:]
