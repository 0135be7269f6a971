"""A ledger through kills, torn lines, two writers at once, and what it adds up to."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from generators.data import DataError
from privacy.accounting import Steps, epsilon_of
from privacy.ledger import Ledger, Record, declared, spent, summed

ONE = Record("ward", "fit", "a1", "2026-11-23T00:00:00Z", 100)
WRITER = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from privacy.ledger import Ledger, Record
ledger, name = Ledger(Path(sys.argv[1])), sys.argv[2]
for i in range(int(sys.argv[3]), int(sys.argv[4])):
    one = Record("ward", "fit", f"{{name}}-{{i}}", "now", 1, private=True, rho=0.001)
    ledger.enter(one, allowed=lambda all: "over the budget" if len(all) > int(sys.argv[5]) else None)
    print(i, flush=True)
"""


def writer(path: Path, name: str, first: int, last: int, most: int = 10**9, said: Path = Path(os.devnull)) -> subprocess.Popen:
    """A process that enters fits name-first, name-(first + 1), ... and says each number when it is written down."""
    code = WRITER.format(root=str(Path(__file__).parents[1]))
    with open(said, "w") as out:
        return subprocess.Popen([sys.executable, "-c", code, path, name, str(first), str(last), str(most)], stdout=out, stderr=subprocess.PIPE, text=True)


