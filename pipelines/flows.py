"""The flow: ingest, contract, fit, sample, judge, publish, as thin Prefect tasks over the functions in steps.py.

Tasks pass the run (two strings and a path) and get back {path, sha256}. Fitting, sampling and judging are cached by
content in runs/NAME/.steps: a run that was killed goes on after the last finished step, and an unchanged source with an
unchanged configuration does not fit again. Prefect never sees a row.
"""

from __future__ import annotations

import json
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from generators.data import DataError
from pipelines import gates, publish, report, steps
from pipelines.config import Entry, load_entry
from pipelines.house import Run, alone, digest, hash_of, replace
from pipelines.progress import log, to_file, to_stderr
from validation.score import Score

RETRIES = 2  # of reading and of writing, seconds apart
PAUSE = 2


class StepError(RuntimeError):
    """A step that broke. Says where, never what a library said: that may quote the data."""


def _worth_another_try(task, run, state) -> bool:
    return not isinstance(state.data, DataError)


class Tasks:
    """The steps of one run as Prefect tasks, and how long each took."""

    def __init__(self, run: Run):
        self.run, self.seconds = run, {}

    def once(self, function, key: str) -> dict:
        """Runs a step, or takes what it left the last time it ran on the same: checked by its hash."""
        step = task(
            self._safely(function), name=function.__name__, persist_result=True, result_serializer="json",
            result_storage=self.run.home / ".steps", cache_key_fn=lambda context, parameters: f"{function.__name__}-{key}",
        )  # fmt: skip
        found = step()
        path = Path(found["path"])
        if not path.exists() or hash_of(path) != found["sha256"] or not path.is_relative_to(self.run.folder):
            found = step.with_options(refresh_cache=True)()
        return found

    def always(self, function, retries: int = 0, *arguments: Any) -> Any:
        """Runs a step that reads or writes outside, and tries again where that may help."""
        options = {"retries": retries, "retry_delay_seconds": PAUSE, "retry_condition_fn": _worth_another_try} if retries else {}
        return task(self._safely(function, *arguments), name=function.__name__, cache_policy=NO_CACHE, persist_result=False, **options)()

    def _safely(self, function, *arguments: Any):
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


def where(problem: BaseException) -> str:
    """The deepest place inside this program, as file:line."""
    place, frame = "?", problem.__traceback__
    while frame is not None:
        path = Path(frame.tb_frame.f_code.co_filename)
        if path.parent.name in ("generators", "encoding", "validation", "privacy", "pipelines"):
            place = f"{path.parent.name}/{path.name}:{frame.tb_lineno}"
        frame = frame.tb_next
    return place


class NotPublished(RuntimeError):
    """The verdict was not PASS: the flow run counts as failed, so that whoever watches Prefect sees it.

    Prefect may keep an exception: this one holds the verdict and where the report is, no figure.
    """

    def __init__(self, verdict: str, run: str):
        super().__init__(f"{verdict}: nothing was published; see {run}/report.html")
        self.run = run


@flow(name="likeness", validate_parameters=False, persist_result=False, result_serializer="json")
def likeness(config: str, name: str, overrides: list[str] | None = None) -> str:
    """Runs one pipeline of a flows.yaml and returns the folder of the run, with result.json in it. Raises NotPublished."""
    to_stderr()
    entry = load_entry(config, name, overrides or [])
    with alone(entry, lambda: log.info("another run of %s is going on; this one waits for it", name)):
        run, verdict = _run(entry)
    if verdict != gates.PASS:
        raise NotPublished(verdict, str(run.folder))
    return str(run.folder)


def _run(entry: Entry) -> tuple[Run, str]:
    start = time.monotonic()
    run = steps.preflight(entry)
    publish.writable(entry)
    run.clean()
    with to_file(run.folder / "log.txt"):
        try:
            facts = _facts(run, start)
        finally:
            run.clean()
        log.info("%s: %s", entry.name, facts["verdict"]["verdict"])
        for reason in facts["verdict"]["reasons"]:
            log.info("  %s", reason)
    run.write("result.json", _summary(run, facts))
    return run, facts["verdict"]["verdict"]


