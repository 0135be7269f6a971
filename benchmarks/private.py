"""What differential privacy costs: `python benchmarks/private.py [--table adult] [--epsilon 1 3] [--only NAME ...] [--repeat 3] [--keep FOLDER]`.

Needs LIKENESS_DATA, as tables.py does, by whose judges everything here is measured. Each family that keeps (epsilon, delta) learns the table
with its defaults, one after the other, each in a process of its own; kinds of columns are taken as declared, and nothing else is. Noise has no
seed, so the median over `--repeat` fits is shown, and the least and the largest figure of use. Prints the README's table.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.tables import TARGETS, contend, table  # noqa: E402

SHOWN = ("mle", "shape_err", "trend_err", "c2st_lr", "dcr")


def main() -> None:
    from generators.building import private
    from generators.layout import Layout

    able = private(Layout)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", default="adult", help=f"of {', '.join(TARGETS)}, or FILE:TARGET")
    parser.add_argument("--epsilon", type=float, nargs="+", default=[1.0, 3.0])
    parser.add_argument("--delta", type=float, default=1e-6)
    parser.add_argument("--only", nargs="*", default=able, choices=able)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where train, holdout and every synthetic table stay")
    asked = parser.parse_args()
    train, holdout, target = table(asked.table, 0)
    print(
        f"\n{asked.table}, delta {asked.delta:g}: median of {asked.repeat}\n\n| epsilon | family | mle | of which least and most | "
        + " | ".join([*SHOWN[1:], "fit s"])
        + " |"
    )
    print("|" + "---|" * (len(SHOWN) + 4), flush=True)
    for epsilon in asked.epsilon:
        for family in asked.only:
            keep = asked.keep and asked.keep.resolve() / f"{epsilon:g}"
            if keep:
                keep.mkdir(parents=True, exist_ok=True)
                train.to_parquet(keep / "train.parquet"), holdout.to_parquet(keep / "holdout.parquet")
            told = ("--epsilon", str(epsilon), "--delta", str(asked.delta))
            try:
                found = [contend(family, train, holdout, target, seed, keep, *told) for seed in range(asked.repeat)]
            except RuntimeError as problem:
                print(f"| {epsilon:g} | {family} | {problem} |", flush=True)
                continue
            middle = {k: statistics.median(f[k] for f in found) for k in (*SHOWN, "fit_s")}
            span = f"{min(f['mle'] for f in found):.3f} to {max(f['mle'] for f in found):.3f}"
            cells = [f"{middle['mle']:.3f}", span, *(f"{middle[k]:.3f}" for k in SHOWN[1:]), f"{middle['fit_s']:.0f}"]
            print(f"| {epsilon:g} | {family} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
