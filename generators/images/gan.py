"""GAN of pictures: a generator G of pictures and a critic C that tells them from real ones, both told what stands beside.

    C minimises  mean max(0, 1 - C(T x, beside)) + mean max(0, 1 + C(T G(z, beside), beside))
    G minimises  - mean C(T G(z, beside), beside)
T moves a picture by a few pixels and hides a square of it, real or not, so that the critic cannot learn a few hundred pictures by heart.
No map of the critic stretches (spectral normalisation); what stands beside is told by a projection. To what G's network says comes a
linear map of z, which starts as the principal directions of the pictures: so G starts as a Gaussian of low rank.

Spectral normalization for generative adversarial networks (with the hinge loss); T. Miyato, T. Kataoka, M. Koyama, Y. Yoshida; 2018; https://arxiv.org/abs/1802.05957
cGANs with projection discriminator; T. Miyato, M. Koyama; 2018; https://arxiv.org/abs/1802.05637
Differentiable augmentation for data-efficient GAN training; S. Zhao, Z. Liu, J. Lin, J.-Y. Zhu, S. Han; 2020; https://arxiv.org/abs/2006.10738
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from generators.arguments import whole
from generators.images.directions import Directions
from generators.images.nets import LEAST, Painter, cells, patch
from generators.images.painted import Painted, schedule, told, zeroed
from generators.layout import ImageLayout, Pictures
from generators.streams import drawn
from generators.train import Plan

STEPS = 2000  # of the training
MOVED, HIDDEN = 8, 3  # a picture is moved by one in so many of its pixels, and one square in so many of its side is hidden, at most
JUDGED = 1000  # pictures that are drawn to judge a generator, at most
VIEWS = 256  # directions from which it is judged
FREQUENT = 20  # pictures of a kind that are looked at by themselves, at least
NEAR = 3  # half of them look at a window of one in so many of a side


class Critic(nn.Module):
    """(n, channels, height, width), and what stands beside (n, fields) -> (n,)."""

    def __init__(self, layout: ImageLayout, width: int):
        super().__init__()
        channels, *shape = layout.shape
        sizes = cells(tuple(shape), LEAST)
        self.patch, self.room = patch(*shape), [k * patch(*shape) - side for k, side in zip(sizes[0], shape, strict=True)]
        wide = [width * (i + 1) for i in range(len(sizes))]
        self.inlet = spectral_norm(nn.Conv2d(channels * self.patch**2, width, 3, padding=1))
        self.same = nn.ModuleList([spectral_norm(nn.Conv2d(a, a, 3, padding=1)) for a in wide])
        self.smaller = nn.ModuleList([spectral_norm(nn.Conv2d(a, b, 3, stride=2, padding=1)) for a, b in pairwise(wide)])
        self.hidden = spectral_norm(nn.Linear(wide[-1], 4 * width))
        self.score, self.stays = spectral_norm(nn.Linear(4 * width, 1)), told(layout.static, 4 * width)

    def forward(self, x: Tensor, static: Tensor) -> Tensor:
        h = self.inlet(F.pixel_unshuffle(F.pad(x, (0, self.room[1], 0, self.room[0]), mode="replicate"), self.patch))
        for i, same in enumerate(self.same):
            h = h + same(F.leaky_relu(h, 0.2))
            h = self.smaller[i](F.leaky_relu(h, 0.2)) if i < len(self.smaller) else h
        h = F.leaky_relu(self.hidden(F.leaky_relu(h, 0.2).sum((2, 3)) / math.sqrt(h.shape[2] * h.shape[3])), 0.2)
        return (self.score(h) + (h * self.stays(static)).sum(1, keepdim=True) / math.sqrt(h.shape[1]))[:, 0]


class PictureGAN(Painted):
    """layout: what an image is.

    noise: numbers in z
    width: channels of the networks where a picture is largest
    asked: of train.Plan, passes and minutes above all
    """

    called = "gan"
    unit = "Minus the distance of views of images from real ones"

    def __init__(self, layout: ImageLayout, noise: int = 64, width: int = 32, **asked: Any):
        super().__init__(layout, asked)
        whole(noise=noise, width=width)
        self.noise, self.width = noise, width

    def plan(self, n: int) -> Plan:
        return schedule(n, STEPS, rate=5e-4, momentum=0.0, patience=0.5)

    def build(self) -> None:
        channels, *shape = self.layout.shape
        wide = 4 * self.width
        self.frame(wide)
        self.generator = nn.ModuleDict({
            "told": nn.Linear(self.noise, wide), "stays": told(self.layout.static, wide), "line": nn.Linear(self.noise, len(self.layout)),
            "painter": Painter(self.noise, channels, tuple(shape), self.width, wide, 0.0),
        })  # fmt: skip
        zeroed(self.generator["painter"].outlet)
        self.critic = Critic(self.layout, self.width)

    def _generate(self, z: Tensor, static: Tensor) -> Tensor:
        """Scaled pixels. z (n, noise)."""
        line = self.generator["line"](z).view(-1, *self.layout.shape)
        return line + self.generator["painter"](z, self.generator["stays"](static) + self.generator["told"](z))

    def objective(self, x: Pictures, held_out: Pictures, rng: torch.Generator):
        self.measure(x.pixels, rng)
        where, seed = x.pixels.device, drawn(rng)
        self._gaussian(x, held_out, rng)
        judged = x[torch.randperm(len(x), generator=rng)[:JUDGED].to(where)]
        views = self._views(torch.Generator().manual_seed(seed)).to(where)
        kinds = _kinds(judged.static)
        wanted, held = (_viewed(self.scaled(some.pixels), some.static, kinds, views) for some in (judged, held_out))
        noise = lambda n: torch.randn(n, self.noise, device=where)  # noqa: E731

        def critic(i: Tensor, done: float) -> Tensor:
            with torch.no_grad():
                fake = self._generate(noise(len(i)), x.static[i])
            both = self.critic(_changed(torch.cat([self.scaled(x.pixels[i]), fake])), x.static[i].repeat(2, 1))
            return F.relu(1 - both[: len(i)]).mean() + F.relu(1 + both[len(i) :]).mean()

        def generator(i: Tensor, done: float) -> Tensor:
            return -self.critic(_changed(self._generate(noise(len(i)), x.static[i])), x.static[i]).mean()

        def score() -> Tensor:
            z = torch.randn(len(judged), self.noise, generator=torch.Generator().manual_seed(seed)).to(where)
            made = torch.cat([self._generate(a, b) for a, b in zip(z.split(self.CHUNK), judged.static.split(self.CHUNK), strict=True)])
            seen = _viewed(self.scaled(self.whole(made)), judged.static, kinds, views)
            return -torch.cat([(seen - wanted).abs().mean(0), (seen - held).abs().mean(0)])

        return {"critic": critic, "generator": generator}, score

    @torch.no_grad()
    def _gaussian(self, x: Pictures, held_out: Pictures, rng: torch.Generator) -> None:
        """Sets the linear map of z to the mean and principal directions of the pictures."""
        flat = [self.scaled(some.pixels).flatten(1).cpu() for some in (x[torch.arange(min(len(x), 4096))], held_out)]
        normal = Directions().fit(*flat, rng)
        k, line = min(self.noise, normal.kept), self.generator["line"]
        line.weight.zero_(), line.bias.copy_(normal.mean)
        line.weight[:, :k] = (normal.turn * normal.spread[:-1])[:, :k].to(line.weight.device)

    def _views(self, rng: torch.Generator) -> Tensor:
        """Directions (VIEWS, pixels), half of them of a window."""
        channels, height, width = self.layout.shape
        out = torch.randn(VIEWS, channels, height, width, generator=rng)
        for side, at in ((height, torch.arange(height)[:, None]), (width, torch.arange(width))):
            near = max(side // NEAR, 2)
            first = torch.randint(side - near + 1, (VIEWS // 2, 1, 1, 1), generator=rng)
            out[: VIEWS // 2] *= (at >= first) & (at < first + near)
        return F.normalize(out.flatten(1), dim=1)

    def draw(self, static: Tensor, rng: torch.Generator) -> Tensor:
        return self.whole(self._generate(torch.randn(len(static), self.noise, generator=rng), static))


def _kinds(static: Tensor) -> Tensor:
    """Rows of what stands beside pictures that are frequent, (kinds, fields): those whose pictures are looked at by themselves."""
    kinds, held = torch.unique(static, dim=0, return_counts=True)
    return kinds[held >= FREQUENT][:VIEWS]


def _viewed(x: Tensor, static: Tensor, kinds: Tensor, views: Tensor) -> Tensor:
    """(shares, VIEWS): how pictures look from each direction, quantiles; pictures of one kind from each, where there are kinds."""
    seen, shares = x.flatten(1) @ views.t(), torch.linspace(0.02, 0.98, 49, device=x.device)
    if not len(kinds):
        return torch.quantile(seen, shares, dim=0)
    out, turn = torch.zeros(len(shares), len(views), device=x.device), torch.arange(len(views)) % len(kinds)
    for i, kind in enumerate(kinds):
        own = (static == kind).all(1)
        out[:, turn == i] = torch.quantile(seen[own] if own.any() else seen, shares, dim=0)[:, turn == i]
    return out


def _changed(x: Tensor) -> Tensor:
    """T: every picture moved, what comes in being as at the rim, and a square of it hidden."""
    n, _, height, width = x.shape
    most = max(max(height, width) // MOVED, 1)
    rows, cells = (torch.randint(-most, most + 1, (n, 1), device=x.device) + torch.arange(side, device=x.device) for side in (height, width))
    rows, cells = rows.clamp(0, height - 1), cells.clamp(0, width - 1)
    x = x.gather(2, rows[:, None, :, None].expand_as(x)).gather(3, cells[:, None, None, :].expand_as(x))
    inside = []
    for side in (height, width):
        hidden = max(side // HIDDEN, 1)
        first = torch.randint(-hidden, side, (n, 1), device=x.device)
        at = torch.arange(side, device=x.device)
        inside.append((at >= first) & (at < first + hidden))
    return x * ~(inside[0][:, None, :, None] & inside[1][:, None, None, :])
