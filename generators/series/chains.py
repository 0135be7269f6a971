"""EM for mixtures of hidden Markov models: what series of one dataset look like to leaves, and chains that are fitted to them."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.em import BETTER, Climb, Mixture
from generators.layout import Sequences, SeriesLayout, positions
from generators.leaves import CHUNK, Tables
from generators.recipe import Recipe, joint, prepare
from generators.series.chain import Beliefs, Packed, beliefs, packed, pairs
from generators.series.held import Held
from generators.series.past import LAGS, by_series, remembered
from generators.series.regression import Regression

PARTS = 8  # the M step follows every so many parts of the data
HELD = 2**22  # steps of a part, times states, at most, about
LOOSE = 1.0  # moves, as frequent as their ends are, that the moves from each state are raised by


class Seen(NamedTuple):
    """Series, longest first: packed, their steps with those before beside them, these in chunks as leaves want them, and so what stays."""

    at: Packed
    rows: Tensor
    chunks: list[tuple]
    kept: list[tuple]


class Shared:
    """Everything that chains of different sizes on the same series share. numbers: binned, gaussian or regression."""

    def __init__(
        self, layout: SeriesLayout, x: Sequences, held_out: Sequences, *, numbers: str, bins: int | None, join: float, passes: int, seed: int
    ):  # fmt: skip
        self.layout, self.x, self.numbers, self.join, self.passes = layout, x, numbers, join, passes
        self.bins = bins or min(max(len(x.steps) // 80, 8), 64)
        make = partial(Recipe, join=join, passes=passes, seed=seed)
        self.recipe = make(layout.step, x.steps, held_out.steps, numbers="binned" if numbers == "binned" else "gaussian", bins=self.bins)
        self.of_kept = make(layout.static, x.static, held_out.static, numbers="binned", bins=min(max(len(x) // 80, 4), 16))
        rows, self.kept_at_first = remembered(layout, x), None
        if self.numbers == "regression":
            self.pooled = Regression(self.recipe.gaussian, LAGS, len(layout.step), 1).of_all(rows)
        leaves, kept = self.leaves(1), self.kept(1)
        series = torch.arange(len(x)).chunk(max(PARTS, len(x.steps) * 64 // HELD))
        self.parts = [_seen(x, rows, part, leaves, kept) for part in series]
        self.held_out = _seen(held_out, remembered(layout, held_out), torch.arange(len(held_out)), leaves, kept)
        if isinstance(leaves[0], Held):
            self.kept_at_first = leaves[0].at_first([c[0] for part in self.parts for c in part.chunks])
        self.density = by_series(self.recipe.density, held_out.lengths)[self.held_out.at.order]

    def leaves(self, components: int) -> nn.ModuleList:
        """Leaves of steps, which know only what all data say."""
        leaves = self.recipe.leaves(components)
        if isinstance(leaves[0], Tables):
            leaves[0] = Held(self.recipe.codes, components)
            if self.kept_at_first is not None:
                leaves[0].kept.copy_(self.kept_at_first)
        if self.numbers == "regression":
            leaves[-1] = Regression(self.recipe.gaussian, LAGS, len(self.layout.step), components)
        for leaf in leaves:
            if isinstance(leaf, Tables):
                leaf.margins = self.recipe.margins
            elif isinstance(leaf, Regression):
                leaf.first.pooled, leaf.pooled = self.pooled
            else:
                leaf.pooled = self.recipe.pooled
        return leaves

    def kept(self, chains: int) -> nn.ModuleList:
        leaves = self.of_kept.leaves(chains)
        leaves[0].margins = self.of_kept.margins
        return leaves


class Chain(Climb):
    """`chains` of `states` each, side by side. start_p (M, S): p(chain, first state); step_p (M, S, S): p(state | state before)."""

    @classmethod
    def of(cls, shared: Shared, states: int) -> Chain:
        """One chain, whose states start as the components of a mixture of all steps."""
        mixture = Mixture.of(shared.recipe, states)
        first = [torch.cat([joint(mixture.leaves, mixture.log_pi, c).softmax(1) for c in prepare(mixture.leaves, part.rows)]) for part in shared.parts]
        return cls(shared, 1, len(mixture.log_pi), "a mixture").climbed(first)

    @classmethod
    def among(cls, one: Chain, chains: int) -> Chain:
        """Several, which start as one for those series that are much in the same states of that, and alike in what stays."""
        from sklearn.cluster import KMeans

        states = one.step_p.shape[1]
        beliefs_of = [one.beliefs(part).state for part in one.shared.parts]
        seen = [_habits(part, state, one.kept[0].codes.size + 2) for part, state in zip(one.shared.parts, beliefs_of, strict=True)]
        means = KMeans(chains, n_init=3, random_state=0).fit(torch.cat(seen).numpy())
        first = []
        for part, state, habits in zip(one.shared.parts, beliefs_of, seen, strict=True):
            label = F.one_hot(torch.from_numpy(means.predict(habits.numpy())).long(), chains).float()
            each = torch.cat([label[:n] for n in part.at.live])
            first.append((each[:, :, None] * state[:, None]).flatten(1))
        return cls(one.shared, chains, states, "one chain").climbed(first)

    def __init__(self, shared: Shared, chains: int, states: int, start: str):
        self.shared, self.emissions, self.kept = shared, shared.leaves(chains * states), shared.kept(chains)
        model = f"{chains} chains of {states} states" if chains > 1 else f"a chain of {states} states"
        super().__init__(shared, [*self.emissions, *self.kept], chains, model, start)
        self.better = BETTER * float(shared.x.lengths.float().mean())
        self._held_out, self.start_p, self.step_p = shared.held_out, torch.empty(chains, states), torch.ones(chains, states, states)

    def climbed(self, first: list[Tensor]) -> Chain:
        """Fitted. first: for each part of the data p(state), (steps, K), to begin with."""
        parts = self.shared.parts
        self._climb(parts, [self._gathered(p, s, _moves(p, s, len(self.start_p))) for p, s in zip(parts, first, strict=True)], self.shared.passes)
        return self

    def beliefs(self, part: Seen) -> Beliefs:
        seen = torch.cat([said(self.emissions, chunks) for chunks in part.chunks])
        return beliefs(seen, torch.cat([starts(self.kept, chunks, self.start_p) for chunks in part.kept]), self.step_p, part.at.live)

    def _sums(self, part: Seen) -> list[Tensor]:
        found = self.beliefs(part)
        return self._gathered(part, found.state, found.moves)

    def _gathered(self, part: Seen, state: Tensor, moves: Tensor) -> list[Tensor]:
        """The sums of the M step: of each leaf, of first states (M, S), and of moves (M, S, S)."""
        first = state[: part.at.live[0]]
        chain = first.view(len(first), *self.start_p.shape).sum(2)
        sums = [*_leaf_sums(self.emissions, part.chunks, state), *_leaf_sums(self.kept, part.kept, chain)]
        return [*sums, first.sum(0).view_as(self.start_p), moves]

    def _update(self) -> None:
        *sums, first, moves = self.total
        for leaf, total in zip(self.leaves, sums, strict=True):
            leaf.update(total.clamp_min(0) if isinstance(leaf, Tables) else total)
        first, moves = first.clamp_min(0) + self.loose / first.numel(), moves.clamp_min(0)
        self.start_p = first / first.sum()
        arrived = moves.sum(1, keepdim=True) + LOOSE / moves.shape[1]
        moves = moves + self.loose * arrived / arrived.sum(2, keepdim=True)
        self.step_p = moves / moves.sum(2, keepdim=True)

    loose = LOOSE

    def _tune(self) -> None:
        part = self._held_out
        state = self.beliefs(part).state
        first = state[: part.at.live[0]]
        chain = first.view(len(first), *self.start_p.shape).sum(2)
        weights = [(self.emissions, part.chunks, state), (self.kept, part.kept, chain)]
        totals = iter(self.total)
        for leaves, chunks, r in weights:
            for i, leaf in enumerate(leaves):
                total = next(totals)
                leaf.tune(total.clamp_min(0) if isinstance(leaf, Tables) else total, [c[i] for c in chunks], list(r.split(CHUNK)))

    def _rows(self) -> Tensor:
        return self.beliefs(self._held_out).log_p


def said(leaves: nn.ModuleList, chunks: tuple) -> Tensor:
    """(m, K): log p(step | state)."""
    return sum(leaf.log_prob(chunk) for leaf, chunk in zip(leaves, chunks, strict=True))


def starts(kept: nn.ModuleList, chunks: tuple, start: Tensor) -> Tensor:
    """(n, K): p(first state | what stays). start (M, S): p(chain, first state)."""
    chain = start.sum(1)
    of_chain = joint(kept, chain.log(), chunks).softmax(1)
    return (of_chain[:, :, None] * (start / chain[:, None])).flatten(1)


def _seen(x: Sequences, rows: Tensor, which: Tensor, leaves: nn.ModuleList, kept: nn.ModuleList) -> Seen:
    at = packed(x.lengths[which])
    rows = rows[positions(x.lengths, which)][at.rows]
    return Seen(at, rows, prepare(leaves, rows), prepare(kept, x.static[which][at.order]))


def _leaf_sums(leaves: nn.ModuleList, chunks: list[tuple], r: Tensor) -> list[Tensor]:
    """The sums of each leaf, from what each chunk's rows are held to be, r (rows, components)."""
    parts = r.split(CHUNK)
    return [sum(leaf.sums(c[i], part) for c, part in zip(chunks, parts, strict=True)) for i, leaf in enumerate(leaves)]


def _moves(part: Seen, state: Tensor, chains: int) -> Tensor:
    """Moves from state to state, as if the steps of a series had nothing to do with each other: state (steps, K) -> (M, S, S)."""
    found, at = 0, 0
    ones = torch.ones(chains, state.shape[1] // chains, state.shape[1] // chains)
    for now, following in pairwise(part.at.live):
        found = found + pairs(state[at : at + following], state[at + now : at + now + following], ones)
        at += now
    return found if isinstance(found, Tensor) else torch.zeros_like(ones)


def _habits(part: Seen, state: Tensor, size: int) -> Tensor:
    """(n, S + size): how much each series is in each state, and what stays in it."""
    live, lengths, often, at = part.at.live, torch.zeros(part.at.live[0]), torch.zeros(part.at.live[0], state.shape[1]), 0
    for n in live:
        often[:n] += state[at : at + n]
        lengths[:n] += 1
        at += n
    codes = torch.cat([chunks[0][0] for chunks in part.kept])
    held = torch.zeros(len(codes), size).scatter_(1, codes, 1.0)
    return torch.cat([often / lengths[:, None], held / codes.shape[1] ** 0.5], 1)
