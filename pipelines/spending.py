"""What a run under differential privacy spends is in the ledger before anything is learned, and once, however often the run is killed.

A fit has a name that nobody else has, in a file beside the model that is to be, while it goes on. Who is killed finds it there and goes on
under that name: of what was learned before, nothing was kept or heard. With the model in its place the file goes, so that to learn again is to
spend again; and where a fit ends in an error, or is interrupted, after anything was told, for what comes out after that depends on what was told.
What a model spent stands beside it, and is entered wherever it is used: for another population, or where the ledger was lost.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from generators.data import DataError
from pipelines.house import Run, fit_of, ledger, replace
from pipelines.promise import Budget
from pipelines.publish import now
from privacy.ledger import BUDGET, FIT, Record, declared, spent
from privacy.mechanism import Private

OPEN = ".spending"  # in the run's folder, while a model is fitted


@contextmanager
def charged(run: Run, mechanism: Private | None, rows: int, key: str, beside: Path) -> Iterator[dict[str, Any]]:
    """While it lasts, a model is learned and saved beside its place, where it comes at the end; gives what it may spend, which is to be kept with it.

    Raises DataError where the population does not allow it. A fit without a mechanism is entered when it has ended."""
    mark = run.folder / OPEN
    if run.model.exists():  # a damaged one, from which something may have been drawn
        close(run)
        shutil.rmtree(run.model)
    if mechanism is None:
        charge = {"name": key[:12], "rows": rows}
        _refuse(run, charge)
        yield charge
        _enter(run, charge)
        beside.rename(run.model)
        return
    if not mark.is_file() or not re.fullmatch("[0-9a-f]{16}", mark.read_text()):
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
        beside.rename(run.model)
    except BaseException:
        if mechanism.answers:
            close(run)
        raise
    close(run)


def entered(run: Run, model: Path) -> None:
    """The fit of the model that this run takes, in the ledger unless it is there. Raises DataError where the population does not allow it."""
    _enter(run, {"rows": run.read("source.json")["train"]} | fit_of(model)["charge"])


def close(run: Run) -> None:
    """The model is there, or what was told is not to be used."""
    (run.folder / OPEN).unlink(missing_ok=True)


def _record(run: Run, charge: dict[str, Any]) -> Record:
    steps = tuple(map(tuple, charge.get("steps", [])))
    return Record(run.entry.people, FIT, at=now(), **charge | {"name": f"{run.entry.name} {charge['name']}", "steps": steps})


def _enter(run: Run, charge: dict[str, Any]) -> None:
    """A budget holds from the run on that declares it, whether that learns anything or not."""
    entry, book = run.entry, ledger(run.entry.root)
    if entry.budget:
        book.enter(Record(entry.people, BUDGET, entry.name, now(), 0, budget=(entry.budget.epsilon, entry.budget.delta)), refusal)
    book.enter(_record(run, charge), refusal)


def _refuse(run: Run, charge: dict[str, Any]) -> None:
    """Raises DataError where this would not be entered."""
    book, record = ledger(run.entry.root), _record(run, charge)
    if why := refusal([*book.records(record.population), record]):
        raise DataError(f"{book.path}: {why}")


def refusal(records: Sequence[Record]) -> str | None:
    """Why the last of these, a fit or a budget, may not be beside the others, or None. A budget is declared whatever was spent before."""
    population, without = records[-1].population, next((r.name for r in records if r.kind == FIT and not r.private), None)
    limit = declared(records)
    if limit is None:
        return None
    if without:
        return (
            f"privacy.budget: {population!r} has one, beside which a model without differential privacy ({without}) adds up with nothing; nothing was "
            "learned. Give it epsilon:, or people of their own another population:"
        )
    if records[-1].kind == BUDGET:
        return None
    budget = Budget(*limit)
    before, after = (spent(some, budget.delta) for some in (records[:-1], records))
    if after > budget.epsilon:
        return (
            f"privacy.budget: {population!r} has spent epsilon {before:.3g} of {budget.epsilon:g} at delta {budget.delta:g}, and would have spent {after:.3g} "
            "after this run; nothing was learned. Take a smaller epsilon, or what was published before"
        )
    return None
