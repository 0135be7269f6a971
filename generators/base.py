"""What an encoder and a generator are, for everybody else. Think twice before adding anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Generator as Rng
from torch import Tensor

from generators.data import Table
from generators.layout import Given, Layout


class Encoder(Protocol):
    """Turns a dataset into a tensor of a layout, and back. Decode is total: any finite tensor gives valid data."""

    layout: Layout

    def fit(self, data: Table, *, rng: Rng, avoid: Table | None = None) -> Encoder:
        """Learns from data. Ids and personal data that `avoid` holds are not to be invented either."""

    def encode(self, data: Table, *, rng: Rng) -> Tensor:
        """(rows, fields) float32, never NaN. Ties are spread at random."""

    def decode(self, x: Tensor, *, rng: Rng, start: int = 0) -> Table:
        """Rows number start, start + 1, ... of a synthetic table: what is issued anew (ids) is unique by that number."""


class Generator(Protocol):
    """Learns tensors of a layout. An nn.Module (EM models too), so that all save alike."""

    layout: Layout

    def fit(self, x: Tensor, held_out: Tensor, *, rng: Rng, log: Callable[[str], None] = ..., checkpoint: Path | None = None) -> Generator:
        """Learns from x (n, fields); held_out (m, fields), other subjects, decides when to stop and how large to be.

        log gets lines on how it goes; at checkpoint a long fit keeps its state, and goes on from there if it was killed.
        """

    def sample(self, n: int, given: Given | None = None, *, rng: Rng) -> Tensor:
        """(n, fields). Raises ValueError where the model gives what is asked no probability at all."""


@runtime_checkable
class Density(Protocol):
    """A generator that knows how probable a row is."""

    def log_prob(self, x: Tensor) -> Tensor:
        """(n, fields) -> (n,) nats: mass for one-of-k fields times density for continuous ones."""


class Mechanism(Protocol):
    """What stands between data and whoever learns from them: exact (exact.py), or with noise that makes the answers differentially private.

    Every answer takes a share of what may be told in all; a learner knows shares, and how far off answers may be, and no more.
    """

    rest: float  # the share that has not been taken yet, 1 at first
    rows: int | None  # of one person, at most; None where answers are exact and it does not matter
    steps: int | None  # of a person's series, at most; None where there are no series
    training: object | None  # steps by noisy gradients that may be told beside, if any

    def sd(self, share: float) -> float:
        """The standard deviation of each count that this share buys; 0 where counts are exact."""

    def counts(self, exact: Tensor, share: float) -> Tensor:
        """The same counts, of people in classes that exclude each other, so far off."""

    def sums(self, exact: Tensor, norm: float, share: float) -> Tensor:
        """The same sums over people, each so far off. norm: of what one row adds, at most, as one vector."""

    def kept(self, people: Tensor, least: int, share: float) -> Tensor:
        """How many people hold each of some values that nobody knew beforehand, so far off; 0 where they are too few, less than `least` at any rate."""

    def choose(self, scores: Tensor, sensitivity: float, share: float) -> int:
        """The position of the highest score, or of a high one. sensitivity: how much one person can change a score."""

    def batch(self, rows: int) -> Tensor:
        """The numbers of those of so many rows that come into the next batch, each by chance."""

    def step(self, total: Tensor, norm: float) -> Tensor:
        """The same sum over the rows of a batch, so far off as one step of the training that was agreed on. norm: of what one row adds, at most"""

    def part(self, share: float, name: str) -> Mechanism:
        """A mechanism that may tell this share. name: what for, as a report says."""
