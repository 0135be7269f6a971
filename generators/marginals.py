"""Marginals: a graphical model that agrees with counts of a few columns at a time, chosen one after the other (AIM).

    p(v) = the distribution of largest entropy for which  sum_r w_r^2 |N M_r(p) - y_r|^2  is least,   M_r: marginal of the columns r (potentials.py)
Counts y of every column alone come first. Then, again and again, those columns are counted together of which the model is most
wrong, as far as noise lets one tell, and the model is fitted anew. All that is ever asked of the data are counts and such choices, so
a mechanism that adds noise to both makes the model differentially private; without one they are exact, and a round that does not make
held-out rows more likely ends it. Numbers are cut into bins, inside which they are spread evenly; missing is a value of a column.

AIM: an adaptive and iterative mechanism for differentially private synthetic data; R. McKenna, B. Mullins, D. Sheldon, G. Miklau; 2022; https://arxiv.org/abs/2201.12677
Graphical-model based estimation and inference for differential privacy; R. McKenna, D. Sheldon, G. Miklau; 2019; https://arxiv.org/abs/1901.09136
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor, nn

from generators.arguments import number, whole
from generators.base import Mechanism
from generators.columns import Columns
from generators.exact import Exact
from generators.junction import NEVER, JunctionTree
from generators.layout import Given, Layout
from generators.potentials import Measured, fitted, slowly
from generators.threads import single_thread

ROUNDS, MOST = 16, 300  # rounds for each column, and in all, that the budget would pay for at first
CHOICE = 0.1  # share of a round that goes to the choice
FEWEST_BINS, MOST_BINS, ROWS_A_PAIR = 4, 24, 40  # bins of a number: so many that two numbers have 40 rows for each of their combinations
ROWS_A_COUNT = 10  # rows, on average, that there are for each combination of columns that may be counted together
TRIED, FEWEST = 9000, 30  # sets of columns that are looked at in a round: so many over the number of columns, but not fewer than this
TABLE = 20_000  # sets of columns, at most; pairs alone where there would be more
DRAWN = 2**16  # rows that are drawn from the model to see what it is wrong about
STEPS, LAST = 60, 600  # of the fit after a round, and at the end
PATIENCE, BETTER = 3, 1e-3  # rounds in which held-out rows do not become likelier by so many nats
HELD_OUT = 4000  # held-out rows that are looked at, at most
EVEN = math.sqrt(2 / math.pi)  # the mean size of a standard normal number


class Marginals(nn.Module):
    """layout: what a row is.

    bins:   bins of a number, at most; None: 4 to 24, fewer where there are few rows
    order:  columns that are counted together, at most
    cells:  numbers that the model holds, at most
    rounds: of counting columns together, at most; None: as many as there is a budget for, or as make held-out rows likelier
    """

    device = "cpu"
    private = True  # can be learned through a mechanism

    def __init__(self, layout: Layout, bins: int | None = None, order: int = 3, cells: int = 400_000, rounds: int | None = None):
        super().__init__()
        whole(bins=bins, order=order, cells=cells, rounds=rounds), number(1, 5, order=order)
        self.layout, self.bins, self.order, self.cells, self.rounds = layout, bins, order, cells, rounds
        self.beliefs = nn.ParameterList()
        self.curve: list[dict] = []

    @torch.no_grad()
    def fit(
        self, x: Tensor, held_out: Tensor, *, rng: torch.Generator, log: Callable[[str], None] = lambda line: None,
        checkpoint: Path | None = None, mechanism: Mechanism | None = None,
    ) -> Marginals:  # fmt: skip
        """x (n, fields), held_out (m, fields), of which there may be none: then what the mechanism may tell ends it, and nothing else.

        checkpoint: not used, a fit takes a minute or two
        """
        ask = mechanism or Exact()
        most = min(ROUNDS * max(len(self.layout), 1), MOST)
        share = ask.rest / most
        rows = float(ask.counts(torch.tensor([len(x)], dtype=torch.double), share)[0])
        bins = self.bins or round(min(max((rows / ROWS_A_PAIR) ** 0.5, FEWEST_BINS), MOST_BINS)) if rows > 0 else self.bins or FEWEST_BINS
        self.columns = Columns(self.layout, bins)
        self.slowly = [slowly(size, own) for size, own in zip(self.columns.sizes, self.columns.bins, strict=True)]
        candidates, values, held = self._candidates(rows), self.columns.encode(x), self.columns.encode(held_out[:HELD_OUT])
        with single_thread():
            measured = [self._counted(ask, values, (i,), (1 - CHOICE) * share) for i in range(len(self.columns.sizes))]
            total = _total(measured)
            model = self._fitted(measured, [torch.zeros_like(m.y) for m in measured], total, STEPS)
            best, scores = None, []
            while ask.rest > 0 and len(scores) < min(self.rounds or most, most):
                share = share if ask.rest > 2 * share else ask.rest
                chosen = self._choice(ask, values, model, candidates, share, rng)
                if chosen is None:
                    break
                before = model.says(chosen) if model.tree.home(chosen) is not None else self._drawn(model, rng, chosen)
                counted = self._counted(ask, values, chosen, (1 - CHOICE) * share)
                model = self._fitted(*_with(counted, model.measured, model.theta), total, STEPS)
                if (model.says(chosen) - before).abs().sum() <= EVEN * counted.sd * before.numel():
                    share *= 4  # noise drowned what there was to learn: half the noise from now on
                scores.append(float(model.tree.log_prob(model.beliefs, held).mean()) if len(held) else 0.0)
                told = f", {scores[-1]:.3f} nats a row held out" if len(held) else ""
                log(f"marginals: round {len(scores)}, {len(chosen)} columns counted together, {model.tree.cells:,} numbers{told}")
                if len(held) and (best is None or scores[-1] > best[0] + BETTER):
                    best = scores[-1], len(scores), model
                elif best and len(scores) - best[1] >= PATIENCE:
                    break
            model = best[2] if best else model
            model = self._fitted(model.measured, model.theta, total, LAST)
        self.tree, self.beliefs = model.tree, _frozen(model.beliefs)
        together = [list(m.of) for m in model.measured if len(m.of) > 1]
        self.curve = [{"rows": round(total), "bins": bins, "columns counted together": together, "numbers": model.tree.cells}]
        self.curve[0] |= {"unit": "Nats a row on held-out rows", "held_out": scores if len(held) else [], "chosen": True}
        return self

    def _fitted(self, measured: list[Measured], theta: list[Tensor], total: float, steps: int) -> _Model:
        tree = JunctionTree(self.columns.sizes, [*(m.of for m in measured), *(of for of, _ in self.columns.ruled_out)])
        return _Model(measured, total, tree, *fitted(tree, theta, measured, total, steps, self.columns.ruled_out))

    def _counted(self, ask: Mechanism, values: Tensor, of: tuple[int, ...], share: float) -> Measured:
        return Measured(of, ask.counts(self.columns.count(values, of), share), ask.sd(share), tuple(self.slowly[i] for i in of))

    def _candidates(self, rows: float) -> dict[tuple[int, ...], float]:
        """Sets of columns that may be counted together, and how much each says of all sets of `order` columns."""
        d = len(self.columns.sizes)
        order = min(self.order, d) if math.comb(d, self.order) <= TABLE else min(2, d)
        out = {}
        for k in range(1, order + 1):
            weight = sum(j * math.comb(k, j) * math.comb(d - k, order - j) for j in range(1, k + 1))
            out |= {of: weight / math.comb(d - 1, order - 1) for of in combinations(range(d), k)}
        most = min(rows / ROWS_A_COUNT, self.cells)
        return {of: w for of, w in out.items() if len(of) == 1 or math.prod(self.columns.sizes[i] for i in of) <= most}

    def _choice(self, ask: Mechanism, values: Tensor, model: _Model, candidates: dict[tuple[int, ...], float], share: float, rng) -> tuple[int, ...] | None:
        """The columns of which the model is most wrong, of some that may still be counted together; None where none may."""
        room = self.cells * min(1.2 - ask.rest, 1.0)  # grows with what was spent
        cliques = [*(m.of for m in model.measured), *(of for of, _ in self.columns.ruled_out)]
        counted = {m.of for m in model.measured}
        open_, fit = [of for of in candidates if ask.sd(share) > 0 or of not in counted], []  # what is noisy may be counted again
        for i in torch.randperm(len(open_), generator=rng).tolist():
            if model.tree.home(open_[i]) is not None or JunctionTree(self.columns.sizes, [*cliques, open_[i]]).cells <= room:
                fit.append(open_[i])
            if len(fit) >= max(TRIED // len(self.columns.sizes), FEWEST):
                break
        if not fit:
            return None
        drawn, sd, scores = model.tree.sample(model.beliefs, DRAWN, rng=rng), ask.sd((1 - CHOICE) * share), []
        for of in fit:
            ours = model.says(of) if model.tree.home(of) is not None else self.columns.count(drawn, of) * (model.total / DRAWN)
            chance = (sd**2 + ours).sqrt().sum()  # noise, and that of having these people and no others
            scores.append(candidates[of] * float((self.columns.count(values, of) - ours).abs().sum() - EVEN * chance))
        return fit[ask.choose(torch.tensor(scores, dtype=torch.double), max(candidates[of] for of in fit), CHOICE * share)]

    def _drawn(self, model: _Model, rng: torch.Generator, of: tuple[int, ...]) -> Tensor:
        """What the model says of columns that are in no clique together, from rows drawn from it."""
        return self.columns.count(model.tree.sample(model.beliefs, DRAWN, rng=rng), of) * (model.total / DRAWN)

    @torch.no_grad()
    def log_prob(self, x: Tensor) -> Tensor:
        """(n, fields) -> (n,) nats."""
        return (self.tree.log_prob(list(self.beliefs), self.columns.encode(x)) + self.columns.log_density(x)).float()

    @torch.no_grad()
    def sample(self, n: int, given: Given | None = None, *, rng: torch.Generator) -> Tensor:
        """(n, fields). Raises ValueError where what is given has no probability."""
        if given is None or not given.mask.any():
            return self.columns.decode(self.tree.sample(list(self.beliefs), n, rng=rng), rng)
        x, can = torch.zeros(n, len(self.layout)), 0
        asked, which = torch.unique(given.values, dim=0, return_inverse=True)
        for g, row in enumerate(asked):
            rows = torch.nonzero(which == g)[:, 0]
            theta = [b.clone() for b in self.beliefs]
            for child, _, shared in self.tree.links:
                at = [i for i, v in enumerate(self.tree.cliques[child]) if v not in shared]
                theta[child] -= theta[child].logsumexp(at, keepdim=True) if at else theta[child]
            for i, allowed in enumerate(self.columns.allowed(Given(row[None], given.mask))):
                at = self.tree.home((i,))
                shape = [-1 if v == i else 1 for v in self.tree.cliques[at]]
                theta[at] += torch.where(allowed, 0.0, NEVER).double().reshape(shape)
            beliefs, log_p = self.tree.calibrate(theta)
            if log_p > NEVER / 2:
                can += len(rows)
                x[rows] = self.columns.decode(self.tree.sample(beliefs, len(rows), rng=rng), rng)
        if can < n:
            raise ValueError(f"{can} of {n} rows can be as asked: the model gives the others no probability")
        return torch.where(given.mask, given.values, x)

    def size(self, rows: int) -> str:
        """In words, what would be fitted to so many rows."""
        return f"a graphical model of at most {self.cells:,} numbers, of counts of at most {self.order} columns together"

    def cost(self, x: Tensor, n: int) -> tuple[float, float]:
        """(seconds that a fit to n rows takes, about, bytes that it holds beside its rows)."""
        d = len(self.layout)
        looked = max(TRIED // max(d, 1), FEWEST)
        return 3 * d * (6e-9 * looked * (n + DRAWN) + STEPS * (2e-3 + 1.5e-8 * self.cells)), 400.0 * self.cells + 16.0 * n * d

    def structure(self) -> dict:
        """What `restore` needs beside the tensors of the state."""
        return {"curve": self.curve, "cliques": [list(c) for c in self.tree.cliques]}

    def restore(self, structure: dict, tensors: dict[str, Tensor]) -> Marginals:
        self.curve = structure["curve"]
        self.columns = Columns(self.layout, self.curve[0]["bins"])
        self.tree = JunctionTree(self.columns.sizes, structure["cliques"])
        self.beliefs = _frozen(self.tree.zeros())
        self.load_state_dict(tensors)
        return self


@dataclass(frozen=True)
class _Model:
    """What was counted, a factor for each, and what follows."""

    measured: list[Measured]
    total: float  # rows
    tree: JunctionTree
    theta: list[Tensor]
    beliefs: list[Tensor]

    def says(self, of: tuple[int, ...]) -> Tensor:
        """How many rows have each combination of columns that are in one clique."""
        return self.tree.marginal(self.beliefs, of) * self.total


def _with(counted: Measured, measured: list[Measured], theta: list[Tensor]) -> tuple[list[Measured], list[Tensor]]:
    """What was counted, and factors, with one more; the same columns counted twice are one count, each weighed by how sure it is."""
    for i, m in enumerate(measured):
        if m.of == counted.of:
            share = counted.sd**2 / (m.sd**2 + counted.sd**2)
            both = Measured(m.of, share * m.y + (1 - share) * counted.y, m.sd * share**0.5, m.bases)
            return [*measured[:i], both, *measured[i + 1 :]], theta
    return [*measured, counted], [*theta, torch.zeros_like(counted.y)]


def _total(measured: list[Measured]) -> float:
    """How many rows there are: what the counts of single columns add up to, each weighed by how sure it is."""
    weights = [1 / max(m.sd**2 * m.y.numel(), 1e-9) for m in measured]
    return max(sum(w * float(m.y.sum()) for w, m in zip(weights, measured, strict=True)) / sum(weights), 1.0) if measured else 1.0


def _frozen(tensors: list[Tensor]) -> nn.ParameterList:
    return nn.ParameterList([nn.Parameter(t, requires_grad=False) for t in tensors])