def test_what_is_entered_is_there_once(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    assert ledger.records() == []
    other = replace(ONE, name="a2", private=True, rho=0.02, steps=((1.1, 0.01, 300),), delta=1e-8)
    assert [ledger.enter(r) for r in (ONE, other, ONE, other, replace(ONE, population="clinic"))] == [True, True, False, False, True]
    assert Ledger(ledger.path).records("ward") == [ONE, other]
    assert ledger.enter(replace(ONE, kind="release"))
    assert [(r.population, r.kind) for r in ledger.records()] == [("ward", "fit"), ("ward", "fit"), ("clinic", "fit"), ("ward", "release")]
    assert oct(ledger.path.stat().st_mode & 0o777) == "0o600"


def test_a_budget_is_written_whenever_another_one_held(tmp_path):
    ledger, budget = Ledger(tmp_path / "ledger.jsonl"), replace(ONE, kind="budget", name="a", rows=0, budget=(5.0, 1e-6))
    other = replace(budget, budget=(10.0, 1e-6))
    assert [ledger.enter(r) for r in (budget, replace(budget, name="b"), other, other, budget, ONE, budget)] == [True, False, True, False, True, True, False]
    assert declared(ledger.records("ward")) == (5.0, 1e-6)
    assert summed(ledger.records())["ward"] == {
        "fits": 1,
        "draws": 0,
        "releases": 0,
        "rows": 0,
        "last": ONE.at,
        "epsilon": None,
        "delta": None,
        "budget": (5.0, 1e-6),
    }
    private = replace(ONE, private=True, rho=0.02, delta=1e-8)
    assert summed([private, budget])["ward"]["epsilon"] == spent([private], 1e-6)
    assert summed([replace(private, delta=1e-5), budget])["ward"]["delta"] == 1e-4  # more than the budget's is spent beyond the curves
    assert summed([replace(private, delta=0.2)])["ward"] | {"epsilon": None, "delta": None} == summed([replace(private, delta=0.2)])["ward"]


def test_nothing_is_written_of_what_is_not_allowed(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.enter(ONE)
    before = ledger.path.read_bytes()
    with pytest.raises(DataError, match=r"ledger\.jsonl: two are too many"):
        ledger.enter(replace(ONE, name="a2"), allowed=lambda all: "two are too many" if len(all) == 2 else None)
    assert ledger.path.read_bytes() == before
    assert not ledger.enter(ONE, allowed=lambda all: "never asked of what is there already")
    ledger.enter(replace(ONE, population="clinic"), allowed=lambda all: "others" if len(all) > 1 else None)  # each population by itself


def test_a_line_that_a_kill_cut_off_was_never_there(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.enter(ONE)
    whole = ledger.path.read_bytes()
    for cut in range(1, len(whole) - 1):
        ledger.path.write_bytes(whole + whole.replace(b"a1", b"a2")[:cut])
        assert ledger.records() == [ONE]
        assert ledger.enter(replace(ONE, name="a3"))
        assert [r.name for r in ledger.records()] == ["a1", "a3"]
    ledger.path.write_bytes((whole + whole.replace(b"a1", b"a2"))[:-1])  # all of it is there but for its end: an editor's, say
    assert [r.name for r in ledger.records()] == ["a1", "a2"]
    assert not ledger.enter(replace(ONE, name="a2")) and ledger.enter(replace(ONE, name="a3"))
    assert [r.name for r in Ledger(ledger.path).records()] == ["a1", "a2", "a3"] and ledger.path.read_bytes().count(b"\n") == 3


def test_what_comes_before_a_refused_record_is_written(tmp_path):
    ledger, other = Ledger(tmp_path / "ledger.jsonl"), replace(ONE, name="a2")
    with pytest.raises(DataError, match="two are too many"):
        ledger.enter(ONE, other, replace(ONE, name="a3"), allowed=lambda all: "two are too many" if len(all) == 2 else None)
    assert ledger.records() == [ONE]
    assert ledger.enter(ONE, other) and ledger.records() == [ONE, other]


IMPOSSIBLE = [
    {"rho": -5}, {"rho": "much"}, {"delta": -1}, {"delta": 1}, {"rows": "x"}, {"rows": None}, {"steps": [[1.0, 0.1, -3]]}, {"steps": [[0, 0.1, 3]]},
    {"rho": 10**400}, {"rho": 1e308}, {"steps": [[1e-300, 0.1, 3]]}, {"steps": [[1e300, 0.1, 3]]}, {"steps": [[1.0, 0.1, 10**400]]}, {"budget": [10**400, 0.1]},
    {"rho": True}, {"rows": False}, {"budget": [0, 0]}, {"budget": [3, 1]}, {"kind": "budget"},
    {"budget": [-1, 0.1]}, {"budget": [3]}, {"private": "yes"}, {"kind": "gift"}, {"name": 3}, {"rho": float("nan")}, {"rho": float("inf")},
]  # fmt: skip


LINES = [
    "{}", "no JSON", "", "[]", "[" * 100_000, "\udcff", "3" * 5000, json.dumps({"population": "ward", "steps": []}), '{"steps": 3}',
    *(json.dumps(asdict(ONE) | wrong) for wrong in IMPOSSIBLE),
]  # fmt: skip


@pytest.mark.parametrize("line", LINES, ids=lambda line: ascii(line[:200]))
def test_a_damaged_ledger_stops_every_release(tmp_path, line):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.enter(ONE)
    ledger.path.write_bytes(ledger.path.read_bytes() + line.encode(errors="surrogateescape") + b"\n")
    for use in (ledger.records, lambda: ledger.enter(replace(ONE, name="a2"))):
        with pytest.raises(DataError, match=r"ledger\.jsonl, line 2: no record as this program writes them"):
            use()


def test_fifty_kills_and_two_writers_at_once(tmp_path):
    """All that was acknowledged is there once; what was not is there at most once, and is entered when it is tried again."""
    path, chance = tmp_path / "ledger.jsonl", random.Random(0)
    told: set[str] = set()
    for kill in range(25):
        pair = [(name, tmp_path / f"{name}{kill}.txt") for name in ("x", "y")]
        processes = [writer(path, name, 10**6 * kill, 10**6 * (kill + 1), said=said) for name, said in pair]
        until = time.monotonic() + 60
        while not all(said.stat().st_size for _, said in pair) and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.1))
        for process in processes:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        told |= {f"{name}-{i}" for name, said in pair for i in said.read_text().split("\n")[:-1]}
    found = [r.name for r in Ledger(path).records()]
    assert len(found) == len(set(found))
    assert told <= set(found)
    assert len(set(found) - told) <= 50  # written down, and killed before it could say so
    assert len(told) > 100
    ledger = Ledger(path)
    for name in told | set(found):
        assert not ledger.enter(Record("ward", "fit", name, "now", 1, private=True, rho=0.001))
    assert spent(ledger.records(), 1e-6) == pytest.approx(epsilon_of(1e-6, 0.001 * len(found)))


def test_two_writers_do_not_pass_a_budget_together(tmp_path):
    path = tmp_path / "ledger.jsonl"
    pair = [writer(path, name, 0, 40, most=50, said=tmp_path / name) for name in ("x", "y")]
    refused = [p.communicate(timeout=100)[1] for p in pair]
    assert len(Ledger(path).records("ward")) == 50
    assert sum(len((tmp_path / name).read_text().split()) for name in ("x", "y")) == 50
    assert any("over the budget" in said for said in refused)


def test_what_fits_spend_together():
    private = replace(ONE, private=True, rho=0.02)
    assert spent([private], 1e-6) == epsilon_of(1e-6, 0.02)
    assert spent([private, replace(private, steps=((1.1, 0.01, 300),))], 1e-6) == epsilon_of(1e-6, 0.04, [Steps(1.1, 0.01, 300)])
    assert spent([replace(private, delta=4e-7)] * 2, 1e-6) == pytest.approx(epsilon_of(2e-7, 0.04))
    assert spent([private, ONE], 1e-6) is None
    assert spent([private, replace(ONE, kind="draw"), replace(ONE, kind="release")], 1e-6) == epsilon_of(1e-6, 0.02)  # what comes after costs nothing
    assert spent([], 1e-6) == 0
    with pytest.raises(DataError, match=r"delta: found 1e-06, of which 2e-06 is spent already"):
        spent([replace(private, delta=2e-6)], 1e-6)
