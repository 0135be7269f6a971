"""The dataset card: verdicts in words, nothing that was measured, and no markup from outside."""

from __future__ import annotations

import re

import pytest

from pipelines import card

FACTS = {
    "name": "patients", "version": "20261120T101500Z-1a2b3c4d", "created": "2026-11-20T10:15:00Z", "device": "cpu", "config_hash": "c0ffee",
    "config": {"rare_below": 10}, "software": {"likeness": "0.1.0", "python": "3.11.7", "torch": "2.13.0"}, "fit": {"family": "gmm", "parameters": 777_777},
    "source": {
        "location": "s3://bucket/ward 7/patients.csv", "fingerprint": "ab12" * 16, "rows": 616_161, "subjects": 616_162, "train": 626_262, "holdout": 636_363,
        "subject": "pid", "target": "died",
        "columns": [
            {"name": "pid", "kind": "id", "type": "string", "nullable": False},
            {"name": "mean_age", "kind": "numeric", "type": "double", "nullable": True},
            {"name": "died", "kind": "boolean", "type": "bool", "nullable": False},
        ],
    },
    "protected": {"rare_below": 10, "columns": {"mean_age": {"low": 646_464, "kept": 656_565}}},
    "sample": {"rows": 9105, "parts": 1, "where": {}, "balance": None},
    "contract": {"source": {"success": True}, "synthetic": {"success": True}},
    "scores": [{"name": "privacy.copies", "value": 0.4242, "low": 0.4141, "high": 0.4343, "yardstick": 0.4545, "details": {"rows": 666_666}}],
    "verdict": {
        "verdict": "PASS", "reasons": ["privacy.copies is 0.4242"],
        "rows": [
            {"metric": "privacy.copies", "verdict": "PASS", "bound": "at most 0.4646", "value": 0.4242, "low": 0.4141, "yardstick": 0.4545, "reason": "0.4242"},
            {"metric": "utility.target", "verdict": "FAIL", "bound": "at least 0.4747", "value": 0.4848, "reason": "0.4848"},
        ],
    },
}  # fmt: skip


def test_it_says_what_the_table_is():
    text = card.render(FACTS)
    for said in (
        "# patients: a synthetic table",
        "| Rows | 9,105 |",
        "gmm",
        "ab12" * 16,
        "patients.csv",
        "| mean_age | numeric | double |",
        "c0ffee",
        "fewer than 10 people",
    ):
        assert said in text
    assert "| pid (subject) | id | string | issued anew |" in text
    assert "| died (target) | boolean |" in text
    assert "Set by the data owner." in text
    assert "Differential privacy was not used" in text
    assert "bucket" not in text


def test_verdicts_are_words_and_nothing_measured_leaves_the_house():
    text = card.render(FACTS)
    assert "| Copied rows | PASS |" in text
    assert "| Utility | FAIL |" in text
    assert "| Contract: types, empty shares, ranges, allowed values | PASS |" in text
    for figure in re.findall(r"0\.4\d+|6\d{5}|777", str(FACTS)):
        assert figure not in text
        assert f"{float(figure):,.0f}" not in text or float(figure) < 1


@pytest.mark.parametrize("verdict", ["FAIL", "NO-VERDICT", "0.97", None])
def test_what_did_not_pass_says_so(verdict):
    text = card.render(FACTS | {"verdict": {"verdict": verdict, "rows": [{"metric": "privacy.copies", "verdict": verdict}]}})
    assert "not to be published" in text
    assert f"| Copied rows | {verdict if verdict == 'FAIL' else 'NO-VERDICT'} |" in text
    assert "0.97" not in text


def test_conditions_are_said():
    text = card.render(FACTS | {"sample": {"rows": 10, "where": {"ward": "icu | heart"}, "balance": "died"}})
    assert r"ward is icu \| heart." in text
    assert "levelled over died" in text


@pytest.mark.parametrize("judged", [0, 2, 5])
def test_in_how_many_classes_rows_were_judged_stays_inside_under_a_promise(judged):
    """It is a figure of people held out."""
    score = {"name": "fidelity.condition", "value": 0.9, "details": {"groups": 5, "judged": judged}}
    row = {"metric": "fidelity.condition", "verdict": "PASS"}
    found = {"scores": [score] if judged else [], "verdict": {"verdict": "PASS", "rows": [row] if judged else []}}
    sample = {"sample": {"rows": 10, "where": {}, "balance": "ward"}}
    said = ["not judged: fewer than 50", "judged in 2 of 5 classes", "is true: judged."][(0, 2, 5).index(judged)]
    assert said in card.render(FACTS | sample | found)
    promised = card.render(FACTS | sample | found | {"fit": {"family": "marginals", "promise": {"epsilon": 3, "delta": 1e-6}}})
    assert ("is true: judged where enough" in promised, "is true: not judged: too few" in promised) == (judged > 0, judged == 0)
    assert "classes; in the others" not in promised


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("a|b", r"a\|b"),
        ("`code`", r"\`code\`"),
        ("<script>alert(1)</script>", r"&lt;script&gt;alert\(1\)&lt;/script&gt;"),
        ("line\n# heading\r\n\u2028x", r"line \# heading x"),
        ("[text](javascript:x)", r"\[text\]\(javascript:x\)"),
        ("*bold* _it_ mean_radius", r"\*bold\* \_it\_ mean_radius"),
        ("http://e.vil www.e.vil", r"http:\/\/e.vil www\.e.vil"),
        ("back\\slash &amp; AT&T", r"back\\slash &amp;amp; AT&amp;T"),
        (1234567, "1,234,567"),
        (True, "True"),
        (None, "–"),
    ],
)
def test_markdown_shows_text_as_it_is(value, said):
    assert card.plain(card.tidy(value)) == said


@pytest.mark.parametrize("key", ["name", "version", "location"])
def test_whatever_comes_from_outside_is_escaped(key):
    evil = "x|y\n\n# <script>alert(1)</script> `"
    facts = FACTS | {key: evil} if key != "location" else FACTS | {"source": FACTS["source"] | {"location": evil, "columns": [{"name": evil, "kind": evil}]}}
    text = card.render(facts)
    assert "<script" not in text
    assert len(re.findall(r"^# ", text, re.MULTILINE)) == 1
    for line in text.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) in (3, 5)


def test_missing_parts_never_break_the_card():
    assert card.render({}).startswith("# –")
    for key in FACTS:
        for broken in (None, float("nan")):
            assert "## Licence" in card.render(FACTS | {key: broken})
