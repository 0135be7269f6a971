"""The factors of a graphical model that fit noisy counts best: the distribution of largest entropy that explains them.

    minimise over theta   log Z(theta) - sum_r theta_r . y_r / N + 1/2 sum_r lambda_r |theta_r|^2,     N lambda_r = DAMPING sd_r + FLOOR
which is the dual of  maximise  H(p) - 1/2 sum_r |M_r(p) - y_r / N|^2 / lambda_r  over distributions p. At the least, counts are missed by
N lambda_r theta_r: the more noise there is in them, the less a model leaves what it would say without them. A smooth and convex
problem of as many unknowns as there are counts, for which limited-memory quasi-Newton steps are made.

Graphical-model based estimation and inference for differential privacy; R. McKenna, D. Sheldon, G. Miklau; 2019; https://arxiv.org/abs/1901.09136
Performance guarantees for regularized maximum entropy density estimation; M. Dudik, S. Phillips, R. Schapire; 2004; https://doi.org/10.1007/978-3-540-27819-1_33
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from generators.junction import JunctionTree

DAMPING = 1.0  # people by which a count may be missed for each nat that it moves the model, in standard deviations of its noise,
FLOOR = 1.0  # and so many more, which is all without noise
ENOUGH = 1e-9  # by how much the objective must fall


@dataclass(frozen=True)
class Measured:
    """of: columns in order; y: how many people have each combination, a tensor with an axis for each; sd: of the noise in y"""

    of: tuple[int, ...]
    y: Tensor
    sd: float


def fitted(
    tree: JunctionTree, theta: list[Tensor], measured: list[Measured], total: float, steps: int, fixed: Sequence[tuple[Sequence[int], Tensor]] = ()
) -> tuple[list[Tensor], list[Tensor]]:  # fmt: skip
    """(theta, a factor for each that was measured; log marginals of the cliques) after so many steps, or when they no longer help.

    fixed: factors that stay as they are, and the columns of each."""
    sizes, shapes = [m.y.numel() for m in measured], [m.y.shape for m in measured]
    wanted = torch.cat([m.y.double().reshape(-1) for m in measured]) / total
    rate = torch.cat([torch.full((k,), (DAMPING * m.sd + FLOOR) / total, dtype=torch.double) for k, m in zip(sizes, measured, strict=True)])
    flat = torch.cat([t.reshape(-1) for t in theta]).requires_grad_()

    def parts() -> list[Tensor]:
        return [p.reshape(s) for p, s in zip(flat.detach().split(sizes), shapes, strict=True)]

    def calibrated() -> tuple[list[Tensor], float]:
        return tree.calibrate(tree.placed([*((m.of, t) for m, t in zip(measured, parts(), strict=True)), *fixed]))

    def objective() -> Tensor:
        with torch.no_grad():
            beliefs, log_z = calibrated()
            said = torch.cat([tree.marginal(beliefs, m.of).reshape(-1) for m in measured])
            flat.grad = said - wanted + rate * flat
            return log_z - flat @ wanted + (rate * flat.square()).sum() / 2

    climber = torch.optim.LBFGS([flat], max_iter=steps, tolerance_grad=1e-7, tolerance_change=ENOUGH, history_size=10, line_search_fn="strong_wolfe")
    with torch.enable_grad():
        climber.step(objective)
    return parts(), calibrated()[0]
