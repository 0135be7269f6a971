"""Codes: rows of fields as a few whole numbers each, and back.

Continuous fields are cut into bins, and fields that depend on each other strongly are joined into a block, one code for
each combination that the data hold. Inside a bin numbers are spread evenly by probability under the standard normal.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from generators.layout import Given, Layout

STRONG = 0.25  # nats of dependence from which a number and the field that says whether it counts are joined with others
LOOK = 10_000  # rows from which dependence between fields is estimated
CHUNK = 2**17  # rows that are coded at a time
END = 1e-6  # the tails of the normal that are cut off


class Codes(nn.Module):
    """Blocks b = 0 .. B - 1 with codes offsets[b] .. offsets[b + 1] - 1; code V = offsets[B] stands for a combination never seen,
    and V + 1 for a field that its gate switches off in this row, where the gate is in another block.

    blocks:       the fields of each block
    combinations: for each block (codes, fields of the block) int64, the bin or class of each field
    edges:        for each field the z at which its bins end, (bins + 1,), or an empty tensor for one-of-k
    """

    def __init__(self, layout: Layout, blocks: list[list[int]], edges: list[Tensor], combinations: list[Tensor]):
        super().__init__()
        self.layout, self.blocks = layout, blocks
        self.edges = nn.ParameterList([nn.Parameter(e, requires_grad=False) for e in edges])
        self.combinations = nn.ParameterList([nn.Parameter(c, requires_grad=False) for c in combinations])
        sizes = torch.tensor([len(c) for c in combinations], dtype=torch.long)
        self.register_buffer("offsets", torch.cat([torch.zeros(1, dtype=torch.long), sizes.cumsum(0)]), persistent=False)
        self.register_buffer("block_of", torch.repeat_interleave(torch.arange(len(blocks)), sizes), persistent=False)

    @classmethod
    def fit(cls, layout: Layout, fields: list[int], x: Tensor, bins: int, join: float, most: int) -> Codes:
        """x (n, all fields). Joins blocks while their mutual information is above `join` nats and they have <= `most` codes."""
        edges = [_edges(layout.fields[i].cuts, bins) if i in fields and not layout.fields[i].classes else torch.empty(0) for i in range(len(layout))]
        level = _levels(layout, edges, x)
        columns: list[list[int]] = []
        for i in fields:  # a gated number with its gate
            home = next((c for c in columns if layout.fields[i].gate in c and not layout.fields[i].classes), None)
            home.append(i) if home else columns.append([i])

        def joined(blocks: list[list[int]], least: float) -> list[list[int]]:
            some = level[:LOOK]
            return _join(blocks, [_number(some, layout, edges, b) for b in blocks], _sizes(layout, edges, range(len(layout))).tolist(), least, most)

        blocks = joined(columns, max(join, STRONG))
        alone = [b for b in blocks if b in columns and any(layout.fields[i].gate in b for i in b)]
        numbers = [[i] for b in alone for i in b if layout.fields[i].gate is not None]  # where a column is missing is a matter of its own
        blocks = joined([[i for i in b if b not in alone or layout.fields[i].gate is None] for b in blocks], join) + numbers
        combinations = []
        for b in blocks:
            radix = _radix(layout, edges, b)
            combinations.append(torch.unique((level[:, b] * radix).sum(1))[:, None] // radix % _sizes(layout, edges, b))
        return cls(layout, blocks, edges, combinations)

    @classmethod
    def single(cls, layout: Layout, bins: int) -> Codes:
        """A block for each field, with all of its classes or bins, whether the data hold them or not."""
        edges = [torch.empty(0) if f.classes else _edges(f.cuts, bins) for f in layout.fields]
        sizes = _sizes(layout, edges, range(len(layout))).tolist()
        return cls(layout, [[i] for i in range(len(layout))], edges, [torch.arange(k)[:, None] for k in sizes])

    @property
    def size(self) -> int:
        return int(self.offsets[-1])

    def encode(self, x: Tensor, dtype: torch.dtype = torch.long) -> Tensor:
        """x (n, fields) -> codes (n, B)."""
        out = torch.empty(len(x), len(self.blocks), dtype=dtype, device=x.device)
        for some, part in zip(x.split(CHUNK), out.split(CHUNK), strict=True):
            self._encode(some, part)
        return out

    def _encode(self, x: Tensor, out: Tensor) -> None:
        level, active = _levels(self.layout, list(self.edges), x), self.layout.active(x)
        for b, (fields, table) in enumerate(zip(self.blocks, self.combinations, strict=True)):
            radix = _radix(self.layout, self.edges, fields).to(x.device)
            keys, wanted = (table * radix).sum(1), (level[:, fields] * radix).sum(1)  # tables are sorted, so keys are
            place = torch.searchsorted(keys, wanted).clamp_max(len(keys) - 1)
            out[:, b] = torch.where(keys[place] == wanted, self.offsets[b] + place, self.size)
            if self._apart(fields):
                out[~active[:, fields[0]], b] = self.size + 1

    def _apart(self, fields: list[int]) -> bool:
        """Whether a block is one field whose gate is elsewhere."""
        return len(fields) == 1 and self.layout.fields[fields[0]].gate is not None

    def within(self, codes: Tensor) -> Tensor:
        """codes (n, B) -> numbers within each block, (n, B); -100, which losses leave out, for what is not known or does not count."""
        return torch.where(codes < self.size, codes - self.offsets[:-1], -100)

    def gated(self, j: int, value: Tensor, codes: Tensor) -> Tensor:
        """Codes of field j, (n,), or the code of what does not count where codes (n, B) switch it off. One field a block."""
        gate = self.layout.fields[j].gate
        return value if gate is None else torch.where(codes[:, gate] == int(self.offsets[gate]), value, self.size + 1)

    def decode(self, codes: Tensor, x: Tensor, inside: Tensor) -> None:
        """Writes codes (n, B) into x (n, fields); inside (n, fields) in [0, 1] says where in its bin a number is. What a gate switches off is 0."""
        for b, (fields, table) in enumerate(zip(self.blocks, self.combinations, strict=True)):
            level = table[codes[:, b] - self.offsets[b]]
            for j, i in enumerate(fields):
                x[:, i] = level[:, j]
                if len(self.edges[i]):
                    u = torch.special.ndtr(self.edges[i].double())
                    low, high = u[level[:, j]], u[level[:, j] + 1]
                    x[:, i] = torch.special.ndtri((low + (high - low) * inside[:, i]).clamp(END, 1 - END))
        x[~self.layout.active(x)] = 0

    def log_density(self, x: Tensor) -> Tensor:
        """(n,): what turns the probability of bins into a density over the continuous fields, log phi(z) - log (bin's share)."""
        out, active = torch.zeros(len(x), device=x.device), self.layout.active(x)
        for i in (i for fields in self.blocks for i in fields if len(self.edges[i])):
            width = torch.special.ndtr(self.edges[i].double()).diff()
            inside = torch.bucketize(x[:, i].contiguous(), self.edges[i][1:-1])
            out += active[:, i] * (-0.5 * x[:, i] ** 2 - 0.5 * math.log(2 * math.pi) - width.log()[inside].float())
        return out

    def allowed(self, given: Given) -> Tensor:
        """What one request (one row of values) leaves: bool (V,)."""
        level = _levels(self.layout, list(self.edges), given.values[:1])[0]
        active = self.layout.active(given.values[:1])[0]
        keep = []
        for fields, table in zip(self.blocks, self.combinations, strict=True):
            fixed = torch.tensor([bool(given.mask[i] and (active[i] or not self._apart(fields))) for i in fields])
            keep.append(((table == level[fields]) | ~fixed).all(1))
        return torch.cat(keep)


def _edges(cuts: tuple[float, ...], bins: int) -> Tensor:
    """At most about `bins` bins of equal probability, cut only at `cuts`; anywhere if there are too few cuts to choose from."""
    edges, last = [], 0.0
    for z, u in zip(cuts, torch.special.ndtr(torch.tensor(cuts, dtype=torch.double)).tolist(), strict=True):
        if u - last >= 0.999 / bins:
            edges.append(z)
            last = u
    return torch.tensor([-math.inf, *edges, math.inf], dtype=torch.float32)


def _levels(layout: Layout, edges: list[Tensor], x: Tensor) -> Tensor:
    """x (n, fields) -> the class or the bin of each field (n, fields) int64; 0 where switched off."""
    out = torch.zeros(x.shape, dtype=torch.long, device=x.device)
    for i, field in enumerate(layout.fields):
        if field.classes:
            out[:, i] = x[:, i].round().clamp(0, field.classes - 1).long()
        elif len(edges[i]):
            out[:, i] = torch.bucketize(x[:, i].contiguous(), edges[i][1:-1])
    return out * layout.active(x)


def _number(level: Tensor, layout: Layout, edges, fields: list[int]) -> Tensor:
    """Levels of a block's fields -> one number 0 .. k - 1 for each row, (n,)."""
    return torch.unique((level[:, fields] * _radix(layout, edges, fields)).sum(1), return_inverse=True)[1]


def _radix(layout: Layout, edges, fields: list[int]) -> Tensor:
    """Multipliers that turn the levels of a block into one number, the first field counting most."""
    sizes = _sizes(layout, edges, fields).tolist()
    return torch.tensor([math.prod(sizes[j + 1 :]) for j in range(len(sizes))], dtype=torch.long)


def _sizes(layout: Layout, edges, fields: list[int]) -> Tensor:
    return torch.tensor([layout.fields[i].classes or len(edges[i]) - 1 for i in fields], dtype=torch.long)


def _join(blocks: list[list[int]], labels: list[Tensor], sizes: list[int], least: float, most: int) -> list[list[int]]:
    """Greedily merges the two blocks that depend on each other most. labels: for each block (n,) 0 .. codes - 1."""
    live = dict(enumerate(zip(blocks, labels, strict=True)))

    def dependence(a: int, b: int) -> float:
        (left, codes), (right, other) = live[a], live[b]
        small = math.prod(sizes[i] for i in left + right) < 2**63  # else the codes of a joint block could not be numbered
        return mutual_information(codes, other, most) if small else -1.0

    shared = {(a, b): dependence(a, b) for b in live for a in range(b)}
    while shared and max(shared.values()) >= least:
        a, b = max(shared, key=shared.__getitem__)
        (left, codes), (right, other) = live.pop(a), live.pop(b)
        joint = torch.unique(codes * (int(other.max()) + 1) + other, return_inverse=True)[1]
        shared = {pair: v for pair, v in shared.items() if not {a, b} & set(pair)}
        new = max([a, b, *live]) + 1
        old, live[new] = list(live), (sorted(left + right), joint)
        shared |= {(i, new): dependence(i, new) for i in old}
    return [fields for fields, _ in live.values()]


def mutual_information(a: Tensor, b: Tensor, most: int | None = None) -> float:
    """Nats, less what chance alone gives (Miller and Madow); -1 if the joint has more than `most` codes. a, b (n,): 0, 1, and so on.

    Note on the bias of information estimates; G. A. Miller; 1955.
    """
    width = int(b.max()) + 1
    joint = torch.bincount(a * width + b, minlength=(int(a.max()) + 1) * width).double().view(-1, width)
    if most is not None and int((joint > 0).sum()) > most:
        return -1.0
    n, row, column = joint.sum(), joint.sum(1), joint.sum(0)
    entropy = [-(p[p > 0] / n * (p[p > 0] / n).log()).sum() for p in (row, column, joint)]
    extra = (int((row > 0).sum()) - 1) * (int((column > 0).sum()) - 1) / (2 * n)
    return float(entropy[0] + entropy[1] - entropy[2] - extra)
