"""Joint: what stays of a subject, or is known beside a picture, and all the rest given that: p(static) p(rest | static)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from generators.base import Mechanism

STATIC, FEWER, NOTHING = 0.1, 0.3, 1e-3  # shares of what a mechanism may tell: by counts alone, beside a training, and where there is nothing to tell


class Joint(nn.Module):
    """static: a Generator of the layout's static fields, any family of tables
    rest:   what says the rest. It has
            fit(x, held_out, rng, log, checkpoint)
            size(n), cost(x, n), curve, device, structure() and restore() as a Generator has them

    A subclass says how both are drawn.
    """

    beside = "what stays"  # what the static fields are called where a training is told of

    def __init__(self, layout: Any, static: nn.Module, rest: nn.Module):
        super().__init__()
        self.layout, self.static, self.rest = layout, static, rest

    def fit(
        self, x: Any, held_out: Any, *, rng: torch.Generator, log: Callable[[str], None] = lambda line: None,
        checkpoint: Path | None = None, mechanism: Mechanism | None = None,
    ):  # fmt: skip
        """mechanism: of which the static fields get a share, and the rest all others."""
        parts = {}, {}
        if mechanism is not None:
            told = any(field.classes != 1 for field in self.layout.static.fields)
            part = mechanism.part((STATIC if mechanism.training is None else FEWER) if told else NOTHING, self.beside)
            parts = {"mechanism": part}, {"mechanism": mechanism.part(mechanism.rest, "the rest")}
        own = lambda line: log(f"{self.beside}, {line}")  # noqa: E731
        self.static.fit(x.static, held_out.static, rng=rng, log=own, checkpoint=checkpoint and checkpoint.with_name(f"{checkpoint.name}.static"), **parts[0])
        self.rest.fit(x, held_out, rng=rng, log=log, checkpoint=checkpoint, **parts[1])
        return self

    @property
    def curve(self) -> list[dict]:
        return [*self.static.curve, *self.rest.curve]

    @property
    def device(self) -> str:
        return self.rest.device

    def size(self, rows: int) -> str:
        """In words, what would be fitted to so many."""
        return f"{self.rest.size(rows)}; of {self.beside}, {self.static.size(rows)}"

    def cost(self, x: Any, n: int) -> tuple[float, float]:
        """(seconds that a fit to n takes, about, bytes that it holds beside the data), from some of them."""
        parts = self.static.cost(x.static, n), self.rest.cost(x, n)
        return parts[0][0] + parts[1][0], max(parts[0][1], parts[1][1])

    def structure(self) -> dict:
        """What `restore` needs beside the tensors of the state."""
        return {"static": self.static.structure(), "rest": self.rest.structure()}

    def restore(self, structure: dict, tensors: dict[str, Tensor]):
        for name in ("static", "rest"):
            own = {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}
            getattr(self, name).restore(structure[name], own)
        return self
