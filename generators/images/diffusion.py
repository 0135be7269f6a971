"""Diffusion of pictures: all pixels at once, noise taken away a little at a time.

    dx / d sigma = (x - D(x; sigma)) / sigma,     D(x; sigma) = c_skip x + c_out F(c_in x; sigma, beside)
learned by denoising, sigma log-normal, each level weighted so that F learns about as much from each; pixels are scaled to spread 1.
What stands beside (a label) is left out now and then, so that F knows pictures of any kind too, and with `guidance` g
    D = D_beside + g (D_beside - D_any)
leads away from what is common to all.
A network that has learned for minutes draws a little too much of the usual: what its pictures vary too little along the main directions, and
where their middle is beside that of real ones, is measured once and put right in whole pictures that are drawn without guidance.

Elucidating the design space of diffusion-based generative models; T. Karras, M. Aittala, T. Aila, S. Laine; 2022; https://arxiv.org/abs/2206.00364
Classifier-free diffusion guidance; J. Ho, T. Salimans; 2022; https://arxiv.org/abs/2207.12598
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from generators.arguments import number, whole
from generators.images.directions import Directions
from generators.images.nets import UNet, half
from generators.images.painted import LOOKED, Painted, schedule
from generators.layout import ImageLayout, Pictures
from generators.train import Plan

LEAST, MOST = 0.005, 80.0  # of the noise; a pixel's own spread is 1
MIDDLE, AROUND = -0.5, 1.2  # log of the noise that is learned from: mean and spread
BEND = 7.0  # how much closer levels of little noise are
WAVES = 16  # by which the network knows the noise
HELD_OUT = 256  # held-out pictures that are looked at, at least
STEPS, BATCH = 2000, 48  # of the training, and pictures a step at most
MANY = 2500  # pictures, of more the steps grow with the square root
TONES, ROWS = 64, 8  # main directions along which pictures are put right at most, and pictures that there are for each
DRAWN = 256  # pairs of pictures that are drawn for it, of opposite noise: what is odd in it does not move their middle
LACKS = 1.25  # how much they are, at most
TRIED = 8  # pictures on which it is measured how long that takes
FRESH = 0.8  # noise put on again, of what there is, where something of a picture is known
LEFT_OUT = 0.1  # how often what stands beside is


class Denoiser(Painted):
    """layout: what an image is.

    width, depth: channels of the network where a picture is largest, and sizes at which it is looked at
    steps:    in which noise is taken away, two looks at the network each
    guidance: how much farther from what is common to all kinds a picture is led than its kind is
    dropout:  share of hidden units that are left out while training; what is drawn then varies less than pictures do
    asked:    of train.Plan, passes and minutes above all
    """

    called = "diffusion"
    unit = "Minus the error of the network on held-out images, mean over noise levels"
    CHUNK = 64

    def __init__(self, layout: ImageLayout, width: int = 32, depth: int = 3, steps: int = 16, guidance: float = 0.0, dropout: float = 0.0, **asked: Any):
        super().__init__(layout, asked)
        whole(width=width, depth=depth, steps=steps), number(high=20, guidance=guidance), number(high=0.99, dropout=dropout)
        self.width, self.depth, self.steps, self.guidance, self.dropout = width, depth, steps, guidance, dropout

    def plan(self, n: int) -> Plan:
        return schedule(n, round(STEPS * max(n / MANY, 1) ** 0.5), rate=1e-3, decay=0.01, patience=1, most=BATCH)

    def sizes(self, n: int) -> dict:
        return {"tones": min(TONES, n // ROWS, len(self.layout) - 1)}

    def build(self, tones: int) -> None:
        channels, height, width = self.layout.shape
        wide = 4 * self.width
        self.frame(wide)
        self.anyone = nn.Parameter(torch.zeros(wide))
        self.level = nn.Sequential(nn.Linear(2 * WAVES, wide), nn.SiLU(), nn.Linear(wide, wide))
        self.register_buffer("turn", torch.zeros(len(self.layout), tones))  # the main directions
        self.register_buffer("gain", torch.ones(tones)), self.register_buffer("shift", torch.zeros(tones))
        widths = tuple(self.width * (i + 1) for i in range(self.depth))
        self.net = UNet(channels, channels, (height, width), widths, wide, self.dropout).to(memory_format=torch.channels_last)

    def _clean(self, x: Tensor, sigma: Tensor, beside: Tensor) -> Tensor:
        """D, (n, channels, height, width). sigma (n,), beside (n, wide)."""
        s = sigma[:, None, None, None]
        return x / (1 + s**2) + s * (1 + s**2).rsqrt() * self._raw(x, sigma, beside)

    def _raw(self, x: Tensor, sigma: Tensor, beside: Tensor) -> Tensor:
        """F."""
        turns = sigma.log()[:, None] * torch.linspace(0.25, 4, WAVES, device=x.device)
        with half(x.device):
            condition = beside + self.level(torch.cat([turns.sin(), turns.cos()], 1))
            return self.net(x * (1 + sigma**2).rsqrt()[:, None, None, None], condition)

    def _errors(self, x: Tensor, sigma: Tensor, eps: Tensor, beside: Tensor) -> Tensor:
        """(n,): squared error of F, mean over pixels."""
        s = sigma[:, None, None, None]
        noisy = x + s * eps
        wanted = (x - noisy / (1 + s**2)) * (1 + s**2).sqrt() / s
        return (self._raw(noisy, sigma, beside) - wanted).square().flatten(1).mean(1)

    def objective(self, x: Pictures, held_out: Pictures, rng: torch.Generator):
        where = x.pixels.device
        self.measure(x.pixels, rng)
        some = x[torch.randperm(len(x), generator=rng)[:LOOKED].to(where)]
        self._aim(self.scaled(some.pixels).flatten(1).cpu(), some.static.cpu(), rng)
        each = -(-HELD_OUT // len(held_out))  # times that a held-out picture is looked at, over all levels alike
        even = torch.special.ndtri((torch.arange(each * len(held_out), device=where) + 0.5) / (each * len(held_out)))
        even = (MIDDLE + AROUND * even[torch.randperm(len(even), generator=rng).to(where)]).exp()
        eps = torch.randn(len(even), *self.layout.shape, generator=rng).to(where)

        def loss(i: Tensor, done: float) -> Tensor:
            share = (torch.randperm(len(i), device=where) + torch.rand(len(i), device=where)) / len(i)
            sigma = (MIDDLE + AROUND * torch.special.ndtri(share.clamp(1e-4, 1 - 1e-4))).exp()
            told = self.stays(x.static[i])
            beside = torch.where(torch.rand(len(i), 1, device=where) < LEFT_OUT, self.anyone, told)
            return self._errors(self.scaled(x.pixels[i]), sigma, torch.randn(len(i), *self.layout.shape, device=where), beside).mean()

        def score() -> Tensor:
            found, at = [], torch.arange(len(even), device=where)
            for part in at.split(256):
                i = part % len(held_out)
                found.append(self._errors(self.scaled(held_out.pixels[i]), even[part], eps[part], self.stays(held_out.static[i])))
            return -torch.cat(found).view(each, -1).mean(0)

        return {"": loss}, score

    def cost(self, x: Pictures, n: int) -> tuple[float, float]:
        """As for all, and what `finish` takes."""
        seconds, held = super().cost(x, n)
        start = time.monotonic()
        self.eval().sample(x.static[:TRIED].cpu(), rng=torch.Generator().manual_seed(0))
        return seconds + (time.monotonic() - start) * 2 * DRAWN / min(TRIED, len(x)) * (not self.guidance), held

    def _aim(self, x: Tensor, static: Tensor, rng: torch.Generator) -> None:
        """Keeps until `finish` where pictures x (n, pixels) lie along their main directions, and what stands beside some, every kind as often as it is."""
        self.turn = Directions().fit(x, x, rng, self.turn.shape[1]).turn.to(self.turn.device)
        kinds = torch.unique(torch.cat([static, torch.zeros(len(static), 1)], 1), dim=0, return_inverse=True)[1]
        even = torch.linspace(0, len(x) - 1, min(DRAWN, len(x))).long()
        self._aimed = x @ self.turn.cpu(), static[kinds.argsort(stable=True)[even]]

    @torch.no_grad()
    def finish(self, rng: torch.Generator) -> None:
        real, static = self._aimed
        del self._aimed
        if self.guidance or not len(self.gain):
            return
        made = []
        for part in static.split(self.CHUNK // 2):
            noise = self._noise(len(part), rng)
            made.append(self._drawn(torch.cat([part, part]), torch.cat([noise, -noise]), self.steps).flatten(1) @ self.turn)
        made = torch.cat(made)
        self.gain = (real.std(0) / made.std(0).clamp_min(1e-6)).clamp(1 / LACKS, LACKS)
        self.shift = real.mean(0) - self.gain * made.mean(0)

    def _toned(self, x: Tensor) -> Tensor:
        """What is drawn, put right along the main directions."""
        along = x.flatten(1) @ self.turn
        return x + (((self.gain - 1) * along + self.shift) @ self.turn.t()).view_as(x)

    @torch.no_grad()
    def completed(self, static: Tensor, right: Callable[[Tensor, Tensor], Tensor], rng: torch.Generator) -> Tensor:
        """Pixels of pictures of which something is known: right(clean, numbers of the pictures) puts that right in scaled pixels.

        In twice as many steps, each of which takes away fresh noise too, so that what is drawn grows together with what is known."""
        out = []
        for i in torch.arange(len(static)).split(self.CHUNK):
            fresh = lambda: self._noise(len(i), rng)  # noqa: B023, E731
            out.append(self._drawn(static[i], fresh(), 2 * self.steps, lambda clean, i=i: right(clean, i), fresh))
        return torch.cat([self.whole(x) for x in out])

    def draw(self, static: Tensor, rng: torch.Generator) -> Tensor:
        return self.whole(self._toned(self._drawn(static, self._noise(len(static), rng), self.steps)))

    def _noise(self, n: int, rng: torch.Generator) -> Tensor:
        return torch.randn(n, *self.layout.shape, generator=rng)

    def _drawn(
        self,
        static: Tensor,
        noise: Tensor,
        steps: int,
        right: Callable[[Tensor], Tensor] = lambda clean: clean,
        fresh: Callable[[], Tensor] | None = None,
    ) -> Tensor:
        """Scaled pixels from noise (n, channels, height, width), from the most to the least by the method of Heun.

        fresh: noise that is put on before each step, FRESH times what there is."""
        beside = self.stays(static)
        levels = torch.linspace(MOST ** (1 / BEND), LEAST ** (1 / BEND), steps + 1) ** BEND
        x = MOST * noise
        for now, then in pairwise(levels):
            if fresh:
                x = x + now * math.sqrt((1 + FRESH) ** 2 - 1) * fresh()
                now = now * (1 + FRESH)
            before = (x - right(self._led(x, now, beside))) / now
            guess = x + (then - now) * before
            x = x + (then - now) * (before + (guess - right(self._led(guess, then, beside))) / then) / 2
        return right(self._led(x, levels[-1], beside))

    def _led(self, x: Tensor, sigma: Tensor, beside: Tensor) -> Tensor:
        """D with guidance, at one level of noise."""
        s = sigma.expand(len(x))
        clean = self._clean(x, s, beside)
        return clean if not self.guidance else clean + self.guidance * (clean - self._clean(x, s, self.anyone.expand_as(beside)))
