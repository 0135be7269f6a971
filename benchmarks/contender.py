"""One generator on one table, whoever made it: `python contender.py NAME TRAIN.parquet OUT.parquet --rows N --seed N`.

Prints {"fit_s", "sample_s", "peak_mb", "version"} on its last line. A peer is run by the Python of its own virtual environment.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pandas as pd

Fitted = Callable[[int], pd.DataFrame]  # draws so many rows


def likeness(family: str, train: Path, seed: int, epsilon: float | None = None, delta: float | None = None) -> Fitted:
    """With (epsilon, delta) under differential privacy: kinds are those found here, and nothing else is declared."""
    from pipelines import Synthesizer, mechanism, read

    model = Synthesizer(family, seed=seed)
    model.fit(read(str(train)), mechanism=mechanism(model, epsilon, delta) if epsilon else None)
    return lambda rows: model.sample(rows).values.to_pandas()


def mostlyai(name: str, train: Path, seed: int) -> Fitted:
    """The engine of MOSTLY AI with its defaults."""
    from mostlyai.engine import TabularARGN

    model = TabularARGN(workspace_dir=tempfile.mkdtemp(), random_state=seed, verbose=0)
    model.fit(pd.read_parquet(train))
    return lambda rows: model.sample(n_samples=rows)


def sdv(name: str, train: Path, seed: int) -> Fitted:
    """A synthesizer of SDV with its defaults: sdv-gaussiancopula, sdv-ctgan, sdv-tvae."""
    import numpy as np
    import torch
    from sdv.metadata import Metadata
    from sdv.single_table import CTGANSynthesizer, GaussianCopulaSynthesizer, TVAESynthesizer

    np.random.seed(seed)
    torch.manual_seed(seed)
    frame = pd.read_parquet(train)
    metadata = Metadata.detect_from_dataframes({"t": frame})
    kind = {"gaussiancopula": GaussianCopulaSynthesizer, "ctgan": CTGANSynthesizer, "tvae": TVAESynthesizer}[name.removeprefix("sdv-")]
    model = kind(metadata)
    model.fit({"t": frame})
    return lambda rows: model.sample(rows)["t"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("train", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epsilon", type=float)
    parser.add_argument("--delta", type=float, default=1e-6)
    asked = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parents[1]))
    how, package = (sdv, "sdv") if asked.name.startswith("sdv") else (mostlyai, "mostlyai-engine") if asked.name == "mostlyai-engine" else (likeness, "torch")
    start = time.monotonic()
    draw = how(asked.name, asked.train, asked.seed, **({"epsilon": asked.epsilon, "delta": asked.delta} if asked.epsilon else {}))
    fitted = time.monotonic()
    rows = draw(asked.rows)
    drawn = time.monotonic()
    rows.to_parquet(asked.out)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(
        json.dumps({"fit_s": fitted - start, "sample_s": drawn - fitted, "peak_mb": peak, "version": f"{package} {version(package)}", "cores": os.cpu_count()})
    )


if __name__ == "__main__":
    main()
