"""Large tables: `python benchmarks/scale.py [--only sampling long wide many visits images]` prints the README's table of size.

Needs LIKENESS_DATA, a folder with adult_train.csv. Every line is a process of its own: seconds, and its peak memory beside
what `--dry-run` said before.

    sampling  rows drawn from a saved model into Parquet, a hundred thousand and a million
    long      five million rows: adult again and again with noise on its numbers; read, fitted for a fixed time, drawn, judged
    wide      500 columns
    many      a category of 300,000 values
    visits    series of 20,000 subjects, 50 steps each at times of their own, 10 columns of all kinds, fitted for a fixed time; and under differential privacy
    images    20,000 images of 64 x 64 pixels
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[1]
LONG, PART = 5_000_000, 250_000


def measured(folder: Path, *arguments: str) -> tuple[float, float, str]:
    """(seconds, peak MB, what was printed) of a `likeness` command."""
    command = [sys.executable, "-m", "pipelines", *arguments]
    start = time.monotonic()
    process = subprocess.Popen(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True)
    out = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) > 1:
        sys.exit(f"{' '.join(arguments)} failed")
    return time.monotonic() - start, used.ru_maxrss / 1024, out


def run(folder: Path, entry: str) -> dict:
    """One run of an entry: what was foretold and what it took."""
    (folder / "flows.yaml").write_text(f"t:\n{entry}")
    foretold = re.search(r"about +(\d+) MB and (\d+) s", measured(folder, "run", "t", "--dry-run")[2])
    seconds, peak, out = measured(folder, "run", "t", "--json")
    result = json.loads(out.strip().splitlines()[-1])
    steps = json.loads((folder / result["run"] / "facts.json").read_text())["steps"]
    return (
        {"verdict": result["verdict"], "s": seconds, "peak MB": peak, "foretold MB": float(foretold[1]), "foretold s": float(foretold[2])}
        | {f"past {i}": reason.split(" [")[0] for i, reason in enumerate(result["reasons"], 1)}
        | {f"{k} s": v for k, v in steps.items()}
    )


def sampling(folder: Path, data: Path) -> Iterator[tuple[str, dict]]:
    for family in ("autoregressive", "gmm"):
        (folder / "flows.yaml").write_text(f"t:\n  source: {{table: {data}/adult_train.csv, target: income}}\n  generator: {family}\n")
        out = measured(folder, "run", "t", "--json")[2]
        model = folder / json.loads(out.strip().splitlines()[-1])["run"] / "model"
        for rows in (100_000, 1_000_000):
            seconds, peak, _ = measured(folder, "sample", str(model), "--rows", str(rows), "--out", f"{family}-{rows}")
            yield f"{family}, {rows:,} rows drawn", {"rows a second": rows / seconds, "s": seconds, "peak MB": peak}


def long(folder: Path, data: Path) -> Iterator[tuple[str, dict]]:
    adult, rng = pd.read_csv(data / "adult_train.csv"), np.random.default_rng(0)
    numbers = adult.select_dtypes("number").columns
    (folder / "long").mkdir()
    for i in range(LONG // PART):
        rows = adult.sample(PART, replace=True, random_state=i)
        for name in numbers:
            shift = rng.normal(0, 0.02 * adult[name].std(), PART) * (rows[name] != 0)
            rows[name] = (rows[name] + shift).round().clip(lower=0).astype(int)
        pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), folder / "long" / f"part-{i:03d}.parquet")
    yield f"{LONG:,} rows, autoregressive for 5 minutes", run(folder, "  source: {table: long, target: income}\n  generator: {autoregressive: {minutes: 5}}\n")


def wide(folder: Path, data: Path) -> Iterator[tuple[str, dict]]:
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(5000, 20))
    numbers = hidden @ rng.normal(size=(20, 400)) + rng.normal(size=(5000, 400))
    words = ((hidden @ rng.normal(size=(20, 100)))[:, :, None] + rng.gumbel(size=(5000, 100, 5))).argmax(2)
    columns = {f"n{i}": numbers[:, i] for i in range(400)} | {f"w{i}": np.array(list("abcde"))[words[:, i]] for i in range(100)}
    pq.write_table(pa.table(columns), folder / "wide.parquet")
    for family in ("gmm", "autoregressive"):
        yield f"5,000 rows of 500 columns, {family}", run(folder, f"  source: {{table: wide.parquet}}\n  generator: {family}\n")


def many(folder: Path, data: Path) -> Iterator[tuple[str, dict]]:
    rng, values, rows = np.random.default_rng(0), 300_000, 3_000_000
    share = 1 / (1000 + np.arange(values))
    code = rng.choice(values, rows, p=share / share.sum())
    columns = {"code": pa.array([f"K{c:06d}" for c in code]).dictionary_encode(), "age": rng.integers(18, 90, rows) + (code % 10), "group": code // 30_000}
    pq.write_table(pa.table(columns), folder / "many.parquet")
    entry = "  source: {table: many.parquet, columns: {code: {kind: category}, group: {kind: category}}}\n  privacy: {rare_below: 3}\n"
    for generator in ("gmm", "{autoregressive: {minutes: 2}}"):
        yield f"{rows:,} rows, {values:,} values, {generator.strip('{}')}", run(folder, f"{entry}  generator: {generator}\n")


def visits(folder: Path, data: Path) -> Iterator[tuple[str, dict]]:
    rng, people, steps = np.random.default_rng(0), 20_000, 50
    sex, age, level = rng.random(people) < 0.5, rng.integers(18, 90, people), rng.normal(size=people)
    state, marks, drug, stage = level.copy(), [], np.zeros(people, int), np.zeros(people, int)
    for _ in range(steps):
        state = 0.9 * state + 0.1 * level + 0.3 * rng.normal(size=people)
        drug = np.where(rng.random(people) < 0.1, rng.integers(0, 4, people), drug)
        stage = np.clip(stage + (rng.random(people) < 0.02 + 0.03 * (state > 1)), 0, 3)
        marks.append(
            (state + 0.02 * (age - 50), state**2 + 0.5 * rng.normal(size=people), np.exp(0.3 * state), drug, stage, rng.random(people) < 0.2 + 0.1 * stage)
        )
    a, b, c, drug, stage, flag = (np.stack(m, 1).reshape(-1) for m in zip(*marks, strict=True))
    day = np.cumsum(rng.integers(1, 60, (people, steps)), 1).reshape(-1)
    who = np.repeat(np.arange(people), steps)
    columns = {
        "patient": pa.array([f"P{i:05d}" for i in range(people)]).take(pa.array(who)), "day": pa.array(day.astype("int32")).cast(pa.date32()),
        "sex": np.where(sex, "f", "m")[who], "age": age[who], "a": np.round(a, 2), "b": pa.array(np.round(b, 2), mask=rng.random(len(who)) < 0.1),
        "c": np.round(c, 3), "drug": np.array(list("wxyz"))[drug], "stage": np.array(["0", "I", "II", "III"])[stage], "flag": flag,
    }  # fmt: skip
    pq.write_table(pa.table(columns), folder / "visits.parquet")
    entry = "  source: {series: visits.parquet, subject: patient, time: day}\n  generator: {autoregressive: {minutes: 4}}\n"
    yield f"{people:,} subjects of {steps} steps, autoregressive for 4 minutes", run(folder, f"{entry}  sample: {{subjects: {people}}}\n")
    known = "age: {kind: numeric, low: 0, high: 120}, a: {kind: numeric, low: -10, high: 10}, b: {kind: numeric, low: -10, high: 40}, "
    known += "c: {kind: numeric, low: 0, high: 10}, sex: {kind: category, values: [f, m]}, drug: {kind: category, values: [w, x, y, z]}, "
    known += "stage: {kind: category, values: ['0', I, II, III]}, flag: {kind: boolean}"
    for family in ("marginals", "autoregressive"):
        entry = f"  source: {{series: visits.parquet, subject: patient, time: day, static: [sex, age], columns: {{{known}}}}}\n  generator: {family}\n"
        promised = run(folder, f"{entry}  privacy: {{epsilon: 3, delta: 1.0e-6, steps: {steps}}}\n")
        yield f"the same, {family} at epsilon 3", promised


def images(folder: Path, data: Path) -> Iterator[tuple[str, dict]]:
    """scikit-learn's digits at 64 x 64 pixels, each turned, moved and lit by chance, with grain."""
    from PIL import Image
    from sklearn.datasets import load_digits

    rng, held, count = np.random.default_rng(0), load_digits(), 20_000
    which, made = rng.integers(len(held.target), size=count), np.zeros((count, 64, 64), np.uint8)
    for i, w in enumerate(which):
        one = Image.fromarray((held.images[w] * 15).astype(np.uint8)).resize((56, 56), Image.Resampling.BICUBIC).rotate(rng.normal(0, 8))
        top, left = rng.integers(0, 9, 2)
        made[i, top : top + 56, left : left + 56] = one
    made = (made * rng.uniform(0.6, 1, (count, 1, 1)) + rng.normal(0, 6, made.shape)).clip(0, 255).astype(np.uint8)
    np.savez(folder / "digits64.npz", images=made, labels=held.target[which])
    for generator in ("gmm", "{vae: {minutes: 4}}"):
        entry = f"  source: {{images: digits64.npz, label: digit}}\n  generator: {generator}\n  sample: {{rows: {count}}}\n"
        yield f"{count:,} images of 64 x 64, {generator.strip('{}')}", run(folder, entry)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {"sampling": sampling, "long": long, "wide": wide, "many": many, "visits": visits, "images": images}
    parser.add_argument("--only", nargs="*", default=list(parts), choices=list(parts))
    asked = parser.parse_args()
    if not os.environ.get("LIKENESS_DATA"):
        sys.exit("LIKENESS_DATA is not set, expected a folder with the real tables")
    for name in asked.only:
        with tempfile.TemporaryDirectory() as folder:
            for label, found in parts[name](Path(folder), Path(os.environ["LIKENESS_DATA"]).resolve()):
                print(f"{label}: " + ", ".join(f"{k} {v:,.0f}" if isinstance(v, float) else f"{k} {v}" for k, v in found.items()), flush=True)


if __name__ == "__main__":
    main()
