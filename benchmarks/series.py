"""Families of series side by side: `python benchmarks/series.py [--data pbc2 ecg5000] [--only hmm autoregressive] [--keep FOLDER]`.

Needs LIKENESS_DATA, a folder with pbc2.csv, ecg5000.parquet and stocks.csv. Two fifths of the subjects are held out; of stocks, one
long series in windows of 24 days, the second half of the years. Everybody runs with the defaults, one after the other;
`--rare-below 2 --balance` asks for as many beats of every class that two hold. `--only sdv-par` is what SDV has for series.
Figures are those of series_judges.py. First what real series get: the training series themselves, copied, which every judge of likeness
loves; and controls that need no generator: pieces of other series put together (block bootstrap), and where all series are of one
length, a mixture of Gaussians over principal directions of whole series, for each label that is frequent.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.series_judges import FIGURES, figures
from generators.data import Table
from generators.registry import OF_SERIES
from generators.synthesizer import Synthesizer
from pipelines import sources
from pipelines.config import Source
from pipelines.series import by_calendar

BLOCK, FREQUENT = 10, 30  # steps of a piece, and series of a label that a mixture is fitted to
LABELLED = ("ecg5000",)  # whose target is a class of whole series
DATA = {
    "pbc2": Source("series", "pbc2.csv", "status", "id", {"histologic": {"kind": "category"}}, "year"),
    "ecg5000": Source("series", "ecg5000.parquet", "beat", "recording", {}, "sample"),
    "stocks": Source("series", "stocks.csv", None, None, {}, None, 24, 1),
}
PEER = "sdv-par"
MANY = 8000  # series that are drawn to see how what stays goes with what changes


def halves(source: Source, data: Path, seed: int) -> tuple[Table, Table]:
    """(train, holdout): three fifths of the subjects, and the rest; of windows, the first half of the series and the second."""
    table = sources.load(source, root=data)
    if source.window:
        return by_calendar(table, 0.5, source.window, source.stride or source.window)
    chosen = np.random.default_rng(seed).permutation(len(table.lengths)) < 0.6 * len(table.lengths)
    return table.take(chosen[table.subjects]), table.take(~chosen[table.subjects])


def pieces(train: Table, rng: np.random.Generator) -> Table:
    """What stays and the times of one subject, and the steps, BLOCK in a row, of others at the same place."""
    first = np.cumsum(train.lengths) - train.lengths
    whose = rng.integers(len(first), size=len(first))
    rows = np.concatenate([np.arange(first[i], first[i] + train.lengths[i]) for i in whose])
    lengths = train.lengths[whose]
    own, at = np.repeat(np.arange(len(whose)), lengths), np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    block = np.unique(own * 10**6 + at // BLOCK, return_inverse=True)[1]
    donor = rng.integers(len(first), size=block.max() + 1)[block]
    donor = np.where(train.lengths[donor] > at, donor, whose[own])  # one that is so long
    schema, stays = train.schema, (train.schema.subject, train.schema.time, *train.schema.static)
    values = {n: train.column(n).take(pa.array(rows if n in stays else first[donor] + at)) for n in schema.arrow.names}
    values[schema.subject] = pa.chunked_array([pa.array(own).cast(schema.arrow.field(schema.subject).type)])
    return Table(pa.Table.from_arrays([values[n] for n in schema.arrow.names], schema=schema.arrow), schema)


def mixture(train: Table, seed: int) -> Table | None:
    """None where series are not of one length, or hold anything but numbers and perhaps one label that stays, or no label is frequent."""
    schema, steps = train.schema, int(train.lengths.max())
    moving = schema.changing()
    if (
        train.lengths.min() < steps
        or schema.static not in ((), (schema.target,))
        or any(schema[n].kind != "numeric" or train.column(n).null_count for n in moving)
    ):
        return None
    x = np.stack([train.column(n).to_numpy().astype(float).reshape(-1, steps) for n in moving], 2).reshape(len(train.lengths), -1)
    label = np.array(train.column(schema.target).to_pylist() if schema.target else ["all"] * len(train), dtype=object)[::steps]
    made, told = [], []
    for value in dict.fromkeys(label):
        some = x[label == value]
        if len(some) >= FREQUENT:
            turn = PCA(0.99, svd_solver="full").fit(some)
            gaussians = GaussianMixture(min(8, len(some) // 15), random_state=seed, reg_covar=1e-3).fit(turn.transform(some))
            made.append(turn.inverse_transform(gaussians.sample(len(some))[0]))
            told += [value] * len(some)
    if not made:
        return None
    made = np.concatenate(made).reshape(-1, steps, len(moving))
    whole = [pa.types.is_integer(schema.arrow.field(n).type) for n in moving]
    columns = {n: (made[:, :, i].round() if whole[i] else made[:, :, i]).reshape(-1) for i, n in enumerate(moving)}
    columns |= {schema.subject: np.repeat(np.arange(len(made)), steps), schema.time: np.tile(train.column(schema.time).to_numpy()[:steps], len(made))}
    if schema.target:
        columns[schema.target] = pa.array(told).take(pa.array(np.repeat(np.arange(len(made)), steps)))
    return Table(pa.table([pa.array(columns[n]).cast(schema.arrow.field(n).type) for n in schema.arrow.names], schema=schema.arrow), schema)


def par(train: Table) -> Callable[..., pd.DataFrame]:
    """SDV's probabilistic autoregressive model (PAR) with its defaults. It is told what stays, and what is a number; it knows no labels to draw by."""
    from sdv.metadata import Metadata
    from sdv.sequential import PARSynthesizer

    schema, frame = train.schema, train.values.to_pandas()
    metadata = Metadata.detect_from_dataframes({"series": frame})
    for name in schema.arrow.names:
        kind = "id" if name == schema.subject else {"numeric": "numerical", "datetime": "datetime"}.get(schema[name].kind, "categorical")
        metadata.update_column(name, "series", sdtype=kind)
    metadata.set_sequence_key(schema.subject)
    metadata.set_sequence_index(schema.time)
    np.random.seed(0)
    torch.manual_seed(0)
    model = PARSynthesizer(metadata, context_columns=list(schema.static) or None)
    model.fit({"series": frame})

    def draw(count: int, seed: int, balance: None = None) -> pd.DataFrame:
        np.random.seed(seed)
        torch.manual_seed(seed)
        made = model.sample_sequences(num_sequences=count)["series"]
        return made.astype({n: frame[n].dtype for n in frame if made[n].dtype != frame[n].dtype and not made[n].isna().any()})

    return draw


