"""What a run under differential privacy spends is in the ledger before anything is learned, and once, however often the run is killed.

A fit has a name that nobody else has, in a file beside the model that is to be, while it goes on. Who is killed finds it there and goes on
under that name: of what was learned before, nothing was kept. With the model the file goes, so that to learn again is to spend again; and
where a fit ends in an error after anything was told, for what comes out after errors depends on what was told. What a model spent stands
beside it, and is entered wherever it is used: for another population, or where the ledger was lost.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from generators.data import DataError
from pipelines.house import Run, ledger, replace
from pipelines.promise import Budget
from pipelines.publish import now
from privacy.ledger import FIT, Record, spent
from privacy.mechanism import Private

OPEN = ".spending"  # in the run's folder, while a model is fitted


@contextmanager
def charged(run: Run, mechanism: Private | None, rows: int, key: str) -> Iterator[dict[str, Any]]:
    """While it lasts, a model is learned that may spend this; gives what is to be kept beside the model.

    Raises DataError where the population does not allow it. A fit without a mechanism is entered when its model is there."""
    mark = run.folder / OPEN
    if mechanism is None:
        charge = {"name": key[:12], "rows": rows}
        _refuse(run, charge)
        yield charge
        return
    if not mark.is_file():
        replace(mark, os.urandom(8).hex())
    steps = [list(mechanism.training)] if mechanism.training else []
    charge = {"name": mark.read_text(), "private": True, "rho": mechanism.rho, "delta": mechanism.delta, "steps": steps}
    try:
        _enter(run, charge | {"rows": rows})
    except BaseException:
        close(run)
        raise
    try:
        yield charge
    except Exception:
        if mechanism.answers:
            close(run)
        raise


def entered(run: Run) -> None:
    """The fit of the model that this run has, in the ledger unless it is there. Raises DataError where the population does not allow it."""
    _enter(run, {"rows": run.read("source.json")["train"]} | run.read("model/fit.json")["charge"])


def close(run: Run) -> None:
    """The model is there, or what was told is not to be used."""
    (run.folder / OPEN).unlink(missing_ok=True)


def _record(run: Run, charge: dict[str, Any]) -> Record:
    entry, steps = run.entry, tuple(map(tuple, charge.get("steps", [])))
    budget = (entry.budget.epsilon, entry.budget.delta) if entry.budget else None
    return Record(entry.people, FIT, at=now(), **charge | {"name": f"{entry.name} {charge['name']}", "steps": steps, "budget": budget})


def _enter(run: Run, charge: dict[str, Any]) -> None:
    ledger(run.entry.root).enter(_record(run, charge), refusal)


def _refuse(run: Run, charge: dict[str, Any]) -> None:
    """Raises DataError where this would not be entered."""
    book, record = ledger(run.entry.root), _record(run, charge)
    if why := refusal([*book.records(record.population), record]):
        raise DataError(f"{book.path}: {why}")


def refusal(records: Sequence[Record]) -> str | None:
    """Why the last of these may not be fitted beside the others, or None. The budget is the last one that was declared for these people."""
    population, without = records[-1].population, next((r.name for r in records if r.kind == FIT and not r.private), None)
    declared = next((r.budget for r in reversed(records) if r.budget), None)
    if declared is None:
        return None
    if without:
        return (
            f"privacy.budget: {population!r} has one, beside which a model without differential privacy ({without}) adds up with nothing; nothing was "
            "learned. Give it epsilon:, or people of their own another population:"
        )
    budget = Budget(*declared)
    before, after = (spent(some, budget.delta) for some in (records[:-1], records))
    if after > budget.epsilon:
        return (
            f"privacy.budget: {population!r} has spent epsilon {before:.3g} of {budget.epsilon:g} at delta {budget.delta:g}, and would have spent {after:.3g} "
            "after this run; nothing was learned. Take a smaller epsilon, or what was published before"
        )
    return None
