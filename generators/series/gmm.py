"""GMM of series: a mixture over whole windows, each component low rank plus noise.

    p(x | told) = sum_k softmax_k(G told) N(x_seen; M_k told, L_k L_k' + diag psi_k),   x = all steps, where there is something
told is what stays, as numbers (see Told), and a 1: M_k says what it does to every number of every step. L_k says what is smooth or
shared by steps and columns, psi_k how much noise each of them keeps of its own. Signals that every series holds throughout are
turned into cosines first where that measures better: low rank plus a spectrum of noise. A class is an interval of a number that
nobody sees (a Gaussian copula), drawn anew in every pass from what the model says of it. Whatever is missing is integrated out.

The EM algorithm for mixtures of factor analyzers; Z. Ghahramani, G. Hinton; 1996; http://mlg.eng.cam.ac.uk/zoubin/papers/tr-96-1.pdf
Bayesian Gaussian copula factor models for mixed data; J. Murray, D. Dunson, L. Carin, J. Lucas; 2013; https://arxiv.org/abs/1111.0317
The SEM algorithm; G. Celeux, J. Diebolt; 1985 (Computational Statistics Quarterly 2, 73-82)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from generators.arguments import whole
from generators.layout import Sequences, SeriesLayout
from generators.series.climb import Climbed, Task
from generators.series.factors import CHUNK, Known, Parts, between, binary, pick
from generators.series.holds import Holds
from generators.series.margins import Margins
from generators.series.windows import Told, Windows
from generators.threads import single_thread

HELD_OUT = 1000  # held-out series that are looked at, at most
FACTORS = (1, 2, 4, 8, 16, 32)
SERIES_A_FACTOR = 4  # series that there are for each factor
SERIES_A_COMPONENT = 12
MOST_COMPONENTS = 64
JUDGED = 2000  # series that are drawn to set frequencies right, about


class WindowMixture(nn.Module):
    """layout: what a series is.

    components: None: doubled while that helps
    factors:    columns of L; None: doubled while that helps
    basis:      "steps", "cosines", or "auto": whichever measures better on held-out series
    passes:     passes over the data at most
    """

    device = "cpu"

    def __init__(self, layout: SeriesLayout, components: int | None = None, factors: int | None = None, basis: str = "auto", passes: int = 40):
        super().__init__()
        if basis not in ("auto", "steps", "cosines"):
            raise ValueError(f"basis: found {basis!r}, expected auto, steps or cosines")
        whole(components=components, factors=factors, passes=passes)
        self.layout, self.basis, self.passes = layout, basis, passes
        self.components, self.factors = components, factors
        self.told, self.windows, self.holds, self.margins = Told(layout.static), Windows(layout), Holds(layout), Margins(layout)
        self.turned: list[int] = []  # fields of a step that are cosines
        self.curve: list[dict] = []
        for name, shape in (("gate", (1, 1)), ("lines", (1, 1, 1)), ("noise", (1, 1))):
            self.register_buffer(name, torch.zeros(shape, dtype=torch.double))

    @torch.no_grad()
    def fit(
        self, x: Sequences, held_out: Sequences, *, rng: torch.Generator, log: Callable[[str], None] = lambda line: None, checkpoint: Path | None = None
    ) -> WindowMixture:
        """Tries the sizes asked for, and learns again, of all series, with those that are best on held_out. checkpoint: not used, a fit is short"""
        self.windows.fit(x)
        self.told.fit(x.static, *self.windows.rows(x))
        judged = held_out[torch.randperm(len(held_out), generator=rng)[:HELD_OUT]]
        with single_thread():
            best = self._basis(x, judged, rng, log)
            for k in self._counts(len(x)):
                tried = self._noted(best.split(k), log)
                if not (tried.score > best.score or self.components == k):
                    break
                best = tried
            self.curve[best.note]["chosen"] = True
            self.turned = best.task.turned
            x = x.beside(held_out)  # whatever was to be decided is
            parts = best.again(self._known(x, self.turned, rng))
            self.gate, self.lines, self.noise = parts.gate, parts.lines, parts.noise
            self._settle(x, rng)
        return self

    def _basis(self, x: Sequences, held_out: Sequences, rng: torch.Generator, log) -> Climbed:
        """One component, in the basis that suits it."""
        ranges = [[]] if self.basis != "cosines" else []
        if self.basis != "steps" and (turned := self._whole(x, held_out)):
            ranges.append(turned)
        if not ranges:
            raise ValueError("basis: cosines need a number that every series holds at every step")
        seed, found = int(torch.randint(2**62, (1,), generator=rng)), []
        for turned in ranges:
            own = torch.Generator().manual_seed(seed)
            data, held = self._known(x, turned, own), self._known(held_out, turned, own)
            at, best = self.windows.discrete, None
            field = torch.where(torch.isin(self.windows.field, torch.tensor(turned)), -1, self.windows.field)
            task = Task(data, held, at, binary(data, at), turned, field, self.passes, own)
            for q in self._ranks(len(x)):
                tried = self._noted(Climbed.one(task, q), log)
                if best is not None and tried.score <= best.score:
                    break
                best = tried
            found.append(best)
        return max(found, key=lambda t: t.score)

    def _whole(self, *parts: Sequences) -> list[int]:
        """Numbers that every series holds at every step."""
        return self.layout.step.ungated if all(int(p.lengths.min()) == self.layout.longest for p in parts) and self.layout.longest > 1 else []

    def _ranks(self, n: int) -> list[int]:
        most = max(min(n // SERIES_A_FACTOR, len(self.windows)), 1)
        return [min(self.factors, most)] if self.factors else [q for q in FACTORS if q <= most] or [1]

    def _counts(self, n: int) -> list[int]:
        most = max(min(n // SERIES_A_COMPONENT, MOST_COMPONENTS), 1)
        return [min(self.components, most)] * (self.components > 1) if self.components else [2**i for i in range(1, 7) if 2**i <= most]

    def _noted(self, tried: Climbed, log) -> Climbed:
        tried.note = len(self.curve)
        basis = "cosines" if tried.task.turned else "steps"
        self.curve.append({"rows": len(tried.task.data.x), "model": tried.model, "numbers": basis, "start": tried.start, "held_out": tried.history})
        log(f"gmm: {tried.model} on {len(tried.task.data.x)} series, {basis}: {tried.score:.3f} nats a series held out")
        return tried

    def _known(self, x: Sequences, turned: list[int], rng: torch.Generator) -> Known:
        rows, mask = self.windows.rows(x)
        at = self.windows.discrete
        low, high = self.windows.interval(rows[:, at])
        low, high = torch.where(mask[:, at], low, -math.inf), torch.where(mask[:, at], high, math.inf)
        rows = self._turn(rows, turned)
        rows[:, at] = between(low, high, torch.zeros(()), torch.ones(()), rng)
        return Known(rows, mask, self.told(x.static), low, high)

    def _turn(self, rows: Tensor, turned: list[int], back: bool = False) -> Tensor:
        """Fields of a step to cosines and back."""
        if not turned:
            return rows
        wide = rows.reshape(len(rows), self.layout.longest, len(self.layout.step)).clone()
        c = _cosines(self.layout.longest)
        wide[:, :, turned] = torch.einsum("ts,nsf->ntf", c.t() if back else c, wide[:, :, turned])
        return wide.flatten(1)

    @torch.no_grad()
    def sample(self, static: Tensor, lengths: Tensor, *, rng: torch.Generator) -> Tensor:
        """static (n, fields), lengths (n,) -> steps (sum of lengths, fields)."""
        with single_thread():
            parts = [self._draw(s, n, rng) for s, n in zip(static.split(CHUNK), lengths.split(CHUNK), strict=True)]
        return torch.cat(parts)

    def _draw(self, static: Tensor, lengths: Tensor, rng: torch.Generator) -> Tensor:
        z = self._rows(static, rng).view(len(static), self.layout.longest, len(self.layout.step))
        return self.margins(self.windows.steps_of(self.holds.settled(z, rng).flatten(1), lengths))

    def _rows(self, static: Tensor, rng: torch.Generator) -> Tensor:
        """Numbers (n, D) of series of which this stays, as long as can be."""
        parts, told = Parts(self.gate, self.lines, self.noise), self.told(static)
        k = pick(parts.log_pi(told).exp(), rng)
        both = torch.cat([told, torch.randn(len(told), parts.factors, generator=rng, dtype=torch.double)], 1)
        z = torch.empty(len(told), len(self.windows), dtype=torch.double)
        for j in range(len(parts.gate)):
            rows = (k == j).nonzero()[:, 0]
            noise = torch.randn(len(rows), self.layout.longest, len(self.layout.step), generator=rng, dtype=torch.double)
            for i in self.layout.step.discrete:
                noise[:, :, i] = self.holds(noise[:, :, i], i, rng)
            z[rows] = both[rows] @ parts.lines[j].t() + noise.flatten(1) * parts.noise[j].sqrt()
        return self._turn(z, self.turned, back=True)

    def _settle(self, x: Sequences, rng: torch.Generator) -> None:
        """Makes classes, and then numbers, as frequent as they are in the data."""
        some = torch.randperm(len(x), generator=rng)[:JUDGED].repeat(max(JUDGED // len(x), 1))
        z = torch.cat([self._rows(x.static[i], rng) for i in some.split(CHUNK)])
        self.windows.settle(x.steps, z, x.lengths[some])
        self.holds.fit(x, self.sample, rng, JUDGED)
        self.margins.fit(x, self.sample, rng)

    def size(self, rows: int) -> str:
        """In words, what would be fitted to so many series."""
        return "a mixture over windows, with as many components and factors as measure best"

    def cost(self, x: Sequences, n: int) -> tuple[float, float]:
        """(seconds that a fit to n series takes, about, bytes that it holds beside its rows), from some series."""
        columns, q = len(self.windows), self.factors or 16
        tried = 4 * (self.components or 16)
        return 1.5e-9 * n * columns * (q + 1) ** 2 * self.passes * tried / 8 + 2, 30.0 * n * columns + 8.0 * CHUNK * columns * 8 + 1e8

    def structure(self) -> dict:
        """What `restore` needs beside the tensors of the state."""
        return {"curve": self.curve, "turned": self.turned}

    def restore(self, structure: dict, tensors: dict[str, Tensor]) -> WindowMixture:
        self.curve, self.turned = structure["curve"], structure["turned"]
        for name in ("gate", "lines", "noise"):
            setattr(self, name, torch.zeros_like(tensors[name]))
        self.told.turn = torch.zeros_like(tensors["told.turn"])
        self.load_state_dict(tensors)
        return self


def _cosines(n: int) -> Tensor:
    """(n, n): an orthonormal basis of cosines, one a row."""
    t = torch.arange(n, dtype=torch.double)
    c = torch.cos(math.pi * (t + 0.5) * t[:, None] / n) * (2 / n) ** 0.5
    c[0] /= 2**0.5
    return c
