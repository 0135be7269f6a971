"""What a run under differential privacy spends is in the ledger before anything is learned, and once, however often the run is killed.

A fit has a name that nobody else has, in a file beside the model that is to be, while it goes on. Who is killed finds it there and goes on
under that name: of what was learned before, nothing was heard, and what was saved in part goes, unused. With the model in its place the file goes,
so that to learn again is to spend again; and where a fit ends in an error, or is interrupted by hand, after anything was told, for what comes out
after that depends on what was told. To be asked to end (SIGTERM, as of a machine that goes down) is to be killed.
What a model spent stands beside it, and is entered wherever it is used: for another population, or where the ledger was lost.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from generators.data import DataError
from pipelines.house import FACTS, LEDGER, RUNS, UNSAVED, Run, fit_of, move, named, replace
from pipelines.progress import ENDED
from pipelines.promise import Budget
from pipelines.publish import now
from privacy.ledger import BUDGET, DRAW, FIT, RELEASE, Ledger, Record, declared, spent
from privacy.mechanism import Private

OPEN = ".spending"  # in the run's folder, while a model is fitted


@contextmanager
def charged(run: Run, mechanism: Private | None, rows: int, key: str) -> Iterator[dict[str, Any]]:
    """While it lasts, a model is learned and saved as run.unsaved, which comes into its place at the end; gives what it may spend, to be kept with it.

    Raises DataError where the population does not allow it. A fit without a mechanism is entered when it has ended."""
    mark = run.folder / OPEN
    if run.model.exists():  # damaged: something may have been drawn from it
        close(run)
        shutil.rmtree(run.model)
    if run.unsaved.exists():  # a kill cut its saving off: nothing takes it, and who can see it sees the rows themselves
        shutil.rmtree(run.unsaved)
    if mechanism is None:
        charge = {"name": key[:12], "rows": rows}
        _refuse(run, charge)
        yield charge
        try:
            _enter(run, charge)
        except DataError:  # others were faster
            shutil.rmtree(run.unsaved)
            raise
        move(run.unsaved, run.model)
        return
    if not mark.is_file() or not re.fullmatch(b"[0-9a-f]{16}", mark.read_bytes()):
        replace(mark, os.urandom(8).hex())
    steps = [list(mechanism.training)] if mechanism.training else []
    charge = {"name": mark.read_text(), "private": True, "rho": mechanism.rho, "delta": mechanism.delta, "steps": steps}
    try:
        _enter(run, charge | {"rows": rows})
    except DataError:  # refused; whatever else ends it here, it may be entered, and nothing was told
        close(run)
        raise
    try:
        yield charge
        move(run.unsaved, run.model)
    except ENDED:
        if mechanism.answers:
            close(run)
        raise
    close(run)


def entered(run: Run, model: Path) -> None:
    """The fit of the model that this run takes, in the ledger unless it is there. Raises DataError where the population does not allow it."""
    _enter(run, {"rows": run.read("source.json")["train"]} | fit_of(model)["charge"])


def drawn(model: Path, rows: int, request: str) -> None:
    """Outside a run, from the model of one: the draw is in the ledger, and the fit too. Raises DataError for a model that cannot be told from others,
    or where the population does not allow it. Of a model that was taken elsewhere no ledger knows."""
    for folder in (Path(os.path.abspath(model)).parent, model.resolve().parent):  # runs/ may be a link to another disk
        house = folder.parent.parent
        if house.name == RUNS or (house / LEDGER).is_file():
            break
    else:
        return
    name, version = folder.parent.name, folder.name
    try:
        if model.resolve().name == UNSAVED:
            raise ValueError
        fit, of = fit_of(model), json.loads((folder / "source.json").read_text())
        record = Record(of["population"], DRAW, f"{named(name, version, fit)} {request}", now(), rows)
    except (OSError, ValueError, LookupError, TypeError):
        raise DataError(f"{model}: not as it was when it was fitted, expected a whole model; run {name} again") from None
    _book(house).enter(_fit(of["population"], name, {"rows": of["train"]} | fit["charge"]), record, allowed=refusal)


def _book(house: Path) -> Ledger:
    """The ledger of this runs/; one that is new, or was lost, knows all models that lie beside it."""
    book, fits = Ledger(house / LEDGER), []
    if not book.path.exists():
        for model in sorted(house.glob("*/*/model")):
            with contextlib.suppress(OSError, ValueError, LookupError, TypeError):  # of no run, or damaged: nothing comes from it any more
                fit, of = fit_of(model), json.loads((model.parent / "source.json").read_text())
                fits.append(_fit(of["population"], model.parent.parent.name, {"rows": of["train"]} | fit["charge"]))
        book.enter(*fits)
    return book


def close(run: Run) -> None:
    """The model is there, or what was told is not to be used."""
    (run.folder / OPEN).unlink(missing_ok=True)


def _fit(population: str, name: str, charge: dict[str, Any]) -> Record:
    try:
        return Record(population, FIT, at=now(), **charge | {"name": f"{name} {charge['name']}", "steps": tuple(map(tuple, charge.get("steps", [])))})
    except (ValueError, TypeError, LookupError):
        raise DataError(f"runs/{name}: {FACTS} of a model does not say what it spent, expected what was written when it was learned; remove it") from None


def _enter(run: Run, charge: dict[str, Any]) -> None:
    """A budget holds from the run on that declares it, whether that learns anything or not, and for that run whatever another declares meanwhile."""
    entry = run.entry
    budget = [Record(entry.people, BUDGET, entry.name, now(), 0, budget=(entry.budget.epsilon, entry.budget.delta))] if entry.budget else []
    _book(entry.root / RUNS).enter(*budget, _fit(entry.people, entry.name, charge), allowed=refusal)


def _refuse(run: Run, charge: dict[str, Any]) -> None:
    """Raises DataError where this would not be entered."""
    book, record = _book(run.entry.root / RUNS), _fit(run.entry.people, run.entry.name, charge)
    if why := refusal([*book.records(record.population), record]):
        raise DataError(f"{book.path}: {why}")


def refusal(records: Sequence[Record]) -> str | None:
    """Why the last of these, a fit or a budget, may not be beside the others, or None. A budget is declared whatever was spent before; draws are free."""
    population, without = records[-1].population, next((r.name for r in records if r.kind == FIT and not r.private), None)
    limit = declared(records)
    if limit is None or records[-1].kind in (DRAW, RELEASE):
        return None
    if without:
        return (
            f"privacy.budget: {population!r} has one, beside which a model without differential privacy ({without}) adds up with nothing; nothing was "
            "learned. Give it epsilon:, or people of their own another population:"
        )
    if records[-1].kind == BUDGET:
        return None
    budget, beyond = Budget(*limit), sum(r.delta for r in records if r.kind == FIT)
    if beyond >= budget.delta:
        return (
            f"privacy.budget: {population!r} would have spent delta {beyond:.3g} of {budget.delta:g} on values that nobody knew beforehand, and nothing would "
            "be left; nothing was learned. Take a smaller delta, or declare a budget with a larger one"
        )
    before, after = (spent(some, budget.delta) for some in (records[:-1], records))
    if after > budget.epsilon:
        return (
            f"privacy.budget: {population!r} has spent epsilon {before:.3g} of {budget.epsilon:g} at delta {budget.delta:g}, and would have spent {after:.3g} "
            "after this run; nothing was learned. Take a smaller epsilon, or what was published before"
        )
    return None
