"""Mixtures over a picture's main directions given what stands beside it, p(z | static): one for all kinds together, or one for each kind."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from generators.gmm import GMM
from generators.images.directions import normal
from generators.layout import Field, Given, Layout

MOST_KINDS = 64
ROWS, HELD_OUT = 40, 8  # that every kind must have for a mixture of its own


class Together(nn.Module):
    """One mixture over what stands beside and the directions; conditions on the first exactly.

    It has, as Apart has: fit(static, z, held_static, held_z, rng), sample(static, rng) -> z, log_prob(static, z) -> (n,).
    """

    def __init__(self, static: Layout, directions: int, **asked: Any):
        super().__init__()
        self.beside, self.directions = len(static), directions
        self.mixture = GMM(Layout((*static.fields, *[Field()] * directions)), numbers="gaussian", states=0, **asked)

    def fit(self, static: Tensor, z: Tensor, held_static: Tensor, held_z: Tensor, rng: torch.Generator) -> Together:
        self.mixture.fit(torch.cat([static, z], 1), torch.cat([held_static, held_z], 1), rng=rng)
        return self

    def sample(self, static: Tensor, rng: torch.Generator) -> Tensor:
        return self.mixture.sample(len(static), self._given(static), rng=rng)[:, self.beside :]

    def log_prob(self, static: Tensor, z: Tensor) -> Tensor:
        kinds, which = torch.unique(static, dim=0, return_inverse=True)
        given = [self._given(kind[None]) for kind in kinds]
        alone = torch.stack([(self.mixture.log_pi + sum(leaf.log_given(one) for leaf in self.mixture.leaves)).logsumexp(0) for one in given])
        return self.mixture.log_prob(torch.cat([static, z], 1)) - alone[which]

    def _given(self, static: Tensor) -> Given:
        width = self.beside + self.directions
        return Given(torch.cat([static, torch.zeros(len(static), self.directions)], 1), torch.arange(width) < self.beside)

    @property
    def size(self) -> str:
        return f"{len(self.mixture.log_pi)} components over {self.directions} directions"

    def structure(self) -> dict:
        return {"mixture": self.mixture.structure()}

    def restore(self, structure: dict, tensors: dict[str, Tensor]) -> Together:
        self.mixture.restore(structure["mixture"], {k.removeprefix("mixture."): v for k, v in tensors.items()})
        return self


class Apart(nn.Module):
    """A mixture for each kind of picture, which is a row of what stands beside; a kind that was never seen is drawn as any of them."""

    def __init__(self, static: Layout, directions: int, **asked: Any):
        super().__init__()
        self.directions, self.asked = directions, asked
        self.register_buffer("kinds", torch.zeros(0, len(static)))
        self.register_buffer("share", torch.zeros(0, dtype=torch.double))
        self.mixtures = nn.ModuleList()

    @staticmethod
    def can(static: Tensor, held_static: Tensor) -> bool:
        """Whether every kind has rows enough."""
        kinds, held = torch.unique(static, dim=0, return_counts=True)
        there = (held_static[:, None] == kinds).all(2).sum(0) if 1 < len(kinds) <= MOST_KINDS else torch.zeros(1)
        return int(there.min()) >= HELD_OUT and int(held.min()) >= ROWS

    def fit(self, static: Tensor, z: Tensor, held_static: Tensor, held_z: Tensor, rng: torch.Generator) -> Apart:
        self.kinds, counts = torch.unique(static, dim=0, return_counts=True)
        self.share = counts.double() / counts.sum()
        held = self._which(held_static)
        for i, which in enumerate(self._of(self._which(static))):
            mixture = self._empty().fit(z[which], held_z[held == i], rng=rng)
            self.mixtures.append(mixture)
        return self

    def _empty(self) -> GMM:
        return GMM(Layout((Field(),) * self.directions), numbers="gaussian", states=0, **self.asked)

    def _which(self, static: Tensor) -> Tensor:
        """(n,) the number of each row's kind, -1 of one never seen."""
        same = (static[:, None] == self.kinds).all(2)
        return torch.where(same.any(1), same.float().argmax(1), -1)

    def _of(self, which: Tensor) -> list[Tensor]:
        return [(which == i).nonzero()[:, 0] for i in range(len(self.kinds))]

    def sample(self, static: Tensor, rng: torch.Generator) -> Tensor:
        which, out = self._which(static), torch.zeros(len(static), self.directions)
        which = torch.where(which < 0, torch.multinomial(self.share, len(static), True, generator=rng), which) if len(static) else which
        for rows, mixture in zip(self._of(which), self.mixtures, strict=True):
            out[rows] = mixture.sample(len(rows), rng=rng)
        return out

    def log_prob(self, static: Tensor, z: Tensor) -> Tensor:
        each = torch.stack([mixture.log_prob(z) for mixture in self.mixtures], 1).double()
        which = self._which(static)
        own = each.gather(1, which.clamp_min(0)[:, None])[:, 0]
        return torch.where(which < 0, (each + self.share.log()).logsumexp(1), own).float()

    @property
    def size(self) -> str:
        return f"{' + '.join(str(len(m.log_pi)) for m in self.mixtures)} components over {self.directions} directions"

    def structure(self) -> dict:
        return {"mixtures": [m.structure() for m in self.mixtures]}

    def restore(self, structure: dict, tensors: dict[str, Tensor]) -> Apart:
        self.kinds, self.share = tensors["kinds"], tensors["share"]
        for i, one in enumerate(structure["mixtures"]):
            start = f"mixtures.{i}."
            self.mixtures.append(self._empty().restore(one, {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}))
        return self


def score(model: Together | Apart, static: Tensor, z: Tensor) -> Tensor:
    """(n,) nats of z (n, kept), of which the model says the first, the others being normal."""
    q = model.directions
    return model.log_prob(static, z[:, :q]) + normal(z[:, q:])
