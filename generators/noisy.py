"""A mixture from noisy sums: EM whose M step sees expected counts through a mechanism alone, a fixed number of times.

    r_ik = p(k | row i) under the tables as they are,   C_vk = sum over rows i with value v of r_ik,   theta_kv ~ C_vk + noise + prior
One row adds a vector of norm at most sqrt(fields) to C, whatever the tables are. Nothing is chosen by how well it does: how many
components, bins and passes follow from the noisy number of rows and from how far off sums will be.

DP-EM: differentially private expectation maximization; M. Park, J. Foulds, K. Chaudhuri, M. Welling; 2017; https://arxiv.org/abs/1605.06995
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from generators.base import Mechanism
from generators.codes import Codes
from generators.layout import Layout
from generators.leaves import Tables

COUNT, MARGINS = 0.02, 0.2  # shares of what may be told that go to the number of rows, and to each field by itself; the rest goes to passes
PASSES = 6
FEWEST, MOST = 2, 64  # components
APART = 0.75  # standard deviations of noise that a component's rows are, on average, to hold in each of a number's bins
BINS = 16  # of a number


def mixture(layout: Layout, x: Tensor, components: int | None, bins: int | None, ask: Mechanism, rng: torch.Generator) -> tuple[nn.ModuleList, Tensor, dict]:
    """(leaves, log weights (K,), what was made of what) of rows x (n, fields)."""
    n = max(float(ask.counts(torch.tensor([len(x)], dtype=torch.double), COUNT)[0]), 1.0)
    codes = Codes.single(layout, bins or BINS)
    held, fields, each = codes.encode(x), len(layout), (ask.rest - MARGINS) / PASSES
    margins = torch.cat([_margin(codes, held, i, ask, MARGINS / fields) for i in range(fields)])
    noise = fields**0.5 * ask.sd(each)
    k = components or min(max(round(n / (BINS * APART * max(noise, 1.0))), FEWEST), MOST)
    tables, log_pi = Tables(codes, k), torch.zeros(k).log_softmax(0)
    first = [codes.offsets[i] + margins[codes.block_of == i].multinomial(k, replacement=True, generator=rng) for i in range(fields)]
    tables.start(torch.stack(first, 1), margins, None, None)
    tables.strength.fill_(max(noise, 1.0))
    chunks = tables.prepare(x)
    for _ in range(PASSES):
        sums = torch.zeros(codes.size, k, dtype=torch.double)
        for chunk in chunks:
            sums += tables.sums(chunk, torch.softmax(log_pi + tables.log_prob(chunk), 1)).double()
        sums = ask.sums(sums, fields**0.5, min(each, ask.rest)).float()
        rows = torch.zeros(fields, k).index_add_(0, codes.block_of, sums).mean(0)  # by all fields together
        log_pi = rows.clamp_min(n / (10 * k)).log().log_softmax(0)
        tables.update(sums.clamp_min(0))
    note = {"rows": round(n), "model": f"a mixture of {k} components", "numbers": "binned", "bins": bins or BINS, "start": "margins", "held_out": []}
    return nn.ModuleList([tables]), log_pi, note | {"chosen": True}


def _margin(codes: Codes, held: Tensor, i: int, ask: Mechanism, share: float) -> Tensor:
    """How frequent each value of a field is, (values,), never 0."""
    first, last = int(codes.offsets[i]), int(codes.offsets[i + 1])
    counts = torch.bincount(held[:, i].clamp_max(last) - first, minlength=last - first + 1)[: last - first]
    told = ask.counts(counts.double(), share).clamp_min(0) + 0.5
    return (told / told.sum()).float()
