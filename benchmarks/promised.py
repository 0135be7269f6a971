"""Runs under differential privacy, as a user declares and starts them: `python benchmarks/promised.py [--only pbc2 pneumoniamnist]`.

Needs LIKENESS_DATA, a folder with pbc2.csv and pneumoniamnist.npz. Prints for each the seconds of its fit, its verdict, and what was past its bound.
Noise has no seed: another call prints other figures.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PBC2 = """
  source:
    series: DATA/pbc2.csv
    subject: id
    time: year
    static: [years, status, drug, age, sex, status2]
    columns:
      year: {low: 0, high: 16}
      years: {kind: numeric, low: 0, high: 16}
      status: {kind: category, values: [alive, dead, transplanted]}
      drug: {kind: category, values: [D-penicil, placebo]}
      age: {kind: numeric, low: 20, high: 90}
      sex: {kind: category, values: [female, male]}
      ascites: {kind: category, values: ["Yes", "No"]}
      hepatomegaly: {kind: category, values: ["Yes", "No"]}
      spiders: {kind: category, values: ["Yes", "No"]}
      edema: {kind: category, values: [No edema, edema no diuretics, edema despite diuretics]}
      serBilir: {kind: numeric, low: 0, high: 100}
      serChol: {kind: numeric, low: 0, high: 4000}
      albumin: {kind: numeric, low: 0, high: 10}
      alkaline: {kind: numeric, low: 0, high: 20000}
      SGOT: {kind: numeric, low: 0, high: 2000}
      platelets: {kind: numeric, low: 0, high: 2000}
      prothrombin: {kind: numeric, low: 5, high: 50}
      histologic: {kind: category, values: [1, 2, 3, 4]}
      status2: {kind: category, values: [0, 1]}
  holdout: 0.4
  privacy: {epsilon: 3, delta: 1.0e-4, steps: 16}
"""
XRAYS = """
  source: {images: DATA/pneumoniamnist.npz, label: label, split: [train, val]}
  holdout: {images: DATA/pneumoniamnist.npz, label: label, split: test}
  privacy: {epsilon: 3, delta: 1.0e-6}
"""
ENTRIES = {"pbc2": (PBC2, ("marginals", "autoregressive")), "pneumoniamnist": (XRAYS, ("gmm",))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(ENTRIES), choices=list(ENTRIES))
    asked = parser.parse_args()
    if not os.environ.get("LIKENESS_DATA"):
        sys.exit("LIKENESS_DATA is not set, expected a folder with the real data")
    for name in asked.only:
        entry, families = ENTRIES[name]
        for family in families:
            with tempfile.TemporaryDirectory() as folder:
                text = entry.replace("DATA", str(Path(os.environ["LIKENESS_DATA"]).resolve()))
                Path(folder, "flows.yaml").write_text(f"{name}:{text}  generator: {family}\n")
                command = [sys.executable, "-m", "pipelines", "run", name, "--json"]
                done = subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
                if done.returncode > 1:
                    sys.exit(done.stderr)
                result = json.loads(done.stdout.strip().splitlines()[-1])
                facts = json.loads(Path(folder, result["run"], "facts.json").read_text())
                learned, seconds = facts["source"]["train_subjects"], facts["fit"]["seconds"]
                print(f"{name}, {family}, {learned:,} subjects, fit {seconds:.1f} s: {result['verdict']}, {len(result['reasons'])} reasons", flush=True)
                for reason in result["reasons"]:
                    print(f"  {reason.split(' [')[0]}", flush=True)


if __name__ == "__main__":
    main()
