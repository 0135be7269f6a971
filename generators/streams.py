"""Torch's own random streams, which dropout and initial weights draw from, as a function of a seed for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def stream(*seeds: int) -> Iterator[None]:
    """Seeds every device's stream with these numbers together; afterwards all are as before."""
    seed = 0
    for part in seeds:
        seed = (seed * 6364136223846793005 + part + 1442695040888963407) % 2**63
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def drawn(rng: torch.Generator) -> int:
    """A seed from a stream."""
    return int(torch.randint(2**62, (1,), generator=rng))
