"""Torch's and numpy's own random streams, which dropout, initial weights and libraries draw from, as a function of a seed for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def stream(*seeds: int) -> Iterator[None]:
    """Seeds numpy's stream and those of every device with these numbers together; afterwards all are as before."""
    seed = 0
    for part in seeds:
        seed = (seed * 6364136223846793005 + part + 1442695040888963407) % 2**63
    before = np.random.get_state()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            np.random.set_state(before)


def drawn(rng: torch.Generator) -> int:
    """A seed from a stream."""
    return int(torch.randint(2**62, (1,), generator=rng))
