"""GAN of pictures: a generator G of pictures and a critic C that tells them from real ones, both told what stands beside.

    C minimises  mean softplus(C(T G(z)) - C(T x)) + r (mean |C'(T x)|^2 + mean |C'(T G(z))|^2)
    G minimises  mean softplus(C(T x) - C(T G(z))),     x a real picture with the same beside it
T moves a picture by a few pixels and hides a square of it, real or not, so that the critic cannot learn a few hundred pictures by heart.
What stands beside is told to the critic by a projection. To what G's network says come the mean of pictures with this beside them and
their principal directions about it, each times a number in z, which stay as they are: so G starts as a Gaussian of low rank for each kind.

The GAN is dead; long live the GAN! A modern GAN baseline; N. Huang, A. Gokaslan, V. Kuleshov, J. Tompkin; 2024; https://arxiv.org/abs/2501.05441
Which training methods for GANs do actually converge? (the penalty) L. Mescheder, A. Geiger, S. Nowozin; 2018; https://arxiv.org/abs/1801.04406
cGANs with projection discriminator; T. Miyato, M. Koyama; 2018; https://arxiv.org/abs/1802.05637
Differentiable augmentation for data-efficient GAN training; S. Zhao, Z. Liu, J. Lin, J.-Y. Zhu, S. Han; 2020; https://arxiv.org/abs/2006.10738
Reliable fidelity and diversity metrics for generative models (a network of random weights as a judge); M. F. Naeem et al.; 2020; https://arxiv.org/abs/2002.09797
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.arguments import whole
from generators.images.directions import Directions
from generators.images.nets import LEAST, Painter, cells, patch
from generators.images.painted import Painted, schedule, told, zeroed
from generators.layout import ImageLayout, Pictures
from generators.nets import Stays
from generators.streams import drawn, stream
from generators.train import Plan

STEPS = 2000  # of the training
MOVED, HIDDEN = 8, 3  # a picture is moved by one in so many of its pixels, and one square in so many of its side is hidden, at most
JUDGED = 1000  # pictures that are drawn to judge a generator, at most
VIEWS = 256  # directions from which it is judged
FREQUENT = 20  # pictures of a kind that are looked at by themselves, or whose mean is taken, at least
SOME, FEW = 4096, 4  # pictures that the means and directions a generator starts from are taken of, and that a mean is drawn to nought by
PENALTY = 10.0  # on the squared slope of the critic, in scaled pixels
SEEN = (16, 32, 64)  # channels of the network that half of them look through


class Critic(nn.Module):
    """(n, channels, height, width), and what stands beside (n, fields) -> (n,)."""

    def __init__(self, layout: ImageLayout, width: int):
        super().__init__()
        channels, *shape = layout.shape
        sizes = cells(tuple(shape), LEAST)
        self.patch, self.room = patch(*shape), [k * patch(*shape) - side for k, side in zip(sizes[0], shape, strict=True)]
        wide = [width * (i + 1) for i in range(len(sizes))]
        self.inlet = nn.Conv2d(channels * self.patch**2, width, 3, padding=1)
        self.same = nn.ModuleList([nn.Conv2d(a, a, 3, padding=1) for a in wide])
        self.smaller = nn.ModuleList([nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(wide)])
        self.hidden = nn.Linear(wide[-1], 4 * width)
        self.score, self.stays = nn.Linear(4 * width, 1), told(layout.static, 4 * width)

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
            "told": nn.Linear(self.noise, wide), "stays": told(self.layout.static, wide), "line": nn.Linear(self.noise, len(self.layout), bias=False),
            "mean": Stays(self.layout.static, len(self.layout)), "painter": Painter(self.noise, channels, tuple(shape), self.width, wide, 0.0),
        })  # fmt: skip
        zeroed(self.generator["painter"].outlet)
        self.generator["mean"].requires_grad_(False), self.generator["line"].requires_grad_(False)
        self.critic = Critic(self.layout, self.width)

    def _generate(self, z: Tensor, static: Tensor) -> Tensor:
        """Scaled pixels. z (n, noise)."""
        line = (self.generator["mean"](static) + self.generator["line"](z)).view(-1, *self.layout.shape)
        return line + self.generator["painter"](z, self.generator["stays"](static) + self.generator["told"](z))

    def objective(self, x: Pictures, held_out: Pictures, rng: torch.Generator):
        self.measure(x.pixels, rng)
        where, seed = x.pixels.device, drawn(rng)
        self._gaussian(x, held_out, rng)
        judged = x[torch.randperm(len(x), generator=rng)[:JUDGED].to(where)]
        with stream(seed):
            views = Views(self.layout).to(where)
        views.measure(self.scaled(judged.pixels))
        kinds = _kinds(judged.static)
        wanted, held = (_shares(views(self.scaled(some.pixels)), some.static, kinds) for some in (judged, held_out))
        noise = lambda n: torch.randn(n, self.noise, device=where)  # noqa: E731

        def critic(i: Tensor, done: float) -> Tensor:
            with torch.no_grad():
                fake = self._generate(noise(len(i)), x.static[i])
            seen = _changed(torch.cat([self.scaled(x.pixels[i]), fake])).requires_grad_()
            both = self.critic(seen, x.static[i].repeat(2, 1))
            (slope,) = torch.autograd.grad(both.sum(), seen, create_graph=True)
            real, made = both.chunk(2)
            return F.softplus(made - real).mean() + PENALTY * slope.square().flatten(1).sum(1).mean()

        def generator(i: Tensor, done: float) -> Tensor:
            both = _changed(torch.cat([self.scaled(x.pixels[i]), self._generate(noise(len(i)), x.static[i])]))
            real, made = self.critic(both, x.static[i].repeat(2, 1)).chunk(2)
            return F.softplus(real - made).mean()

        def score() -> Tensor:
            z = torch.randn(len(judged), self.noise, generator=torch.Generator().manual_seed(seed)).to(where)
            made = torch.cat([self._generate(a, b) for a, b in zip(z.split(self.CHUNK), judged.static.split(self.CHUNK), strict=True)])
            seen = _shares(views(self.scaled(self.whole(made))), judged.static, kinds)
            return -torch.cat([(seen - wanted).abs().mean(0), (seen - held).abs().mean(0)])

        return {"critic": critic, "generator": generator}, score

    @torch.no_grad()
    def _gaussian(self, x: Pictures, held_out: Pictures, rng: torch.Generator) -> None:
        """Sets the means of pictures, and their principal directions."""
        some, mean = x[torch.arange(min(len(x), SOME), device=x.pixels.device)], self.generator["mean"]
        flat, codes = self.scaled(some.pixels).flatten(1), mean.codes.encode(some.static)
        mean.vectors.weight.zero_()
        for which in codes.t():  # field by field, each from what those before leave
            for code in which.unique():
                if (own := which == code).sum() >= FREQUENT:
                    mean.vectors.weight[code] = (flat - mean(some.static))[own].sum(0) / (own.sum() + FEW)
        normal = Directions().fit(*((self.scaled(part.pixels).flatten(1) - mean(part.static)).cpu() for part in (some, held_out)), rng)
        k, line = min(self.noise, normal.kept), self.generator["line"]
        line.weight.zero_()
        line.weight[:, :k] = (normal.turn * normal.spread[:-1])[:, :k].to(line.weight.device)

    def draw(self, static: Tensor, rng: torch.Generator) -> Tensor:
        return self.whole(self._generate(torch.randn(len(static), self.noise, generator=rng), static))


def _kinds(static: Tensor) -> Tensor:
    """Rows of what stands beside pictures that are frequent, (kinds, fields): those whose pictures are looked at by themselves."""
    kinds, held = torch.unique(static, dim=0, return_counts=True)
    return kinds[held >= FREQUENT][:VIEWS]


class Views(nn.Module):
    """(n, channels, height, width) -> (n, VIEWS): what is seen of a picture from directions at random, half of them of what a network
    sees in it whose weights are random: that tells pictures from blurs of the same mean and spread, which all others do not."""

    def __init__(self, layout: ImageLayout):
        super().__init__()
        inside, *shape = layout.shape
        wide = (inside, *SEEN)
        self.patch = patch(*shape)
        self.net = nn.Sequential(*[part for a, b in pairwise(wide) for part in (nn.Conv2d(a, b, 3, stride=1 if a == inside else 2, padding=1), nn.ReLU())])
        for layer in self.net[::2]:
            nn.init.kaiming_normal_(layer.weight), nn.init.normal_(layer.bias, std=0.5)
        seen = self.net(torch.zeros(1, inside, *self._sides(shape))).numel()
        for name, size in (("plain", len(layout)), ("through", seen)):
            self.register_buffer(name, F.normalize(torch.randn(size, VIEWS // 2), dim=0))
        self.register_buffer("spread", torch.ones(VIEWS))
        self.requires_grad_(False)

    def _sides(self, shape) -> list[int]:
        return [-(-side // self.patch) for side in shape]

    def measure(self, x: Tensor) -> None:
        """Sets the unit of each view to the spread of these pictures."""
        self.spread = self(x).std(0).clamp_min(1e-6)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.net(F.avg_pool2d(x, self.patch, ceil_mode=True)).flatten(1)
        return torch.cat([x.flatten(1) @ self.plain, seen @ self.through], 1) / self.spread


def _shares(seen: Tensor, static: Tensor, kinds: Tensor) -> Tensor:
    """(shares, VIEWS): quantiles of each view; of pictures of one kind each, where there are kinds."""
    shares = torch.linspace(0.02, 0.98, 49, device=seen.device)
    if not len(kinds):
        return torch.quantile(seen, shares, dim=0)
    out, turn = torch.zeros(len(shares), VIEWS, device=seen.device), torch.arange(VIEWS) % len(kinds)
    for i, kind in enumerate(kinds):
        own = (static == kind).all(1)
        out[:, turn == i] = torch.quantile((seen[own] if own.any() else seen)[:, turn == i], shares, dim=0)
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
