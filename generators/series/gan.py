"""GAN of series: a generator G of whole series and a critic C that tells them from real ones, both told what stays.

    C minimises  mean C(G(z, static), static) - mean C(x, static) + mean (|grad C(mixed)| - 1)^2
    G minimises  - mean C(G(z, static), static)
z is one vector for the series and white noise at every step. Of a number G says a mean and how much of the step's own noise is on it,
so that texture need not pass through the network; to the mean comes a linear map of z and of what stays, which starts as a
regression and the principal directions of what it leaves, so that G starts as a Gaussian of low rank plus noise. C sees, beside
the steps, how each number moved since the step before, on a scale of its own. Classes are hard choices, through which gradients
reach G by a relaxation; margins are set right at the end.

Real-valued (medical) time series generation with recurrent conditional GANs; C. Esteban, S. Hyland, G. Ratsch; 2017; https://arxiv.org/abs/1706.02633
Improved training of Wasserstein GANs; I. Gulrajani et al.; 2017; https://arxiv.org/abs/1704.00028
Using GANs for sharing networked time series data (DoppelGANger: what stays first, steps given that); Z. Lin et al.; 2020; https://arxiv.org/abs/1909.13403
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.arguments import whole
from generators.codes import Codes
from generators.layout import Sequences, SeriesLayout, positions
from generators.nets import Stays
from generators.neural import Neural
from generators.series.holds import Holds
from generators.series.margins import Margins, SetRight
from generators.series.tracks import Tracks, Trunk
from generators.streams import drawn
from generators.train import Plan

GRAIN = 4  # numbers of white noise at every step, beside one for each number that is drawn
SOFT = 0.7  # temperature of the soft choices through which gradients reach the generator
PENALTY = 10.0  # weight of the gradient penalty
RIDGE = 10.0  # series' worth of belief that what stays says nothing of a number
JUDGED = 2000  # series that are drawn to judge a generator, at most
VIEWS = 128  # directions from which it is judged
NEAR = 8  # steps that half of them look at
CHUNK = 2**16  # steps that are drawn together
STEPS = 4000  # of the training, at least


class Adversarial(SetRight, Neural):
    """layout: what a series is.

    noise:   numbers in z
    width, depth: hidden units and blocks of the generator, and of the critic
    asked:   of train.Plan, passes and minutes above all
    """

    called = "gan"
    unit = "Minus the distance of views of series from real ones"

    def __init__(self, layout: SeriesLayout, noise: int = 32, width: int = 96, depth: int = 2, **asked: Any):
        super().__init__(layout, asked)
        whole(noise=noise, width=width, depth=depth)
        self.noise, self.width, self.depth = noise, width, depth

    def plan(self, n: int) -> Plan:
        batch = min(max(n // 8, 16), 64)
        few = max(STEPS * batch / (30 * max(n, 1)), 1)
        return Plan(passes=30 * few, batch=batch, rate=5e-4, momentum=0.0, memory=2 * few, patience=round(15 * few))

    def sizes(self, n: int) -> dict:
        return {}

    def build(self) -> None:
        layout, width = self.layout, self.width
        self.tracks, self.holds, self.margins = Tracks(layout), Holds(layout), Margins(layout)
        self.numbers = self.tracks.step.continuous
        self.outs = [k or 2 for k in self.tracks.sizes]
        self.generator = nn.ModuleDict({
            "stays": Stays(layout.static, width), "z": nn.Linear(self.noise, width),
            "trunk": Trunk(layout.longest, GRAIN + len(self.numbers), sum(self.outs), width, self.depth, 0.0),
        })  # fmt: skip
        if self.numbers:
            self.generator["line"] = nn.Linear(self.noise, layout.longest * len(self.numbers))
            self.generator["told"] = nn.EmbeddingBag(self.codes.size + 2, layout.longest * len(self.numbers), mode="sum")
        seen = self.tracks.channels + len(self.numbers)
        self.critic = nn.ModuleDict({
            "stays": Stays(layout.static, width), "trunk": Trunk(layout.longest, seen, 1, width, self.depth, 0.0),
            "told": nn.Linear(2 * width, width), "score": nn.Linear(width, 1),
        })  # fmt: skip
        self.register_buffer("moves", torch.ones(len(self.numbers)))  # how far each number moves from step to step

    @property
    def codes(self) -> Codes:
        return self.generator["stays"].codes

    def _generate(self, static: Tensor, mask: Tensor, z: Tensor, grain: Tensor) -> list[Tensor]:
        """For each field numbers (n, longest, 1) or logits of its classes. z (n, noise), grain (n, longest, GRAIN + numbers)."""
        raw = self.generator["trunk"](grain, mask, self.generator["stays"](static) + self.generator["z"](z)).split(self.outs, 2)
        line = grain
        if self.numbers:
            line = (self.generator["line"](z) + self.generator["told"](self.codes.encode(static))).view(len(z), self.layout.longest, -1)
        own = {j: (line[:, :, i : i + 1], grain[:, :, GRAIN + i : GRAIN + i + 1]) for i, j in enumerate(self.numbers)}
        both = enumerate(zip(raw, self.tracks.sizes, strict=True))
        return [f if k else f[:, :, :1] + own[j][0] + f[:, :, 1:].clamp_max(1).exp() * own[j][1] for j, (f, k) in both]

    def _noises(self, n: int, where: torch.device, rng: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        return tuple(torch.randn(n, *shape, generator=rng, device=where) for shape in ((self.noise,), (self.layout.longest, GRAIN + len(self.numbers))))

    def _shown(self, answers: list[Tensor], mask: Tensor) -> Tensor:
        """What the critic sees of what is generated, (n, longest, channels)."""
        choices = [F.gumbel_softmax(a, SOFT, hard=True, dim=2) @ self.tracks.points(j) if self.tracks.sizes[j] else a for j, a in enumerate(answers)]
        return self._with_moves(torch.cat(choices, 2), mask)

    def _with_moves(self, placed: Tensor, mask: Tensor) -> Tensor:
        """(n, longest, channels) -> the same and how each number moved since the step before, 0 behind the end."""
        at = [sum(self.tracks.widths[:j]) for j in self.numbers]
        moved = F.pad(placed[:, 1:, at] - placed[:, :-1, at], (0, 0, 1, 0)) / self.moves
        return torch.cat([placed, moved], 2) * mask

    def _judged(self, seen: Tensor, mask: Tensor, static: Tensor) -> Tensor:
        """(n,) of the critic."""
        h = self.critic["trunk"].read(seen, mask, self.critic["stays"](static))
        h = F.gelu(self.critic["told"](torch.cat([h.mean(1), h.amax(1)], 1)))
        return self.critic["score"](h)[:, 0]

    def _penalty(self, real: Tensor, fake: Tensor, mask: Tensor, static: Tensor) -> Tensor:
        """How far gradients of the critic between real and generated series are from length 1."""
        share = torch.rand(len(real), 1, 1, device=real.device)
        mixed = (share * real + (1 - share) * fake).requires_grad_()
        (gradient,) = torch.autograd.grad(self._judged(mixed, mask, static).sum(), mixed, create_graph=True)
        return ((gradient.flatten(1).square().sum(1) + 1e-12).sqrt() - 1).square().mean()

    def objective(self, x: Sequences, held_out: Sequences, rng: torch.Generator):
        steps, where, seed = self.tracks.filled(x), x.steps.device, drawn(rng)
        self._take_measure(x, steps)
        judged = x[torch.randperm(len(x), generator=rng)[:JUDGED].to(where)]
        views = self._views(torch.Generator().manual_seed(seed))
        wanted = self._viewed(*self.tracks.dense(self.tracks.filled(judged), judged.lengths), views)
        held = self._viewed(*self.tracks.dense(self.tracks.filled(held_out), held_out.lengths), views)

        def some(i: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
            dense, mask = self.tracks.dense(steps[positions(x.lengths, i)], x.lengths[i])
            static = x.static[i]
            fake = self._shown(self._generate(static, mask, *self._noises(len(i), where)), mask)
            return self._with_moves(self.tracks.placed(dense), mask), mask, static, fake

        def critic(i: Tensor, done: float) -> Tensor:
            with torch.no_grad():
                real, mask, static, fake = some(i)
            both = self._judged(torch.cat([fake, real]), mask.repeat(2, 1, 1), static.repeat(2, 1))
            return both[: len(i)].mean() - both[len(i) :].mean() + PENALTY * self._penalty(real, fake, mask, static)

        def generator(i: Tensor, done: float) -> Tensor:
            _, mask, static, fake = some(i)
            return -self._judged(fake, mask, static).mean()

        def score() -> Tensor:
            made = self._draw(judged.static.cpu(), judged.lengths.cpu(), torch.Generator().manual_seed(seed))
            seen = self._viewed(*self.tracks.dense(made.to(where), judged.lengths), views)
            return -torch.cat([(seen - wanted).abs().mean(0), (seen - held).abs().mean(0)])

        return {"critic": critic, "generator": generator}, score

    @torch.no_grad()
    def _take_measure(self, x: Sequences, steps: Tensor) -> None:
        """How far numbers move; and a generator that starts with the margins of the data, and a Gaussian of low rank plus noise."""
        moved, whose = steps[1:, self.numbers] - steps[:-1, self.numbers], torch.repeat_interleave(torch.arange(len(x), device=steps.device), x.lengths)
        if self.numbers and (same := whose[1:] == whose[:-1]).any():
            self.moves.copy_(moved[same].std(0, correction=0).clamp_min(1e-3))
        bias, noise = [], iter(self._gaussian(x, steps) if self.numbers else ())
        for j, k in enumerate(self.tracks.sizes):
            bias.append((torch.bincount(steps[:, j].long(), minlength=k).float() + 0.5).log() if k else torch.stack([steps.new_zeros(()), next(noise)]))
        self.generator["trunk"].outlet.bias.copy_(torch.cat(bias).repeat(self.generator["trunk"].patch))
        self.generator["trunk"].outlet.weight.mul_(0.1)

    def _gaussian(self, x: Sequences, steps: Tensor) -> Tensor:
        """Sets the linear map of z to the mean and principal directions of some series; log spread of each number that they leave."""
        some = torch.arange(min(len(x), JUDGED), device=steps.device)
        dense, mask = self.tracks.dense(steps[positions(x.lengths, some)], x.lengths[some])
        dense, held = dense[:, :, self.numbers], mask.sum(0).clamp_min(1)
        mean = (dense * mask).sum(0) / held
        away = ((dense - mean) * mask).flatten(1)
        said = F.one_hot(self.codes.encode(x.static[some]), self.codes.size + 2).sum(1).to(away.dtype)  # ridge regression on what stays
        told = torch.linalg.solve(said.t() @ said + RIDGE * torch.eye(said.shape[1], device=said.device), said.t() @ away)
        away = away - (said @ told) * mask.expand_as(dense).flatten(1)
        _, spread, directions = torch.linalg.svd(away, full_matrices=False)
        k = min(self.noise, len(spread), max(len(some) // 4, 1))
        line = directions[:k].t() * spread[:k] / len(some) ** 0.5
        left = ((away.square().sum(0) / len(some) - line.square().sum(1)).clamp_min(0).view(mean.shape).mean(0) * self.layout.longest / held.mean()).sqrt()
        self.generator["line"].weight.zero_(), self.generator["line"].bias.copy_(mean.flatten())
        self.generator["line"].weight[:, :k] = line
        self.generator["told"].weight.copy_(told)
        return left.clamp_min(1e-3).log()

    def _views(self, rng: torch.Generator) -> Tensor:
        """Directions (VIEWS, longest * channels with moves), half of them of a few steps in a row."""
        channels, longest = self.tracks.channels + len(self.numbers), self.layout.longest
        out = torch.randn(VIEWS, longest, channels, generator=rng)
        first = torch.randint(max(longest - NEAR, 0) + 1, (VIEWS // 2, 1), generator=rng)
        at = torch.arange(longest)
        out[: VIEWS // 2] *= ((at >= first) & (at < first + NEAR))[:, :, None]
        return F.normalize(out.flatten(1), dim=1)

    def _viewed(self, dense: Tensor, mask: Tensor, views: Tensor) -> Tensor:
        """(shares, VIEWS): how series look from each direction, quantiles."""
        seen = self._with_moves(self.tracks.placed(dense), mask).flatten(1) @ views.to(dense.device).t()
        return torch.quantile(seen, torch.linspace(0.02, 0.98, 49, device=dense.device), dim=0)

    @torch.no_grad()
    def sample(self, static: Tensor, lengths: Tensor, *, rng: torch.Generator) -> Tensor:
        """static (n, fields), lengths (n,) -> steps (sum of lengths, fields)."""
        return self.margins(self._draw(static, lengths, rng))

    def _draw(self, static: Tensor, lengths: Tensor, rng: torch.Generator) -> Tensor:
        where, size, out = self.moves.device, max(CHUNK // self.layout.longest, 1), []
        for s, n in zip(static.split(size), lengths.split(size), strict=True):
            mask = (torch.arange(self.layout.longest) < n[:, None])[:, :, None].float()
            z, grain = (v.to(where) for v in self._noises(len(n), torch.device("cpu"), rng))
            dense = []
            for j, a in enumerate(self._generate(s.to(where), mask.to(where), z, grain)):
                gumbel = -torch.log(-torch.log(torch.rand(a.shape, generator=rng).clamp(1e-9, 1 - 1e-7)))
                dense.append(a[:, :, 0].cpu() if a.shape[2] == 1 else (a.cpu() + self.holds(gumbel, j, rng)).argmax(2).float())
            out.append(self.tracks.steps_of(self.holds.settled(torch.stack(dense, 2), rng), n))
        return torch.cat(out)
