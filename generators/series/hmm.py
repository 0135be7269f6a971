"""HMM: hidden Markov models, p(steps) = sum_z p(z_1) prod_t p(z_t | z_t-1) prod_t p(x_t | z_t), a mixture of them where that is better.

What a state says of a step is composed of leaves, as in a mixture: tables over codes (categories, which may also be kept from
the step before, see Held, and numbers in bins), full covariance Gaussians, or regressions on the steps before, for smooth
signals. In a mixture every series is of one chain throughout, which what stays in it (a diagnosis, a treatment, its number of steps)
tells of: p(steps | static) = sum_m p(m | static) p(steps | m). Kinds of leaves, numbers of states and of chains: whatever gives
held-out series the higher likelihood.

A tutorial on hidden Markov models and selected applications in speech recognition; L. Rabiner; 1989; https://doi.org/10.1109/5.18626
Clustering sequences with hidden Markov models; P. Smyth; 1997; https://papers.nips.cc/paper/1996/hash/6a61d423d02a1c56250dc23ae7ff12f3-Abstract.html
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from generators.arguments import number, whole
from generators.layout import Sequences, SeriesLayout
from generators.recipe import leaves_like, log_density, prepare, shape_of
from generators.series.chain import Packed, forward, packed, walk
from generators.series.chains import Chain, Shared, said, starts
from generators.series.held import Held
from generators.series.past import by_series, remembered
from generators.series.regression import Regression
from generators.threads import single_thread

KINDS = ("binned", "gaussian", "regression")
WIDEST = 24  # numbers that a regression or a full covariance is tried for, at most
HELD_OUT = 1000  # held-out series that are looked at, at most
MOST = 2**20  # steps that are learned from, of series at random where there are more
SCREEN = 8000  # steps on which the kind of leaves is chosen
ROWS_A_STATE = 40  # steps that there are for each state, whatever is asked for
SERIES_A_CHAIN = 15  # series that there are for each chain
MOST_STATES = 128  # of all chains together, where their number is not asked for
FARTHEST = 6.0  # from the middle of the scale that a number may go


class HMM(nn.Module):
    """layout: what a series is.

    states:  of a chain; None: doubled while that helps
    chains:  of a mixture; None: doubled while that helps
    numbers: "binned", "gaussian", "regression", or "auto": whichever measures better on held-out series
    bins:    bins of a number; None: as many as suit the number of steps
    join:    fields with more mutual information than this, in nats, become one block, where that measures better
    passes:  passes over the data at most
    """

    device = "cpu"

    def __init__(
        self, layout: SeriesLayout, states: int | None = None, chains: int | None = None, numbers: str = "auto",
        bins: int | None = None, join: float = 0.06, passes: int = 30,
    ):  # fmt: skip
        super().__init__()
        if numbers not in ("auto", *KINDS):
            raise ValueError(f"numbers: found {numbers!r}, expected auto, {' or '.join(KINDS)}")
        whole(states=states, chains=chains, bins=bins, passes=passes), number(join=join)
        self.layout, self.numbers, self.join, self.passes = layout, numbers, join, passes
        self.states, self.chains, self.bins = states, chains, bins
        self.leaves, self.kept = nn.ModuleList(), nn.ModuleList()
        self.register_buffer("start", torch.zeros(0, 0))
        self.register_buffer("step", torch.zeros(0, 0, 0))
        self.curve: list[dict] = []

    @torch.no_grad()
    def fit(
        self, x: Sequences, held_out: Sequences, *, rng: torch.Generator, log: Callable[[str], None] = lambda line: None, checkpoint: Path | None = None
    ) -> HMM:
        """Tries the kinds of leaves and the sizes asked for, keeps the best on held_out. checkpoint: not used, a fit takes seconds or a few minutes"""
        x, held_out = (_some(part, most, rng) for part, most in ((x, MOST), (held_out, HELD_OUT * self.layout.longest)))
        seed = int(torch.randint(2**62, (1,), generator=rng))
        with single_thread():
            best = self._kind(_some(x, SCREEN, rng), held_out, seed, log)
            shared = best.shared if len(x) == len(best.shared.x) else self._shared(x, held_out, best.shared.numbers, best.shared.join, seed)
            best = None
            for states in sorted({shared.recipe.at_least(k) for k in self._sizes(len(x.steps))}):
                tried = self._noted(Chain.of(shared, states), log)
                if best is not None and not tried.surely_better(best):
                    break
                best = tried
            one = best
            for chains in self._chains(len(x), one.step_p.shape[1]):
                tried = self._noted(Chain.among(one, chains), log)
                if not (tried.surely_better(best) or self.chains == chains):
                    break
                best = tried
            best.absorb_held_out()
        self.curve[best.note]["chosen"] = True
        self.leaves, self.kept, self.start, self.step = best.emissions, best.kept, best.start_p, best.step_p
        return self

    def _shared(self, x: Sequences, held_out: Sequences, numbers: str, join: float, seed: int) -> Shared:
        return Shared(self.layout, x, held_out, numbers=numbers, bins=self.bins, join=join, passes=self.passes, seed=seed)

    def _kind(self, x: Sequences, held_out: Sequences, seed: int, log) -> Chain:
        """The kind of leaves for numbers that suits some of the series best; and whether fields are joined, for a block is kept as a whole."""
        some = 1 <= len(self.layout.step.ungated) <= WIDEST
        kinds = [self.numbers] if self.numbers != "auto" else KINDS if some else KINDS[:1]
        states = min(self.states or 8, max(len(x.steps) // ROWS_A_STATE, 1))
        tried = [self._noted(Chain.of(self._shared(x, held_out, kind, self.join, seed), states), log) for kind in kinds]
        best = max(tried, key=lambda t: t.score)
        if any(len(fields) > 1 for leaf in best.emissions if isinstance(leaf, Held) for fields in leaf.codes.blocks):
            alone = self._noted(Chain.of(self._shared(x, held_out, best.shared.numbers, math.inf, seed), states), log)
            best = max(best, alone, key=lambda t: t.score)
        return best

    def _sizes(self, steps: int) -> list[int]:
        most = max(steps // ROWS_A_STATE, 1)
        return [min(self.states, most)] if self.states else [k for k in (4, 8, 16, 32, 64) if k <= most] or [most]

    def _chains(self, series: int, states: int) -> list[int]:
        most = max(min(series // SERIES_A_CHAIN, 10**6 if self.chains else MOST_STATES // states), 1)
        return [min(self.chains, most)] * (self.chains > 1) if self.chains else [m for m in (2, 4, 8, 16) if m <= most]

    def _noted(self, tried: Chain, log) -> Chain:
        tried.note = len(self.curve)
        shown = {"rows": len(tried.shared.x), "model": tried.model, "numbers": tried.shared.numbers, "bins": tried.shared.bins, "start": tried.start}
        self.curve.append(shown | {"held_out": tried.history})
        log(f"hmm: {tried.model} on {shown['rows']} series, {shown['numbers']}: {tried.score:.3f} nats a series held out")
        return tried

    def _starts(self, static: Tensor) -> Tensor:
        """static (n, fields) -> p(first state | static), (n, K)."""
        return torch.cat([starts(self.kept, chunks, self.start) for chunks in prepare(self.kept, static)])

    @torch.no_grad()
    def log_prob(self, x: Sequences) -> Tensor:
        """(n,) nats of the steps given what stays."""
        at = packed(x.lengths)
        seen = torch.cat([said(self.leaves, chunks) for chunks in prepare(self.leaves, remembered(self.layout, x)[at.rows])])
        log_p = forward(seen, self._starts(x.static[at.order]), self.step, at.live)[3]
        density = by_series(log_density(self.leaves, x.steps), x.lengths)
        return torch.zeros_like(log_p).index_copy_(0, at.order, log_p) + density

    @torch.no_grad()
    def sample(self, static: Tensor, lengths: Tensor, *, rng: torch.Generator) -> Tensor:
        """static (n, fields), lengths (n,) -> steps (sum of lengths, fields)."""
        at, x = packed(lengths), torch.zeros(int(lengths.sum()), len(self.layout))
        k = walk(self._starts(static[at.order]), self.step, at.live, rng)
        for leaf in self.leaves:
            if isinstance(leaf, Regression):
                self._follow(leaf, k, at, x, rng)
            else:
                leaf.sample(k, None, x, rng=rng)
            if isinstance(leaf, Held):
                leaf.keep_on(at, x, rng)
        return torch.zeros_like(x).index_copy_(0, at.rows, x)

    def _follow(self, leaf: Regression, k: Tensor, at: Packed, x: Tensor, rng: torch.Generator) -> None:
        """Writes the numbers of packed steps x (steps, fields), moment by moment."""
        first, past = 0, []
        for t, n in enumerate(at.live):
            before = torch.cat([past[max(t - lag, 0)][:n] for lag in range(1, leaf.lags + 1)], 1) if t else None
            past.append(leaf.draw(k[first : first + n], before, rng=rng).clamp(-FARTHEST, FARTHEST))
            x[first : first + n, leaf.fields] = past[-1]
            first += n

    def size(self, rows: int) -> str:
        """In words, what would be fitted to so many series."""
        return "hidden Markov models, with as many states and chains as measure best"

    def cost(self, x: Sequences, n: int) -> tuple[float, float]:
        """(seconds that a fit to n series takes, about, bytes that it holds beside its rows), from some series."""
        steps = min(n * float(x.lengths.float().mean()), MOST)
        return 2e-6 * self.passes * steps * len(self.layout), steps * (16.0 * len(self.layout) + 4.0 * (self.states or 64))

    def structure(self) -> dict:
        """What `restore` needs beside the tensors of the state."""
        return {"curve": self.curve, "leaves": shape_of(self.leaves), "kept": shape_of(self.kept), "moves": list(self.step.shape)}

    def restore(self, structure: dict, tensors: dict[str, Tensor]) -> HMM:
        self.curve, (chains, states, _) = structure["curve"], structure["moves"]
        self.leaves = leaves_like(self.layout.step, structure["leaves"], chains * states, "leaves", tensors)
        self.kept = leaves_like(self.layout.static, structure["kept"], chains, "kept", tensors)
        self.start, self.step = torch.zeros(chains, states), torch.zeros(chains, states, states)
        self.load_state_dict(tensors)
        return self


def _some(x: Sequences, steps: int, rng: torch.Generator) -> Sequences:
    """Series at random that have no more than so many steps together, or as few as one."""
    order = torch.randperm(len(x), generator=rng)
    count = int((x.lengths[order].cumsum(0) <= steps).sum())
    return x[order[: max(count, 1)]]
