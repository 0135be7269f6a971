"""Families of images side by side: `python benchmarks/images.py [--data digits enlarged] [--only gmm vae] [--balance] [--epsilon 1 3] [--keep FOLDER]`.

scikit-learn's digits (1,400 to learn from, 397 held out); the same as 8,000 images of 28 x 28 pixels, each turned and moved in its own way
("enlarged"); and where LIKENESS_DATA holds pneumoniamnist.npz, its own parts "train" and "test".
Everybody runs with the defaults, one after the other, and draws as many images as there were to learn from.

    fid_cnn, fid_pca   Frechet distance to held-out images, of what a network sees that learned the real labels, and of 64 main directions
    density, coverage  in how many held-out images' neighbourhoods a synthetic one lies, of five; share of held-out images that have one near
    tstr               accuracy on held-out images of a network that learned from synthetic ones; beside the first row that of real ones
    nearest            median distance, in pixels, to the nearest training image, by that to the nearest held-out one; far below 1: copies
As many of each are compared. First what real images get: the training images themselves, copied, which every judge of likeness loves; and
images of a normal density for each class, a control that needs no generator. With --epsilon families that can learn under differential privacy do so,
three times each, and the median of each figure is shown: noise has no seed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
from scipy.ndimage import affine_transform
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

sys.path.insert(0, str(Path(__file__).parents[1]))

from generators.building import private
from generators.data import Column, Schema, Table, image_column, pixels_of
from generators.layout import ImageLayout
from generators.registry import OF_IMAGES
from generators.synthesizer import Synthesizer
from pipelines.promise import mechanism
from validation.coverage import covered
from validation.images import dense, distance
from validation.pictures import Look, kinds, shown, through, trained

FIGURES = ("fid_cnn", "fid_pca", "density", "coverage", "tstr", "nearest")
MOST = 2000  # of each that are compared
RARE, FREQUENT = 100, 1000  # images of two classes, where what balancing is worth is asked


def table(pixels: np.ndarray, labels: np.ndarray) -> Table:
    column, values = image_column("image", pixels)
    arrow = pa.table({"image": values, "label": pa.array(labels.reshape(-1).astype(np.int64))})
    return Table(arrow, Schema(arrow.schema, (column, Column("label", "category")), target="label"))


def digits() -> tuple[Table, Table]:
    from sklearn.datasets import load_digits

    held = load_digits()
    order = np.random.default_rng(0).permutation(len(held.target))
    both = table((held.images[order] * 15.9375).astype(np.uint8), held.target[order])
    return both.take(np.arange(1400)), both.take(np.arange(1400, len(order)))


def pneumonia() -> tuple[Table, Table]:
    with np.load(Path(os.environ["LIKENESS_DATA"]) / "pneumoniamnist.npz") as file:
        return tuple(table(file[f"{part}_images"], file[f"{part}_labels"]) for part in ("train", "test"))


def enlarged() -> tuple[Table, Table]:
    """8,000 digits of 28 x 28 pixels to learn from and 2,000 held out: scikit-learn's, each enlarged, turned, slanted, stretched and moved in its own way."""
    rng = np.random.default_rng(0)

    def several(some: Table, n: int) -> Table:
        which = rng.integers(len(some), size=n)
        turn, slant, wide, tall = (rng.normal(0, spread, n) for spread in (0.15, 0.15, 0.08, 0.08))
        turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]).transpose(2, 0, 1)
        places = np.array([[1 + tall, slant], [0 * slant, 1 + wide]]).transpose(2, 0, 1) @ turned * (8 / 24)
        moved = rng.normal(0, 0.3, (n, 2))
        out = np.empty((n, 28, 28), np.uint8)
        for i, one in enumerate(pixels_of(some)[which, ..., 0].astype(float)):
            out[i] = affine_transform(one, places[i], 3.5 - places[i] @ [13.5, 13.5] + moved[i], (28, 28), order=3, cval=0).clip(0, 255).round()
        return table(out, some.column("label").to_numpy()[which])

    train, holdout = digits()
    return several(train, 8000), several(holdout, 2000)


DATA = {"digits": digits, "pneumoniamnist": pneumonia, "enlarged": enlarged}


