"""Panel: series as what stays and what changes, p(static) p(steps | static). Any family of tables says the first, one of series the second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from generators.base import Density
from generators.layout import Given, Sequences, SeriesLayout
from generators.series.autoregressive import Recurrent


class Panel(nn.Module):
    """static: a Generator of the layout's static fields, the number of steps among them
    steps:  what says the rest. It has
            fit(x, held_out, rng, log, checkpoint)   of Sequences
            sample(static, lengths, rng) -> steps    static (n, fields), lengths (n,) -> (sum of lengths, fields)
            log_prob(x) -> (n,) nats of the steps given what stays, of a Density
    """

    def __init__(self, layout: SeriesLayout, static: nn.Module, steps: nn.Module):
        super().__init__()
        self.layout, self.static, self.steps = layout, static, steps

    def fit(
        self, x: Sequences, held_out: Sequences, *, rng: torch.Generator, log: Callable[[str], None] = lambda line: None, checkpoint: Path | None = None
    ) -> Panel:
        own = lambda line: log(f"what stays, {line}")  # noqa: E731
        self.static.fit(x.static, held_out.static, rng=rng, log=own, checkpoint=checkpoint and checkpoint.with_name(f"{checkpoint.name}.static"))
        self.steps.fit(x, held_out, rng=rng, log=log, checkpoint=checkpoint)
        return self

    @torch.no_grad()
    def sample(self, n: int, given: Given | None = None, *, rng: torch.Generator) -> Sequences:
        """n series. Raises ValueError where what is given has no probability."""
        static = self.static.sample(n, given, rng=rng)
        low, high = torch.tensor(self.layout.spans)[static[:, 0].long()].unbind(1)
        lengths = low + (torch.rand(n, generator=rng, dtype=torch.double) * (high - low + 1)).long()
        return Sequences(static, lengths, self.steps.sample(static, lengths, rng=rng))

    @torch.no_grad()
    def futures(self, n: int, after: int, draws: int, given: Given | None = None, *, rng: torch.Generator) -> Sequences:
        """n series, each so many times: with the same first `after` steps, and others drawn given those. Raises TypeError where the steps are
        not drawn one after the other."""
        if not isinstance(self.steps, Recurrent):
            raise TypeError("draws whole series, expected autoregressive, which draws a step given those before")
        x = self.sample(n, given, rng=rng)
        x = x[torch.arange(n).repeat_interleave(draws)]
        return Sequences(x.static, x.lengths, self.steps.sample(x.static, x.lengths, rng=rng, so_far=x.steps, after=after))

    def log_prob(self, x: Sequences) -> Tensor:
        """(n,) nats; a number of steps within its span counts as likely as the others. Raises TypeError where a part is no density."""
        if not (isinstance(self.static, Density) and isinstance(self.steps, Density)):
            raise TypeError(f"{type(self.static).__name__} with {type(self.steps).__name__} says nothing of how likely a series is")
        wide = torch.tensor([high - low + 1 for low, high in self.layout.spans])[x.static[:, 0].long()]
        return self.static.log_prob(x.static) - wide.log() + self.steps.log_prob(x)

    @property
    def curve(self) -> list[dict]:
        return [*self.static.curve, *self.steps.curve]

    @property
    def device(self) -> str:
        return self.steps.device

    def size(self, rows: int) -> str:
        """In words, what would be fitted to so many series."""
        return f"{self.steps.size(rows)}; of what stays, {self.static.size(rows)}"

    def cost(self, x: Sequences, n: int) -> tuple[float, float]:
        """(seconds that a fit to n series takes, about, bytes that it holds beside its rows), from some series."""
        parts = self.static.cost(x.static, n), self.steps.cost(x, n)
        return parts[0][0] + parts[1][0], max(parts[0][1], parts[1][1])

    def structure(self) -> dict:
        """What `restore` needs beside the tensors of the state."""
        return {"static": self.static.structure(), "steps": self.steps.structure()}

    def restore(self, structure: dict, tensors: dict[str, Tensor]) -> Panel:
        for name in ("static", "steps"):
            own = {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}
            getattr(self, name).restore(structure[name], own)
        return self
