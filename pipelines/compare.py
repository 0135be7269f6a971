"""`likeness compare`: several families on one split, one table of what each is worth, and the best one with the reason.

Each family is fitted, sampled and judged in a process of its own, so that one that fails takes nothing with it and memory is
its own. Nothing is published. `likeness run` with the same family finds what was done here and only publishes it.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from generators.data import DataError
from pipelines import gates, report
from pipelines.config import Entry, families_for, load_entry
from pipelines.house import alone, home, replace
from pipelines.progress import log, to_stderr
from pipelines.sheet import choice

FIGURES = {  # metric -> how the table calls it
    "fidelity.shape": "shape", "fidelity.dependence": "dependence", "fidelity.coverage": "coverage", "fidelity.detection": "detection",
    "fidelity.autocorrelation": "autocorrelation", "fidelity.transitions": "transitions", "fidelity.timing": "timing",
    "fidelity.frechet": "distance", "fidelity.density": "density", "fidelity.agreement": "labels", "utility.target": "utility",
    "privacy.copies": "copies", "privacy.membership": "membership", "privacy.attribute": "attribute",
}  # fmt: skip
QUALITY = (
    "fidelity.shape", "fidelity.dependence", "fidelity.coverage", "fidelity.detection",
    "fidelity.autocorrelation", "fidelity.transitions", "fidelity.timing", "fidelity.frechet", "fidelity.density", "fidelity.agreement",
    "utility.target",
)  # fmt: skip
EQUAL = 0.005  # families whose quality differs by less are taken as equal


def compare(config: Path, name: str, families: Sequence[str], overrides: Sequence[str]) -> dict:
    """Everything the table shows: name, rows (one for each family, best first), best (a family or None), why, report (a path).

    Raises DataError for what is wrong with the entry, before anything is fitted.
    """
    entry = load_entry(config, name, overrides)
    known = families_for(entry.source, promised=entry.promise is not None)
    families = list(known) if list(families) == ["all"] else [family.strip() for family in families]
    for family in families:
        choice(family, "--generators", known, listed=f"all, or some of {', '.join(known)}")
        if families.count(family) > 1:
            raise DataError(f"--generators: found {family!r} {families.count(family)} times, expected each family once")
    entries = {family: load_entry(config, name, [*overrides, *_with(config, name, overrides, family)]) for family in families}
    _check(next(iter(entries.values())))
    rows = []
    for family in entries:
        log.info("comparing: %s", family)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            try:
                rows.append(pool.submit(_one, entries[family]).result())
            except BrokenProcessPool:
                rows.append({"family": family, "failed": "its process was ended from outside, as when memory runs out"})
    rows = [{"arguments": dict(entries[row["family"]].arguments)} | row for row in rows]
    rows.sort(key=lambda row: (gates.ORDER.index(row["verdict"]) if "verdict" in row else -1, row.get("quality") or 0.0), reverse=True)
    best, why = choose(rows)
    page = home(entries[next(iter(entries))]) / "compare.html"
    found = {"name": name, "rows": rows, "best": best, "why": why, "report": str(page)}
    replace(
        page, report.environment().get_template("compare.html").render(report.tidy(found) | {"figures": shown_of(rows), "label": label, "said": said_of(rows)})
    )
    return found


def _with(config: Path, name: str, overrides: Sequence[str], family: str) -> list[str]:
    """The override that asks for this family, unless the entry does, whose arguments for it then count."""
    return [] if load_entry(config, name, overrides).family == family else [f"generator={family}"]


def _check(entry: Entry) -> None:
    from pipelines import publish, steps
    from validation.resampling import LEAST

    held = steps.preflight(entry).read("source.json")["holdout_subjects"]
    steps.forget()
    publish.writable(entry)
    if held < LEAST:
        raise DataError(
            f"{entry.name}: the holdout has {held} subjects, expected at least {LEAST}: of fewer nothing can be told, so there is nothing to compare"
        )


def _one(entry: Entry) -> dict:
    """One row of the table, or why there is none. In a process of its own."""
    from pipelines.work import StepError, carry_out

    to_stderr()
    start = time.monotonic()
    try:
        with alone(entry, lambda: log.info("a run of %s is going on; this one waits for it", entry.name)):
            run, facts = carry_out(entry, publishing=False)
    except (DataError, StepError) as problem:
        return {"family": entry.family, "failed": str(problem)}
    return row(entry.family, facts) | {
        "run": str(run.folder), "total_s": time.monotonic() - start,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3),
    }  # fmt: skip


def row(family: str, facts: Mapping[str, Any]) -> dict:
    """What a run is worth: its verdict, figures with what fresh real rows get in their place, quality, and seconds."""
    scores = {s["name"]: s for s in facts["scores"] if not s.get("power")}
    figures = {m: {k: scores[m][k] for k in ("value", "low", "high", "yardstick")} for m in FIGURES if m in scores}
    parts = [reached(scores[m]) for m in QUALITY if m in figures and scores[m]["yardstick"] > 0]
    return {
        "family": family, "verdict": facts["verdict"]["verdict"], "reasons": facts["verdict"]["reasons"], "figures": figures,
        "quality": sum(parts) / len(parts) if parts else None,
        "fit_s": facts["fit"]["seconds"], "sample_s": facts["sample"]["seconds"], "weights": facts["fit"]["parameters"],
    }  # fmt: skip


def reached(score: Mapping[str, Any]) -> float:
    """What share of what fresh real rows get, 1 at best."""
    value, real = score["value"], score["yardstick"]
    return min(value / real if score["better"] == "high" else real / max(value, 1e-9), 1.0)


def choose(rows: Sequence[Mapping[str, Any]]) -> tuple[str | None, str]:
    """The best family and why: of those that pass every gate, the highest quality; of equals, the one fitted fastest."""
    passed = [r for r in rows if r.get("verdict") == gates.PASS and r["quality"] is not None]
    if all("failed" in r for r in rows):
        return None, "every family failed, so nothing was compared"
    if not passed:
        return None, "none passes every gate, so none is fit to publish"
    top = max(r["quality"] for r in passed)
    equals = [r for r in passed if r["quality"] >= top - EQUAL]
    best = min(equals, key=lambda r: r["fit_s"])
    why = f"quality {best['quality']:.3f} of what fresh real rows get, the highest of {len(passed)} that pass{'' if len(passed) > 1 else 'es'} every gate"
    others = [r["family"] for r in equals if r is not best]
    return best["family"], why + (f"; as good within {EQUAL:g}, but slower to fit: {', '.join(others)}" if others else "")


def table(found: Mapping[str, Any]) -> str:
    """The same for a terminal."""
    shown = shown_of(found["rows"])
    head = ["", "family", "verdict", "quality", *(FIGURES[m] for m in shown), "fit s", "sample s", "peak MB"]
    lines = []
    for r in found["rows"]:
        mark, called = "*" if r["family"] == found["best"] else "", label(r)
        if "failed" in r:
            lines.append([mark, called, "failed", *[""] * (len(head) - 3)])
            continue
        figures = [f"{r['figures'][m]['value']:.3f}" if m in r["figures"] else "-" for m in shown]
        quality = "-" if r["quality"] is None else f"{r['quality']:.3f}"
        lines.append([mark, called, r["verdict"], quality, *figures, f"{r['fit_s']:.1f}", f"{r['sample_s']:.1f}", f"{r['peak_mb']:.0f}"])
    real = next((r["figures"] for r in found["rows"] if "figures" in r), None)
    if real is not None:
        lines.append(["", "fresh real rows", "", "1.000", *(f"{real[m]['yardstick']:.3f}" if m in real else "-" for m in shown), "", "", ""])
    wide = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]
    text = ["  ".join(c.ljust(w) if i < 3 else c.rjust(w) for i, (c, w) in enumerate(zip(line, wide, strict=True))).rstrip() for line in [head, *lines]]
    said = said_of(found["rows"])
    verdict = f"best       {found['best']}: {found['why']}" if found["best"] else f"best       none: {found['why']}"
    return "\n".join([*text, "", *said, *([""] if said else []), verdict, f"report     {found['report']}"])


def shown_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The metrics that any family has a figure of, and what the table calls them."""
    return {m: name for m, name in FIGURES.items() if any(m in r.get("figures", {}) for r in rows)}


def label(row: Mapping[str, Any]) -> str:
    """A family, with what it was told beside its defaults."""
    told = ", ".join(f"{k} {v}" for k, v in row["arguments"].items())
    return f"{row['family']} ({told})" if told else row["family"]


def said_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why families failed or did not pass; what holds for all of several is said once."""
    reasons = {r["family"]: [r["failed"]] if "failed" in r else r["reasons"] for r in rows}
    common = [x for x in next(iter(reasons.values()), []) if len(rows) > 1 and all(x in found for found in reasons.values())]
    return [*(f"all: {x}" for x in common), *(f"{family}: {x}" for family, found in reasons.items() for x in found if x not in common)]