def normal(train: Table, rng: np.random.Generator) -> Table:
    """Of each class as many as there are, from a normal density over the directions that hold 99 % of what varies."""
    x, y = pixels_of(train).reshape(len(train), -1).astype(float), train.column("label").to_numpy()
    made, told = [], []
    for label in np.unique(y):
        turn = PCA(0.99, svd_solver="full").fit(x[y == label])
        some = turn.inverse_transform(rng.normal(size=((y == label).sum(), turn.n_components_)) * turn.explained_variance_**0.5)
        made.append(some.round().clip(0, 255).astype(np.uint8).reshape(-1, *pixels_of(train).shape[1:]))
        told += [label] * len(some)
    return table(np.concatenate(made), np.array(told))


class Judge:
    """Knows the real images; `figures` of synthetic ones."""

    def __init__(self, train: Table, holdout: Table):
        self.train, self.holdout, self.look = train, holdout, Look.of(train)
        self.pca = PCA(min(64, len(train)), random_state=0).fit(self.flat(train))
        self.real = self.accuracy(self.look.net, self.look.names)

    def flat(self, images: Table) -> np.ndarray:
        return shown(images).flatten(1).numpy()

    def accuracy(self, net, names: list[str]) -> float:
        return float((through(net, shown(self.holdout)).argmax(1) == kinds(self.holdout, names)[0].numpy()).mean())

    def figures(self, made: Table) -> dict[str, float]:
        rng, size = np.random.default_rng(0), min(MOST, len(made), len(self.train), len(self.holdout))
        t, h, m = (some.take(rng.permutation(len(some))[:size]) for some in (self.train, self.holdout, made))
        seen, other = (self.look.features(some).astype(float) for some in (h, m))
        near = [np.median(NearestNeighbors(n_neighbors=1).fit(self.flat(some)).kneighbors(self.flat(m))[0]) for some in (t, h)]
        y, names = kinds(made)
        return {
            "fid_cnn": distance(seen, other),
            "fid_pca": distance(*(self.pca.transform(self.flat(some)) for some in (h, m))),
            "density": float(dense(seen, other).mean()),
            "coverage": float(covered(seen, other).mean()),
            "tstr": self.accuracy(trained(shown(made), y, len(names), 0), names),
            "nearest": float(near[0] / near[1]),
        }


def line(name: str, found: dict[str, float], *seconds: float) -> str:
    return f"| {name} | " + " | ".join([*(f"{found[k]:.3f}" for k in FIGURES), *(f"{s:.1f}" for s in seconds), *[""] * (3 - len(seconds))]) + " |"