def ours(family: str, train: Table, holdout: Table, rare_below: int) -> Callable[..., pd.DataFrame]:
    model = Synthesizer(family, rare_below=rare_below).fit(train, avoid=holdout)
    return lambda count, seed, balance=None: model.sample(count, seed=seed, balance=balance).values.to_pandas()


def line(name: str, found: dict[str, float], *seconds: float) -> str:
    cells = ["" if np.isnan(found[k]) else f"{found[k]:.3f}" for k in FIGURES]
    return f"| {name} | " + " | ".join([*cells, *(f"{s:.1f}" for s in seconds), *[""] * (2 - len(seconds))]) + " |"


def keep(folder: Path | None, name: str, part: str, table: Table | pd.DataFrame) -> None:
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.values if isinstance(table, Table) else pa.Table.from_pandas(table, preserve_index=False), folder / f"{name}-{part}.parquet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="*", default=list(DATA), choices=list(DATA))
    parser.add_argument("--only", nargs="*", default=list(OF_SERIES), choices=[*OF_SERIES, PEER])
    parser.add_argument("--seed", type=int, default=0, help="of the split")
    parser.add_argument("--rare-below", type=int, default=10)
    parser.add_argument("--balance", action="store_true", help="draw as many series of every label")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where train, holdout and every synthetic dataset stay")
    asked = parser.parse_args()
    if not os.environ.get("LIKENESS_DATA"):
        sys.exit("LIKENESS_DATA is not set, expected a folder with the real series")
    for name in asked.data:
        train, holdout = halves(DATA[name], Path(os.environ["LIKENESS_DATA"]), asked.seed)
        schema, label = train.schema, train.schema.target if name in LABELLED else None

        def judged(made: Table | pd.DataFrame, many: pd.DataFrame | None = None, train=train, holdout=holdout, schema=schema, label=label) -> dict[str, float]:
            frames = (t.values.to_pandas() if isinstance(t, Table) else t for t in (train, holdout, made))
            return figures(*frames, schema.subject, schema.time, label, many)

        print(f"\n{name}: {len(train.lengths)} subjects to learn from, {len(holdout.lengths)} held out, {os.cpu_count()} cores\n")
        print(f"| | {' | '.join(FIGURES)} | fit s | draw s |\n|{'---|' * (len(FIGURES) + 3)}", flush=True)
        print(line("training series, copied", judged(train)), flush=True)
        for control, made in (("pieces of other series", pieces(train, np.random.default_rng(0))), ("Gaussians over series", mixture(train, 0))):
            if made is not None:
                print(line(control, judged(made)), flush=True)
                keep(asked.keep, name, control.replace(" ", "-"), made)
        for part, table in (("train", train), ("holdout", holdout)):
            keep(asked.keep, name, part, table)
        for family in asked.only:
            begin = time.monotonic()
            draw = par(train) if family == PEER else ours(family, train, holdout, asked.rare_below)
            fitted = time.monotonic()
            made = draw(len(train.lengths), 0, label if asked.balance else None)
            drawn = time.monotonic()
            print(line(family, judged(made, draw(MANY, 1)), fitted - begin, drawn - fitted), flush=True)
            keep(asked.keep, name, family, made)


if __name__ == "__main__":
    main()
