"""One run from its source to what it leaves, whoever carries out the steps: Prefect's tasks (flows.py), or this process alone."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from generators.data import DataError
from pipelines import gates, publish, report, spending, steps
from pipelines.config import Entry
from pipelines.house import Run, clean, fit_of, home, ledger, named, replace
from pipelines.progress import log, to_file
from privacy.ledger import DRAW, RELEASE, Record
from validation.score import Score

LEFT = ("data", "model", "report.html")
RETRIES = 2  # of reading and of writing, seconds apart


class StepError(RuntimeError):
    """A step that broke. Says where, never what a library said: that may quote the data."""


class Plain:
    """The steps of one run, done here and now, and how long each took."""

    def __init__(self, run: Run):
        self.run, self.seconds = run, {}

    def once(self, function: Callable, before: dict[str, str] | None = None) -> dict[str, str]:
        """A step that need not be done again on the same, which is what the step before left; returns what this one leaves."""
        return self.safely(function)()

    def always(self, function: Callable, retries: int = 0, *arguments: Any) -> Any:
        """A step that reads or writes outside."""
        return self.safely(function, *arguments)()

    def safely(self, function, *arguments: Any):
        def step():
            start = time.monotonic()
            try:
                return function(self.run, *arguments)
            except (DataError, OSError):
                raise
            except Exception as problem:
                raise StepError(f"{function.__name__}: {type(problem).__name__} at {where(problem)}") from None
            finally:
                self.seconds[function.__name__] = time.monotonic() - start

        return step


def said(problem: BaseException) -> str:
    """What went wrong, in our own words; what a library says may quote the data, so of that only the kind and the place."""
    if isinstance(problem, DataError | StepError):
        return str(problem)
    known = isinstance(problem, OSError) and problem.errno in errno.errorcode
    kind = os.strerror(problem.errno).lower() if known else type(problem).__name__
    return f"{kind} at {where(problem)}"


def where(problem: BaseException) -> str:
    """The deepest place inside this program, as file:line."""
    place, frame = "?", problem.__traceback__
    while frame is not None:
        path = Path(frame.tb_frame.f_code.co_filename)
        if path.parent.name in ("generators", "encoding", "series", "images", "validation", "privacy", "pipelines"):
            place = f"{path.parent.name}/{path.name}:{frame.tb_lineno}"
        frame = frame.tb_next
    return place


def carry_out(entry: Entry, steps_of: Callable[[Run], Plain] = Plain, publishing: bool = True) -> tuple[Run, dict]:
    """Does all that an entry says; returns the run and all that is known of it. publishing: where the verdict is PASS."""
    start = time.monotonic()
    clean(entry.root, home(entry))
    run = steps.preflight(entry)
    publish.writable(entry)
    with to_file(run.folder / "log.txt"):
        try:
            facts = _facts(run, steps_of(run), start, publishing)
        except BaseException as problem:
            log.error("%s: %s", entry.name, said(problem), extra={"quiet": True})  # who started it says so aloud
            raise
        finally:
            clean(entry.root, run.home)
        log.info("%s: %s", entry.name, facts["verdict"]["verdict"])
        for reason in facts["verdict"]["reasons"]:
            log.info("  %s", reason)
    run.write("result.json", _summary(run, facts))
    return run, facts


def _facts(run: Run, tasks: Plain, start: float, publishing: bool) -> dict:
    """Does the work. Everything that is known of the run afterwards, as the report shows it."""
    before = _whole(run)
    if before is not None:
        facts = dict(before)
        log.info("%s: nothing has changed since %s; nothing to do", run.entry.name, facts["created"])
        spending.entered(run, run.model)
        _enter(run, DRAW, facts["sample"]["rows"])
    else:
        tasks.always(steps.ingest, RETRIES)
        contract = tasks.once(steps.contract)
        model = tasks.once(steps.fit)
        spending.entered(run, run.model)
        drawn = tasks.once(steps.sample, model)
        _enter(run, DRAW, run.read("sample.json")["rows"])
        tasks.once(steps.judge, contract | drawn)
        facts = _judged(run)
        facts |= {"created": publish.now(), "steps": {"read": facts["source"]["seconds"]} | tasks.seconds}
        facts |= {"software": _software(), "device": facts["fit"]["device"], "published": None}
    if facts["verdict"]["verdict"] == gates.PASS and publishing:
        _enter(run, RELEASE, facts["sample"]["rows"])
        facts["published"] = tasks.always(publish.publish, RETRIES, facts)
    seconds = {"seconds": time.monotonic() - start}
    if facts != before:
        facts |= seconds
        run.write("scores.json", {"scores": facts["scores"], "verdict": facts["verdict"]})
        replace(run.folder / "report.html", report.render(facts))
        run.write("facts.json", facts | {"left": steps.left(run, *LEFT)})
    return facts | seconds


def _enter(run: Run, kind: str, rows: int) -> None:
    """Writes it down in the ledger, unless it is there."""
    name = named(run.entry.name, run.version, fit_of(run.model))
    ledger(run.entry.root).enter(Record(run.entry.people, kind, name, publish.now(), rows))


def _whole(run: Run) -> dict | None:
    """What is known of a finished run that still has all that it left."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        facts = run.read("facts.json")
        if tuple(facts["left"]) == LEFT and facts["left"] == steps.left(run, *LEFT):
            return facts
    return None


def _judged(run: Run) -> dict:
    """Scores against gates, and the contract."""
    entry, source, judged = run.entry, run.read("source.json"), run.read("judged.json")
    fit, schema = fit_of(run.model), steps.schema_of(run)
    scores = [Score(**{k: v for k, v in s.items() if k != "seconds"}) for s in judged["scores"]]
    told = entry.sample.given if any(s.name == steps.CONDITION for s in scores) else ()
    bounds = gates.gates(schema, entry.gates, told)
    verdict = gates.verdict(scores, {m: b for m, b in bounds.items() if not (entry.promise and m.startswith("privacy."))})
    verdict = gates.with_contract(verdict, judged["contract"])
    return {
        "name": entry.name, "version": run.version, "config": entry.to_json(), "config_hash": entry.digest, "source": source,
        "fit": fit, "protected": {"rare_below": entry.rare_below, "columns": fit["protected"]}, "sample": run.read("sample.json"),
        "pictures": steps.shown(run), "contract": judged["contract"], "scores": judged["scores"], "verdict": verdict.to_json(),
    }  # fmt: skip


def _software() -> dict:
    found = {"python": platform.python_version()}
    for name in ("likeness", "torch", "numpy", "pandas", "pyarrow", "scikit-learn", "prefect", "great-expectations", "sdv"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _summary(run: Run, facts: dict) -> dict:
    return {
        "name": run.entry.name, "version": run.version, "verdict": facts["verdict"]["verdict"], "published": facts["published"],
        "run": str(run.folder), "seconds": round(facts["seconds"], 1), "rows": facts["sample"]["rows"],
        "scores": {s["name"]: s["value"] for s in facts["scores"]}, "reasons": facts["verdict"]["reasons"],
    }  # fmt: skip
