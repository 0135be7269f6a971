"""What a run does, step by step, as plain functions of a Run. Each leaves files in the run's folder and says which, by their hashes."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import nullcontext
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from generators.data import DataError, Table
from generators.encoding.told import SURE
from generators.synthesizer import ENCODING, Synthesizer
from pipelines import asked, gates, pictures, sources, spending
from pipelines.config import training_of
from pipelines.house import FACTS, Run, hash_of, key_of, move, open_run, read_table, version_of, write_table
from pipelines.progress import each, later, log, training
from pipelines.sides import split
from validation.score import Score

CONDITION = "fidelity.condition"
FEW = 0.05  # of the subjects: values that so few hold should still be seen through noise
NATURAL = "natural"  # where a condition is asked for: what the model makes without it, which fidelity is judged on
_loaded: dict[str, tuple[Table, Table, float]] = {}


def left(run: Run, *names: str) -> dict[str, str]:
    """Hashes of files and folders of a run that are there."""
    return {name: hash_of(run.folder / name) for name in names if (run.folder / name).exists()}


def preflight(entry) -> Run:
    """Reads the source and finds what is wrong with it or with the request, before anything is started."""
    start = time.monotonic()
    fingerprint = sources.fingerprint(entry.source, root=entry.root)
    if not isinstance(entry.holdout, float):
        fingerprint += sources.fingerprint(entry.holdout, root=entry.root)
    version = version_of(entry, fingerprint)
    if version not in _loaded:
        tables = sources.load_split(entry)
        asked.learned(entry, tables[0])
        gates.gates(tables[0].schema, entry.gates, entry.sample.given)
        _loaded.clear()
        _loaded[version] = (*tables, time.monotonic() - start)
    run = open_run(entry, version)
    train, holdout, seconds = _loaded[version]
    run.write("source.json", _facts(run, fingerprint, train, holdout) | {"seconds": seconds})
    return run


def forget() -> None:
    """Lets go of the tables that `preflight` has read."""
    _loaded.clear()


def _facts(run: Run, fingerprint: str, train: Table, holdout: Table) -> dict:
    source, schema = run.entry.source, train.schema
    own = [train, holdout] if isinstance(run.entry.holdout, float) else [train]
    columns = [
        {"name": c.name, "kind": c.kind, "type": str(f.type), "nullable": f.nullable, "options": dict(c.options)}
        for c, f in zip(schema.columns, schema.arrow, strict=True)
    ]
    return {
        "population": run.entry.people, "kind": source.kind, "location": source.location, "fingerprint": fingerprint,
        "rows": sum(map(len, own)),
        "subjects": sum(int(t.subjects.max()) + 1 for t in own), "train": len(train), "holdout": len(holdout),
        "train_subjects": int(train.subjects.max()) + 1, "holdout_subjects": int(holdout.subjects.max(initial=-1)) + 1,
        "subject": schema.subject, "target": schema.target, "time": schema.time, "columns": columns,
    }  # fmt: skip


def ingest(run: Run) -> dict:
    """Splits the source by subject into what is learned from and what is held out."""
    train, holdout, *_ = _loaded.pop(run.version, None) or sources.load_split(run.entry)
    write_table(train, run.real / "train.arrow")
    write_table(holdout, run.real / "holdout.arrow")
    log.info("%s: %d rows to learn from, %d held out, %d columns", run.entry.name, len(train), len(holdout), len(train.schema.columns))
    if (named := train.schema.subject) and any(t.column(named).null_count for t in (train, holdout)):
        log.warning("%s: some rows name nobody in %r: each counts as somebody else's; give them names, or leave them out", run.entry.name, named)
    if others := {name for side in (train, holdout) for name in asked.undeclared(side)}:
        log.warning("%s: some rows hold in %s a value that its values: does not name: those that it names are drawn instead; name it, or correct the source",
                    run.entry.name, ", ".join(map(repr, sorted(others))))  # fmt: skip
    return {"train": len(train), "holdout": len(holdout)}


def contract(run: Run) -> dict:
    """Infers what the source promises, and checks that the source keeps it and what the user demands of it."""
    from validation import contract as suite

    train, holdout = seen(run)
    inferred = suite.infer(train, run.entry.rare_below, limits=not run.entry.promise)  # where these lie is told by noisy counts alone
    demanded = [dict(item) for item in run.entry.contract]
    checked = suite.check(train, [*inferred, *demanded])
    if demanded:
        held = suite.check(holdout, demanded)
        checked["success"] &= held["success"]
        checked["expectations"] += held["expectations"]
    run.write("contract.json", {"suite": inferred, "demanded": demanded, "source": checked})
    return left(run, "contract.json")


def fit(run: Run) -> dict:
    """Fits the generator and saves it under model/; or takes the model of another version that differs only in what comes after."""
    key = key_of(run.entry, run.read("source.json")["fingerprint"])
    before = run.fitted(key)
    if before is None:
        _learn(run, key)
        return left(run, "model")
    spending.entered(run, before)  # where it is refused, no copy lies here
    if before not in (run.model, run.unsaved):
        shutil.rmtree(run.unsaved, ignore_errors=True)
        shutil.copytree(before, run.unsaved)
    if before != run.model:
        _check(run, Synthesizer.load(run.unsaved))
        shutil.rmtree(run.model, ignore_errors=True)
        move(run.unsaved, run.model)
    spending.close(run)
    log.info("%s: fitted before, for version %s", run.entry.family, before.parent.name)
    return left(run, "model")


def _learn(run: Run, key: str) -> None:
    entry, start, train = run.entry, time.monotonic(), read_table(run.real / "train.arrow")
    mechanism = entry.promise and entry.promise.mechanism(training_of(entry))
    if mechanism and drowned(mechanism, train):
        log.warning("%s: noise drowns what one subject in twenty holds in a column; declare low:, high: and values:, keep fewer columns, or "
                    "raise epsilon", entry.name)  # fmt: skip
    model = Synthesizer(entry.family, rare_below=entry.rare_below, seed=entry.seed, **entry.arguments)
    with training() as aloud, later(aloud) if mechanism else nullcontext(aloud) as heard, spending.charged(run, mechanism, len(train), key) as charge:
        try:
            avoid, checkpoint = read_table(run.real / "holdout.arrow"), run.folder / ".training.safetensors"
            model.fit(train, log=heard, avoid=avoid, checkpoint=checkpoint, mechanism=mechanism)
        except DataError as problem:
            raise DataError(f"{entry.name}: {problem}") from None
        _check(run, model)
        model.save(run.unsaved)
        facts = {
            "family": entry.family, "arguments": dict(entry.arguments), "seconds": time.monotonic() - start, "key": key, "files": hash_of(run.unsaved),
            "parameters": model.parameters, "curve": model.curve, "device": model.device, "protected": model.protected,
            "grown": pictures.growth(model), "promise": mechanism and entry.promise.kept(mechanism), "charge": charge,
        }  # fmt: skip
        (run.unsaved / FACTS).write_text(json.dumps(facts))
    log.info("%s: fitted in %.1f s", entry.family, facts["seconds"])


def _check(run: Run, model: Synthesizer) -> None:
    """Raises DataError for a model from which what is asked for cannot be drawn."""
    wanted = run.entry.sample
    model.check(wanted.where, wanted.balance, wanted.rows or 1)


def drowned(mechanism, train: Table) -> bool:
    """Whether noise in counts of a column's values is more than what few subjects hold. It is said before anything is spent."""
    subjects, columns = int(train.subjects.max(initial=-1)) + 1, len(train.schema.columns)
    return FEW * subjects < SURE * mechanism.sd(ENCODING / columns)


