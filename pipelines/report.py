"""The report: one self-contained HTML file about a run. It shows aggregates only, opens offline and stays in the house.

`render(facts)` takes what a run knows as JSON-able facts; whatever is missing is left out of the page, never an error.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any

from jinja2 import ChainableUndefined, Environment, FileSystemLoader

from pipelines import charts
from pipelines.words import WORDS, Words
from validation import condition

TABLES = {  # of which a judge may look at some rows only, and what they are called
    "train": "rows learned from", "holdout": "held-out rows", "synthetic": "synthetic rows",
    "members": "people learned from", "strangers": "people held out",
}  # fmt: skip
VERDICTS = {
    "PASS": "Every gate is within its bound.",
    "FAIL": "At least one figure is past its bound. Nothing was published.",
    "NO-VERDICT": "It could not be told whether this is safe and faithful enough. Nothing was published.",
}
ATTACKS = {
    "dcr": "Distance to the closest synthetic row",
    "dcr_difference": "The same, less the distance to strangers",
    "domias": "Density ratio (DOMIAS)",
    "local_count": "Synthetic rows near by (Monte Carlo)",
    "gen_lra": "Likelihood ratio (Gen-LRA)",
    "dpi": "Share of synthetic neighbours (DPI)",
    "classifier": "Trees that tell synthetic from real",
    "marginals": "Likelihood ratio of pairs of columns (MAMA-MIA)",
    "ensemble": "All of these together",
}
MOST_PAIRED, MOST_DRAWN = 60, 60  # columns in the heat map, and columns that are drawn at first sight
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


def render(facts: Mapping[str, Any]) -> str:
    """The page, from facts as the pipeline keeps them (name, version, source, fit, scores, verdict, ...)."""
    facts = tidy(facts)
    scores = {s["name"]: s for s in facts.get("scores") or [] if s.get("name")}
    found = {name: s.get("details") or {} for name, s in scores.items()}
    views = {
        "gates": [gate(row, scores.get(row.get("metric"), {})) for row in (facts.get("verdict") or {}).get("rows") or []],
        "columns": marginals(found.get("fidelity.shape", {}), facts),
        "pairs": pairs(found.get("fidelity.dependence", {})),
        "coverage": coverage(found.get("fidelity.coverage", {})),
        "missing": missing(found.get("fidelity.missingness", {})),
        "series": series(found, facts),
        "contract": contract(facts.get("contract") or {}),
        "candidates": candidates(facts.get("fit") or {}),
        "schema": schema(facts),
        "conditioned": conditioned(facts),
    }
    context = {"facts": facts, "scores": scores, "found": found, "tables": TABLES, "verdicts": VERDICTS, "attacks": ATTACKS, "drawn": MOST_DRAWN}
    return environment().get_template("report.html").render(context | views)


@cache
def environment() -> Environment:
    """Autoescaping, and tolerant: what a fact does not hold is empty, at any depth."""
    made = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=ChainableUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters |= {"number": number, "count": partial(number, digits=0), "percent": share, "flat": flat, "words": words}
    made.globals |= {"interval": charts.interval, "curves": charts.curves, "span": span}
    return made


def tidy(value: Any) -> Any:
    """JSON-able facts without what breaks a page: NaN and infinity are None, unprintable characters and URL secrets go.

    Where a list of records lacks one, an empty one stands in.
    """
    if isinstance(value, Mapping):
        return {tidy(str(k)): tidy(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        found = [tidy(v) for v in value]
        return [{} if v is None else v for v in found] if any(isinstance(v, Mapping) for v in found) else found
    if isinstance(value, str):
        plain = "".join(" " if unicodedata.category(c) in ("Cc", "Cs", "Cf", "Zl", "Zp") else c for c in value)
        return re.sub(r"(://[^\s?]*\?)\S+", r"\1…", re.sub(r"://[^/@\s]+@", "://…@", plain))
    return None if isinstance(value, float) and not math.isfinite(value) else value


def number(value: Any, digits: int = 3) -> str:
    """A figure for a table: fixed decimals, a true minus; an en dash where there is none."""
    if isinstance(value, bool) or not charts.known([value]):
        return "–"
    words = f"{value:,.{digits}f}"
    return (words[1:] if not re.search("[1-9]", words) and words[0] == "-" else words).replace("-", "−")


def span(low: Any, high: Any, digits: int = 3) -> str:
    """An interval in words."""
    return f"{number(low, digits)} to {number(high, digits)}" if charts.known([low]) and charts.known([high]) else "–"


def share(value: Any) -> str:
    """A share in per cent."""
    return charts.percent(value) if charts.known([value]) else "–"


def words(value: Any) -> str:
    """A setting in words: yes, no, numbers as they are, lists with commas."""
    if isinstance(value, Mapping):
        return ", ".join(f"{k}: {words(v)}" for k, v in value.items()) or "–"
    if isinstance(value, list):
        return ", ".join(map(words, value)) or "–"
    if value is None or isinstance(value, bool | ChainableUndefined):
        return {True: "yes", False: "no"}.get(value, "–")
    return f"{value:,.6g}" if isinstance(value, float) else str(value)


def flat(value: Any, path: str = "") -> list[tuple[str, str]]:
    """(dotted path, value in words) of all that is set in a nested configuration."""
    if isinstance(value, Mapping) and value:
        return [row for k, v in value.items() for row in flat(v, f"{path}.{k}" if path else str(k))]
    return [] if value in (None, {}, [], "") else [(path, words(value))]


def gate(row: Mapping, score: Mapping) -> dict:
    """One gate, with its picture. A figure that a judge without power stands in with says nothing and is not shown."""
    metric, power = row.get("metric") or "", score.get("power")
    said = WORDS.get(metric, Words(metric, ""))
    shown = dict(row)
    if power and (row.get("low"), row.get("high")) in ((0, 1), (-1, 1)):
        shown |= dict.fromkeys(("value", "low", "high", "yardstick"))
    if said.count:
        shown |= {"low": None, "high": None}
    figures = [shown.get(k) for k in ("value", "low", "high", "yardstick")]
    ends = (1.0,) if score.get("better") == "high" else (0.0,)
    label = f"{said.title}: {number(figures[0])}, asked for {row.get('bound')}"
    picture = charts.interval(*figures, (row.get("min"), row.get("max")), ends, label) if charts.known(figures) else ""
    return shown | {"title": said.title, "asks": f"{said.asks} {said.scale}", "power": power, "picture": picture, "digits": 0 if said.count else 3}


def marginals(details: Mapping, facts: Mapping) -> list[dict]:
    """The learned columns with a picture each, the largest difference first."""
    types = {c.get("name"): str(c.get("type")) for c in (facts.get("source") or {}).get("columns") or []}
    made = []
    for name, column in ((n, c or {}) for n, c in (details.get("columns") or {}).items()):
        real, fake = column.get("real") or [], column.get("synthetic") or []
        if "values" in column:
            picture = charts.bars(column["values"] or [], real, fake, name)
        else:
            picture = charts.histogram(column.get("edges") or [], real, fake, name, axis(types.get(name, "")))
        made.append({"name": name, "picture": picture, "hidden": None in real} | {k: column.get(k) for k in ("kind", "measure", "distance", "yardstick")})
    return sorted(made, key=lambda c: -(c["distance"] or 0))


def axis(kind: str):
    """How a number of this Arrow type is written on an axis: temporal ones as dates."""
    found = re.match(r"timestamp\[(\w+)|date(32|64)", kind)
    if not found:
        return charts.figure
    seconds = UNITS.get(found[1] or "", 86_400.0 if found[2] == "32" else 1e-3)

    def date(value: float) -> str:
        try:
            return (EPOCH + timedelta(seconds=value * seconds)).date().isoformat()
        except OverflowError:
            return charts.figure(value)

    return date


def pairs(details: Mapping) -> dict:
    """The heat map, of the columns that differ most where there are many, and the pairs that differ most."""
    names, matrix = details.get("columns") or [], [row or [] for row in details.get("difference") or []]
    matrix = [[*row, *[None] * len(names)][: len(names)] for row in matrix[: len(names)]]
    total = {i: sum(charts.known(row)) for i, row in enumerate(matrix)}
    kept = sorted(sorted(total, key=lambda i: -total[i])[:MOST_PAIRED])
    shown = [[matrix[i][j] for j in kept] for i in kept]
    top = max(0.1, *(v for row in shown for v in charts.known(row))) if shown else 0.1
    picture = charts.heatmap([names[i] for i in kept], shown, top) if len(kept) > 1 else ""
    return {"picture": picture, "top": top, "shown": len(kept), "of": len(names), "worst": details.get("worst") or []}


def missing(details: Mapping) -> dict:
    """The columns in which something is missing, most first: one picture, or two side by side; and where it differs most."""
    rows = [(n, c.get("real"), c.get("synthetic")) for n, c in (details.get("columns") or {}).items() if c and (c.get("real") != 0 or c.get("synthetic"))]
    rows.sort(key=lambda row: -max(charts.known(row[1:]), default=0))
    top = math.ceil(10 * max([0.05, *charts.known(v for row in rows for v in row[1:])])) / 10
    size = max(10, math.ceil(len(rows) / 2))
    pictures = [charts.dumbbells(rows[i : i + size], top) for i in range(0, len(rows), size)]
    return {"pictures": pictures, "some": len(rows), "of": len(details.get("columns") or {}), "worst": details.get("worst") or []}


def coverage(details: Mapping) -> dict:
    """How large each group of real rows is among the synthetic ones."""
    modes = details.get("modes") or []
    rows = [(f"group {i}", m.get("real"), m.get("synthetic")) for i, m in enumerate(modes, 1)]
    top = math.ceil(20 * max([0.05, *charts.known(v for row in rows for v in row[1:])])) / 20
    return {"picture": charts.dumbbells(rows, top, "rows by group") if rows else "", "lost": details.get("lost")}


def series(found: Mapping[str, Mapping], facts: Mapping) -> dict:
    """Of series: for each number its course, its correlation with itself and its spectrum; how many steps there are, and how far apart."""
    types = {c.get("name"): str(c.get("type")) for c in (facts.get("source") or {}).get("columns") or []}
    curves = {key: found.get(f"fidelity.{key}", {}).get("curves") or {} for key in ("autocorrelation", "spectrum")}
    numbers = []
    for name, one in (found.get("fidelity.course", {}).get("lines") or {}).items():
        one, views = one or {}, []
        for key, words, marks, low in (
            ("autocorrelation", "correlation with itself, steps before", ("1", "12"), 0), ("spectrum", "share of power, by frequency", ("slow", "fast"), 0),
        ):  # fmt: skip
            two = curves[key].get(name) or {}
            views.append({"title": words, "picture": charts.beside(two.get("real") or [], two.get("synthetic") or [], marks, f"{name}: {words}", low, 0.1)})
        drawn = charts.overlaid(one.get("series") or [], one.get("times") or [], one, name, axis(types.get(name, "")))
        numbers.append({"name": name, "picture": drawn, "views": views})
    timing = found.get("fidelity.timing", {}).get("histograms") or {}
    clock = [
        {"title": title, "picture": charts.histogram(one.get("edges") or [], one.get("real") or [], one.get("synthetic") or [], title)}
        for key, title in (("steps", "number of steps"), ("distances", "time between steps")) if (one := timing.get(key))
    ]  # fmt: skip
    apart = [{"name": key, **one} for key, one in (found.get("fidelity.timing", {}).get("each") or {}).items()]
    return {"numbers": numbers, "clock": clock, "apart": apart}


def contract(results: Mapping) -> dict:
    """Counts of each expectation and side, and what failed."""
    sides = {side: (results.get(side) or {}).get("expectations") or [] for side in ("source", "synthetic")}
    rows: dict[str, dict] = {}
    for side, expectations in sides.items():
        for e in expectations:
            row = rows.setdefault(str(e.get("expectation")), {"source": [0, 0], "synthetic": [0, 0]})
            row[side][0] += bool(e.get("success"))
            row[side][1] += 1
    failed = [e | {"side": side} for side, expectations in sides.items() for e in expectations if not e.get("success")]
    said = {name: name.removeprefix("expect_").replace("_", " ") for name in rows}
    return {"rows": [{"name": said[n], **row} for n, row in rows.items()], "failed": [e | {"said": said[str(e.get("expectation"))]} for e in failed]}


def candidates(fit: Mapping) -> dict:
    """What was tried in training: settings that differ, the best figure, and a line each. The chosen one is marked, else the best."""
    tried = [c for c in fit.get("curve") or [] if charts.known(c.get("held_out") or [])]
    keys = [k for k in dict.fromkeys(k for c in tried for k in c) if k not in ("held_out", "chosen") and len({str(c.get(k)) for c in tried}) > 1]
    marked = any(c.get("chosen") for c in tried)
    best = [max(charts.known(c["held_out"])) for c in tried]
    rows = []
    for c, score in zip(tried, best, strict=True):
        chosen = bool(c.get("chosen")) if marked else score == max(best)
        rows.append({"settings": [words(c.get(k)) for k in keys], "steps": len(c["held_out"]), "best": score, "chosen": chosen, "held_out": c["held_out"]})
    lines = [(", ".join(f"{k} {v}" for k, v in zip(keys, r["settings"], strict=True)) or "the model", r["held_out"], r["chosen"]) for r in rows]
    unit = tried[0].get("unit", "Nats a row on held-out rows") if tried else ""
    return {"keys": keys, "rows": rows, "marked": marked, "picture": charts.curves(lines, unit) if rows else ""}


def conditioned(facts: Mapping) -> str:
    """Whether rows that were asked for by a condition were judged, in words, and in how many classes; empty where none was asked for."""
    sample, scores = facts.get("sample") or {}, facts.get("scores") or []
    asked = sample.get("where") or sample.get("balance")
    return condition.said(next((s.get("details") for s in scores if s.get("name") == "fidelity.condition"), None)) if asked else ""


def schema(facts: Mapping) -> list[dict]:
    """Every column: its kind, its type, and what was protected of it."""
    source, protected = facts.get("source") or {}, (facts.get("protected") or {}).get("columns") or {}
    columns = source.get("columns") or [{"name": n} for n in protected]
    roles = {source.get("target"): "target", source.get("subject"): "subject"}
    said = lambda k, v: k.replace("_", " ") if v is True else f"{k.replace('_', ' ')} {words(v)}"  # noqa: E731
    shield = lambda name: ", ".join(said(k, v) for k, v in (protected.get(name) or {}).items() if v is not False and v is not None)  # noqa: E731
    return [c | {"role": roles.get(c.get("name")), "protected": shield(c.get("name"))} for c in columns]
