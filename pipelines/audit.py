"""`likeness audit`: shadow models of an entry, and who can be told from what they make. Long, on purpose: every shadow is a model of its own.

It looks at the people who are learned from, and writes what it found beside the runs, for their owner alone: nothing leaves the house, no run is blocked or
published by it, and under differential privacy it is in no budget. What is decided by it tells of those people.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from generators.data import DataError, Table
from generators.synthesizer import Synthesizer
from pipelines.config import load_entry, training_of
from pipelines.house import alone, home, replace
from pipelines.progress import log
from pipelines.sources import load_split
from privacy.membership import POWER
from privacy.shadows import ALL, FEWEST, shadows
from validation.resampling import LEAST, count

SHADOWS, TARGETS = 32, 60  # unless said


def audit(config: Path, name: str, number: int, targets: int, overrides: Sequence[str] = ()) -> dict:
    """What shadows.shadows says of the entry, and where it was written. Raises DataError for what is wrong with the entry or with what is asked."""
    entry = load_entry(config, name, overrides)
    if number < FEWEST:
        raise DataError(f"--shadows: found {number}, expected at least {FEWEST}: each person is in half of them")
    train, holdout = load_split(entry)
    if not 2 <= targets <= count(train) // 2:
        raise DataError(f"--targets: found {targets}, expected from 2 to half of the {count(train)} subjects to learn from")
    if count(holdout) < LEAST:
        raise DataError(f"{entry.name}: the holdout has {count(holdout)} subjects, expected at least {LEAST}: people are compared with it")

    def make(some: Table, i: int) -> Table:
        model = Synthesizer(entry.family, rare_below=entry.rare_below, seed=entry.seed + i, **entry.arguments)
        model.fit(some, avoid=holdout, mechanism=entry.promise and entry.promise.mechanism(training_of(entry)))
        return model.sample(model.rows or count(some) if some.schema.time else model.rows or len(some), seed=i)

    path = home(entry) / "audit.json"
    with alone(entry, lambda: log.info("a run of %s is going on; this one waits for it", entry.name)):
        said = lambda i: log.info("shadow %d of %d of %s", i + 1, number, entry.family)  # noqa: E731
        found = shadows(train, holdout, make, number, targets, seed=entry.seed, rare_below=entry.rare_below, done=said)
        found |= {"name": name, "family": entry.family, "arguments": dict(entry.arguments), "written": str(path)}
        replace(path, json.dumps(found, indent=1))
    return found


def table(found: dict) -> str:
    """The same for a terminal."""
    head = f"{'attack':22}  {'AUC':>5}  {'95 % interval':>16}  {'found at 1 % false alarms':>25}  {'AUC of a copy':>13}"
    rows = {**found["attacks"], f"{ALL}, exposed half": found["exposed"], "control: a coin": found["nobody"]}
    lines = [f"{found['name']}, {found['family']}: {found['shadows']} shadow models, {found['targets']} people, each in half of them", "", head]
    for name, row in rows.items():
        low, high = row["interval"]
        copy = f"{row['of_a_copy']:>13.3f}" if "of_a_copy" in row else f"{'':>13}"
        lines.append(f"{name:22}  {row['auc']:>5.3f}  {f'{low:.3f} to {high:.3f}':>16}  {row['tpr_at_1_fpr']:>25.3f}  {copy}".rstrip())
    best = found["attacks"][ALL]
    surely = "surely told apart" if best["interval"][0] > 0.5 else "not surely told apart"
    said = f"by all attacks together they are {surely} from those who were not there"
    if best["of_a_copy"] <= POWER:
        said = "NO VERDICT: not even of a copy do these attacks together find who is in it"
    return "\n".join([*lines, "", said, f"written to  {found['written']}"])
