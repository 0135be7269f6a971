"""Album: pictures and what is known beside them, p(static) p(pixels | static). Any family of tables says the first, one of images the second."""

from __future__ import annotations

import torch
from torch import Tensor

from generators.base import Density
from generators.joint import Joint
from generators.layout import Given, Pictures

PART = 1000  # pictures that are drawn at a time


class Album(Joint):
    """static: of the layout's static fields, the label among them
    rest:   of Pictures. It has also
            sample(static, rng) -> pixels   static (n, fields) -> (n, channels, height, width), whole numbers below the layout's levels
            log_prob(x) -> (n,) nats of the pixels given what stands beside them, of a Density
    """

    beside = "what stands beside"

    @torch.no_grad()
    def sample(self, n: int, given: Given | None = None, *, rng: torch.Generator) -> Pictures:
        """n pictures. Raises ValueError where what is given has no probability."""
        static = self.static.sample(n, given, rng=rng)
        return Pictures(static, torch.cat([self.rest.sample(part, rng=rng) for part in static.split(PART)]))

    def log_prob(self, x: Pictures) -> Tensor:
        """(n,) nats. Raises TypeError where a part is no density."""
        if not (isinstance(self.static, Density) and isinstance(self.rest, Density)):
            raise TypeError(f"{type(self.static).__name__} with {type(self.rest).__name__} says nothing of how likely a picture is")
        return self.static.log_prob(x.static) + self.rest.log_prob(x)
