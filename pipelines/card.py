"""The dataset card: what a data steward reads beside a published table, in Markdown.

It leaves the house. So it carries verdicts as words and nothing that was measured: no score, no attack figure, no real statistic.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import ChainableUndefined, Environment, FileSystemLoader

from pipelines.report import conditioned, tidy
from pipelines.words import WORDS

MADE = {  # kind -> how its values came to be
    "numeric": "drawn from the model, extremes within protected limits",
    "category": "drawn from the model, rare values left out",
    "boolean": "drawn from the model",
    "datetime": "drawn from the model, extremes within protected limits",
    "id": "issued anew",
    "pii": "invented",
    "text": "invented",
    "image": "drawn from the model",
}
PUBLISHED = {"image": {"type": "struct of bytes (PNG) and path"}}  # kind -> how it is published, where that is not how it was read


def render(facts: Mapping[str, Any]) -> str:
    """The card, from the same facts as the report; whatever is missing is left out, never an error."""
    facts = tidy(facts)
    rows = (facts.get("verdict") or {}).get("rows") or []
    measured = [r for r in rows if not str(r.get("metric")).startswith("contract.")]  # that has a line of its own
    checks = [(WORDS[m].title if (m := r.get("metric")) in WORDS else m, word(r.get("verdict"))) for r in measured]
    kept = ((facts.get("contract") or {}).get("synthetic") or {}).get("success")
    if isinstance(kept, bool):
        checks.append(("Contract: types, empty shares, ranges, allowed values", word("PASS" if kept else "FAIL")))
    source = facts.get("source") or {}
    columns = [
        c | {"made": MADE.get(c.get("kind")), "role": role(c.get("name"), source)} | PUBLISHED.get(c.get("kind"), {}) for c in source.get("columns") or []
    ]
    context = {"facts": facts, "checks": checks, "columns": columns, "verdict": word((facts.get("verdict") or {}).get("verdict"))}
    judged = conditioned(facts)
    if judged and (facts.get("fit") or {}).get("promise"):  # in how many classes is a figure of people held out, whom epsilon does not cover
        known = any(r.get("metric") == "fidelity.condition" for r in rows)
        judged = "judged where enough of them are known" if known else "not judged: too few of them are known"
    context |= {"origin": place(source.get("location")), "where": (facts.get("sample") or {}).get("where") or {}, "conditioned": judged}
    made = Environment(loader=FileSystemLoader(Path(__file__).parent), finalize=plain, undefined=ChainableUndefined, trim_blocks=True, lstrip_blocks=True)
    return made.get_template("card.md").render(context).strip() + "\n"


def plain(value: Any) -> str:
    """Text that Markdown shows as it is: no markup, no table cell, no HTML and no link can begin in it. Every printed value comes by here."""
    if value is None or isinstance(value, ChainableUndefined):
        return "–"
    text = re.sub(r"\s+", " ", f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)).strip()
    text = re.sub(r"([\\`*{}\[\]()|~$#!^])", r"\\\1", text)
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)  # one within a word means nothing
    return html.escape(re.sub(r"(?i)\b(www)\.", r"\1\.", text.replace("://", r":\/\/")), quote=False)


def word(verdict: Any) -> str:
    """One of the three verdicts; what is none of them is NO-VERDICT."""
    return verdict if verdict in ("PASS", "FAIL") else "NO-VERDICT"


def place(location: Any) -> str | None:
    """The name of a source without the folders or the host it lies in."""
    return re.split(r"[/\\]", str(location).rstrip("/\\"))[-1] if location else None


def role(name: str | None, source: Mapping) -> str:
    """What a column is to the table."""
    return " and ".join(r for r in ("target", "subject") if name is not None and source.get(r) == name)
