"""Gradients through a mechanism: each row's own is cut to a norm, rows come into a batch by chance, and the sum alone is told, with noise.

    g = sum over rows i of the batch of  g_i min(1, norm / |g_i|),    weights follow Adam on  (g + noise) / (chance rows)
Every row is in a batch with the same chance, whatever else is in it (Poisson), so batches differ in size. The weights are averaged over
steps; which steps are best is never asked of the data.

Deep learning with differential privacy; M. Abadi, A. Chu, I. Goodfellow, B. McMahan, I. Mironov, K. Talwar, L. Zhang; 2016; https://arxiv.org/abs/1607.00133
Unlocking high-accuracy differentially private image classification through scale (averaged weights); S. De et al.; 2022; https://arxiv.org/abs/2204.13650
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from generators.arguments import number
from generators.base import Mechanism

TOGETHER = 64  # rows whose gradients are in memory at once
WARM = 0.05  # share of the steps in which the rate rises
MEMORY = 0.1  # share of the steps that the average of the weights looks back on
LINES = 20  # that are said of a training


@dataclass(frozen=True)
class Descent:
    """passes: over the rows, on average; chance: of a row to be in a batch; norm: to which a row's gradient is cut; rate: of Adam;
    counted: share of what may be told in all that counts take, and the training does not"""

    passes: float = 10.0
    chance: float = 0.02
    norm: float = 1.0
    rate: float = 5e-3
    counted: float = 0.2

    def __post_init__(self):
        number(1e-9, passes=self.passes, norm=self.norm, rate=self.rate), number(1e-6, 1, chance=self.chance, counted=self.counted)

    @property
    def steps(self) -> int:
        return max(round(self.passes / self.chance), 1)


class _One(nn.Module):
    """The loss of one row, as a module of the model's own weights."""

    def __init__(self, model: nn.Module, loss: Callable[[Tensor, float], Tensor]):
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, row: Tensor, done: Tensor) -> Tensor:
        return self.loss(row[None], done)


def descend(
    model: nn.Module, loss: Callable[[Tensor, float], Tensor], n: int, about: float, how: Descent, ask: Mechanism, log: Callable[[str], None]
) -> None:  # fmt: skip
    """Trains all weights of a model. loss: of some of n rows by their numbers (m,), and of the share of the training that is over, a mean over
    rows; it may see nothing but those rows. about: how many rows there are, as far as is told."""
    one = _One(model, loss)
    weights = {k: p for k, p in one.named_parameters() if p.requires_grad}
    names, sizes = list(weights), [p.numel() for p in weights.values()]
    optimizer = torch.optim.Adam(weights.values(), lr=how.rate, betas=(0.9, 0.99))
    mean = [p.detach().clone() for p in weights.values()]
    where = next(iter(weights.values())).device
    single = vmap(grad(lambda w, row, done: functional_call(one, w, (row, done))), in_dims=(None, 0, None), randomness="different")
    model.train()
    for step in range(how.steps):
        done = step / how.steps
        total = torch.zeros(sum(sizes), device=where)
        for rows in ask.batch(n).to(where).split(TOGETHER):
            if not len(rows):
                break
            now = {k: p.detach() for k, p in weights.items()}
            g = torch.cat([v.flatten(1) for v in single(now, rows, done).values()], 1).nan_to_num(0.0, 0.0, 0.0)  # (m, weights)
            total += (how.norm / g.norm(dim=1).clamp_min(how.norm)) @ g
        noisy = ask.step(total.cpu(), how.norm).to(where) / max(how.chance * about, 1.0)
        for p, part in zip(weights.values(), noisy.split(sizes), strict=True):
            p.grad = part.view_as(p)
        for group in optimizer.param_groups:
            group["lr"] = how.rate * min(done / WARM, 1.0) * 0.5 * (1 + math.cos(math.pi * done)) + 1e-9
        optimizer.step()
        share = max(1 / (step + 1), 1 / (MEMORY * how.steps))
        torch._foreach_lerp_(mean, [p.detach() for p in weights.values()], share)
        if (step + 1) % max(how.steps // LINES, 1) == 0:
            log(f"step {step + 1} of {how.steps}: {len(names)} tensors of {sum(sizes):,} weights, by noisy gradients")
    with torch.no_grad():
        for p, v in zip(weights.values(), mean, strict=True):
            p.copy_(v)
            p.grad = None
    model.eval()
