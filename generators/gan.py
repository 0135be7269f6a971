"""GAN: a generator G and a critic C that tells rows of it from real ones, both told one value that the row must have.

    C minimises  mean C(G(z, c), c) - mean C(x, c) + mean (|grad C(mixed)| - 1)^2,   x a real row in which c holds
    G minimises  - mean C(G(z, c), c) - log p_G(c's field has c's value)
Numbers are split into many modes, bins of equal probability within which they are drawn evenly (mode-specific normalisation,
with modes so narrow that a place inside need not be learned: a critic tells learned places from real ones); the critic also sees
where a mode lies, so that few rows tell it what neighbours have in common. The value c is of
a field at random and drawn by the logarithm of how often it comes, so that rare values are seen (training by sampling). C
looks at several rows at once, so that rows too alike are seen (PacGAN). G answers with probabilities of every field's values,
independent given z, of which the critic sees hard choices; their margins are set to those of the data at the end.

Modeling tabular data using conditional GAN; L. Xu, M. Skoularidou, A. Cuesta-Infante, K. Veeramachaneni; 2019; https://arxiv.org/abs/1907.00503
Improved training of Wasserstein GANs; I. Gulrajani et al.; 2017; https://arxiv.org/abs/1704.00028
PacGAN: the power of two samples in generative adversarial networks; Z. Lin, A. Khetan, G. Fanti, S. Oh; 2018; https://arxiv.org/abs/1712.04086
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.arguments import number, whole
from generators.codes import Codes
from generators.heads import spread
from generators.layout import Layout
from generators.nets import Residual, dropout
from generators.neural import Neural
from generators.streams import drawn
from generators.train import Plan

MOST = 2**19  # rows that are learned from, at random where there are more
PAIRS = 200  # pairs of fields on which a generator is judged, at most
GROUPS = 6  # groups of each field's values for that
LOOK = 16_384  # rows from which margins are taken
JUDGED = 8000  # rows that are drawn for that
SOFT = 0.5  # temperature of the soft choices through which gradients reach the generator; the critic sees hard ones
PLACE = 2.0  # size of the number by which the critic sees where a mode lies, beside the ones and zeros of modes
PENALTY = 1.0  # weight of the gradient penalty
MATCHES = 12  # times that the margins are corrected
TRIES = 32  # candidates for every row that must meet a condition
NEVER = 1e-4  # a condition that is less probable than this in every candidate is not met


class GAN(Neural):
    """layout: what a row is.

    noise:   numbers in z
    width, depth: hidden units and residual blocks of the generator; the critic has two layers of twice the width
    modes:   bins of a number, of equal probability, at most
    pack:    rows that the critic looks at together
    dropout: share of the critic's hidden units that are left out while training
    asked:   of train.Plan, passes and minutes above all
    """

    unit = "Minus the distance of pairs of fields from real rows"

    def __init__(self, layout: Layout, noise: int = 64, width: int = 256, depth: int = 2, modes: int = 32, pack: int = 2, dropout: float = 0.0, **asked: Any):
        super().__init__(layout, asked)
        whole(noise=noise, width=width, modes=modes, pack=pack), whole(0, depth=depth), number(high=0.99, dropout=dropout)
        self.noise, self.width, self.depth, self.modes, self.pack, self.dropout = noise, width, depth, modes, pack, dropout

    def plan(self, n: int) -> Plan:
        batch = min(max(n // 50, 64), 256)
        few = max(100 * batch / max(n, 1), 1)  # a pass of few rows is few steps: what counts is steps
        passes = 25 * max(30_000 / max(n, 1), 1) ** 0.25
        return Plan(passes, batch, rate=2e-3, decay=1e-4, momentum=0.0, memory=2 * few, patience=round(20 * few))

    def sizes(self, n: int) -> dict:
        return {"modes": self.modes}

    def build(self, modes: int) -> None:
        self.codes = Codes.single(self.layout, modes)
        size, self.fields = self.codes.size, self.codes.offsets.diff().tolist()  # values in all, and of each field
        self.generator = nn.ModuleDict({
            "inlet": nn.Linear(self.noise + size, self.width), "body": Residual(self.width, self.depth, 0.0),
            "choice": nn.Linear(self.width, size),
        })  # fmt: skip
        seen, wide = self.pack * (2 * size + len(self.fields)), 2 * self.width
        self.critic = nn.Sequential(nn.Linear(seen, wide), nn.Linear(wide, wide), nn.Linear(wide, 1))
        self.register_buffer("place", self._places(), persistent=False)
        self.register_buffer("margins", torch.ones(size))  # how often each value comes
        self.register_buffer("shift", torch.zeros(size))  # what sets the margins of the generator

    def _places(self) -> Tensor:
        """(V, fields): where each mode of a number lies, as a quantile of the normal distribution; 0 for categories."""
        places = [torch.special.ndtri((torch.arange(k) + 0.5) / k) * (not f.classes) for f, k in zip(self.layout.fields, self.fields, strict=True)]
        return PLACE * torch.block_diag(*places).t().reshape(-1, len(self.fields))

    def _generate(self, z: Tensor, condition: Tensor) -> Tensor:
        """z (n, noise), condition (n, V) -> logits (n, V)."""
        return self.generator["choice"](self.generator["body"](self.generator["inlet"](torch.cat([z, condition], 1))))

    def _seen(self, choice: list[Tensor]) -> Tensor:
        """What the critic sees of rows, (n, V): the value of every field as one of its values, 0 where a gate switches it off."""
        on = [None if f.gate is None else choice[f.gate][:, :1] for f in self.layout.fields]
        return torch.cat([c if g is None else c * g for c, g in zip(choice, on, strict=True)], 1)

    def _judged(self, rows: Tensor, condition: Tensor) -> Tensor:
        """(n / pack,) of the critic; rows (n, V)."""
        h = torch.cat([rows, rows @ self.place, condition], 1)
        h = h[: len(h) // self.pack * self.pack].reshape(-1, self.pack * h.shape[1])
        for layer in self.critic[:-1]:
            h = dropout(F.leaky_relu(layer(h), 0.2), self.dropout, self.training)
        return self.critic[-1](h)[:, 0]

    def _penalty(self, real: Tensor, fake: Tensor, condition: Tensor) -> Tensor:
        """How far gradients of the critic between real and generated packs are from length 1."""
        share = torch.rand(len(real) // self.pack, 1, device=real.device).repeat_interleave(self.pack, 0)
        mixed = (share * real + (1 - share) * fake).requires_grad_()
        (gradient,) = torch.autograd.grad(self._judged(mixed, condition).sum(), mixed, create_graph=True)
        return ((gradient.reshape(len(share) // self.pack, -1).square().sum(1) + 1e-12).sqrt() - 1).square().mean()

    def _condition(self, n: int, weight: Tensor, rng: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """A field for each of n rows, (n,), and one of its values by these weights (V,), (n,)."""
        where = weight.device if rng is None else "cpu"
        field = torch.randint(len(self.fields), (n,), device=where, generator=rng).to(weight.device)
        share = torch.rand(n, device=where, dtype=torch.double, generator=rng).to(weight.device)
        ends = torch.cat([weight.new_zeros(1), weight.double().cumsum(0)])
        offsets = self.codes.offsets
        low, high = ends[offsets[field]], ends[offsets[field + 1]]
        value = torch.searchsorted(ends, low + (high - low) * share, right=True) - 1
        return field, torch.minimum(torch.maximum(value, offsets[field]), offsets[field + 1] - 1)

    def objective(self, x: Tensor, held_out: Tensor, rng: torch.Generator):
        x = x[torch.randperm(len(x), generator=rng)[:MOST].to(x.device)]
        n, rows, seed = len(x), self.codes.encode(x), drawn(rng)
        real_rows = torch.cat([rows[: 2 * JUDGED], self.codes.encode(held_out)]).cpu()  # a few hundred held-out rows alone would say little of pairs
        counts = torch.bincount(rows.reshape(-1), minlength=self.codes.size + 2)[: self.codes.size].float()
        self.margins.copy_(counts)
        self.generator["choice"].bias.data.copy_((counts + 0.5).log())
        by_value = torch.argsort(rows.t().reshape(-1), stable=True)[: int(counts.sum())] % n  # the rows of value 0, of value 1, ...
        first, often, groups = counts.long().cumsum(0) - counts.long(), torch.log1p(counts), self._groups()

        def real(value: Tensor) -> Tensor:
            """Rows in which these values hold, as the critic sees them."""
            i = by_value[first[value] + (torch.rand(len(value), device=x.device, dtype=torch.double) * counts[value]).long()]
            value = torch.where(rows[i] < self.codes.size, rows[i], self.codes.size)
            return F.one_hot(value, self.codes.size + 1).sum(1)[:, :-1].float()

        def fake(value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            condition = F.one_hot(value, self.codes.size).float()
            logits = self._generate(torch.randn(len(value), self.noise, device=x.device), condition)
            return self._seen([F.gumbel_softmax(v, SOFT, hard=True) for v in logits.split(self.fields, 1)]), condition, logits

        def critic(i: Tensor, done: float) -> Tensor:
            n = max(len(i) // self.pack, 1) * self.pack
            _, value = self._condition(n, often)
            with torch.no_grad():
                made, condition, _ = fake(value)
            genuine = real(value)
            return self._judged(made, condition).mean() - self._judged(genuine, condition).mean() + PENALTY * self._penalty(genuine, made, condition)

        def generator(i: Tensor, done: float) -> Tensor:
            n = max(len(i) // self.pack, 1) * self.pack
            field, value = self._condition(n, often)
            made, condition, logits = fake(value)
            log_p = torch.stack([v.logsumexp(1) for v in logits.split(self.fields, 1)], 1).gather(1, field[:, None])[:, 0]
            missed = log_p - logits.gather(1, value[:, None])[:, 0]
            return missed.mean() - self._judged(made, condition).mean()

        def score() -> Tensor:
            made, same = torch.empty(JUDGED, len(self.fields), dtype=torch.long), torch.Generator().manual_seed(seed)
            for part in made.split(JUDGED // 4):
                self._write(self._free(len(part), same), part, torch.ones(len(self.fields), dtype=torch.bool), same)
            return -self._difference(groups[made], groups[real_rows])[None]

        return {"critic": critic, "generator": generator}, score

    def _groups(self) -> Tensor:
        """(V + 2,): the group of each value, 0 .. GROUPS: neighbours of a number, common values of a category and the rest."""
        out, margins = torch.full((self.codes.size + 2,), GROUPS), self.margins.cpu()
        for j, (k, low) in enumerate(zip(self.fields, self.codes.offsets.tolist(), strict=False)):
            rank = margins[low : low + k].argsort(descending=True).argsort() if self.layout.fields[j].classes else torch.arange(k) * GROUPS // k
            out[low : low + k] = rank.clamp_max(GROUPS - 1)
        return out

    def _difference(self, a: Tensor, b: Tensor) -> Tensor:
        """The mean total variation distance of groups a and b (n, fields) over pairs of fields."""
        pairs = torch.combinations(torch.arange(len(self.fields)), 2) if len(self.fields) > 1 else torch.zeros(1, 2, dtype=torch.long)
        pairs = pairs[torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0))[:PAIRS]]
        wide = GROUPS + 1
        shares = [[torch.bincount(v[:, i] * wide + v[:, j], minlength=wide**2) / len(v) for i, j in pairs.tolist()] for v in (a, b)]
        return (torch.stack(shares[0]) - torch.stack(shares[1])).abs().sum(1).mean() / 2

    @torch.no_grad()
    def finish(self, rng: torch.Generator) -> None:
        """Shifts the logits until the margins are those of the data."""
        want = self._shares()
        for _ in range(MATCHES):
            _, value = self._condition(LOOK, self.margins, rng)
            logits = self._generate(torch.randn(len(value), self.noise, generator=rng), F.one_hot(value, self.codes.size).float())
            p = [v.softmax(1) for v in (logits + self.shift).split(self.fields, 1)]
            have = []
            for j, field in enumerate(self.layout.fields):
                on = torch.ones(len(value), 1) if field.gate is None else p[field.gate][:, :1]
                have.append((p[j] * on).sum(0) / on.sum().clamp_min(1e-6))
            self.shift += 0.7 * ((want + 1e-6) / (torch.cat(have) + 1e-6)).log().clamp(-2, 2)

    def drawer(self, known: Tensor, rng: torch.Generator):
        """What is known is met by one of some candidates, at random in proportion to how probable it makes that."""

        def fill(codes: Tensor, inside: Tensor) -> int:
            logits, possible = self._conditioned(codes, known, rng) if known.any() else (self._free(len(codes), rng), len(codes))
            self._write(logits, codes, ~known, rng)
            return possible

        return fill

    def _shares(self) -> Tensor:
        """(V,): how often each value comes in its field, in all 1."""
        return torch.cat([m / m.sum().clamp_min(1) for m in self.margins.split(self.fields)])

    def _free(self, n: int, rng: torch.Generator) -> Tensor:
        """Logits (n, V) of rows of which nothing is asked."""
        return self._candidates(self._condition(n, self.margins, rng)[1], rng)

    def _candidates(self, value: Tensor, rng: torch.Generator) -> Tensor:
        """Logits (n, V) of rows in which these values should hold."""
        z = torch.randn(len(value), self.noise, generator=rng).to(self.margins.device)
        return (self._generate(z, F.one_hot(value.to(z.device), self.codes.size).float()) + self.shift).cpu()

    def _conditioned(self, codes: Tensor, mask: Tensor, rng: torch.Generator) -> tuple[Tensor, int]:
        """The same for given values, codes (n, fields) where mask (fields,), and how many rows can be so.

        Half of the candidates are told a given value, the others are free. Each weighs as much as it makes what is given probable,
        relative to how often it is tried: so the rows are those of all that `_free` draws in which it holds. Importance resampling.
        """
        n, offsets, each = len(codes), self.codes.offsets.tolist(), self._shares().double() / len(self.fields)
        counts = (codes < self.codes.size) & mask
        given = counts.sum(1)
        told = codes.gather(1, counts.double().clamp_min(1e-12).multinomial(TRIES // 2, replacement=True, generator=rng)).clamp_max(self.codes.size - 1)
        best, total, chosen = torch.full((n,), -torch.inf, dtype=torch.double), torch.full((n,), -torch.inf, dtype=torch.double), None
        for t in range(TRIES):
            value = told[:, t // 2] if t % 2 else self._condition(n, self.margins, rng)[1]
            logits = self._candidates(value, rng)
            parts = zip(logits.split(self.fields, 1), codes.t(), offsets, strict=False)
            log_p = torch.stack([v.log_softmax(1).gather(1, (c - o).clamp(0, v.shape[1] - 1)[:, None])[:, 0] for v, c, o in parts], 1)
            log_p = (log_p * counts).sum(1).double()
            ours = ((codes == value[:, None]) & counts).any(1) / given.clamp_min(1)  # how often a value is told so, and freely
            weight = log_p + each[value].log() - (each[value] + ours).log()
            best, total = torch.maximum(best, log_p), torch.logaddexp(total, weight)
            take = torch.rand(n, generator=rng, dtype=torch.double) < (weight - total).exp()
            chosen = logits if chosen is None else torch.where(take[:, None], logits, chosen)
        return chosen, int((best > given * math.log(NEVER)).sum() + (given == 0).sum())

    def _write(self, logits: Tensor, codes: Tensor, wanted: Tensor, rng: torch.Generator) -> None:
        """Draws every wanted field into codes (n, fields)."""
        start = torch.rand(len(self.fields), generator=rng, dtype=torch.double).tolist()
        for j, part in enumerate(logits.split(self.fields, 1)):
            if wanted[j]:
                codes[:, j] = self.codes.gated(j, int(self.codes.offsets[j]) + spread(part.softmax(1), start[j]), codes)