def balanced(data: str, families: list[str], arguments: dict) -> None:
    """A class of RARE and another of FREQUENT images: what a classifier learns from those alone, and with synthetic ones of the rare class beside them."""
    train, holdout = DATA[data]()
    y, rng = train.column("label").to_numpy(), np.random.default_rng(0)
    rare, frequent = np.unique(y)[:2]
    few = train.take(np.concatenate([rng.permutation(np.flatnonzero(y == k))[:n] for k, n in ((rare, RARE), (frequent, FREQUENT))]))
    known = np.isin(holdout.column("label").to_numpy(), [rare, frequent])
    x, truth = shown(holdout.take(known)), holdout.take(known).column("label").to_numpy() == frequent

    def said(name: str, images: Table, *seconds: float) -> None:
        """The median of three networks."""
        told, names = kinds(images)
        right = [through(trained(shown(images), told, len(names), seed), x).argmax(1) == truth for seed in range(3)]
        each = np.median([[r[~truth].mean(), r[truth].mean(), (r[~truth].mean() + r[truth].mean()) / 2] for r in right], axis=0)
        print(f"| {name} | " + " | ".join([*(f"{v:.3f}" for v in each), f"{seconds[0]:.1f}" if seconds else ""]) + " |", flush=True)

    print(f"\n{data}: {RARE} images of one class and {FREQUENT} of another; {(~truth).sum()} and {truth.sum()} held out\n")
    print("| learned from | rare class | other class | mean | fit s |\n|---|---|---|---|---|", flush=True)
    said("real images", few)
    said("real ones, the rare class ten times", few.take(np.concatenate([np.arange(len(few)), np.tile(np.arange(RARE), FREQUENT // RARE - 1)])))
    for family in families:
        begin = time.monotonic()
        model = Synthesizer(family, **arguments if family != "gmm" else {}).fit(few)
        seconds = time.monotonic() - begin
        made = model.sample(2 * FREQUENT, balance="label", seed=1)
        of = made.column("label").to_numpy()
        assert (of == rare).sum() == (of == frequent).sum() == FREQUENT
        more = made.take(np.flatnonzero(of == rare)[: FREQUENT - RARE])
        said(f"synthetic ones alone, {FREQUENT:,} of each ({family})", made, seconds)
        said(f"real ones, and {FREQUENT - RARE} synthetic of the rare class ({family})", Table(pa.concat_tables([few.values, more.values]), few.schema))


def keep(folder: Path | None, name: str, **arrays: Table) -> None:
    """As .npz: for a part its images and labels."""
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        parts = {f"{p}_images".lstrip("_"): pixels_of(t).squeeze(-1) for p, t in arrays.items()} | {
            f"{p}_labels".lstrip("_"): t.column("label").to_numpy() for p, t in arrays.items()
        }
        np.savez(folder / f"{name}.npz", **parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="*", default=list(DATA), choices=list(DATA))
    parser.add_argument("--only", nargs="*", default=list(OF_IMAGES), choices=list(OF_IMAGES))
    parser.add_argument("--minutes", type=float, help="a time budget for each family that has one")
    parser.add_argument("--balance", action="store_true", help=f"of two classes with {RARE} and {FREQUENT} images, what synthetic ones help a classifier")
    parser.add_argument("--epsilon", type=float, nargs="*", default=[], help="under differential privacy, at so much and --delta")
    parser.add_argument("--delta", type=float, default=1e-6)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where the real images and every synthetic dataset stay")
    asked = parser.parse_args()
    if "pneumoniamnist" in asked.data and not os.environ.get("LIKENESS_DATA"):
        sys.exit("LIKENESS_DATA is not set, expected a folder with pneumoniamnist.npz; or say --data digits enlarged")
    arguments = {"minutes": asked.minutes} if asked.minutes else {}
    for name in asked.data:
        if asked.balance:
            balanced(name, asked.only, arguments)
            continue
        train, holdout = DATA[name]()
        judge = Judge(train, holdout)
        keep(asked.keep, f"{name}-real", train=train, test=holdout)
        print(f"\n{name}: {len(train)} images to learn from, {len(holdout)} held out; a network that learned from real ones: {judge.real:.3f}\n")
        print(f"| | {' | '.join(FIGURES)} | fit s | CPU s | draw s |\n|{'---|' * (len(FIGURES) + 4)}", flush=True)
        for control, made in (("training images, copied", train), ("a normal density for each class", normal(train, np.random.default_rng(0)))):
            print(line(control, judge.figures(made)), flush=True)
        for epsilon, family in product(asked.epsilon, private(ImageLayout)):
            found, seconds = [], []
            for seed in range(3):
                begin, model = time.monotonic(), Synthesizer(family)
                model.fit(train, mechanism=mechanism(model, epsilon, asked.delta))
                seconds.append(time.monotonic() - begin)
                found.append(judge.figures(model.sample(len(train), seed=seed)))
            middle = {k: float(np.median([f[k] for f in found])) for k in FIGURES}
            print(line(f"{family}, epsilon {epsilon:g}", middle, float(np.median(seconds))), flush=True)
        for family in asked.only if not asked.epsilon else []:
            begin, spent = time.monotonic(), time.process_time()
            model = Synthesizer(family, **arguments if family != "gmm" else {}).fit(train)
            fitted, spent = time.monotonic(), time.process_time() - spent
            made = model.sample(len(train), seed=1)
            drawn = time.monotonic()
            print(line(family, judge.figures(made), fitted - begin, spent, drawn - fitted), flush=True)
            keep(asked.keep, f"{name}-{family}", **{"": made})


if __name__ == "__main__":
    main()