def _facts(run: Run, start: float) -> dict:
    """Does the work. Everything that is known of the run afterwards, as the report shows it."""
    tasks = Tasks(run)
    key = digest(run.version)
    done = run.folder / "facts.json"
    if done.is_file() and _whole(run):
        facts = run.read("facts.json")
        log.info("%s: nothing has changed since %s; nothing to do", run.entry.name, facts["created"])
        if facts["verdict"]["verdict"] == gates.PASS:
            facts["published"] = tasks.always(publish.publish, RETRIES, facts)
        return facts | {"seconds": time.monotonic() - start}
    tasks.always(steps.ingest, RETRIES)
    tasks.once(steps.contract, key)
    tasks.once(steps.fit, key)
    tasks.once(steps.sample, key)
    tasks.once(steps.judge, key)
    facts = _judged(run)
    facts |= {"created": publish.now(), "steps": {"read": facts["source"]["seconds"]} | tasks.seconds}
    facts |= {"software": _software(), "device": facts["fit"]["device"], "published": None}
    if facts["verdict"]["verdict"] == gates.PASS:
        facts["published"] = tasks.always(publish.publish, RETRIES, facts)
    facts["seconds"] = time.monotonic() - start
    run.write("scores.json", {"scores": facts["scores"], "verdict": facts["verdict"]})
    replace(run.folder / "report.html", report.render(facts))
    run.write("facts.json", facts | {"model": hash_of(run.folder / "model"), "data": hash_of(run.folder / "data")})
    _artifact(run, facts)
    return facts


def _whole(run: Run) -> bool:
    """Whether a finished run still has its model, its rows and its report."""
    facts = run.read("facts.json")
    return (run.folder / "report.html").is_file() and all(
        (run.folder / name).is_dir() and hash_of(run.folder / name) == facts.get(name) for name in ("model", "data")
    )


def _judged(run: Run) -> dict:
    """Scores against gates, and the contract."""
    entry, source, judged = run.entry, run.read("source.json"), run.read("judged.json")
    fit, schema = run.read("model/fit.json"), steps.schema_of(run)
    verdict = gates.verdict([Score(**{k: v for k, v in s.items() if k != "seconds"}) for s in judged["scores"]], gates.gates(schema, entry.gates))
    verdict = gates.with_contract(verdict, judged["contract"])
    return {
        "name": entry.name, "version": run.version, "config": entry.to_json(), "config_hash": entry.digest, "source": source,
        "fit": fit, "protected": {"rare_below": entry.rare_below, "columns": fit["protected"]}, "sample": run.read("sample.json"),
        "contract": judged["contract"], "scores": judged["scores"], "verdict": verdict.to_json(),
    }  # fmt: skip


def _software() -> dict:
    found = {"python": platform.python_version()}
    for name in ("likeness", "torch", "numpy", "pandas", "pyarrow", "scikit-learn", "prefect", "great-expectations", "sdv"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _artifact(run: Run, facts: dict) -> None:
    key = "".join(c if c.isalnum() and c.isascii() else "-" for c in run.entry.name.lower()).strip("-") or "pipeline"
    lines = [f"# {facts['verdict']['verdict']}: {run.entry.name} {run.version}", *(f"- {row['metric']}: {row['verdict']}" for row in facts["verdict"]["rows"])]
    lines += [f"\nReport: {(run.folder / 'report.html').resolve().as_uri()}", f"\nPublished: {facts['published'] or 'nothing'}"]
    create_markdown_artifact("\n".join(lines), key=f"verdict-{key}", description="Verdict and report of a run")


def _summary(run: Run, facts: dict) -> dict:
    return {
        "name": run.entry.name, "version": run.version, "verdict": facts["verdict"]["verdict"], "published": facts["published"],
        "run": str(run.folder), "seconds": round(facts["seconds"], 1), "rows": facts["sample"]["rows"],
        "scores": {s["name"]: s["value"] for s in facts["scores"]}, "reasons": facts["verdict"]["reasons"],
    }  # fmt: skip


def summary_line(result: dict) -> str:
    """One object on one line, JSON that every reader takes: no NaN."""
    clean = json.loads(json.dumps(result, default=str), parse_constant=lambda name: None)
    return json.dumps(clean)
