"""How long the attacks of every run take: `python benchmarks/attacks.py [--rows 30000] [--repeat 3]` prints the README's lines.

Needs LIKENESS_DATA, a folder with adult_train.csv. A mixture learns so many rows of adult and draws as many; then every attack is run as a run does, on one
split, the median of some repeats.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

import privacy
from generators.synthesizer import Synthesizer
from pipelines.config import Source
from pipelines.sources import load

HELD = 0.25  # as in a run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=30_000)
    parser.add_argument("--repeat", type=int, default=3)
    asked = parser.parse_args()
    if not os.environ.get("LIKENESS_DATA"):
        sys.exit("LIKENESS_DATA is not set, expected a folder with adult_train.csv")
    table = load(Source("table", "adult_train.csv", "income"), root=Path(os.environ["LIKENESS_DATA"]))
    table = table.take(np.sort(np.random.default_rng(0).permutation(len(table))[: asked.rows]))
    held = np.random.default_rng(1).random(len(table)) < HELD
    train, holdout = table.take(~held), table.take(held)
    made = Synthesizer("gmm").fit(train, avoid=holdout).sample(asked.rows)
    print(f"{len(train):,} rows learned from, {len(holdout):,} held out, {len(made):,} drawn, {os.cpu_count()} cores, seconds: median of {asked.repeat}")
    total = 0.0
    for metric, judge in privacy.JUDGES.items():
        if metric in privacy.OF_SERIES:
            continue
        seconds = []
        for _ in range(asked.repeat):
            start = time.monotonic()
            judge(train, holdout, made)
            seconds.append(time.monotonic() - start)
        total += statistics.median(seconds)
        print(f"{metric}: {statistics.median(seconds):.1f}", flush=True)
    print(f"all: {total:.1f}")


if __name__ == "__main__":
    main()
