"""Images: files of many kinds as one table, a column of pixels and what stands beside them, and back to PNG where they are published.

Nothing of a file but its pixels is kept: no EXIF, no comment, no name. Errors name the file, the array or the column, never a pixel.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from generators.data import Column, DataError, image_column
from pipelines import reading
from pipelines.origin import SPLITS

ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
IMAGE, LABEL = "image", "label"  # names of the columns, where the source has none
DIGITS = "digits"  # those that ship inside scikit-learn
LARGEST = 2**24  # pixels of a file that is opened at all
SIDE = 128  # pixels a side that a generator is meant for, at most


def read(location: str, root: Path, size: tuple[int, int] | None = None, label: str | None = None, split: tuple[str, ...] = ()) -> tuple[pa.Table, Column]:
    """The images of a .npz, of Parquet files with a column of images, or of a folder of image files, one folder for each class or none.

    size: (height, width) to which every one is brought; without it all must have one size. label: the column that says which class;
    split: the parts of a .npz that are taken, none for all that it has.
    Raises DataError with the file's name for whatever is no image, or unlike the others.
    """
    path = root / Path(location).expanduser()
    if location == DIGITS and not path.exists():
        pixels, beside = _digits(label)
    elif "://" not in location and path.is_dir() and not _parts(location, root):
        pixels, names = _folder(path, size)
        beside = {label or LABEL: pa.array(names)} if names else {}
    elif location.lower().endswith(".npz"):
        pixels, found = _arrays(path, location, split)
        pixels = np.stack([_sized(one, size) for one in pixels]) if size else pixels
        beside = {label or LABEL: pa.array(found)} if found is not None else {}
    else:
        pixels, beside = _column(location, root, size)
    if label is not None and label not in beside:
        raise DataError(f"label: no column {label!r}; beside the images there is {', '.join(beside) or 'nothing'}")
    if max(pixels.shape[1:3]) > SIDE or min(pixels.shape[1:3]) < 4:
        raise DataError(f"images of {pixels.shape[2]} x {pixels.shape[1]} pixels, expected 4 to {SIDE} a side; size: brings them to one")
    name = next(n for n in (IMAGE, *(f"{IMAGE}_{i}" for i in range(len(beside) + 1))) if n not in beside)
    column, values = image_column(name, pixels)
    return pa.table({name: values, **beside}), column


def _parts(location: str, root: Path) -> bool:
    """Whether a folder holds Parquet."""
    return any(p.suffix.lower() in (".parquet", ".pq") for p in (root / Path(location).expanduser()).rglob("*"))


def found(location: str, root: Path) -> bool:
    """Whether a path is that of images by its name alone: a .npz, or a folder that holds files of images and no table."""
    path = root / Path(location).expanduser()
    if not path.is_dir():
        return location.lower().endswith(".npz")
    endings = {p.suffix.lower() for p in path.rglob("*") if p.is_file()}
    return bool(endings & set(ENDINGS)) and not endings & {".parquet", ".pq", ".csv", ".gz"}


def fingerprint(location: str, root: Path) -> str:
    """sha256 of what is learned from: the bytes of each file, and which class each is in."""
    path, total = root / Path(location).expanduser(), hashlib.sha256()
    if location == DIGITS and not path.exists():
        return hashlib.sha256(_digits(None)[0].tobytes()).hexdigest()
    if "://" in location or (path.suffix.lower() != ".npz" and (not path.is_dir() or _parts(location, root))):
        return reading.fingerprint(location, root)
    for file in [path] if path.is_file() else _files(path):
        part = hashlib.sha256(file.read_bytes()).digest()
        total.update(part + (file.parent.name.encode() if path.is_dir() else b""))
    return total.hexdigest()


def _digits(label: str | None) -> tuple[np.ndarray, dict[str, pa.Array]]:
    from sklearn.datasets import load_digits

    held = load_digits()
    return (held.images * 15.9375).astype(np.uint8)[..., None], {label or LABEL: pa.array(held.target)}


# .npz


def _arrays(path: Path, location: str, split: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels and labels of a .npz, `images` and `labels`, or those of the parts asked for, or of every part that there is."""
    if not path.is_file():
        raise DataError(f"{location}: no such file, expected a .npz")
    try:
        with np.load(path, allow_pickle=False) as file:
            held = {name: file[name] for name in file.files}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError, KeyError):
        raise DataError(f"{path.name}: damaged, or holds Python objects; expected a .npz of plain arrays, images and labels") from None
    for part in split:
        if f"{part}_images" not in held:
            raise DataError(f"{path.name}: holds {', '.join(held) or 'nothing'}, expected {part}_images, as split: asks")
    prefixes = [f"{s}_" for s in SPLITS if f"{s}_images" in held and s in (split or SPLITS)] or [""]
    if "images" not in held and prefixes == [""]:
        raise DataError(f"{path.name}: holds {', '.join(held) or 'nothing'}, expected images and labels, or train_images and train_labels as in MedMNIST")
    pixels = np.concatenate([_whole(held[f"{p}images"], f"{path.name}: {p}images") for p in prefixes])
    labelled = [f"{p}labels" in held for p in prefixes]
    if not all(labelled):
        if any(labelled):
            raise DataError(f"{path.name}: labels for some of its images only, expected them for all or none")
        return pixels, None
    labels = np.concatenate([held[f"{p}labels"].reshape(len(held[f"{p}labels"]), -1) for p in prefixes])
    if labels.shape != (len(pixels), 1):
        raise DataError(f"{path.name}: found labels of shape {labels.shape} for {len(pixels)} images, expected one label for each image")
    return pixels, labels[:, 0]


