"""A junction tree: a distribution over many one-of-k variables as a product of factors over few of them, and what follows exactly.

    log p(v) = sum over cliques c of theta_c(v_c) - log Z
The cliques are those of a chordal graph over the variables in which every factor that is asked for lies within one clique; they
hang together in a tree in which what two cliques share lies in all between them. Two sweeps over the tree give every clique's
marginal. All in logarithms.

Local computations with probabilities on graphical structures and their application to expert systems; S. Lauritzen, D. Spiegelhalter;
1988; https://doi.org/10.1111/j.2517-6161.1988.tb01721.x
Triangulation of graphs: algorithms giving small total state space; U. Kjaerulff; 1990
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import combinations

import torch
from torch import Tensor

NEVER = -1e6  # of a value that evidence rules out
TABLE = 2**23  # numbers of a clique that are held for many rows at once


class JunctionTree:
    """sizes: values of each variable; factors: sets of variables that must lie within one clique.

    cliques: tuples of variables in order, each a tensor's axes
    links:   (child, parent, what they share), leaves first
    """

    def __init__(self, sizes: Sequence[int], factors: Iterable[Sequence[int]]):
        self.sizes = list(sizes)
        self.cliques = _cliques(self.sizes, factors)
        self.links = _tree(self.cliques)

    @property
    def cells(self) -> int:
        """Numbers that all cliques hold."""
        return sum(self.count(c) for c in self.cliques)

    @property
    def root(self) -> int:
        return self.links[-1][1] if self.links else 0

    def count(self, variables: Sequence[int]) -> int:
        return math.prod(self.sizes[v] for v in variables)

    def home(self, variables: Sequence[int]) -> int | None:
        """The smallest clique that holds these variables; None where none does."""
        there = [i for i, c in enumerate(self.cliques) if set(variables) <= set(c)]
        return min(there, key=lambda i: self.count(self.cliques[i]), default=None)

    def zeros(self) -> list[Tensor]:
        """A theta for every clique that says nothing."""
        return [torch.zeros([self.sizes[v] for v in c], dtype=torch.double) for c in self.cliques]

    def placed(self, factors: Iterable[tuple[Sequence[int], Tensor]]) -> list[Tensor]:
        """A theta for every clique, from factors and the variables of each."""
        out = self.zeros()
        for variables, factor in factors:
            at = self.home(variables)
            out[at] += lifted(factor, variables, self.cliques[at])
        return out

    def calibrate(self, theta: list[Tensor]) -> tuple[list[Tensor], float]:
        """(log marginal of each clique, log Z)."""
        beliefs, sent = [t.clone() for t in theta], {}
        for child, parent, shared in self.links:
            sent[child] = projected(beliefs[child], self.cliques[child], shared)
            beliefs[parent] += lifted(sent[child], shared, self.cliques[parent])
        log_z = float(beliefs[self.root].logsumexp(tuple(range(beliefs[self.root].ndim))))
        for child, parent, shared in reversed(self.links):
            whole = projected(beliefs[parent], self.cliques[parent], shared)
            beliefs[child] += lifted(whole - sent[child], shared, self.cliques[child])
        return [b - log_z for b in beliefs], log_z

    def marginal(self, beliefs: list[Tensor], variables: Sequence[int]) -> Tensor:
        """The probability of every combination of these variables, which must lie in one clique."""
        at = self.home(variables)
        return projected(beliefs[at], self.cliques[at], variables).exp()

    def log_prob(self, beliefs: list[Tensor], values: Tensor) -> Tensor:
        """values (n, variables) int64 -> (n,) nats."""
        out = torch.zeros(len(values), dtype=torch.double)
        for clique, belief in zip(self.cliques, beliefs, strict=True):
            out += belief.reshape(-1)[self._at(values, clique)]
        for child, _, shared in self.links:
            out -= projected(beliefs[child], self.cliques[child], shared).reshape(-1)[self._at(values, shared)]
        return out

    def sample(self, beliefs: list[Tensor], n: int, *, rng: torch.Generator) -> Tensor:
        """(n, variables) int64: clique after clique, what is new in each given what it shares with those before. Systematic within what is shared."""
        values = torch.zeros(n, len(self.sizes), dtype=torch.long)
        for i, shared in [(self.root, ()), *((child, shared) for child, _, shared in reversed(self.links))]:
            clique = self.cliques[i]
            new = [v for v in clique if v not in shared]
            order = [clique.index(v) for v in (*shared, *new)]
            table = beliefs[i].permute(order).reshape(self.count(shared), -1)
            drawn = _spread((table - table.amax(1, keepdim=True)).exp(), self._at(values, shared), rng)
            for v in reversed(new):
                values[:, v] = drawn % self.sizes[v]
                drawn = drawn // self.sizes[v]
        return values

    def posterior(self, beliefs: list[Tensor], values: Tensor, known: set[int]) -> tuple[list[Tensor], Tensor]:
        """Rows of which some variables are known, values (n, variables). For each clique (n, and an axis for each of its unknown variables): log p of
        these and of all that is known at it and below it in the tree, given what it shares with its parent; and log p(known), (n,)."""
        tables, up = [], {child: shared for child, _, shared in self.links}
        for i, clique in enumerate(self.cliques):
            shared = up.get(i, ())
            there, not_there = ([v for v in clique if (v in known) == which] for which in (True, False))
            table = beliefs[i] - lifted(projected(beliefs[i], clique, shared), shared, clique) if shared else beliefs[i]
            table = table.permute([clique.index(v) for v in (*there, *not_there)]).reshape(self.count(there), *(self.sizes[v] for v in not_there))
            tables.append(table[self._at(values, there)])
        for child, parent, shared in self.links:
            axes, onto = (["row", *(v for v in self.cliques[i] if v not in known)] for i in (child, parent))
            sent = projected(tables[child], axes, ["row", *(v for v in shared if v not in known)])
            tables[parent] = tables[parent] + lifted(sent, [a for a in axes if a == "row" or a in shared], onto)
        return tables, projected(tables[self.root], [-1, *range(tables[self.root].ndim - 1)], [-1])

    def complete(self, beliefs: list[Tensor], values: Tensor, known: set[int], *, rng: torch.Generator) -> Tensor:
        """The same rows with all other variables drawn given those that are known, (n, variables)."""
        most = max((self.count([v for v in c if v not in known]) for c in self.cliques), default=1)
        return torch.cat([self._complete(beliefs, part.clone(), known, rng) for part in values.split(max(TABLE // most, 1))])

    def _complete(self, beliefs: list[Tensor], values: Tensor, known: set[int], rng: torch.Generator) -> Tensor:
        tables, _ = self.posterior(beliefs, values, known)
        for i, shared in [(self.root, ()), *((child, shared) for child, _, shared in reversed(self.links))]:
            axes = [v for v in self.cliques[i] if v not in known]
            drawn_before, new = [v for v in axes if v in shared], [v for v in axes if v not in shared]
            if not new:
                continue
            table = tables[i].permute(0, *(1 + axes.index(v) for v in (*drawn_before, *new))).reshape(len(values), self.count(drawn_before), -1)
            table = table[torch.arange(len(values)), self._at(values, drawn_before)]
            share = (table - table.amax(1, keepdim=True)).exp().cumsum(1)
            u = torch.rand(len(values), 1, generator=rng, dtype=torch.double) * share[:, -1:]
            place = torch.searchsorted(share, u, right=True)[:, 0].clamp_max(share.shape[1] - 1)
            for v in reversed(new):
                values[:, v] = place % self.sizes[v]
                place = place // self.sizes[v]
        return values

    def _at(self, values: Tensor, variables: Sequence[int]) -> Tensor:
        """The place of each row in a flat table of these variables, (n,)."""
        out = torch.zeros(len(values), dtype=torch.long)
        for v in variables:
            out = out * self.sizes[v] + values[:, v]
        return out


def projected(log_p: Tensor, axes: Sequence[int], onto: Sequence[int]) -> Tensor:
    """Sums out every axis that is not wanted. log_p has the axes in order, the result has those of `onto` in order of the axes."""
    gone = tuple(i for i, v in enumerate(axes) if v not in onto)
    return log_p.logsumexp(gone) if gone else log_p


def lifted(log_p: Tensor, axes: Sequence[int], onto: Sequence[int]) -> Tensor:
    """The same with an axis of length 1 for each that is not there."""
    sizes = dict(zip(axes, log_p.shape, strict=True))
    return log_p.reshape([sizes.get(v, 1) for v in onto])


def _cliques(sizes: list[int], factors: Iterable[Sequence[int]]) -> list[tuple[int, ...]]:
    """Those of a chordal graph: the variable whose clique is smallest goes first (minimum weight)."""
    near: list[set[int]] = [set() for _ in sizes]
    for factor in factors:
        for a, b in combinations(factor, 2):
            near[a].add(b), near[b].add(a)
    left, found = set(range(len(sizes))), []
    while left:
        v = min(sorted(left), key=lambda v: sizes[v] * math.prod(sizes[u] for u in near[v]))
        clique = {v, *near[v]}
        for a, b in combinations(near[v], 2):
            near[a].add(b), near[b].add(a)
        for u in near[v]:
            near[u].discard(v)
        left.discard(v)
        if not any(clique <= other for other in found):
            found.append(clique)
    return [tuple(sorted(c)) for c in found] or [()]


def _tree(cliques: list[tuple[int, ...]]) -> list[tuple[int, int, tuple[int, ...]]]:
    """(child, parent, shared), leaves first: the spanning tree of the cliques whose links share most variables."""
    inside, links = [0], []
    outside = set(range(1, len(cliques)))
    best = {i: (len(set(cliques[i]) & set(cliques[0])), 0) for i in outside}
    while outside:
        child = max(sorted(outside), key=lambda i: best[i][0])
        parent = best[child][1]
        links.append((child, parent, tuple(sorted(set(cliques[child]) & set(cliques[parent])))))
        outside.discard(child), inside.append(child)
        for i in outside:
            best[i] = max(best[i], (len(set(cliques[i]) & set(cliques[child])), child), key=lambda pair: pair[0])
    return links[::-1]


def _spread(table: Tensor, group: Tensor, rng: torch.Generator) -> Tensor:
    """For each row a column of table (groups, k) in proportion to its group's row, (n,). Rows of a group are drawn systematically, in random order."""
    n = len(group)
    order = torch.randperm(n, generator=rng)
    order = order[torch.argsort(group[order], stable=True)]
    count = torch.bincount(group, minlength=len(table))
    rank = torch.arange(n) - (count.cumsum(0) - count)[group[order]]
    start = torch.rand(len(table), generator=rng, dtype=torch.double)
    u = (rank + start[group[order]]) / count[group[order]]
    share = table.double().cumsum(1)
    share = share / share[:, -1:].clamp_min(1e-300)
    place = torch.searchsorted((share + torch.arange(len(table))[:, None]).reshape(-1), u.clamp(1e-12, 1 - 1e-12) + group[order], right=True)
    out = torch.empty(n, dtype=torch.long)
    out[order] = (place - group[order] * table.shape[1]).clamp(0, table.shape[1] - 1)
    return out
