"""The flow: ingest, contract, fit, sample, judge, publish, as thin Prefect tasks over the functions in steps.py.

Tasks pass the run (two strings and a path) and get back the hashes of what they left. Fitting, sampling and judging are cached by
what they start from in runs/NAME/.steps: a run that was killed goes on after the last finished step, and an unchanged source with an
unchanged configuration does not fit again. Prefect never sees a row.
"""

from __future__ import annotations

import json
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import deployment

from generators.data import DataError
from pipelines import gates
from pipelines.config import load_entry
from pipelines.house import Run, alone, digest
from pipelines.progress import log, to_stderr
from pipelines.steps import left
from pipelines.work import Plain, carry_out, said

PAUSE = 2  # seconds before another try


def _worth_another_try(task, run, state) -> bool:
    return not isinstance(state.data, DataError)


class Tasks(Plain):
    """The steps of one run as Prefect tasks, and how long each took."""

    def once(self, function, before: dict[str, str] | None = None) -> dict[str, str]:
        """Runs a step, or takes what it left the last time it ran on the same: checked by its hashes."""
        key = digest(self.run.version, json.dumps(before, sort_keys=True))
        step = task(
            self.safely(function), name=function.__name__, persist_result=True, result_serializer="json",
            result_storage=self.run.home / ".steps", cache_key_fn=lambda context, parameters: f"{function.__name__}-{key}",
        )  # fmt: skip
        found = step()
        if left(self.run, *found) != found:
            found = step.with_options(refresh_cache=True)()
        return found

    def always(self, function, retries: int = 0, *arguments: Any) -> Any:
        """Runs a step that reads or writes outside, and tries again where that may help."""
        options = {"retries": retries, "retry_delay_seconds": PAUSE, "retry_condition_fn": _worth_another_try} if retries else {}
        return task(self.safely(function, *arguments), name=function.__name__, cache_policy=NO_CACHE, persist_result=False, **options)()


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
    try:
        entry = load_entry(config, name, overrides or [])
        with alone(entry, lambda: log.info("another run of %s is going on; this one waits for it", name)):
            run, facts = carry_out(entry, Tasks)
    except Exception as problem:
        if deployment.id:  # nobody else says it to whoever looks after a schedule
            log.error("%s: %s", name, said(problem))
        raise
    _artifact(run, facts)
    if facts["verdict"]["verdict"] != gates.PASS:
        raise NotPublished(facts["verdict"]["verdict"], str(run.folder))
    return str(run.folder)


def _artifact(run: Run, facts: dict) -> None:
    key = "".join(c if c.isalnum() and c.isascii() else "-" for c in run.entry.name.lower()).strip("-") or "pipeline"
    lines = [f"# {facts['verdict']['verdict']}: {run.entry.name} {run.version}", *(f"- {row['metric']}: {row['verdict']}" for row in facts["verdict"]["rows"])]
    lines += [f"\nReport: {(run.folder / 'report.html').resolve().as_uri()}", f"\nPublished: {facts['published'] or 'nothing'}"]
    create_markdown_artifact("\n".join(lines), key=f"verdict-{key}", description="Verdict and report of a run")


def summary_line(result: dict) -> str:
    """One object on one line, JSON that every reader takes: no NaN."""
    clean = json.loads(json.dumps(result, default=str), parse_constant=lambda name: None)
    return json.dumps(clean)