def _whole(pixels: np.ndarray, where: str) -> np.ndarray:
    """uint8 or uint16, (n, height, width) or (n, height, width, 1 or 3)."""
    if pixels.dtype not in (np.uint8, np.uint16):
        raise DataError(f"{where}: found {pixels.dtype}, expected uint8 or uint16")
    if pixels.ndim not in (3, 4) or (pixels.ndim == 4 and pixels.shape[3] not in (1, 3)):
        raise DataError(f"{where}: found shape {pixels.shape}, expected (images, height, width) or (images, height, width, 1 or 3)")
    return pixels[..., None] if pixels.ndim == 3 else pixels


# files


def _folder(path: Path, size: tuple[int, int] | None) -> tuple[np.ndarray, list[str]]:
    """Pixels, and the name of the folder that each file is in; no names where none is in one."""
    files = _files(path)
    if not files:
        raise DataError(f"{path}: no file in it, expected {', '.join(ENDINGS)}, in one folder for each class or in none")
    deep = [len(p.relative_to(path).parts) for p in files]
    if max(deep) > 2 or min(deep) != max(deep):
        odd = next(p for p, d in zip(files, deep, strict=True) if d > 2 or d != max(deep))
        raise DataError(f"{odd.relative_to(path)}: lies beside class folders or below one, expected every file in a class folder, or none in any")
    return stacked(((str(p.relative_to(path)), p.read_bytes) for p in files), size), [p.parent.name for p in files] if deep[0] == 2 else []


def _files(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file() and not any(part.startswith(".") for part in p.relative_to(path).parts))


def _column(location: str, root: Path, size: tuple[int, int] | None) -> tuple[np.ndarray, dict[str, pa.ChunkedArray]]:
    """Of Parquet: the pixels of the one column that holds images, bytes of a file or the struct of bytes and path; and the other columns."""
    values = reading.read(location, root)
    names = [f.name for f in values.schema if pa.types.is_binary(f.type) or pa.types.is_large_binary(f.type) or _is_struct(f.type)]
    if len(names) != 1:
        raise DataError(f"{location}: found {len(names)} columns of images ({', '.join(names) or 'none'}), expected one: bytes, or a struct of bytes and path")
    held = values.column(names[0])
    raw = pc.struct_field(held, "bytes") if pa.types.is_struct(held.type) else held
    if raw.null_count:
        raise DataError(f"{location}: column {names[0]!r} is empty in {raw.null_count} of {len(raw)} rows, expected the bytes of an image in every row")
    each = ((f"{Path(location).name}, row {i}", value.as_py) for i, value in enumerate(raw, 1))
    return stacked(each, size), {n: values.column(n) for n in values.column_names if n != names[0]}


