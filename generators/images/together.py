"""Mixtures over a picture's main directions given what stands beside it, p(z | static), one for all pictures."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from generators.gmm import GMM
from generators.layout import Field, Given, Layout


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
        return f"{len(self.mixture.log_pi)} components"

    def structure(self) -> dict:
        return {"mixture": self.mixture.structure()}

    def restore(self, structure: dict, tensors: dict[str, Tensor]) -> Together:
        self.mixture.restore(structure["mixture"], {k.removeprefix("mixture."): v for k, v in tensors.items()})
        return self
