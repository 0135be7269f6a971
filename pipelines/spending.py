"""What a run under differential privacy spends is in the ledger before anything is learned, and once, however often the run is killed.

A fit has a name that nobody else has, in a file beside the model that is to be, while it goes on. Who is killed finds it there and goes on
under that name: of what was learned before, nothing was kept. With the model the file goes, so that to learn again is to spend again.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from pipelines.house import Run, ledger, replace
from pipelines.promise import Budget
from privacy.ledger import FIT, Record, spent
from privacy.mechanism import Private

OPEN = ".spending"  # in the run's folder, while a model is fitted


def charge(run: Run, mechanism: Private, rows: int, at: str) -> None:
    """Enters what this fit may spend. Raises DataError where the population's budget does not allow it."""
    entry, mark = run.entry, run.folder / OPEN
    if not mark.is_file():
        replace(mark, os.urandom(8).hex())
    steps = (tuple(mechanism.training),) if mechanism.training else ()
    record = Record(entry.people, FIT, f"{entry.name} {mark.read_text()}", at, rows, private=True, rho=mechanism.rho, delta=mechanism.delta, steps=steps)
    try:
        ledger(entry.root).enter(record, lambda records: refusal(records, entry.budget))
    except BaseException:
        close(run)
        raise


def close(run: Run) -> None:
    """The model is there, or nothing was spent."""
    (run.folder / OPEN).unlink(missing_ok=True)


def refusal(records: Sequence[Record], budget: Budget | None) -> str | None:
    """Why these may not be fitted together, or None."""
    if budget is None:
        return None
    population = records[0].population
    if without := next((r.name for r in records if r.kind == FIT and not r.private), None):
        return f"privacy.budget: {population!r} has a model without differential privacy ({without}), which no epsilon adds up with; nothing was learned"
    before, after = (spent(some, budget.delta) for some in (records[:-1], records))
    if after > budget.epsilon:
        return (
            f"privacy.budget: {population!r} has spent epsilon {before:.3g} of {budget.epsilon:g} at delta {budget.delta:g}, and would have spent {after:.3g} "
            "after this run; nothing was learned. Take a smaller epsilon, or what was published before"
        )
    return None
