"""Frechet and kernel distance of what Inception sees, by torchmetrics, where that is installed and the network's weights are on disk: nothing is downloaded.

torchmetrics looks for them where torch keeps what it was given: ~/.cache/torch/hub/checkpoints (TORCH_HOME). The network knows photographs of
things; what it says of other pictures is for comparison with papers, and decides nothing.

"GANs trained by a two time-scale update rule converge to a local Nash equilibrium", Heusel, Ramsauer, Unterthiner, Nessler and Hochreiter, 2017,
https://arxiv.org/abs/1706.08500; "Demystifying MMD GANs", Binkowski, Sutherland, Arbel and Gretton, 2018, https://arxiv.org/abs/1801.01401
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from generators.data import Table
from validation.pictures import shown

WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"
MOST, CHUNK = 500, 50  # pictures of each that are looked at, as each takes a fraction of a second, and together


def weights() -> Path | None:
    """The file, if Inception can be asked."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS
    there = all(importlib.util.find_spec(name) for name in ("torchmetrics", "torch_fidelity"))
    return path if there and path.is_file() else None


@torch.no_grad()
def inception(path: Path, held: Table, **others: Table) -> dict[str, Any]:
    """Distances to the holdout of as many pictures of each other table: {"frechet": {name: ...}, "kernel": {name: ...}, "pictures": ...}."""
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    size = min(MOST, len(held), *map(len, others.values()))
    frechet = FrechetInceptionDistance(reset_real_features=False, feature_extractor_weights_path=str(path))
    kernel = KernelInceptionDistance(frechet.inception, subsets=1, subset_size=size, reset_real_features=False)
    found: dict[str, Any] = {"frechet": {}, "kernel": {}, "pictures": size}
    _look(held, size, True, frechet, kernel)
    for name, table in others.items():
        frechet.reset(), kernel.reset()
        _look(table, size, False, frechet, kernel)
        found["frechet"][name], found["kernel"][name] = float(frechet.compute()), float(kernel.compute()[0])
    return found


def _look(pictures: Table, size: int, real: bool, *metrics: Any) -> None:
    for part in _colour(pictures.take(np.arange(size))).split(CHUNK):
        for metric in metrics:
            metric.update(part, real=real)


def _colour(pictures: Table) -> Tensor:
    """(n, 3, height, width) of 0 to 255."""
    return ((shown(pictures) + 1) * 127.5).round().to(torch.uint8).expand(-1, 3, -1, -1)
