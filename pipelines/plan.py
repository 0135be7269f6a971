"""`--dry-run`: what a run would do, without doing it or writing anything."""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc

from generators.data import Schema, Table
from pipelines import asked, gates, sources
from pipelines.asked import CELL
from pipelines.config import Entry, training_of
from pipelines.house import ledger
from pipelines.publish import writable
from privacy.ledger import summed
from privacy.membership import SUBJECTS
from validation.features import CELLS, ROWS, SLOTS, flat
from validation.resampling import MOST, too_few
from validation.summary import apart

BASE_MB = 590  # what Python, torch, scikit-learn and Great Expectations take
JUDGES_MB, JUDGED = 300, 15_000  # what judges take, and of how many rows or more
SPACE = 16  # bytes that judges hold for each dimension of a row in which they measure distance
SEEN = 12  # bytes for each pixel of an image that they look at
LOOK = 4000  # rows on which a generator is tried
BASE_S = 20  # seconds: starting Prefect, importing, judging a small table
NETWORKS = 3  # that learn while images are judged: by real ones, by synthetic ones, and one for what these are worth
CELL_S, JUDGED_S = 2.5e-6, 2e-5  # seconds that a cell takes to be read, drawn and written, and to be judged, if it is


def _dimensions(train: Table) -> int:
    """Of the space in which judges measure distance."""
    values = [len(pc.unique(flat(train, c.name))) for c in train.schema.columns if c.kind in ("category", "boolean")]
    return sum(min(n + 2, SLOTS) for n in values) + 2 * sum(c.kind in ("numeric", "datetime") for c in train.schema.columns)


def plan(entry: Entry) -> str:
    """Rows, columns and kinds, model size, memory and time. Raises DataError for what `run` would refuse at once."""
    import torch

    from generators.building import build
    from generators.synthesizer import encoder_of
    from validation.pictures import cost

    train, holdout = sources.load_split(entry)
    asked.learned(entry, train)
    encoder = encoder_of(train.schema)(entry.rare_below).fit(train, rng=torch.Generator().manual_seed(entry.seed))
    model = build(entry.family, encoder.layout, entry.arguments)
    writable(entry)
    wanted = gates.gates(train.schema, entry.gates, entry.sample.given)
    people, width, numbers = int(train.subjects.max()) + 1, len(encoder.layout), "pixels" if train.schema.image else "fields"
    units = people if train.schema.time else len(train)  # what a generator counts
    rows = (entry.sample.subjects or entry.sample.rows or units) * len(train) // units
    some = torch.randperm(units, generator=torch.Generator().manual_seed(entry.seed))[: LOOK * units // len(train) + 1].numpy()
    looked_at = train.take(np.isin(train.subjects, some)) if train.schema.time else train.take(some)
    fitting, held = model.cost(encoder.encode(looked_at, rng=torch.Generator().manual_seed(entry.seed)), units)
    sizes = len(train), len(holdout), rows
    columns = len(train.schema.columns)
    judged = 1e6 * JUDGES_MB * min(rows / JUDGED, 1) + CELL * rows * columns + SPACE * min(_dimensions(train) * min(max(sizes), ROWS), CELLS)
    judged += SEEN * width * sum(sizes) if train.schema.image else 0
    memory = BASE_MB + (2 * (train.values.nbytes + holdout.values.nbytes) + max(held, judged)) / 1e6
    seconds = BASE_S + fitting + columns * (CELL_S * sum(sizes) + JUDGED_S * sum(min(n, MOST) for n in sizes))
    seconds += NETWORKS * cost(looked_at) if train.schema.image else 0
    if entry.promise:  # attacks decide nothing then
        wanted = {m: b for m, b in wanted.items() if not m.startswith("privacy.")}
    few = too_few(apart(train), apart(holdout), train, SUBJECTS) if "privacy.membership" in wanted else None
    how = training_of(entry) if entry.promise else None
    learner = model.size(units) if not entry.promise else f"{how.steps} steps by noisy gradients" if how else "by noisy counts and sums"
    about = "about " * bool(entry.promise)
    lines = [
        f"{entry.name}: {entry.source.kind} {entry.source.location}",
        f"  rows       {len(train)} to learn from, {len(holdout)} held out, {about}{rows} to publish",
        f"  subjects   {people} to learn from, by {train.schema.subject or 'row'}",
        f"  generator  {entry.family} {dict(entry.arguments) or 'with its defaults'}: {width} {numbers}, {learner}",
        _promised(entry) if entry.promise else f"  protected  values of fewer than {entry.rare_below} subjects",
        *[f"  beware     the run will end without a verdict, for privacy.membership cannot tell: {few}"] * bool(few),
        f"  about      {memory:.0f} MB and {seconds:.0f} s on two cores{', as without noise' * bool(entry.promise)}",
        f"  publish    {entry.publish}, if " + ", ".join(f"{m} {' '.join(f'{k} {v:g}' for k, v in b.items())}" for m, b in wanted.items()),
        "  columns",
    ]
    for column, field in zip(train.schema.columns, train.schema.arrow, strict=True):
        lines.append(f"    {column.name:32} {column.kind:10} {field.type}{_role(train.schema, column.name)}")
    return "\n".join(lines)


def _promised(entry: Entry) -> str:
    """What is promised to each subject, and what was spent on these people before."""
    promise, spent = entry.promise, summed(ledger(entry.root).records()).get(entry.people, {}).get("epsilon")
    bound = f"{promise.steps or promise.rows} {'steps' if promise.steps else 'row' + 's' * (promise.rows > 1)}"
    before = f"epsilon {spent:.3g} was spent on {entry.people} before" if spent else f"nothing was spent on {entry.people} before"
    return f"  promised   epsilon {promise.epsilon:g}, delta {promise.delta:g} to each subject, of whom at most {bound} are learned from; {before}"


def _role(schema: Schema, name: str) -> str:
    roles = [role for role in ("subject", "time", "target") if getattr(schema, role) == name] + ["stays"] * (name in schema.static)
    return "  " + ", ".join(roles) if roles else ""