def _is_struct(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and "bytes" in {kind.field(i).name for i in range(kind.num_fields)}


def stacked(files: Iterable[tuple[str, Callable[[], bytes]]], size: tuple[int, int] | None) -> np.ndarray:
    """(n, height, width, channels) of files that are all alike."""
    found: list[np.ndarray] = []
    first = ""
    for name, content in files:
        one = _opened(name, content())
        one = _sized(one, size) if size else one
        if not found:
            first = name
        elif one.shape[:2] != found[0].shape[:2]:
            raise DataError(f"{name}: {_words(one)}, but {first} {_words(found[0])}; size: [height, width] brings all to one size")
        elif (one.shape, one.dtype) != (found[0].shape, found[0].dtype):
            raise DataError(f"{name}: {_words(one)}, but {first} {_words(found[0])}; expected all grey, or all colour, with as many bits; convert them first")
        found.append(one)
    return np.stack(found)


def _words(pixels: np.ndarray) -> str:
    height, width, channels = pixels.shape
    return f"is {width} x {height}, {8 * pixels.dtype.itemsize} bits, {'grey' if channels == 1 else 'colour'}"


def _opened(name: str, content: bytes) -> np.ndarray:
    """Pixels (height, width, 1 or 3), uint8 or uint16. Raises DataError for what is no image, or none that stands still."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not content:
        raise DataError(f"{name}: empty, expected an image")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > LARGEST:
                raise DataError(f"{name}: {image.width} x {image.height} pixels, expected at most {LARGEST:,} in all; make it smaller first")
            if getattr(image, "n_frames", 1) > 1:
                raise DataError(f"{name}: {image.n_frames} pictures in one file (animated, or pages), expected one")
            image.load()
            return _pixels(name, ImageOps.exif_transpose(image))
    except DataError:
        raise
    except Image.DecompressionBombError:
        raise DataError(f"{name}: a picture of more than {LARGEST:,} pixels, expected a smaller one") from None
    except UnidentifiedImageError:
        raise DataError(f"{name}: not an image, expected {', '.join(FORMATS)}") from None
    except Exception as error:  # whatever a damaged file makes a decoder do
        raise DataError(f"{name}: damaged ({type(error).__name__}), expected a whole image") from None


def _pixels(name: str, image: Any) -> np.ndarray:
    mode = image.mode
    if mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema()[0] < 255:
            raise DataError(f"{name}: partly transparent, expected an opaque picture; put it on a background first")
        image = image.convert("L" if mode == "LA" else "RGB")
    elif mode in ("P", "CMYK", "YCbCr", "HSV", "LAB"):
        image = image.convert("RGB")
    elif mode == "1":
        image = image.convert("L")
    if image.mode in ("L", "RGB"):
        found = np.asarray(image)
        return found[..., None] if found.ndim == 2 else found
    if image.mode.startswith("I"):
        found = np.asarray(image).astype(np.int64)
        if found.min() >= 0 and found.max() < 2**16:
            return found.astype(np.uint16)[..., None]
    raise DataError(f"{name}: pixels of mode {image.mode}, expected 8 or 16 bits of grey, or 8 of red, green and blue; convert it first")


def _sized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(height, width, channels) brought to a size, each pixel the mean of those that it covers, or between those that it lies between."""
    from PIL import Image

    if pixels.shape[:2] == size:
        return pixels
    planes = [Image.fromarray(pixels[..., c].astype(np.float32), "F").resize(size[::-1], Image.Resampling.LANCZOS) for c in range(pixels.shape[2])]
    return np.stack([np.asarray(p) for p in planes], -1).round().clip(0, np.iinfo(pixels.dtype).max).astype(pixels.dtype)
