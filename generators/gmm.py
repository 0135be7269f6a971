"""GMM: a mixture over mixed fields, p(x) = sum_k pi_k prod_leaf p_leaf(x | k), fitted by incremental EM.

Leaves: tables over codes (categories, binned numbers and blocks of fields that depend on each other strongly) and full
covariance Gaussians over continuous fields. Numbers are binned or Gaussian, there are many components or few, and all
fields share one hidden state or each block has its own in a latent tree (tree.py): whichever gives held-out rows the higher likelihood.

Maximum likelihood from incomplete data via the EM algorithm; A. Dempster, N. Laird, D. Rubin; 1977; https://doi.org/10.1111/j.2517-6161.1977.tb01600.x
A view of the EM algorithm that justifies incremental, sparse, and other variants; R. Neal, G. Hinton; 1998; https://doi.org/10.1007/978-94-011-5014-9_12
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from generators.arguments import number, whole
from generators.base import Mechanism
from generators.em import Climb, Grown, Mixture
from generators.layout import Given, Layout
from generators.noisy import mixture
from generators.recipe import SCREEN, Recipe, joint, leaves_like, log_density, prepare, shape_of
from generators.threads import single_thread

WIDEST = 64  # numbers that a full covariance is tried for, at most
HELD_OUT = 4000  # held-out rows that are looked at, at most
MOST = 2**19  # rows that are learned from, at random where there are more
FEW_STATES, STATES, ROWS_A_STATE = 16, 48, 200  # hidden states of a latent tree, at least where rows are enough and at most, and rows for each
LEAST_A_STATE = 40  # rows that there are for each, whatever is asked for
MOST_GROWN = 2**16  # of which a latent tree gets so many
MARGIN = 0.02  # nats a row for each block of fields by which a latent tree must be better than a mixture: that draws margins more evenly
ROWS_A_NUMBER = 5  # rows for each number that a component with a full covariance must have, on average


class GMM(nn.Module):
    """layout: what a row is.

    components: how many to start with, if more than one for 100 rows only where that measures better;
                None: one for 100 rows where numbers are binned, else sizes doubled while that helps
    numbers:    "binned", "gaussian", or "auto": whichever measures better on held-out rows
    bins:       bins of a number; None tries some that suit the number of rows
    join:       fields with more mutual information than this, in nats, become one block
    passes:     passes over the data at most; of a latent tree, three times as many
    states:     hidden states of a latent tree; None: one for 200 rows, 16 to 48; at most one for 40 rows; 0: no tree is tried, nor
                where only components are said
    """

    device = "cpu"
    private = True  # can be learned through a mechanism

    def __init__(
        self, layout: Layout, components: int | None = None, numbers: str = "auto", bins: int | None = None,
        join: float = 0.06, passes: int = 12, states: int | None = None,
    ):  # fmt: skip
        super().__init__()
        if numbers not in ("auto", "binned", "gaussian"):
            raise ValueError(f"numbers: found {numbers!r}, expected auto, binned or gaussian")
        whole(components=components, bins=bins, passes=passes), whole(0, states=states), number(join=join)
        self.layout, self.numbers, self.join, self.passes = layout, numbers, join, passes
        self.components, self.bins, self.states = components, bins, states
        self.leaves = nn.ModuleList()
        self.register_buffer("log_pi", torch.zeros(0))
        self.curve: list[dict] = []

    @torch.no_grad()
    def fit(
        self, x: Tensor, held_out: Tensor, *, rng: torch.Generator, log: Callable[[str], None] = lambda line: None,
        checkpoint: Path | None = None, mechanism: Mechanism | None = None,
    ) -> GMM:  # fmt: skip
        """x (n, fields), held_out (m, fields). Tries the sizes and kinds of leaves asked for, keeps the best on held_out.

        checkpoint: not used, a fit takes seconds
        mechanism: sees to it that no more is told of the rows than may be; then nothing is tried, and binned tables come from noisy sums
        """
        if mechanism is not None:
            with single_thread():
                self.leaves, self.log_pi, note = mixture(self.layout, x, self.components, self.bins, mechanism, rng)
            self.curve = [note]
            log(f"gmm: {note['model']} from noisy sums of about {note['rows']} rows")
            return self
        x, held_out = (rows[torch.randperm(len(rows), generator=rng)[:most]] for rows, most in ((x, MOST), (held_out, HELD_OUT)))
        seed = int(torch.randint(2**62, (1,), generator=rng))
        with single_thread():
            first, grown = self._screen(x[:SCREEN], held_out, seed, log)
            recipe, best = self._recipe(x, held_out, first.recipe.numbers, first.recipe.bins, seed), None
            for components in sorted({recipe.at_least(k) for k in self._sizes(len(x), first.recipe.numbers)}):
                tried = Mixture.of(recipe, components)
                self._note(tried, log)
                if best is not None and not tried.surely_better(best):
                    break  # more components do not help
                best = tried
            if grown is not None and self._beats(grown, first):
                if len(x) > SCREEN:
                    recipe = self._recipe(x[:MOST_GROWN], held_out, "binned", grown.recipe.bins, seed)
                    grown = Grown.of(recipe, self._states(len(x)))
                    self._note(grown, log)
                best = grown if self._beats(grown, best) else best
            best.absorb_held_out()
        self.curve[best.note]["chosen"] = True
        self.leaves, self.log_pi = best.leaves, best.log_pi
        return self

    def _recipe(self, x: Tensor, held_out: Tensor, numbers: str, bins: int, seed: int) -> Recipe:
        return Recipe(self.layout, x, held_out, numbers=numbers, bins=bins, join=self.join, passes=self.passes, seed=seed)

    def _beats(self, grown: Grown, other: Climb) -> bool:
        return grown.surely_better(other, MARGIN * len(grown.recipe.codes.blocks))

    def _screen(self, x: Tensor, held_out: Tensor, seed: int, log) -> tuple[Climb, Grown | None]:
        """A first look at some of the rows: the best mixture, by the kind of leaves for numbers, how many bins, and what start; and a latent tree."""
        some = 2 <= len(self.layout.ungated) <= WIDEST
        kinds = [self.numbers] if self.numbers != "auto" else ["binned", "gaussian"] if some else ["binned"]
        tried: list[Climb] = [
            Mixture.of(self._recipe(x, held_out, "binned", b, seed), max(len(x) // ROWS_A_STATE, 1)) for b in self._bins(len(x)) if "binned" in kinds
        ]
        best, grown = max(tried, key=lambda t: t.score, default=None), None
        if best and self._trees() and len(self.layout) > 2:
            grown = Grown.of(best.recipe, self._states(len(x)), best)
        if "gaussian" in kinds:
            recipe = self._recipe(x, held_out, "gaussian", best.recipe.bins if best else self._bins(len(x))[-1], seed)
            tried += [Mixture.of(recipe, k) for k in sorted({recipe.at_least(k) for k in (2, 4, 16) if k <= self._most(len(x))})]
        for t in [*tried, grown] if grown else tried:
            self._note(t, log)
        return max(tried, key=lambda t: t.score), grown

    def _trees(self) -> bool:
        """Whether a latent tree is tried."""
        return self.states != 0 and (self.components is None or self.states is not None)

    def _bins(self, n: int) -> list[int]:
        """Few and many."""
        widest = min(max(n // 80, 8), 128)
        return [self.bins] if self.bins else sorted({max(widest // 3, 8), widest}) if self.layout.continuous else [widest]

    def _states(self, n: int) -> int:
        return max(min(self.states or min(max(n // ROWS_A_STATE, FEW_STATES), STATES), n // LEAST_A_STATE), 1)

    def _sizes(self, n: int, numbers: str) -> list[int]:
        if self.components:
            return sorted({min(self.components, max(n // 100, 1)), min(self.components, n)})  # more only if that measures better
        if numbers == "gaussian":
            return [k for k in (2**i for i in range(0, 11, 1 if n < 5000 else 2)) if k <= self._most(n)]
        return [min(max(n // 100, 1), 1000)]

    def _most(self, n: int) -> int:
        """Full covariances that n rows can bear: of fewer rows each, they would describe persons."""
        return max(n // (ROWS_A_NUMBER * max(len(self.layout.ungated), 4)), 2)

    def _note(self, tried: Climb, log) -> None:
        tried.note = len(self.curve)
        shown = {"rows": len(tried.recipe.x), "model": tried.model, "numbers": tried.recipe.numbers, "bins": tried.recipe.bins, "start": tried.start}
        self.curve.append(shown | {"held_out": tried.history})
        log(f"gmm: {tried.model} on {shown['rows']} rows, {shown['numbers']}, {shown['bins']} bins, from {tried.start}: {tried.score:.3f} nats a row held out")

    @torch.no_grad()
    def log_prob(self, x: Tensor) -> Tensor:
        """(n, fields) -> (n,) nats."""
        out = [joint(self.leaves, self.log_pi, chunks).logsumexp(1) for chunks in prepare(self.leaves, x)]
        return torch.cat(out) + log_density(self.leaves, x)

    @torch.no_grad()
    def sample(self, n: int, given: Given | None = None, *, rng: torch.Generator) -> Tensor:
        """(n, fields). Components and, within each, values are drawn systematically: shares come out as exactly as n allows.

        Raises ValueError where what is given has no probability.
        """
        x = torch.zeros(n, len(self.layout))
        if given is None or not given.mask.any():
            groups, which = [None], torch.zeros(n, dtype=torch.long)
        else:
            asked, which = torch.unique(given.values, dim=0, return_inverse=True)
            groups = [Given(row[None], given.mask) for row in asked]
        weights = [self.log_pi if one is None else self.log_pi + sum(leaf.log_given(one) for leaf in self.leaves) for one in groups]
        possible = torch.tensor([bool(torch.isfinite(w).any()) for w in weights])
        if not possible.all():
            raise ValueError(f"{int(possible[which].sum())} of {n} rows can be as asked: the model gives the others no probability")
        for g, (one, log_p) in enumerate(zip(groups, weights, strict=True)):
            rows = torch.nonzero(which == g)[:, 0]
            rows = rows[torch.randperm(len(rows), generator=rng)]
            share = torch.softmax(log_p.double(), 0).cumsum(0)
            u = (torch.arange(len(rows), dtype=torch.double) + torch.rand(1, generator=rng, dtype=torch.double)) / max(len(rows), 1)
            k = torch.bucketize(u * share[-1], share).clamp_max(len(share) - 1)
            drawn = torch.zeros(len(rows), len(self.layout))
            for leaf in self.leaves:
                leaf.sample(k, one, drawn, rng=rng)
            x[rows] = drawn if one is None else torch.where(given.mask, one.values, drawn)
        return x

    def size(self, rows: int) -> str:
        """In words, what would be fitted to so many rows."""
        sizes = self._sizes(int(rows * 0.9), "binned")
        return f"a mixture of {sizes[-1]} components (or fewer Gaussian ones, or a latent tree, where that measures better)"

    def cost(self, x: Tensor, n: int) -> tuple[float, float]:
        """(seconds that a fit to n rows takes, about, bytes that it holds beside its rows)."""
        size, rows, fields = self._sizes(int(n * 0.9), "binned")[-1], min(n, MOST), len(self.layout)
        seconds, held = 2.5e-7 * self.passes * rows * fields * max(size, 50) ** 0.35, 16.0 * rows * fields + 4e3 * size * fields
        if not self._trees() or self.numbers == "gaussian":
            return seconds, held
        return seconds + 3.3e-6 * self.passes * min(rows, SCREEN) * fields + 1e-4 * fields**2, held + 80.0 * fields * self._states(n) ** 2

    def structure(self) -> dict:
        """What `restore` needs beside the tensors of the state."""
        return {"components": len(self.log_pi), "curve": self.curve} | shape_of(self.leaves)

    def restore(self, structure: dict, tensors: dict[str, Tensor]) -> GMM:
        """Builds the leaves as they were saved and fills them."""
        components, self.curve = structure["components"], structure["curve"]
        self.leaves = leaves_like(self.layout, structure, components, "leaves", tensors)
        self.log_pi = torch.zeros(components)
        self.load_state_dict(tensors)
        return self
