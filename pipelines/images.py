"""Images: files of many kinds as one table, a column of pixels and what stands beside them, and back to PNG where they are published.

Nothing of a file but its pixels is kept: no EXIF, no comment, no name. Errors name the file, the array or the column, never a pixel.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from generators.data import Column, DataError, image_column
from pipelines import arrays, reading

ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
PARQUET = (".parquet", ".pq")
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
        pixels = arrays.brought(pixels, size)
    elif "://" not in location and path.is_dir() and not _parts(location, root):
        pixels, names = _folder(path, size)
        beside = {label or LABEL: pa.array(names)} if names else {}
    elif location.lower().endswith(".npz"):
        pixels, found = arrays.read(path, location, split, size)
        beside = {label or LABEL: pa.array(found)} if found is not None else {}
    elif "://" in location or "*" in location or path.is_dir() or path.suffix.lower() in PARQUET:
        pixels, beside = _column(location, root, size)
    else:
        found = "a file of another kind" if path.exists() else "no such file or folder"
        raise DataError(f"{location}: {found}, expected a .npz, Parquet ({', '.join(PARQUET)}), or a folder of {', '.join(ENDINGS)}")
    if label is not None and label not in beside:
        raise DataError(f"label: no column {label!r}; beside the images there is {', '.join(beside) or 'nothing'}")
    if max(pixels.shape[1:3]) > SIDE or min(pixels.shape[1:3]) < 4:
        raise DataError(f"images of {pixels.shape[2]} x {pixels.shape[1]} pixels, expected 4 to {SIDE} a side; size: brings them to one")
    name = next(n for n in (IMAGE, *(f"{IMAGE}_{i}" for i in range(len(beside) + 1))) if n not in beside)
    column, values = image_column(name, pixels)
    return pa.table({name: values, **beside}), column


def _parts(location: str, root: Path) -> bool:
    """Whether a folder holds Parquet."""
    return any(p.suffix.lower() in PARQUET for p in (root / Path(location).expanduser()).rglob("*"))


def found(location: str, root: Path) -> bool:
    """Whether a path is that of images: a .npz, Parquet with one column of them, or a folder that holds files of images, and fewer of tables."""
    path = root / Path(location).expanduser()
    if path.is_file() and path.suffix.lower() in PARQUET:
        return _shows(path)
    if not path.is_dir():
        return location.lower().endswith(".npz")
    endings = [p.suffix.lower() for p in path.rglob("*") if p.is_file()]
    shown, tables = (sum(e in kinds for e in endings) for kinds in (ENDINGS, (".parquet", ".pq", ".csv", ".gz")))
    return shown > tables  # of a table beside many images `read` says what to do with it


def _shows(path: Path) -> bool:
    """Whether the first row of a Parquet file shows that one column holds images."""
    try:
        with pq.ParquetFile(path) as file:
            names = [f.name for f in file.schema_arrow if _is_image(f.type)]
            first = next(file.iter_batches(1, columns=names)).to_pylist()[0][names[0]] if len(names) == 1 and file.metadata.num_rows else None
        _opened(path.name, first["bytes"] if isinstance(first, dict) else first)
    except (pa.ArrowException, OSError, DataError, TypeError):
        return False
    return True


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


# files


def _folder(path: Path, size: tuple[int, int] | None) -> tuple[np.ndarray, list[str]]:
    """Pixels, and the name of the folder that each file is in; no names where none is in one."""
    files = _files(path)
    if not files:
        raise DataError(f"{path}: no file in it, expected {', '.join(ENDINGS)}, in one folder for each class or in none")
    deep = [len(p.relative_to(path).parts) for p in files]
    if max(deep) > 2 or min(deep) != max(deep):
        odd = next(p for p, d in zip(files, deep, strict=True) if d > 2 or (d == 1 and max(deep) == 2))
        raise DataError(f"{odd.relative_to(path)}: lies beside class folders or below one, expected every file in a class folder, or none in any")
    return stacked(((str(p.relative_to(path)), p.read_bytes) for p in files), size), [p.parent.name for p in files] if deep[0] == 2 else []


def _files(path: Path) -> list[Path]:
    """All that is no folder, links that lead nowhere too; but not what is hidden, nor what a Mac puts beside the files of an archive."""
    hidden = lambda p: any(part.startswith((".", "__MACOSX")) for part in p.relative_to(path).parts)  # noqa: E731
    return sorted(p for p in path.rglob("*") if not p.is_dir() and not hidden(p))


def _column(location: str, root: Path, size: tuple[int, int] | None) -> tuple[np.ndarray, dict[str, pa.ChunkedArray]]:
    """Of Parquet: the pixels of the one column that holds images, bytes of a file or the struct of bytes and path; and the other columns."""
    values = reading.read(location, root)
    names = [f.name for f in values.schema if _is_image(f.type)]
    if len(names) != 1:
        raise DataError(f"{location}: found {len(names)} columns of images ({', '.join(names) or 'none'}), expected one: bytes, or a struct of bytes and path")
    held = values.column(names[0])
    held = held.cast(held.type.value_type) if pa.types.is_dictionary(held.type) else held
    if not len(held):
        raise DataError(f"{location}: holds no row, expected images")
    raw = pc.struct_field(held, "bytes") if pa.types.is_struct(held.type) else held
    if raw.null_count:
        raise DataError(f"{location}: column {names[0]!r} is empty in {raw.null_count} of {len(raw)} rows, expected the bytes of an image in every row")
    each = ((f"{Path(location).name}, row {i}", value.as_py) for i, value in enumerate(raw, 1))
    return stacked(each, size), {n: values.column(n) for n in values.column_names if n != names[0]}


def _is_image(kind: pa.DataType) -> bool:
    """Bytes, or the struct of bytes and path."""
    if pa.types.is_struct(kind):
        return "bytes" in {kind.field(i).name for i in range(kind.num_fields)}
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_binary(plain) or pa.types.is_large_binary(plain)


def stacked(files: Iterable[tuple[str, Callable[[], bytes]]], size: tuple[int, int] | None) -> np.ndarray:
    """(n, height, width, channels) of files that are all alike."""
    found: list[np.ndarray] = []
    first = ""
    for name, content in files:
        try:
            held = content()
        except OSError as problem:
            raise DataError(f"{name}: cannot be read ({problem.strerror}), expected an image") from None
        one = _opened(name, held)
        one = arrays.sized(one, size) if size else one
        if not found:
            first = name
        elif (one.shape, one.dtype) != (found[0].shape, found[0].dtype):
            sizes = one.shape[:2] != found[0].shape[:2]
            way = "size: [height, width] brings all to one size" if sizes else "expected all grey, or all colour, with as many bits; convert them first"
            raise DataError(f"{name}: {arrays.words(one)}, but {first} {arrays.words(found[0])}; {way}")
        found.append(one)
    return np.stack(found)


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
        raise DataError(f"{name}: a picture of more than {LARGEST:,} pixels, expected at most so many; make it smaller first") from None
    except UnidentifiedImageError:
        what = "a GIF" if content[:4] == b"GIF8" else "not an image"
        raise DataError(f"{name}: {what}, expected {', '.join(FORMATS)}") from None
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
