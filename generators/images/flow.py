"""Flow of pictures: an invertible map of pixels to normal noise, in couplings at several sizes, so that p(x | beside) is exact.

A coupling leaves some numbers as they are and maps each of the others, which the first and what stands beside tell how, by
    y = logit(sum_k pi_k S((x - m_k) / s_k)) exp(a) + b,     S(u) = 1 / (1 + exp(-u))
Which ones alternates: a checkerboard, and halves of the channels. Then half of the channels are noise already, and of the others four
neighbours become channels of one place. Pixels are dequantised: anywhere within their level, and each scaled by its own mean and
spread first. A side that is odd is filled with places that hold nothing, tell nothing and count nothing.

Density estimation using Real NVP; L. Dinh, J. Sohl-Dickstein, S. Bengio; 2017; https://arxiv.org/abs/1605.08803
Flow++: improving flow-based generative models with variational dequantization and architecture design (the map); J. Ho, X. Chen, A. Srinivas, Y. Duan,
P. Abbeel; 2019; https://arxiv.org/abs/1902.00275
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.arguments import number, whole
from generators.images.nets import Block
from generators.images.painted import LOOKED, Painted, schedule, zeroed
from generators.layout import ImageLayout, Pictures
from generators.train import Plan

STEPS = 2000  # of the training
SMALLEST = 4  # side at which a picture is halved no more
HALVINGS = 40  # of an interval in which a number is looked for
CHUNK = 256  # pictures that are looked at together


class Coupling(nn.Module):
    """x (n, channels, height, width); kept: of the same shape without n, 1 where numbers stay; there: 1 where there is one at all."""

    def __init__(self, kept: Tensor, there: Tensor, width: int, condition: int, components: int, share: float):
        super().__init__()
        self.components = components
        self.register_buffer("kept", kept * there, persistent=False)
        self.register_buffer("moved", (1 - kept) * there, persistent=False)
        self.inlet = nn.Conv2d(len(there), width, 3, padding=1)
        self.blocks = nn.ModuleList([Block(width, width, condition, share) for _ in range(2)])
        self.outlet = zeroed(nn.Conv2d(width, len(there) * (3 * components + 2), 1))

    def _told(self, x: Tensor, condition: Tensor) -> tuple[Tensor, ...]:
        """log pi, m, log s (n, channels, height, width, K), and a, b."""
        h = self.inlet(x * self.kept)
        for block in self.blocks:
            h = block(h, condition)
        k = self.components
        weight, mean, scale, ab = self.outlet(F.silu(h)).unflatten(1, (-1, 3 * k + 2)).movedim(2, -1).split([k, k, k, 2], -1)
        a, b = ab.unbind(-1)
        return (weight.log_softmax(-1), mean + torch.linspace(-1, 1, k, device=x.device), 2 * (scale / 2).tanh(), 2 * (a / 2).tanh(), b)

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """y, and log |dy / dx|, (n,)."""
        told = self._told(x, condition)
        y, slope = _map(x, *told[:3])
        y, slope = y * told[3].exp() + told[4], slope + told[3]
        return torch.where(self.moved > 0, y, x), (slope * self.moved).flatten(1).sum(1)

    def back(self, y: Tensor, condition: Tensor) -> Tensor:
        weight, mean, scale, a, b = self._told(y, condition)
        wanted = ((y - b) * (-a).exp())[..., None]
        ends = mean + scale.exp() * wanted  # what it would be for each component alone: x is between
        low, high = ends.amin(-1), ends.amax(-1)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            under = _map(middle, weight, mean, scale)[0] < wanted[..., 0]
            low, high = torch.where(under, middle, low), torch.where(under, high, middle)
        return torch.where(self.moved > 0, (low + high) / 2, y)


class PictureFlow(Painted):
    """layout: what an image is.

    width:      channels of the networks
    depth:      couplings at a size
    components: logistics of a map
    dropout:    share of hidden units that are left out while training
    asked:      of train.Plan, passes and minutes above all
    """

    called = "flow"
    unit = "Nats an image on held-out images"

    def __init__(self, layout: ImageLayout, width: int = 32, depth: int = 6, components: int = 4, dropout: float = 0.2, **asked: Any):
        super().__init__(layout, asked)
        whole(width=width, depth=depth, components=components), number(high=0.99, dropout=dropout)
        self.width, self.depth, self.components, self.dropout = width, depth, components, dropout

    def plan(self, n: int) -> Plan:
        return schedule(n, STEPS, rate=1e-3, decay=0.1)

    def build(self) -> None:
        wide, there = 2 * self.width, torch.ones(self.layout.shape)
        self.frame(wide)
        self.register_buffer("mean", torch.zeros(self.layout.shape))
        self.register_buffer("scale", torch.ones(self.layout.shape))
        self.sizes_of, self.couplings = [], nn.ModuleList()
        while True:
            there = _gathered(there[None])[0]
            channels, height, width = there.shape
            board = ((torch.arange(height)[:, None] + torch.arange(width)) % 2).float().expand(channels, -1, -1)
            half = (torch.arange(channels) % 2).float()[:, None, None].expand_as(board)
            masks = [board, 1 - board, half, 1 - half]
            self.couplings.append(nn.ModuleList([Coupling(masks[i % 4], there, self.width, wide, self.components, self.dropout) for i in range(self.depth)]))
            self.sizes_of.append(tuple(there.shape))
            if max(height, width) <= SMALLEST:
                break
            there = there[channels // 2 :]
        self.register_buffer("there", there, persistent=False)

    def _noise(self, pixels: Tensor, condition: Tensor) -> tuple[list[Tensor], Tensor]:
        """Numbers that are standard normal, size by size, and log |d noise / d pixels|, (n,). pixels scaled, (n, channels, height, width)."""
        x, slope, out = (pixels - self.mean) / self.scale, -self.scale.log().sum().expand(len(pixels)), []
        for couplings in self.couplings:
            x = _gathered(x)
            for coupling in couplings:
                x, more = coupling(x, condition)
                slope = slope + more
            if len(out) < len(self.couplings) - 1:
                out.append(x[:, : x.shape[1] // 2])
                x = x[:, x.shape[1] // 2 :]
        return [*out, x], slope

    def _log_prob(self, pixels: Tensor, static: Tensor) -> Tensor:
        """(n,) nats of scaled pixels."""
        noise, slope = self._noise(pixels, self.stays(static))
        squares = sum(z.square().flatten(1).sum(1) for z in noise)  # places that hold nothing are 0
        return slope - 0.5 * squares - 0.5 * math.log(2 * math.pi) * len(self.layout)

    @torch.no_grad()
    def measure(self, pixels: Tensor, rng: torch.Generator) -> None:
        super().measure(pixels, rng)
        some = self.within(self.scaled(pixels[:LOOKED]), rng)
        self.mean.copy_(some.mean(0)), self.scale.copy_((some.var(0, correction=0) + self.step**2).sqrt())

    def objective(self, x: Pictures, held_out: Pictures, rng: torch.Generator):
        self.measure(x.pixels, rng)
        held = self.within(self.scaled(held_out.pixels), rng)
        parts = torch.arange(len(held), device=held.device).split(CHUNK)
        loss = lambda i, done: -self._log_prob(self.within(self.scaled(x.pixels[i])), x.static[i]).mean() / len(self.layout)  # noqa: E731
        return {"": loss}, lambda: torch.cat([self._log_prob(held[i], held_out.static[i]) for i in parts])

    @torch.no_grad()
    def log_prob(self, x: Pictures) -> Tensor:
        """(n,) nats of the pixels given what stands beside, as densities of shades within -1 and 1."""
        parts = torch.arange(len(x)).split(CHUNK)
        found = torch.cat([self._log_prob(self.scaled(x.pixels[i]), x.static[i]) for i in parts])
        return found - len(self.layout) * self.spread.log()

    def draw(self, static: Tensor, rng: torch.Generator) -> Tensor:
        condition, x = self.stays(static), None
        for (channels, height, width), couplings in zip(self.sizes_of[::-1], list(self.couplings)[::-1], strict=True):
            there = couplings[0].kept + couplings[0].moved
            noise = torch.randn(len(static), channels if x is None else channels // 2, height, width, generator=rng)
            x = (noise if x is None else torch.cat([noise, x], 1)) * there
            for coupling in list(couplings)[::-1]:
                x = coupling.back(x, condition)
            x = F.pixel_shuffle(x, 2)
            rows, cells = self._sides(channels)
            x = x[:, :, :rows, :cells]
        return self.whole(x * self.scale + self.mean)

    def _sides(self, channels: int) -> tuple[int, int]:
        """Height and width of a picture before it was gathered into so many channels."""
        at = [size[0] for size in self.sizes_of].index(channels)
        return self.sizes_of[at - 1][1:] if at else self.layout.shape[1:]


def _gathered(x: Tensor) -> Tensor:
    """(n, c, height, width) -> (n, 4 c, height / 2, width / 2), filled with 0 where a side is odd."""
    return F.pixel_unshuffle(F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2)), 2)


def _map(x: Tensor, weight: Tensor, mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """logit of the mixture's share below x, and the log of its slope."""
    z = (x[..., None] - mean) * (-scale).exp()
    below, above = F.logsigmoid(z), F.logsigmoid(-z)
    low, high = (weight + below).logsumexp(-1), (weight + above).logsumexp(-1)
    return low - high, (weight + below + above - scale).logsumexp(-1) - low - high
