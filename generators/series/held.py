"""Held tables: what a state says of classes, where many a step keeps the class of the step before, whatever the state.

    p(c_t | state, c_t-1) = k_b 1[c_t = c_t-1] + (1 - k_b) theta_state(c_t)      for each block b of classes alone
Whether a class was kept or drawn is one more thing that nobody sees: the E step says how probably, the M step counts what was drawn, and
k_b is the share that was kept. So states need not tell everybody's diagnosis apart for it to stay.

On the use of mixture transition distribution models; A. Berchtold, A. Raftery; 2002; https://doi.org/10.1214/ss/1042727943
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from generators.codes import Codes
from generators.leaves import CHUNK, Tables
from generators.series.chain import Packed


class Held(Tables):
    """Rows are steps with those before them, see past.remembered. kept (B,): k of each block, 0 of one with numbers, or with classes that say
    whether something else counts."""

    def __init__(self, codes: Codes, components: int):
        super().__init__(codes, components)
        fields = codes.layout.fields
        gates = {f.gate for f in fields}
        self.held = [b for b, block in enumerate(codes.blocks) if all(fields[i].classes > 1 and fields[i].gate is None and i not in gates for i in block)]
        self.register_buffer("kept", torch.zeros(len(codes.blocks)))

    def prepare(self, x: Tensor) -> list[tuple[Tensor, ...]]:
        """As Tables do, and (m, B) whether a block may have been kept, and (m,) whether a step has one before it."""
        width = len(self.codes.layout)
        later, codes = x[:, -1] == 0, self.codes.encode(x)
        may = torch.zeros(len(self.codes.blocks), dtype=torch.bool)
        may[self.held] = True
        same = (codes == self.codes.encode(x[:, -1 - width : -1])) & (codes < self.codes.size) & later[:, None] & may
        return [(*chunk, s, n) for chunk, s, n in zip(super().prepare(x), same.split(CHUNK), later.split(CHUNK), strict=True)]

    def _held(self, chunk: tuple[Tensor, ...]):
        """For each block that may be kept: it, its rows that may have been, their codes, and log of k / ((1 - k) theta), (rows, K)."""
        codes, _, _, same, _ = chunk
        for b in self.held:
            k, rows = self.kept[b], same[:, b].nonzero()[:, 0]
            if k > 0 and len(rows):
                code = codes[rows, b]
                yield b, rows, code, torch.logit(k) - self.log_theta[code]

    def log_prob(self, chunk: tuple[Tensor, ...]) -> Tensor:
        """(m, K)."""
        out = super().log_prob(chunk) + chunk[4][:, None] * torch.log1p(-self.kept).sum()
        for _, rows, _, odds in self._held(chunk):
            out.index_add_(0, rows, F.softplus(odds))
        return out

    def sums(self, chunk: tuple[Tensor, ...], r: Tensor) -> Tensor:
        """Responsibilities r (m, K) -> expected counts of what was drawn (V, K); below them, for each block, of what was kept; and of steps."""
        counts, kept = super().sums(chunk, r), r.new_zeros(len(self.kept), r.shape[1])
        for b, rows, code, odds in self._held(chunk):
            held = r[rows] * odds.sigmoid()
            counts.index_add_(0, code, -held)
            kept[b] = held.sum(0)
        return torch.cat([counts, kept, (r * chunk[4][:, None]).sum(0)[None]])

    def update(self, sums: Tensor) -> None:
        counts, kept, steps = sums.split([self.codes.size, len(self.kept), 1])
        super().update(counts)
        share = kept.sum(1) / (steps.sum() + 1)
        self.kept[self.held] = share[self.held].clamp(0.0, 0.999)

    def at_first(self, chunks: list[tuple[Tensor, ...]]) -> Tensor:
        """(B,): with what `kept` EM starts, half of the share of steps at which a block is the same."""
        same, steps = sum(c[3].sum(0) for c in chunks), sum(int(c[4].sum()) for c in chunks)
        out = torch.zeros_like(self.kept)
        out[self.held] = (0.5 * same / max(steps, 1))[self.held]
        return out

    def tune(self, sums: Tensor, chunks: list, r: list[Tensor], top: int = 4) -> None:
        """The strengths under which what was surely drawn is most likely."""
        super().tune(sums[: self.codes.size], [(c[0].masked_fill(c[3], self.codes.size),) for c in chunks], r, top)
        self.update(sums)

    def keep_on(self, at: Packed, x: Tensor, rng: torch.Generator) -> None:
        """Steps x (steps, fields), packed, that were drawn: some blocks take what they are at the step before."""
        first, before = 0, 0
        for t, n in enumerate(at.live):
            for b in self.held if t else []:
                rows = (torch.rand(n, generator=rng) < self.kept[b]).nonzero()[:, 0]
                fields = self.codes.blocks[b]
                x[(first + rows)[:, None], fields] = x[(before + rows)[:, None], fields]
            before, first = first, first + n
