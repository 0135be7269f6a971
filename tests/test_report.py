"""The report: opens offline, escapes all it is told, shows every figure, bears what is missing, and holds nobody's value."""

from __future__ import annotations

import json
import math
from html.parser import HTMLParser

import numpy as np
import planted
import pyarrow as pa
import pytest

from pipelines import charts, gates, report, words
from validation import contract

EVIL = "<script>alert(1)</script>\"'&{{ 7 * 7 }}"
QUICK = ("fidelity.shape", "fidelity.dependence", "fidelity.missingness", "utility.target", "privacy.copies", "privacy.rare", "privacy.disclosure")
VOID = {"meta", "link", "br", "input", "img", "hr"}


def facts_of(train, holdout, synthetic, metrics=QUICK) -> dict:
    """Facts of a run, from the real judges and the real contract."""
    scores = [gates.METRICS[m](train, holdout, synthetic) for m in metrics]
    verdict = gates.verdict(scores, {m: b for m, b in gates.gates(train.schema).items() if m in metrics})
    suite = contract.infer(train)
    columns = [
        {"name": c.name, "kind": c.kind, "type": str(f.type), "nullable": f.nullable} for c, f in zip(train.schema.columns, train.schema.arrow, strict=True)
    ]
    curve = [{"rows": 300, "components": k, "start": "rows", "held_out": [-9.0 - 1 / k, -8.5 - 1 / k, -8.4]} for k in (1, 2, 4)]
    return json.loads(
        json.dumps(
            {
                "name": "patients", "version": "20261120T101500Z-1a2b3c4d", "created": "2026-11-20T10:15:00Z", "seconds": 41.2, "device": "cpu",
                "steps": {"ingest": 1.2, "fit": 3.1, "judge": 20.1}, "software": {"likeness": "0.1.0", "torch": "2.13.0"}, "config_hash": "c0ffee" * 10,
                "config": {"name": "patients", "seed": 0, "rare_below": 10, "gates": {}, "source": {"kind": "table", "location": "data/patients.csv"}},
                "source": {
                    "kind": "table", "location": "data/patients.csv", "fingerprint": "ab12" * 16, "rows": len(train) + len(holdout), "subjects": 700,
                    "train": len(train), "holdout": len(holdout), "subject": train.schema.subject, "target": train.schema.target, "columns": columns,
                },
                "fit": {"family": "gmm", "arguments": {}, "seconds": 2.1, "parameters": 12345, "curve": curve},
                "protected": {"rare_below": 10, "columns": {"ward": {"kept": 4, "rare": True}, "age": {"low_high": True}}},
                "sample": {"rows": len(synthetic), "parts": 1, "where": {}, "balance": None, "seconds": 0.2},
                "contract": {"source": contract.check(train, suite), "synthetic": contract.check(synthetic, suite)},
                "scores": [s.to_json() for s in scores], "verdict": verdict.to_json(), "published": "published/patients/20261120T101500Z-1a2b3c4d",
            }
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def measured() -> dict:
    return facts_of(planted.patients(300, 1), planted.patients(150, 2), planted.patients(300, 3))


@pytest.fixture
def facts(measured) -> dict:
    """A copy that a test may change."""
    return json.loads(json.dumps(measured))


class Page(HTMLParser):
    """What a page holds: its tags and attributes in order, its text outside of style, and whether the tags match."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(text)
        self.close()
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)


def test_the_page_is_whole_and_asks_nothing_of_anybody(facts):
    text = report.render(facts)
    page = Page(text)
    assert page.open == []
    assert "http:" not in text
    assert "https:" not in text
    assert "url(" not in text
    assert "@import" not in text
    assert {"script", "iframe", "img", "object", "embed", "form", "foreignobject"}.isdisjoint(t for t, _ in page.tags)
    for tag, attributes in page.tags:
        assert not [a for a in attributes if a.startswith("on") or a in ("src", "srcset", "xlink:href")], tag
        assert attributes.get("href", "#").startswith(("#", "data:,"))


def test_every_figure_is_shown_with_its_interval_and_yardstick(facts):
    text = Page(report.render(facts)).text
    for score in facts["scores"]:
        digits = 0 if words.WORDS[score["name"]].count else 3
        assert score["name"] in text
        for figure in ("value", "low", "high", "yardstick"):
            assert report.number(score[figure], digits) in text, (score["name"], figure)
    for name, column in facts["scores"][0]["details"]["columns"].items():
        assert f"{name} {column['kind']}" in text
        assert report.number(column["distance"]) in text
    assert "column values to be in set" in text
    assert facts["source"]["fingerprint"] in text


@pytest.mark.parametrize("verdict", [gates.PASS, gates.FAIL, gates.NO_VERDICT])
def test_the_verdict_comes_first_and_its_reasons_with_it(facts, verdict):
    facts["verdict"] |= {"verdict": verdict, "reasons": [] if verdict == gates.PASS else ["privacy.copies is 0.3, at most 0.02 is asked for"]}
    facts["published"] = facts["published"] if verdict == gates.PASS else None
    text = Page(report.render(facts)).text
    head = text[: text.index("Real rows")]
    assert f" {verdict} " in head
    assert ("privacy.copies is 0.3" in head) == (verdict != gates.PASS)
    assert (f"published/patients/{facts['version']}" in head) == (verdict == gates.PASS)
    assert ("Nothing was published" in head) == (verdict != gates.PASS)


def renamed(value, old: str, new: str):
    """The facts with one word replaced by another, in keys and values at any depth."""
    return json.loads(json.dumps(value).replace(json.dumps(old)[1:-1], json.dumps(new)[1:-1]))


@pytest.mark.parametrize("word", ["lactate", "ward", "surgery", "patients", "died", "cpu", "kept", "numeric"])
def test_whatever_comes_from_outside_is_escaped(facts, word):
    text = report.render(renamed(facts, word, EVIL))
    assert "<script" not in text
    assert "49" not in text[: text.index("<title>") + 100]
    page = Page(text)
    assert page.open == []
    assert "alert(1)" in page.text
    assert all(a.isidentifier() or "-" in a for _, attributes in page.tags for a in attributes if a != "viewbox"), "an attribute was broken open"


@pytest.mark.parametrize("metric", [*QUICK, None])
def test_a_judge_may_be_absent_or_without_power(facts, metric):
    for score in facts["scores"]:
        if metric in (score["name"], None):
            score |= {"power": "train has 30 subjects, 50 are needed", "low": -1.0, "high": 1.0, "details": {}}
    without = facts | {"scores": [s for s in facts["scores"] if metric not in (s["name"], None)]}
    assert "30 subjects, 50 are needed" in report.render(facts)
    assert Page(report.render(without)).open == []


def test_a_figure_that_only_stands_in_is_not_shown(facts):
    row = facts["verdict"]["rows"][0] | {"metric": "privacy.copies", "value": 0.0, "low": -1.0, "high": 1.0, "yardstick": 0.0}
    shown = report.gate(row, {"power": "too few", "better": "low"})
    assert [shown[k] for k in ("value", "low", "high", "yardstick")] == [None] * 4


def test_what_is_missing_differently_is_shown_and_small_counts_are_not(facts):
    details = next(s for s in facts["scores"] if s["name"] == "fidelity.missingness")["details"]
    details["columns"]["age"] = {"real": None, "synthetic": 0.0}
    details["worst"] = [{"columns": ["age", "stay"], "real": None, "synthetic": 0.07, "yardstick": None}]
    details["worst"] += [{"columns": ["age"], "real": 0.5, "synthetic": 0.3, "yardstick": 0.01}]
    text = Page(report.render(facts)).text
    assert "age + stay too few 7.0 % – –" in text
    assert "age 50 % 30 % 0.200 0.010" in text
    assert "age: real fewer people than may be shown, synthetic 0 %" in text


def test_how_much_of_a_large_table_was_looked_at_is_said(facts):
    facts["scores"][-3]["details"]["looked_at"] = {"synthetic": [5000, 32561]}
    assert facts["scores"][-3]["name"] == "privacy.copies"
    assert "Looked at: 5,000 of 32,561 synthetic rows." in Page(report.render(facts)).text


def test_bounds_are_numbers_not_words():
    row = {"metric": "privacy.copies", "bound": "quite little", "max": 0.02, "min": None, "value": 0.5, "low": 0.4, "high": 0.6, "yardstick": 0.0}
    assert report.gate(row, {"better": "low"})["picture"].count('class="bound"') == 1


def test_missing_parts_never_break_the_page(facts):
    assert Page(report.render({})).open == []
    for key in facts:
        for broken in (None, math.nan):
            assert report.render(facts | {key: broken}).endswith("</html>")
    for i, score in enumerate(facts["scores"]):
        for key in score["details"]:
            short = score | {"details": score["details"] | {key: None}, "value": math.nan, "low": None}
            assert report.render(facts | {"scores": [*facts["scores"][:i], short]}).endswith("</html>")


def test_many_columns_stay_on_one_page():
    names = [f"column {i:03d} with a long name that goes on" for i in range(90)]
    rng = np.random.default_rng(0)
    matrix = rng.random((90, 90)).tolist()
    columns = {
        n: {"kind": "numeric", "measure": "ks", "distance": 0.1, "yardstick": 0.1, "edges": [0, 1, 2], "real": [0.2, None, 0.3, 0.5], "synthetic": [0.25] * 4}
        for n in names
    }
    details = [{"columns": columns}, {"columns": names, "difference": matrix, "worst": []}, {"columns": {n: {"real": 0.1, "synthetic": 0.2} for n in names}}]
    scores = [{"name": n, "details": d} for n, d in zip(QUICK[:3], details, strict=True)]
    page = Page(report.render({"scores": scores}))
    assert "the 60 of 90 columns that differ most" in page.text
    assert "30 more columns" in page.text
    assert all(n in page.text for n in names)


def test_no_rare_value_and_no_identifier_of_a_person_is_on_the_page():
    train, holdout, synthetic = planted.patients(300, 1), planted.patients(150, 2), planted.patients(300, 3)
    illness = train.column("diagnosis").to_pylist()
    illness[7] = "zebra-of-one-patient"
    stay = train.column("stay").to_pylist()
    stay[7] = 98765.4321
    train = planted.put(train, diagnosis=pa.array(illness), stay=stay)
    metrics = ["fidelity.shape", "fidelity.missingness", "privacy.rare", "privacy.disclosure"]
    text = report.render(facts_of(train, holdout, train, metrics)) + report.render(facts_of(train, holdout, synthetic, metrics))
    assert "zebra" not in text
    assert "98765" not in text
    assert not [v for v in train.column("pid").to_pylist() if v in text]


def test_urls_lose_their_secrets_and_text_its_control_characters():
    assert report.tidy("s3://key:secret@host/x.csv?token=1 and 50 %") == "s3://…@host/x.csv?… and 50 %"
    assert report.tidy(["a\x00b\u202ec\ud800", math.inf, {"x": math.nan}]) == ["a b c ", {}, {"x": None}]


@pytest.mark.parametrize(
    ("value", "said"), [(0.12345, "0.123"), (-0.5, "−0.500"), (-0.0001, "0.000"), (1234.5, "1,234.500"), (None, "–"), (math.nan, "–"), (True, "–")]
)
def test_numbers_are_written_alike(value, said):
    assert report.number(value) == said


def test_dates_on_an_axis():
    assert report.axis("timestamp[us, tz=Europe/Berlin]")(1_580_000_000_000_000.0) == "2020-01-26"
    assert report.axis("date32[day]")(18_262) == "2020-01-01"
    assert report.axis("date64[ms]")(1_577_836_800_000) == "2020-01-01"
    assert report.axis("double")(12_500.0) == "12.5k"
    assert report.axis("date32[day]")(1e12) == "1000G"


def test_charts_say_what_they_show():
    assert "below 1: real 25 %, synthetic 50 %" in charts.histogram([1.0], [0.25, None], [0.5, 0.5], "x")
    assert "1 and more: real fewer people than may be shown" in charts.histogram([1.0], [0.25, None], [0.5, 0.5], "x")
    assert charts.bars([f"v{i}" for i in range(9)], [1 / 9] * 9, [1 / 9] * 9, "x").count("4 others") == 1
    hidden = charts.bars(["a", "(rare)"], [1.0, None], [0.9, 0.1], "x")
    assert "too few" in hidden and 'class="hidden"' in hidden and charts.bars(["a", "(rare)"], [1.0, 0.0], [1.0, 0.0], "x").count("rare") == 0
    assert charts.interval(0.9, 0.8, 1.0, 0.95, (0.85, None)).count('class="out"') == 1
    assert [charts.percent(v) for v in (0.5, 0.0123, 0.0001, 0.0, None)] == ["50 %", "1.2 %", "< 0.1 %", "0 %", "fewer people than may be shown"]
    assert charts.ticks(-14.7, -10.1) == [-14.0, -12.0]
