"""The factors of a graphical model that fit noisy counts best: the distribution of largest entropy that explains them.

    minimise over a   log Z(theta) - sum_r theta_r . y_r / N + 1/2 sum_r lambda_r |a_r|^2,   theta_r = B_r a_r,   N lambda_r = DAMPING sd_r + FLOOR
which is the dual of  maximise  H(p) - 1/2 sum_r |B_r' (M_r(p) - y_r / N)|^2 / lambda_r  over distributions p. At the least, B_r' of counts are missed
by N lambda_r a_r: the more noise there is in them, the less a model leaves what it would say without them. B is 1 for classes; along the bins of a
number it has cosines, the slower the larger, so that what changes slowly from bin to bin is believed first. A smooth and convex problem of as many
unknowns as there are counts, for which limited-memory quasi-Newton steps are made.

Graphical-model based estimation and inference for differential privacy; R. McKenna, D. Sheldon, G. Miklau; 2019; https://arxiv.org/abs/1901.09136
Performance guarantees for regularized maximum entropy density estimation; M. Dudik, S. Phillips, R. Schapire; 2004; https://doi.org/10.1007/978-3-540-27819-1_33
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from generators.junction import JunctionTree

DAMPING = 1.0  # people by which a count may be missed for each nat that it moves the model, in standard deviations of its noise,
FLOOR = 1.0  # and so many more, which is all without noise
SLOW = 0.3  # times the bins of a number that the slowest cosine over them is believed as much more as the quickest
ENOUGH = 1e-9  # by how much the objective must fall


@dataclass(frozen=True)
class Measured:
    """of: columns in order; y: how many people have each combination, a tensor with an axis for each; sd: of the noise in y;
    bases: B along each axis, see `slowly`; none: 1"""

    of: tuple[int, ...]
    y: Tensor
    sd: float
    bases: tuple[Tensor, ...] = ()

    def theta(self, a: Tensor) -> Tensor:
        """B a, which is linear, of a (y.numel(),)."""
        return _turned(a.reshape(self.y.shape), self.bases)

    def back(self, counts: Tensor) -> Tensor:
        """B' of counts, (y.numel(),)."""
        return _turned(counts, [b.t() for b in self.bases]).reshape(-1)


def _turned(x: Tensor, bases: Sequence[Tensor]) -> Tensor:
    for axis, basis in enumerate(bases):
        x = torch.tensordot(basis, x.movedim(axis, 0), 1).movedim(0, axis)
    return x


def slowly(size: int, bins: slice) -> Tensor:
    """(size, size): B along a column of so many values, of which some are the bins of a number, in order.

    A standard normal number times a column of it is what that cosine, k half waves over K bins, may well be: of variance 1 + SLOW K / k^2."""
    out, begin, count = torch.eye(size, dtype=torch.double), bins.start, bins.stop - bins.start
    if count > 1:
        k, i = torch.arange(count, dtype=torch.double)[None], torch.arange(count, dtype=torch.double)[:, None]
        waves = torch.cos(math.pi * k * (i + 0.5) / count) * torch.where(k == 0, 1 / count, 2 / count).sqrt()
        out[begin : begin + count, begin : begin + count] = waves * torch.where(k == 0, 1.0, 1 + SLOW * count / k.clamp_min(1) ** 2).sqrt()
    return out


def fitted(
    tree: JunctionTree, start: list[Tensor], measured: list[Measured], total: float, steps: int, fixed: Sequence[tuple[Sequence[int], Tensor]] = ()
) -> tuple[list[Tensor], list[Tensor]]:  # fmt: skip
    """(a, for each that was measured; log marginals of the cliques) after so many steps, or when they no longer help.

    fixed: factors that stay as they are, and the columns of each."""
    sizes = [m.y.numel() for m in measured]
    wanted = torch.cat([m.back(m.y.double()) for m in measured]) / total
    rate = torch.cat([torch.full((k,), (DAMPING * m.sd + FLOOR) / total, dtype=torch.double) for k, m in zip(sizes, measured, strict=True)])
    flat = torch.cat([t.reshape(-1) for t in start]).requires_grad_()

    def parts() -> list[Tensor]:
        return [p.reshape(m.y.shape) for p, m in zip(flat.detach().split(sizes), measured, strict=True)]

    def calibrated() -> tuple[list[Tensor], float]:
        return tree.calibrate(tree.placed([*((m.of, m.theta(a)) for m, a in zip(measured, parts(), strict=True)), *fixed]))

    def objective() -> Tensor:
        with torch.no_grad():
            beliefs, log_z = calibrated()
            said = torch.cat([m.back(tree.marginal(beliefs, m.of)) for m in measured])
            flat.grad = said - wanted + rate * flat
            return log_z - flat @ wanted + (rate * flat.square()).sum() / 2

    climber = torch.optim.LBFGS([flat], max_iter=steps, tolerance_grad=1e-7, tolerance_change=ENOUGH, history_size=10, line_search_fn="strong_wolfe")
    with torch.enable_grad():
        climber.step(objective)
    return parts(), calibrated()[0]