def seen(run: Run) -> tuple[Table, Table]:
    """What decides whether it may be published looks at these, as what was learned from and what was not.

    Under differential privacy at two halves of those who were held out: a decision by the others would tell of them."""
    train, holdout = read_table(run.real / "train.arrow"), read_table(run.real / "holdout.arrow")
    return split(holdout, 0.5, run.entry.seed + 1) if run.entry.promise else (train, holdout)


def sample(run: Run) -> dict:
    """Draws the rows to publish into data/, part by part, and an unconditioned draw for the judges where a condition is wanted."""
    wanted, model = run.entry.sample, Synthesizer.load(run.model)
    start, source = time.monotonic(), run.read("source.json")
    natural = model.rows or (source["train_subjects"] if source["time"] else source["train"])
    count = wanted.subjects or wanted.rows or natural
    path = run.folder / "data"
    shutil.rmtree(path, ignore_errors=True)
    rows = _draw(run, model, path, count, dict(wanted.where), wanted.balance)
    shutil.rmtree(run.folder / NATURAL, ignore_errors=True)
    if wanted.where or wanted.balance:
        _draw(run, model, run.folder / NATURAL, natural, {}, None)
    facts = {"rows": rows, "parts": -(-count // model.each), "where": dict(wanted.where), "balance": wanted.balance, "seconds": time.monotonic() - start}
    run.write("sample.json", facts | ({"series": count} if source["time"] else {}))
    log.info("%d rows drawn in %.1f s", rows, facts["seconds"])
    return left(run, "data", "sample.json", *[NATURAL] * (run.folder / NATURAL).is_dir())


def _draw(run: Run, model: Synthesizer, folder: Path, count: int, where: dict, balance: str | None) -> int:
    """Draws so many rows, or series, into a folder; returns how many rows that are."""
    folder.mkdir()
    provenance = {"likeness.synthetic": "true", "likeness.generator": run.entry.family, "likeness.pipeline": run.entry.name, "likeness.version": run.version}
    if promise := run.entry.promise:
        provenance |= {"likeness.epsilon": f"{promise.epsilon:g}", "likeness.delta": f"{promise.delta:g}"}
    rows, parts = 0, model.parts(count, where=where, balance=balance)
    for i, part in enumerate(each(parts, "sampling", -(-count // model.each))):
        values = pictures.published(part) if part.schema.image else part.values.replace_schema_metadata(None)
        pq.write_table(values.replace_schema_metadata({**(values.schema.metadata or {}), **provenance}), folder / f"part-{i:05d}.parquet")
        rows += len(part)
    return rows


def _published(run: Run, schema, folder: str) -> Table:
    parts = [pq.read_table(p) for p in sorted((run.folder / folder).glob("*.parquet"))]
    values = pa.concat_tables(parts).replace_schema_metadata(None)
    return Table.of(pictures.raw(values, schema) if schema.image else values, schema)


def judge(run: Run) -> dict:
    """Runs every judge and attack, and the contract, on what would be published."""
    from validation import contract as suite
    from validation.condition import said

    train, holdout = read_table(run.real / "train.arrow"), read_table(run.real / "holdout.arrow")
    one, other = seen(run)
    published = _published(run, train.schema, "data")
    natural = _published(run, train.schema, NATURAL) if (run.folder / NATURAL).is_dir() else published
    given = run.entry.sample.given
    names = [name for name in gates.METRICS if gates.lacks(name, train.schema, given) is None]
    scores: list[dict] = []
    for name in each(names, "judging", len(names)):
        start = time.monotonic()
        attack = name.startswith("privacy.")
        table = published if attack or name == CONDITION else natural
        real = (train, holdout) if attack else (one, other)
        more = {"given": given} if name == CONDITION else {}
        score: Score = gates.METRICS[name](*real, table, seed=run.entry.seed, rare_below=run.entry.rare_below, **more)
        if name == CONDITION:
            log.info("rows under the condition: %s", said(score.details))
            if score.power and name not in run.entry.gates:
                continue
        scores.append(score.to_json() | {"seconds": time.monotonic() - start})
        log.info("%s measured in %.1f s", name, scores[-1]["seconds"])
    contract = run.read("contract.json")
    contract["synthetic"] = suite.check(natural, contract["suite"])
    if contract["demanded"]:
        demanded = suite.check(published, contract["demanded"])
        contract["synthetic"]["success"] &= demanded["success"]
        contract["synthetic"]["expectations"] += demanded["expectations"]
    run.write("judged.json", {"scores": scores, "contract": {k: contract[k] for k in ("source", "synthetic")}})
    return left(run, "judged.json")


def shown(run: Run) -> list[dict]:
    """Of images, some of those that were drawn, for the report; never a real one."""
    schema = schema_of(run)
    first = sorted((run.folder / "data").glob("*.parquet"))[:1]
    return pictures.rows(Table.of(pictures.raw(pq.read_table(first[0]).replace_schema_metadata(None), schema), schema)) if schema.image and first else []


def schema_of(run: Run):
    """The schema of the rows that are published."""
    return Synthesizer.load(run.model).encoder.schema
