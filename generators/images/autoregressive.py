"""Autoregressive pictures: pixel after pixel, row after row, p(x | beside) = prod over pixels of p(pixel | pixels before, beside), exactly.

A network of two stacks says the next pixel: one has seen all rows above, the other also what is left of it in its own row. A pixel is one of
K discretised logistics; of colours, each follows linearly on those before it:
    p(level) = sum_k pi_k (S((upper - m_k) / s_k) - S((lower - m_k) / s_k)),     S(a) = 1 / (1 + exp(-a))

Conditional image generation with PixelCNN decoders; A. van den Oord et al.; 2016; https://arxiv.org/abs/1606.05328
PixelCNN++: improving the PixelCNN with discretized logistic mixture likelihood and other modifications; T. Salimans et al.; 2017; https://arxiv.org/abs/1701.05517
Fast generation for convolutional autoregressive models; P. Ramachandran et al.; 2017; https://arxiv.org/abs/1704.06001
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.arguments import number, whole
from generators.images.painted import Painted, schedule, zeroed
from generators.layout import ImageLayout, Pictures
from generators.nets import dropout
from generators.threads import single_thread
from generators.train import Plan

STEPS = 1500  # of the training
TAPS = 3  # pixels of a row, itself among them, that a layer reads at a time
FAR = (1, 2, 4)  # how far apart, layer after layer
CHUNK = 128  # pictures that are looked at together


class Mixture(NamedTuple):
    """Of pixels: log weights (..., K), means and log scales (..., K, channels), and how colours follow on others (..., K, channels, channels)."""

    weight: Tensor
    mean: Tensor
    scale: Tensor
    follow: Tensor


class Layer(nn.Module):
    """Both stacks, (n, width, height, width of a picture): v reads rows up to its own, of what knows those above; h also what is left of it."""

    def __init__(self, width: int, condition: int, far: int, share: float):
        super().__init__()
        self.far, self.share = far, share
        self.gain = nn.Parameter(torch.ones(2, width))
        self.above, self.left = nn.Conv2d(width, 2 * width, (2, 3), dilation=far), nn.Conv2d(width, 2 * width, (1, TAPS), dilation=far)
        self.across, self.tell = nn.Conv2d(width, 2 * width, 1), nn.Linear(condition, 4 * width)
        self.out = nn.ModuleList([zeroed(nn.Conv2d(width, width, 1)) for _ in range(2)])

    def forward(self, v: Tensor, h: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        told = self.tell(condition)[:, :, None, None].chunk(2, 1)
        rows = F.pad(self.normed(v, 0), (self.far, self.far, self.far, 0))
        v = v + self.joined(self.above(rows) + told[0], 0)
        cells = F.pad(self.normed(h, 1), ((TAPS - 1) * self.far, 0))
        return v, h + self.joined(self.left(cells) + self.across(v) + told[1], 1)

    def normed(self, x: Tensor, stack: int) -> Tensor:
        """Every place by itself, so that none learns of another."""
        return x * (x.square().mean(1, keepdim=True) + 1e-5).rsqrt() * self.gain[stack][:, None, None]

    def joined(self, x: Tensor, stack: int) -> Tensor:
        a, b = x.chunk(2, 1)
        return self.out[stack](dropout(a.tanh() * b.sigmoid(), self.share, self.training))


class PixelCNN(Painted):
    """layout: what an image is.

    width:    channels of the network
    depth:    layers
    mixtures: logistics that a pixel is a mixture of
    dropout:  share of hidden units that are left out while training
    asked:    of train.Plan, passes and minutes above all
    """

    called = "autoregressive"
    unit = "Nats an image on held-out images"

    def __init__(self, layout: ImageLayout, width: int = 32, depth: int = 6, mixtures: int = 10, dropout: float = 0.2, **asked: Any):
        super().__init__(layout, asked)
        whole(width=width, depth=depth, mixtures=mixtures), number(high=0.99, dropout=dropout)
        self.width, self.depth, self.mixtures, self.dropout = width, depth, mixtures, dropout

    def plan(self, n: int) -> Plan:
        return schedule(n, STEPS, rate=2e-3, decay=0.05, most=32)

    def build(self) -> None:
        channels, height, width = self.layout.shape
        self.frame(self.width)
        self.above, self.left = nn.Conv2d(channels, self.width, (2, 5)), nn.Conv2d(channels, self.width, (1, TAPS))
        self.kind = nn.Linear(self.width, self.width)
        self.place = nn.Parameter(0.1 * torch.randn(self.width, height, width))
        self.layers = nn.ModuleList([Layer(self.width, self.width, FAR[i % len(FAR)], self.dropout) for i in range(self.depth)])
        self.outlet = zeroed(nn.Conv2d(self.width, self.mixtures * (1 + channels * (2 + channels)), 1))
        with torch.no_grad():
            mean = self.outlet.bias[self.mixtures : self.mixtures * (1 + channels)].view(self.mixtures, channels)
            mean.copy_(torch.linspace(-1.5, 2.5, self.mixtures)[:, None])

    def _mixture(self, h: Tensor) -> Mixture:
        """h (n, width, height, width of a picture)."""
        k, c = self.mixtures, self.layout.shape[0]
        weight, mean, scale, follow = self.outlet(F.silu(h)).movedim(1, -1).split([k, k * c, k * c, k * c * c], -1)
        mean, scale, follow = mean.unflatten(-1, (k, c)), scale.unflatten(-1, (k, c)), follow.unflatten(-1, (k, c, c)).tanh().tril(-1)
        return Mixture(weight.log_softmax(-1), mean, scale.clamp_min(math.log(float(self.step)) - 2), follow)

    def _start(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Both stacks from scaled pixels (n, channels, height, width)."""
        v = self.above(F.pad(x[:, :, :-1], (2, 2, 2, 0))) + self.place + self.kind(condition)[:, :, None, None]
        return v, self.left(F.pad(x[:, :, :, :-1], (TAPS, 0))) + v

    def _nats(self, pixels: Tensor, static: Tensor) -> Tensor:
        """(n,): minus log p(pixels | static)."""
        x, condition = self.scaled(pixels), self.stays(static)
        v, h = self._start(x, condition)
        for layer in self.layers:
            v, h = layer(v, h, condition)
        found = self._mixture(h)
        x, level = x.movedim(1, -1)[..., None, :], pixels.movedim(1, -1)[..., None, :]
        mean = found.mean + (found.follow @ x[..., None])[..., 0]
        each = _log_mass(x, mean, found.scale, self.step / 2, level == 0, level == self.layout.levels - 1).sum(-1)
        return -(found.weight + each).logsumexp(-1).sum((1, 2))

    def objective(self, x: Pictures, held_out: Pictures, rng: torch.Generator):
        self.measure(x.pixels, rng)
        loss = lambda i, done: self._nats(x.pixels[i], x.static[i]).mean() / len(self.layout)  # noqa: E731
        parts = torch.arange(len(held_out), device=x.pixels.device).split(CHUNK)
        return {"": loss}, lambda: -torch.cat([self._nats(held_out.pixels[i], held_out.static[i]) for i in parts])

    @torch.no_grad()
    def log_prob(self, x: Pictures) -> Tensor:
        """(n,) nats of the pixels given what stands beside, as densities of shades within -1 and 1."""
        found = torch.cat([self._nats(x.pixels[i], x.static[i]) for i in torch.arange(len(x)).split(CHUNK)])
        return len(self.layout) * math.log(self.layout.levels / 2) - found

    def draw(self, static: Tensor, rng: torch.Generator) -> Tensor:
        """Row after row; what a layer has said of places before is kept, so that nothing is worked out twice."""
        with single_thread():
            return self._drawn(static, rng)

    def _drawn(self, static: Tensor, rng: torch.Generator) -> Tensor:
        n, (channels, height, width) = len(static), self.layout.shape
        condition = self.stays(static)
        kind = self.kind(condition)[:, :, None, None]
        told = [layer.tell(condition)[:, :, None, None].chunk(2, 1) for layer in self.layers]
        pixels = torch.zeros(n, channels, height, width, dtype=torch.uint8 if self.layout.levels <= 256 else torch.int32)
        x = torch.zeros(n, channels, height, width)
        rows = [torch.zeros(n, self.width, height + layer.far, width + 2 * layer.far) for layer in self.layers]  # normed, with room above and beside
        for r in range(height):
            above = F.pad(x[:, :, max(r - 2, 0) : r], (2, 2, 2 - min(r, 2), 0))
            v = self.above(above) + self.place[:, r : r + 1] + kind
            first, seen = v, []
            for layer, kept, (tell, _) in zip(self.layers, rows, told, strict=True):
                kept[:, :, r + layer.far, layer.far : layer.far + width] = layer.normed(v, 0)[:, :, 0]
                v = v + layer.joined(layer.above(kept[:, :, r : r + layer.far + 1]) + tell, 0)
                seen.append(layer.across(v))
            cells = [torch.zeros(n, self.width, 1, width + (TAPS - 1) * layer.far) for layer in self.layers]
            own = F.pad(x[:, :, r : r + 1], (TAPS, 0))
            for c in range(width):
                h = self.left(own[:, :, :, c : c + TAPS]) + first[:, :, :, c : c + 1]
                for layer, kept, across, (_, tell) in zip(self.layers, cells, seen, told, strict=True):
                    end = c + (TAPS - 1) * layer.far
                    kept[:, :, :, end : end + 1] = layer.normed(h, 1)
                    h = h + layer.joined(layer.left(kept[:, :, :, c : end + 1]) + across[:, :, :, c : c + 1] + tell, 1)
                pixels[:, :, r, c] = self.whole(self._pixel(self._mixture(h), rng))
                x[:, :, r, c] = own[:, :, 0, c + TAPS] = self.scaled(pixels[:, :, r, c])
        return pixels

    def _pixel(self, found: Mixture, rng: torch.Generator) -> Tensor:
        """Of mixtures (n, 1, 1, ...): scaled colours (n, channels)."""
        weight, mean, scale, follow = (part[:, 0, 0] for part in found)
        i, which = torch.arange(len(weight)), weight.exp().multinomial(1, generator=rng)[:, 0]
        mean, scale, follow = mean[i, which], scale[i, which].exp(), follow[i, which]
        u = torch.rand(mean.shape, generator=rng).clamp(1e-6, 1 - 1e-6)
        out = torch.zeros_like(mean)
        for c in range(mean.shape[1]):
            drawn = mean[:, c] + (follow[:, c] * out).sum(1) + scale[:, c] * torch.logit(u[:, c])
            out[:, c] = self.scaled(self.whole(drawn))
        return out


def _log_mass(x: Tensor, mean: Tensor, scale: Tensor, half: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    """log of the probability of a level whose middle is x, of a logistic; the lowest and the highest level reach to infinity."""
    narrow = (-scale).exp()
    low, high = (x - mean - half) * narrow, (x - mean + half) * narrow
    inside = -F.softplus(-high) - F.softplus(low) + torch.log(-torch.expm1(-2 * half * narrow))
    return torch.where(lowest, -F.softplus(-high), torch.where(highest, -F.softplus(low), inside))
