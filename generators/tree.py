"""A latent tree: every block of fields has a hidden state of its own, and the states hang together in a tree.

p(codes) = sum_z prod_b p(z_b | z_parent(b)) p(code_b | z_b)

The tree joins the blocks that tell most of each other. All states start as the component of one mixture, from which EM parts them:
messages go up the tree and down again, products of matrices over many rows. A leaf of a mixture with one component.

Approximating discrete probability distributions with dependence trees; C. Chow, C. Liu; 1968; https://doi.org/10.1109/TIT.1968.1054142
Hierarchical latent class models for cluster analysis; N. Zhang; 2004; https://www.jmlr.org/papers/v5/zhang04a.html
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.codes import LOOK, Codes, mutual_information
from generators.layout import Given
from generators.leaves import CHUNK, spread_within, written

HELD = 2**23  # numbers of messages that are in memory at once, about
LEAST = 1e-30  # least probability of a message
LOOSE = 0.1  # chance that a state differs from its parent's at the start
ROUNDS = 20  # in which frequencies are set right
STEP = 3.0  # by which a strength is tried higher and lower


class Tree(nn.Module):
    """codes: B blocks with V codes in all; parents: of each block another one, or -1 of the root; states: S of each block.

    step  (B, S, S): p(state | state of the parent); of the root, whose parent has state 0 alone, (every row) p(state)
    theta (V + 2, S): p(code | state); row V: a combination never seen; V + 1: switched off, which says nothing
    strength (2,): rows that the prior counts for, of a row of step (drawn toward the state's share in all rows) and of theta (toward the margins)
    """

    def __init__(self, codes: Codes, parents: list[int], states: int):
        super().__init__()
        self.codes, self.parents = codes, parents
        self.register_buffer("step", torch.zeros(len(parents), states, states))
        self.register_buffer("theta", torch.ones(codes.size + 2, states))
        self.register_buffer("strength", torch.tensor([3.0, 1.0]))
        self.margins = torch.empty(0)
        self.order = _downward(parents)

    def start(self, shares: Tensor, theta: Tensor, margins: Tensor) -> None:
        """Every state starts as a component: shares (S,), theta (V, S)."""
        self.margins = margins
        self.theta[:-2] = theta
        self.step.copy_(LOOSE * shares + (1 - LOOSE) * torch.eye(len(shares)))
        self.step[self.order[0]] = shares

    def prepare(self, x: Tensor) -> list[Tensor]:
        """Rows x (n, fields) -> codes in chunks, (m, B)."""
        return list(self.codes.encode(x).split(CHUNK))

    def _few(self, codes: Tensor) -> list[Tensor]:
        """codes (n, B), so many rows at a time that their messages are not too many."""
        return list(codes.split(max(HELD // self.step[:, 0].numel(), 256)))

    def _up(self, evidence: list[Tensor]) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """evidence: for each block p(what is seen of it | state), (m, S). Of each block what is seen below it says of its state, up to a
        factor, and of its parent's, (m, S) each; and log p of all that is seen, (m,)."""
        below, message, found = list(evidence), list(evidence), torch.zeros(len(evidence[0]))
        for b in reversed(self.order):
            message[b], parent = below[b] @ self.step[b].t(), self.parents[b]
            if parent >= 0:
                product = below[parent] * message[b]
                scale = product.amax(1, keepdim=True).clamp_min(LEAST)
                below[parent] = product / scale
                found += scale[:, 0].log()
        return below, message, found + message[self.order[0]][:, 0].log()

    def log_prob(self, chunk: Tensor) -> Tensor:
        """(m, B) codes -> (m, 1)."""
        return torch.cat([self._up([self.theta[c] for c in some.t()])[2] for some in self._few(chunk)])[:, None]

    def sums(self, codes: Tensor) -> list[Tensor]:
        """codes (n, B) -> expected counts of (state of the parent, state) for each block, (B, S, S), and of codes in each state, (V, S)."""
        steps, held = torch.zeros_like(self.step), torch.zeros_like(self.theta)
        for some in self._few(codes):
            below, message, _ = self._up([self.theta[c] for c in some.t()])
            belief = {-1: F.one_hot(torch.zeros(len(some), dtype=torch.long), self.step.shape[1]).float()}
            for b in self.order:
                above = belief[self.parents[b]] / message[b].clamp_min(LEAST)  # (m, S) over states of the parent
                steps[b] += self.step[b] * (above.t() @ below[b])
                belief[b] = below[b] * (above @ self.step[b])
                held.index_add_(0, some[:, b], belief[b])
        return [steps, held[:-2]]

    def update(self, steps: Tensor, codes: Tensor) -> None:
        """The M step under the strengths as they are. steps (B, S, S), codes (V, S)."""
        share = steps.sum(1, keepdim=True)  # of each state in all rows
        raised = steps + self.strength[0] * share / share.sum(2, keepdim=True).clamp_min(LEAST)
        self.step.copy_(raised / raised.sum(2, keepdim=True).clamp_min(LEAST))
        raised = codes + self.strength[1] * self.margins[:, None]
        total = self._per_block(raised).clamp_min(LEAST)
        self.theta[:-2] = raised / total[self.codes.block_of]
        self.theta[-2] = float((1 / (total + 1)).log().mean().exp())  # as if one more row had held it

    def settle(self, steps: Tensor, codes: Tensor) -> None:
        """Moves step and theta as little as need be for every state and every code to be as frequent as in the rows: smoothing has bent that.

        On a least squares adjustment of a sampled frequency table; W. Deming, F. Stephan; 1940; https://doi.org/10.1214/aoms/1177731829
        """
        above, share = steps.sum(2), steps.sum(1)  # rows with each state of the parent, and of the block, (B, S) each
        margin, held = codes.sum(1), self._per_block(codes)[self.codes.block_of]
        for _ in range(ROUNDS):
            joint = self.step * above[:, :, None]
            self.step.mul_(_factor(share, joint.sum(1))[:, None])
            self.step.div_(self.step.sum(2, keepdim=True).clamp_min(LEAST))
            found = (self.theta[:-2] * held).sum(1)
            self.theta[:-2].mul_(_factor(margin, found)[:, None])
            self.theta[:-2].div_(self._per_block(self.theta[:-2])[self.codes.block_of].clamp_min(LEAST))

    def _per_block(self, counts: Tensor) -> Tensor:
        """(V, S) -> (B, S)."""
        return torch.zeros(len(self.parents), counts.shape[1]).index_add_(0, self.codes.block_of, counts)

    def _seen(self, given: Given | None) -> list[Tensor]:
        """For each block what one request leaves of its codes, p(that | state) (1, S)."""
        left = self.theta[:-2] if given is None else self.theta[:-2] * self.codes.allowed(given)[:, None]
        return list(self._per_block(left).split(1))

    def log_given(self, given: Given) -> Tensor:
        """(1,): log probability of what one row of values fixes."""
        seen = self._seen(given)
        return self._up(seen)[2] if all(bool(s.any()) for s in seen) else torch.full((1,), -torch.inf)

    def sample(self, k: Tensor, given: Given | None, x: Tensor, *, rng: torch.Generator) -> None:
        """Writes the fields of rows x (n, fields); k (n,), the one component. States and codes are spread evenly among rows alike so far."""
        below, state, codes = self._up(self._seen(given))[0], {-1: k}, torch.empty(len(k), len(self.parents), dtype=torch.long)
        theta = self.theta[:-2] if given is None else self.theta[:-2] * self.codes.allowed(given)[:, None]
        first = self.codes.offsets.tolist()
        for b in self.order:
            state[b] = spread_within(self.step[b] * below[b], state[self.parents[b]], rng)
            codes[:, b] = first[b] + spread_within(theta[first[b] : first[b + 1]].t(), state[b], rng)
        written(self.codes, codes, x, rng)

    def keep(self, k: Tensor) -> None:
        """The one component stays."""


def parents_of(codes: Codes, x: Tensor) -> list[int]:
    """The parent of each block in the tree over blocks with the most mutual information, -1 of its root: the block that tells most of all others."""
    level = codes.encode(x[:LOOK])
    level = torch.where(level < codes.size, level - codes.offsets[:-1], codes.offsets.diff())  # switched off is one more value
    B = level.shape[1]
    shared = torch.full((B, B), -torch.inf, dtype=torch.double)
    for a in range(B):
        for b in range(a):
            shared[a, b] = shared[b, a] = mutual_information(level[:, a], level[:, b])
    root = int(shared.clamp_min(0).sum(1).argmax())
    parents, best, link = [-1] * B, shared[root].clone(), [root] * B
    best[root] = -torch.inf
    outside = set(range(B)) - {root}
    while outside:
        new = max(sorted(outside), key=lambda b: float(best[b]))
        parents[new] = link[new]
        outside.remove(new)
        for b in outside:
            if shared[new, b] > best[b]:
                best[b], link[b] = shared[new, b], new
    return parents


def _factor(wanted: Tensor, found: Tensor) -> Tensor:
    """What makes of what was found what is wanted; 1 where there is nothing."""
    return torch.where(found > LEAST, wanted / found.clamp_min(LEAST), 1.0)


def _downward(parents: list[int]) -> list[int]:
    """All blocks, each after its parent."""
    out = [b for b, p in enumerate(parents) if p < 0]
    for b in out:
        out += [c for c, p in enumerate(parents) if p == b]
    return out
