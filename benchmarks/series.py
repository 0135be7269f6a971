"""Families of series side by side: `python benchmarks/series.py [--data pbc2 ecg5000] [--only hmm autoregressive] [--keep FOLDER]`.

Needs LIKENESS_DATA, a folder with pbc2.csv and ecg5000.parquet. Two fifths of the subjects are held out. Everybody runs with the
defaults, one after the other. Figures are those of the product's own judges (README: Checks); first what real series get: the
held-out ones, and the training series themselves, copied, which every judge of likeness loves and every attack finds.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1]))

from generators.data import Table
from generators.registry import OF_SERIES
from generators.synthesizer import Synthesizer
from pipelines import sources
from pipelines.config import Source
from pipelines.gates import METRICS

DATA = {
    "pbc2": Source("series", "pbc2.csv", "status", "id", {"histologic": {"kind": "category"}}, "year"),
    "ecg5000": Source("series", "ecg5000.parquet", "beat", "recording", {}, "sample"),
}
SHOWN = {
    "fidelity.detection": "detection", "fidelity.coverage": "coverage", "fidelity.shape": "shape", "fidelity.course": "course",
    "fidelity.autocorrelation": "autocorrelation", "fidelity.spectrum": "spectrum", "fidelity.crosscorrelation": "cross-correlation",
    "fidelity.dependence": "dependence", "fidelity.missingness": "missing", "fidelity.timing": "timing", "utility.target": "utility",
    "privacy.membership": "membership", "privacy.copies": "copies",
}  # fmt: skip


def halves(source: Source, data: Path, seed: int) -> tuple[Table, Table]:
    """(train, holdout): three fifths of the subjects, and the rest."""
    table = sources.load(source, root=data)
    chosen = np.random.default_rng(seed).permutation(len(table.lengths)) < 0.6 * len(table.lengths)
    return table.take(chosen[table.subjects]), table.take(~chosen[table.subjects])


def line(name: str, figures: list[float], *seconds: float) -> str:
    return f"| {name} | " + " | ".join([f"{v:.3f}" for v in figures] + [f"{s:.1f}" for s in seconds] + [""] * (2 - len(seconds))) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="*", default=list(DATA), choices=list(DATA))
    parser.add_argument("--only", nargs="*", default=list(OF_SERIES), choices=list(OF_SERIES))
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where train, holdout and every synthetic dataset stay")
    asked = parser.parse_args()
    if not os.environ.get("LIKENESS_DATA"):
        sys.exit("LIKENESS_DATA is not set, expected a folder with the real series")
    for name in asked.data:
        train, holdout = halves(DATA[name], Path(os.environ["LIKENESS_DATA"]), 0)
        print(f"\n{name}: {len(train.lengths)} subjects to learn from, {len(holdout.lengths)} held out, {os.cpu_count()} cores\n")
        print(f"| | {' | '.join(SHOWN.values())} | fit s | draw s |\n|{'---|' * (len(SHOWN) + 3)}", flush=True)
        copied = [METRICS[m](train, holdout, train) for m in SHOWN]
        print(line("held-out series", [s.yardstick for s in copied]) + "\n" + line("training series, copied", [s.value for s in copied]), flush=True)
        for family in asked.only:
            begin = time.monotonic()
            model = Synthesizer(family).fit(train, avoid=holdout)
            fitted = time.monotonic()
            made = model.sample(len(train.lengths))
            drawn = time.monotonic()
            print(line(family, [METRICS[m](train, holdout, made).value for m in SHOWN], fitted - begin, drawn - fitted), flush=True)
            if asked.keep:
                asked.keep.mkdir(parents=True, exist_ok=True)
                for part, table in (("train", train), ("holdout", holdout), (family, made)):
                    pq.write_table(table.values, asked.keep / f"{name}-{part}.parquet")


if __name__ == "__main__":
    main()
