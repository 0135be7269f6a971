"""The main job on real tables, end to end: `python benchmarks/main_job.py [adult support2 mammography]` prints the README's table.

Needs LIKENESS_DATA, a folder with adult_train.csv, adult_test.csv, support2.csv and mammography.csv. Each run is a process
of its own in an empty project; peak memory is that of the process. The median of `--repeat` runs is printed, with the
figures of the last one, by our own judges: errors are 100 (1 - score).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ENTRIES = {
    "adult": "source: {{table: {data}/adult_train.csv, target: income}}\n  holdout: {{table: {data}/adult_test.csv}}\n  sample: {{rows: 32561}}",
    "support2": "source: {{table: {data}/support2.csv, target: hospdead}}",
    "mammography": "source: {{table: {data}/mammography.csv, target: malignant}}",
}
ROOT = Path(__file__).parents[1]


def once(name: str, data: str) -> dict:
    """One run in an empty project. Seconds and MB beside what the run reported."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "flows.yaml").write_text(f"{name}:\n  {ENTRIES[name].format(data=data)}\n")
        command = [sys.executable, "-m", "pipelines", "run", name, "--json"]
        start = time.monotonic()
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        out = process.stdout.read()
        _, _, used = os.wait4(process.pid, 0)
        wall = time.monotonic() - start
        result = json.loads(out.strip().splitlines()[-1])
        facts = json.loads(Path(folder, result["run"], "facts.json").read_text())
    scores = {s["name"]: s for s in facts["scores"]}
    return {
        "verdict": result["verdict"], "rows": result["rows"], "run s": wall, "fit s": facts["fit"]["seconds"],
        "overhead s": wall - sum(facts["steps"].values()), "peak MB": used.ru_maxrss / 1024,
        "shape err": 100 * (1 - scores["fidelity.shape"]["value"]), "pair err": 100 * (1 - scores["fidelity.dependence"]["value"]),
        "detection": scores["fidelity.detection"]["value"], "utility": scores["utility.target"]["value"],
        "membership": scores["privacy.membership"]["value"], "attribute": scores["privacy.attribute"]["value"],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="of " + ", ".join(ENTRIES) + "; all by default")
    parser.add_argument("--repeat", type=int, default=3)
    asked = parser.parse_args()
    if not os.environ.get("LIKENESS_DATA"):
        sys.exit("LIKENESS_DATA is not set, expected a folder with the real tables")
    heads: list[str] = []
    for name in asked.names or ENTRIES:
        runs = [once(name, os.environ["LIKENESS_DATA"]) for _ in range(asked.repeat)]
        row = {k: statistics.median(r[k] for r in runs) if k.endswith((" s", "MB")) else v for k, v in runs[-1].items()}
        if not heads:
            heads = ["table", *row]
            print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads), flush=True)
        print(
            "| "
            + " | ".join([name, *(f"{v:.3g}" if isinstance(v, float) and v < 100 else f"{v:.0f}" if isinstance(v, float) else str(v) for v in row.values())])
            + " |",
            flush=True,
        )
    print(f"\nmedian of {asked.repeat} runs, {os.cpu_count()} cores, Python {sys.version.split()[0]}")


if __name__ == "__main__":
    main()
