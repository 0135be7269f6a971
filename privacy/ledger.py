"""A ledger: every model fitted to a population, every table drawn and judged, every release, in a file that is only ever appended to.

One line of JSON each. A release is written down, and on the disk, before anything leaves the house: who is killed between the two has one
too many in the ledger, never one too few; and since all of them have names, the same one made again, after a kill or for any other
reason, is counted once. Draws count though nothing is released: to draw until the judges are content tells something too. Writers wait
for each other (a lock that goes with the process), so that a budget that both would keep is not passed by both together. A line that a
kill cut off was never acknowledged: the next writer takes it away, unless all of it is there but for its end.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from generators.data import DataError
from privacy.accounting import Steps, epsilon_of

FIT, DRAW, RELEASE, BUDGET = KINDS = ("fit", "draw", "release", "budget")
LARGEST, LEAST_NOISE = 10**12, 1e-3  # of any number, and of noise, that anybody would spend


@dataclass(frozen=True)
class Record:
    """population: whose data, by the user's name for them; kind: one of KINDS; name: what tells it from others of its kind; at: when, UTC
    rows: that were learned from, drawn, or released
    private, rho, steps, delta: of a fit under differential privacy, what it spent
    budget: (epsilon, delta) that is declared for this population from here on

    steps: each (noise, rate, count) as in accounting.Steps; delta: what goes beyond the curve of rho and steps (a choice of names, say)
    """

    population: str
    kind: str
    name: str
    at: str
    rows: int
    private: bool = False
    rho: float = 0.0
    steps: tuple[tuple[float, float, int], ...] = ()
    delta: float = 0.0
    budget: tuple[float, float] | None = None

    def __post_init__(self):
        texts, steps = (self.population, self.name, self.at), [Steps(*s) for s in self.steps]
        numbers = [self.rows, self.rho, self.delta, *(self.budget or ()), *(n for s in steps for n in s)]
        if self.kind not in KINDS or not all(isinstance(t, str) for t in texts) or not isinstance(self.private, bool):
            raise ValueError(f"found kind {self.kind!r}, expected one of {', '.join(KINDS)}, and texts")
        if not all(isinstance(n, int | float) and not isinstance(n, bool) and 0 <= n <= LARGEST for n in numbers):
            raise ValueError("found a number that is none, or below 0, or beyond all sense, expected what was spent")
        if not all(s.noise >= LEAST_NOISE and s.rate <= 1 for s in steps) or self.delta >= 1:
            raise ValueError("found steps without noise, or chances beyond 1")
        if self.budget is None:
            if self.kind == BUDGET:
                raise ValueError("found a budget of nothing, expected (epsilon, delta)")
        elif len(self.budget) != 2 or not all(self.budget) or self.budget[1] >= 1:
            raise ValueError("found a budget that is none, expected (epsilon, delta)")

    def among(self, others: Sequence[Record]) -> bool:
        """Whether it is one of these, of the same population; a budget, whether it is the one that holds."""
        return declared(others) == self.budget if self.kind == BUDGET else any((self.kind, self.name) == (r.kind, r.name) for r in others)


class Ledger:
    def __init__(self, path: Path):
        self.path = Path(path)

    def records(self, population: str | None = None) -> list[Record]:
        """Of one population, or of all; none where there is no ledger. Raises DataError for a line that is none of a ledger."""
        if not self.path.exists():
            return []
        if not self.path.is_file():
            raise DataError(f"{self.path}: found a folder, expected a file")
        return [r for r in self._read(self.path.read_bytes())[0] if population in (None, r.population)]

    def enter(self, *records: Record, allowed: Callable[[Sequence[Record]], str | None] = lambda records: None) -> bool:
        """Writes records down, one after the other, unless they are there already; returns whether any was new. When it returns they are on the disk.

        allowed: told all records of that population, this one last, says why it may not be, or None. Raises DataError then: it and those after it
        are not written."""
        if not records:
            return False
        with self._alone() as file:
            raw = file.read()
            there, end = self._read(raw)
            new, why = [], None
            for record in records:
                own = [r for r in (*there, *new) if r.population == record.population]
                if not record.among(own):
                    if why := allowed([*own, record]):
                        break
                    new.append(record)
            if new:
                file.truncate(end)
                file.seek(end)
                file.write(b"\n" * (raw[end - 1 : end] not in (b"", b"\n")))
                file.write(b"".join(json.dumps(asdict(r), sort_keys=True).encode() + b"\n" for r in new))
                file.flush()
                os.fsync(file.fileno())
            if why:
                raise DataError(f"{self.path}: {why}")
            return bool(new)

    @contextmanager
    def _alone(self) -> Iterator[BinaryIO]:
        """The file, open, no other writer at it, and its name on the disk."""
        new = not self.path.exists()
        if not new and not self.path.is_file():
            raise DataError(f"{self.path}: found a folder, expected a file")
        file = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
        with file:
            if new:
                folder = os.open(self.path.parent, os.O_RDONLY)
                os.fsync(folder), os.close(folder)
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file

    def _read(self, raw: bytes) -> tuple[list[Record], int]:
        """All records, and where the last whole one ends."""
        *lines, last = raw.split(b"\n")
        out, end = [], len(raw) - len(last)
        for number, line in enumerate(lines, 1):
            try:
                out.append(_record(line))
            except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
                raise DataError(
                    f"{self.path}, line {number}: no record as this program writes them; put back what was there, nothing is released meanwhile"
                ) from None
        with contextlib.suppress(ValueError, TypeError, LookupError, AttributeError, RecursionError):  # a line that a kill cut off
            out.append(_record(last))
            end = len(raw)
        return out, end


def _record(line: bytes) -> Record:
    found = json.loads(line)
    return Record(**found | {"steps": tuple(tuple(s) for s in found["steps"]), "budget": found.get("budget") and tuple(found["budget"])})


def declared(records: Sequence[Record]) -> tuple[float, float] | None:
    """The budget of one population, the last one that was declared."""
    return next((r.budget for r in reversed(records) if r.budget), None)


def spent(records: Sequence[Record], delta: float) -> float | None:
    """The epsilon of all fits together at this delta, of which what goes beyond their curves is taken first; None where one had no differential privacy.

    Raises DataError where that alone is more than delta."""
    fits = [r for r in records if r.kind == FIT]
    if not all(r.private for r in fits):
        return None
    beyond = sum(r.delta for r in fits)
    if beyond >= delta:
        raise DataError(f"delta: found {delta}, of which {beyond:.3g} is spent already, expected more")
    return epsilon_of(delta - beyond, sum(r.rho for r in fits), [Steps(*s) for r in fits for s in r.steps])


BEYOND = 10  # times what goes beyond the curves is the delta at which a sum is told
DELTA = 1e-6  # and where nothing does


def summed(records: Sequence[Record]) -> dict[str, dict]:
    """Of each population, in the order in which they came: how many fits, draws and releases, the rows of all releases, when the last of all was,
    the epsilon that all fits spent at a delta, None of both where a fit had no differential privacy or deltas add up to one, and the budget, epsilon and
    delta: at its delta, where that is more than what goes beyond the curves."""
    out: dict[str, dict] = {}
    for r in records:
        of = out.setdefault(r.population, {"fits": 0, "draws": 0, "releases": 0, "rows": 0, "last": r.at})
        if r.kind != BUDGET:
            of[{FIT: "fits", DRAW: "draws", RELEASE: "releases"}[r.kind]] += 1
        of["rows"] += r.rows * (r.kind == RELEASE)
        of["last"] = r.at
    for name, of in out.items():
        own = [r for r in records if r.population == name]
        beyond, budget = sum(r.delta for r in own), declared(own)
        delta = budget[1] if budget and budget[1] > beyond else BEYOND * beyond or DELTA
        epsilon = spent(own, delta) if delta < 1 else None
        of |= {"epsilon": epsilon, "delta": None if epsilon is None else delta, "budget": budget}
    return out
