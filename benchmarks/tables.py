"""Our families and our peers side by side: `python benchmarks/tables.py [--tables adult support2 my.csv:target] [--only NAME ...]`.

Needs LIKENESS_DATA, a folder with adult_train.csv, adult_test.csv and support2.csv, or a table of yours, FILE:TARGET. A
quarter of a table is held out; of adult, the test file. Everybody runs with the defaults, one after the other, each in a
process of its own; a peer in a virtual environment of its own under benchmarks/.venvs, made when it is first needed. Prints
the README's tables: the median over `--repeat` seeds, each with a quarter of its own held out, and first each figure's
floor, which is what real training rows drawn again score.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.judges import FIGURES, figures  # noqa: E402

OURS = ("autoregressive", "gmm", "flow", "vae", "gan", "diffusion", "marginals")
PEERS = {"mostlyai-engine": "mostlyai-engine==2.7.*", "sdv-gaussiancopula": "sdv==2.0.*", "sdv-ctgan": "sdv==2.0.*", "sdv-tvae": "sdv==2.0.*"}
TARGETS = {"adult": "income", "support2": "hospdead", "mammography": "malignant"}
UNUSED = ("torchvision", "torchaudio")  # wanted by a peer, used for no table, and often of another build than its torch
LONGEST = 3600  # seconds that one contender may take


def table(name: str, seed: int) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """(rows to learn from, held-out rows, target) of a table of TARGETS, or of FILE:TARGET."""
    file, _, target = name.rpartition(":")
    if not file and name not in TARGETS:
        sys.exit(f"--tables: {name!r} is none of {', '.join(TARGETS)}, expected one of them or FILE:TARGET")
    if not file and not os.environ.get("LIKENESS_DATA"):
        sys.exit("LIKENESS_DATA is not set, expected a folder with the real tables")
    needed = Path(file) if file else Path(os.environ["LIKENESS_DATA"], "adult_train.csv" if name == "adult" else f"{name}.csv")
    if not needed.is_file():
        sys.exit(f"--tables: {name}: no file {needed}")
    data = Path(os.environ.get("LIKENESS_DATA", ""))
    if name == "adult":
        return pd.read_csv(data / "adult_train.csv"), pd.read_csv(data / "adult_test.csv"), TARGETS[name]
    frame = pd.read_csv(file or data / f"{name}.csv").drop(columns="sno", errors="ignore")  # a number of the row
    target = target if file else TARGETS[name]
    if target not in frame:
        sys.exit(f"--tables: {name}: no column {target!r}; the columns are {', '.join(frame)}")
    order = np.random.default_rng(seed).permutation(len(frame))
    held = len(frame) // 4
    return frame.iloc[order[held:]].reset_index(drop=True), frame.iloc[order[:held]].reset_index(drop=True), target


def python_of(name: str) -> str:
    """The Python that runs a contender."""
    if name not in PEERS:
        return sys.executable
    folder = HERE / ".venvs" / PEERS[name].split("=")[0]
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        venv.create(folder, with_pip=True, clear=True)
        pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", PEERS[name], "pyarrow"], check=True)
        subprocess.run([*pip, "uninstall", "--yes", *UNUSED], check=True)
        (folder / "ready").touch()
    return str(python)


def contend(name: str, train: pd.DataFrame, holdout: pd.DataFrame, target: str, seed: int, keep: Path | None, *more: str) -> dict[str, float]:
    """All figures of one contender, and its seconds; raises RuntimeError where it failed. keep: a folder for what it drew; more: that it is told"""
    with tempfile.TemporaryDirectory() as folder:
        real, made = Path(folder, "train.parquet"), (keep or Path(folder)) / f"{name}.parquet"
        train.to_parquet(real)
        command = [python_of(name), str(HERE / "contender.py"), name, str(real), str(made), "--rows", str(len(train)), "--seed", str(seed), *more]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST, cwd=folder)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"not done after {LONGEST} s") from None
        if done.returncode:
            raise RuntimeError((done.stderr.strip().splitlines() or ["no word"])[-1])
        spent = json.loads(done.stdout.strip().splitlines()[-1])
        return figures(train, holdout, pd.read_parquet(made), target) | spent


def rows(name: str, contenders: list[str], repeat: int, keep: Path | None) -> Iterator[tuple[str, dict | str]]:
    """(contender, median figures or what went wrong), the floor first."""
    splits = [table(name, seed) for seed in range(repeat)]
    folders: list[Path | None] = [None] * repeat
    if keep:
        folders = [keep.resolve() / Path(name.rpartition(":")[0] or name).stem / str(seed) for seed in range(repeat)]
        for folder, (train, holdout, _) in zip(folders, splits, strict=True):
            folder.mkdir(parents=True, exist_ok=True)
            train.to_parquet(folder / "train.parquet"), holdout.to_parquet(folder / "holdout.parquet")
    drawn = [figures(train, holdout, train.sample(len(train), replace=True, random_state=s), target) for s, (train, holdout, target) in enumerate(splits)]
    yield "real rows drawn again", {k: statistics.median(d[k] for d in drawn) for k in FIGURES}
    for contender in contenders:
        try:
            found = [contend(contender, *split, seed, folder) for seed, (split, folder) in enumerate(zip(splits, folders, strict=True))]
            yield contender, {k: statistics.median(f[k] for f in found) for k in (*FIGURES, "fit_s", "sample_s", "peak_mb")}
        except RuntimeError as problem:
            yield contender, str(problem)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="*", default=["adult", "support2"], metavar="TABLE", help=f"of {', '.join(TARGETS)}, or FILE:TARGET")
    parser.add_argument("--only", nargs="*", default=[*OURS, *PEERS], metavar="NAME", choices=[*OURS, *PEERS], help="of " + ", ".join([*OURS, *PEERS]))
    parser.add_argument("--repeat", type=int, default=1, help="seeds, and so splits, of which the median is shown")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where train, holdout and every synthetic table stay")
    asked = parser.parse_args()
    if asked.repeat < 1:
        parser.error(f"--repeat: found {asked.repeat}, expected 1 or more")
    for name in asked.tables:
        table(name, 0)  # so that what is wrong with any of them is said first
    for name in asked.tables:
        print(f"\n{name}: median of {asked.repeat}, {os.cpu_count()} cores\n")
        print("| | " + " | ".join([*FIGURES, "fit s", "sample s", "peak MB"]) + " |\n|" + "---|" * (len(FIGURES) + 4), flush=True)
        floor: dict[str, float] = {}
        for contender, found in rows(name, asked.only, asked.repeat, asked.keep):
            if isinstance(found, str):
                print(f"| {contender} | {found} |" + " |" * (len(FIGURES) + 2), flush=True)
                continue
            floor = floor or found
            cells = [f"{found[k]:.3f}" + (f" ({found[k] - floor[k]:+.3f})" if found is not floor else "") for k in FIGURES]
            spent = [f"{found[k]:.{d}f}" if k in found else "" for k, d in (("fit_s", 1), ("sample_s", 1), ("peak_mb", 0))]
            print(f"| {contender} | " + " | ".join([*cells, *spent]) + " |", flush=True)


if __name__ == "__main__":
    main()
