"""Arrays of a .npz as images and labels, of all parts or of some; and images brought to one size."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from generators.data import DataError
from pipelines.origin import SPLITS


def read(path: Path, location: str, split: tuple[str, ...], size: tuple[int, int] | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels and labels of a .npz, `images` and `labels`, or those of the parts asked for, or of every part that there is."""
    if not path.is_file():
        raise DataError(f"{location}: no such file, expected a .npz")
    names, _ = _held(path, ())
    for part in split:
        if f"{part}_images" not in names:
            raise DataError(f"{path.name}: holds {', '.join(names) or 'nothing'}, expected {part}_images, as split: asks")
    parts = [f"{s}_" for s in SPLITS if f"{s}_images" in names]
    if parts and "images" in names:
        raise DataError(f"{path.name}: holds images and {parts[0]}images, expected one or the other")
    parts = [p for p in parts if p[:-1] in (split or SPLITS)] or [""]
    if "images" not in names and parts == [""]:
        raise DataError(f"{path.name}: holds {', '.join(names) or 'nothing'}, expected images and labels, or train_images and train_labels as in MedMNIST")
    names, held = _held(path, [f"{p}{what}" for p in parts for what in ("images", "labels")])
    pixels = [_whole(held[f"{p}images"], f"{path.name}: {p}images", size) for p in parts]
    _alike(path.name, "images", parts, [(x.dtype, *x.shape[1:]) for x in pixels], [f"{x.dtype}, {words(x[0])}" if len(x) else "none" for x in pixels])
    labelled = [f"{p}labels" in names for p in parts]
    if not all(labelled):
        if any(labelled):
            raise DataError(f"{path.name}: labels for some of its images only, expected them for all or none")
        return np.concatenate(pixels), None
    labels = [_labels(held[f"{p}labels"], len(x), f"{path.name}: {p}labels") for p, x in zip(parts, pixels, strict=True)]
    _alike(path.name, "labels", parts, [y.dtype.kind for y in labels], [str(y.dtype) for y in labels])
    return np.concatenate(pixels), np.concatenate(labels)


def _held(path: Path, wanted: Iterable[str]) -> tuple[list[str], dict[str, np.ndarray]]:
    """The names of the arrays of a .npz, and those that are wanted and there."""
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in wanted if name in file.files}
            names = list(file.files)
    except Exception as error:  # whatever a damaged file makes a decoder do
        raise _damaged(path, type(error).__name__) from None
    for array in found.values():
        if not isinstance(array, np.ndarray):
            raise _damaged(path, type(array).__name__)
    return names, found


def _damaged(path: Path, what: str) -> DataError:
    return DataError(f"{path.name}: damaged, or holds Python objects ({what}); expected a .npz of plain arrays, images and labels")


def _alike(name: str, what: str, parts: list[str], kinds: list, words: list[str]) -> None:
    """Raises DataError where a part of a .npz is unlike the first."""
    for part, kind, said in zip(parts, kinds, words, strict=True):
        if kind != kinds[0]:
            raise DataError(f"{name}: {part}{what}: {said}, but {parts[0]}{what}: {words[0]}; expected all alike, or split: for some of them")


def _labels(labels: np.ndarray, count: int, where: str) -> np.ndarray:
    """(count,) whole numbers, words or whatever else an Arrow column holds."""
    if labels.shape not in ((count,), (count, 1)):
        raise DataError(f"{where}: found shape {labels.shape} for {count} images, expected one label for each image")
    if labels.dtype.kind not in "iubfUSM":
        raise DataError(f"{where}: found {labels.dtype}, expected whole numbers or words")
    labels = labels.reshape(count)
    try:
        return np.char.decode(labels, "utf-8") if labels.dtype.kind == "S" else labels
    except UnicodeDecodeError:
        raise DataError(f"{where}: words that are not UTF-8, expected whole numbers or words in UTF-8") from None


def _whole(pixels: np.ndarray, where: str, size: tuple[int, int] | None) -> np.ndarray:
    """uint8 or uint16, (n, height, width) or (n, height, width, 1 or 3), as (n, height, width, channels) of this size."""
    if pixels.dtype not in (np.uint8, np.uint16):
        raise DataError(f"{where}: found {pixels.dtype}, expected uint8 or uint16")
    if pixels.ndim not in (3, 4) or (pixels.ndim == 4 and pixels.shape[3] not in (1, 3)):
        raise DataError(f"{where}: found shape {pixels.shape}, expected (images, height, width) or (images, height, width, 1 or 3)")
    if 0 in pixels.shape[1:]:
        raise DataError(f"{where}: found shape {pixels.shape}, expected images of at least one pixel")
    return brought(pixels[..., None] if pixels.ndim == 3 else pixels, size)


def brought(pixels: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """(n, height, width, channels), all of this size."""
    return np.stack([sized(one, size) for one in pixels]) if size and len(pixels) else pixels


def sized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(height, width, channels) brought to a size, each pixel the mean of those that it covers, or between those that it lies between."""
    from PIL import Image

    if pixels.shape[:2] == size:
        return pixels
    planes = [Image.fromarray(pixels[..., c].astype(np.float32), "F").resize(size[::-1], Image.Resampling.LANCZOS) for c in range(pixels.shape[2])]
    return np.stack([np.asarray(p) for p in planes], -1).round().clip(0, np.iinfo(pixels.dtype).max).astype(pixels.dtype)


def words(pixels: np.ndarray) -> str:
    height, width, channels = pixels.shape
    return f"is {width} x {height}, {8 * pixels.dtype.itemsize} bits, {'grey' if channels == 1 else 'colour'}"
