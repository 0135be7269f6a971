"""Small images for tests: scikit-learn's digits, and pictures of two kinds that are easy to tell."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from sklearn.datasets import load_digits

from generators.data import Column, Schema, Table, image_column


def digits(n: int = 600, first: int = 0) -> Table:
    """8 x 8 grey digits in 256 levels, and which they are."""
    held = load_digits()
    return table((held.images[first : first + n] * 15.9).astype(np.uint8), held.target[first : first + n])


def stripes(n: int = 240, side: int = 12, channels: int = 1, bits: int = 8, seed: int = 0) -> Table:
    """Pictures with stripes across ("flat") or up ("steep"), at any place, in noise."""
    rng = np.random.default_rng(seed)
    kind, phase = rng.integers(0, 2, n), rng.uniform(0, 2 * np.pi, (n, 1, 1))
    wave = np.sin(2 * np.pi * np.arange(side) / 6 + phase)
    x = np.where(kind[:, None, None] == 1, wave, wave.transpose(0, 2, 1)) * 0.4 + 0.5 + np.zeros((1, side, side))
    x = (x[..., None] + rng.normal(0, 0.03, (n, side, side, channels))).clip(0, 1)
    return table((x * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16), np.array(["flat", "steep"])[kind])


def table(pixels: np.ndarray, labels: np.ndarray | None = None) -> Table:
    """labels: words or numbers; None: there are none."""
    column, values = image_column("image", pixels)
    held = {"image": values} | ({} if labels is None else {"label": pa.array(labels)})
    arrow = pa.table(held)
    columns = (column, *([] if labels is None else [Column("label", "category")]))
    return Table(arrow, Schema(arrow.schema, columns, target=None if labels is None else "label"))
