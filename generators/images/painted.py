"""Painted: what families of images share that are trained by gradients. A family adds its formula: networks, a loss, and how pixels are drawn."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from generators.codes import Codes
from generators.layout import Layout, Pictures, levelled, shades
from generators.nets import Stays
from generators.neural import Neural
from generators.train import Plan

LOOKED = 4096  # pictures that brightness is measured in, at most
GROWTH = (1 / 16, 1 / 8, 1 / 4, 1 / 2)  # shares of a training after which some pictures are drawn, to be looked at
SEEN = 12  # of them


class Painted(Neural):
    """A family defines, beside what Neural asks for,
        draw(static, rng) -> pixels of at most CHUNK pictures, (n, channels, height, width), static (n, fields)
    and calls `frame` when it builds.
    """

    CHUNK = 256  # pictures that are drawn together

    def fit(self, x: Pictures, held_out: Pictures, **how: Any) -> Painted:
        kinds = x.static.unique(dim=0)
        self._seen = kinds[torch.linspace(0, len(kinds) - 1, SEEN).round().long()]
        self.grown: list[tuple[float, Tensor]] = []  # (share of the training that was over, pixels of some pictures that were drawn then)
        return super().fit(x, held_out, **how)

    def look(self, done: float) -> None:
        """Some pictures of each time in GROWTH, drawn as they would be if the training were over."""
        if done >= next((share for share in GROWTH if not self.grown or share > self.grown[-1][0]), 2):
            own = self if self.device == "cpu" else deepcopy(self).cpu()
            self.grown.append((done, own.draw(self._seen, torch.Generator().manual_seed(0))))

    def sizes(self, n: int) -> dict:
        return {}

    def frame(self, wide: int) -> None:
        """Makes what stands beside a picture a vector of `wide` numbers; middle and spread are those of all pixels."""
        self.stays = told(self.layout.static, wide)
        self.register_buffer("middle", torch.zeros(()))
        self.register_buffer("spread", torch.ones(()))

    @property
    def codes(self) -> Codes:
        return self.stays.codes

    @torch.no_grad()
    def measure(self, pixels: Tensor, rng: torch.Generator) -> None:
        """Sets middle and spread by some of the pictures."""
        some = shades(pixels[torch.randperm(len(pixels), generator=rng)[:LOOKED].to(pixels.device)], self.layout.levels)
        self.middle.copy_(some.mean()), self.spread.copy_(some.std().clamp_min(1e-3))

    def scaled(self, pixels: Tensor) -> Tensor:
        """Whole numbers -> numbers of mean 0 and spread 1, over all pictures."""
        return (shades(pixels, self.layout.levels) - self.middle) / self.spread

    def within(self, x: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """Scaled pixels, each anywhere within its level."""
        u = torch.rand(x.shape, device=x.device) if rng is None else torch.rand(x.shape, generator=rng).to(x.device)
        return x + (u - 0.5) * self.step

    @property
    def step(self) -> Tensor:
        """How far two levels are from each other in scaled pixels."""
        return 2 / self.layout.levels / self.spread

    def whole(self, x: Tensor) -> Tensor:
        """And back, to the nearest level."""
        return levelled(x * self.spread + self.middle, self.layout.levels)

    @torch.no_grad()
    def sample(self, static: Tensor, *, rng: torch.Generator) -> Tensor:
        """static (n, fields) -> pixels (n, channels, height, width)."""
        return torch.cat([self.draw(part, rng) for part in static.split(self.CHUNK)])

    def draw(self, static: Tensor, rng: torch.Generator) -> Tensor:
        raise NotImplementedError


def told(static: Layout, wide: int) -> Stays:
    """What stands beside a picture as a vector, loud enough to be heard from the first step on: it is worth few nats, of many."""
    stays = Stays(static, wide)
    nn.init.normal_(stays.vectors.weight, std=len(static) ** -0.5)
    return stays


def schedule(n: int, steps: int, rate: float, decay: float = 0.0, momentum: float = 0.9, patience: float = 0.3, most: int = 64) -> Plan:
    """Of so many steps on n pictures, of at most so many each; patience: share of the training without a better score after which it ends."""
    batch = min(max(n // 8, 16), most)
    passes = max(steps * batch / max(n, 1), 10)
    return Plan(passes, batch, rate, decay, momentum, memory=0.05 * passes, patience=round(patience * passes) + 1)


def zeroed(layer: nn.Module) -> nn.Module:
    """The layer, saying nothing yet."""
    nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)
    return layer
