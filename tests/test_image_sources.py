"""Images from files of every kind, to PNG and back, and whatever is no image, in plain words."""

import io
import json
import zipfile

import numpy as np
import pandas as pd
import pictures
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from generators.data import DataError, pixels_of
from pipelines import read
from pipelines.pictures import published, raw


def png(pixels: np.ndarray, kind: str = "PNG", **more) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **more)
    return out.getvalue()


def some(n: int = 120, side: int = 12, colour: bool = False, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3) if colour else (n, side, side)).astype(np.uint8)


def folder(path, pixels: np.ndarray, classes=("cat", "dog"), kind: str = "PNG"):
    for i, one in enumerate(pixels):
        place = path / classes[i % len(classes)] if classes else path
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i:03d}.{kind.lower()}").write_bytes(png(one, kind))
    return path


def test_arrays_as_medmnist_names_them_and_plain_ones(tmp_path):
    x, y, parts = some(400), np.arange(400) % 3, {"train": slice(150), "val": slice(150, 250), "test": slice(250, 400)}
    np.savez(tmp_path / "a.npz", images=x, labels=y)
    np.savez(tmp_path / "b.npz", **{f"{p}_images": x[at] for p, at in parts.items()}, **{f"{p}_labels": y[at, None] for p, at in parts.items()})
    for name in ("a.npz", "b.npz"):
        data = read(tmp_path / name, images=True, label="kind")
        assert (pixels_of(data)[..., 0] == x).all() and data.column("kind").to_pylist() == y.tolist()
        assert data.schema.image.options == {"height": 12, "width": 12, "channels": 1, "bits": 8} and data.schema["kind"].kind == "category"
    for split, rows in (("test", parts["test"]), (["train", "val"], slice(250)), ("val", parts["val"])):
        data = read(tmp_path / "b.npz", images=True, label="kind", split=split)
        assert (pixels_of(data)[..., 0] == x[rows]).all() and data.column("kind").to_pylist() == y[rows].tolist()
    np.savez(tmp_path / "c.npz", images=x)
    assert read(tmp_path / "c.npz", images=True).schema.arrow.names == ["image"]
    with pytest.raises(DataError, match=r"c\.npz: holds images, expected test_images, as split: asks"):
        read(tmp_path / "c.npz", images=True, split="test")
    with pytest.raises(DataError, match="split: found 'tset', did you mean 'test'"):
        read(tmp_path / "b.npz", images=True, split="tset")


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_a_folder_for_each_class(tmp_path, kind, colour):
    x = some(colour=colour)
    data = read(folder(tmp_path / "f", x, kind=kind), images=True, label="animal")
    names = data.column("animal").to_pylist()
    assert names == ["cat"] * 60 + ["dog"] * 60
    assert (pixels_of(data).squeeze() == np.concatenate([x[::2], x[1::2]])).all()


def test_a_folder_without_classes_and_jpegs(tmp_path):
    data = read(folder(tmp_path / "f", some(), classes=None, kind="JPEG"), images=True)
    assert data.schema.arrow.names == ["image"] and pixels_of(data).shape == (120, 12, 12, 1)


@pytest.mark.parametrize("struct", [True, False])
def test_parquet_with_a_column_of_images(tmp_path, struct):
    x = some(colour=True)
    held = [{"bytes": png(one), "path": None} for one in x] if struct else [png(one) for one in x]
    age = np.random.default_rng(1).normal(50, 10, 120)
    pq.write_table(pa.table({"scan": pa.array(held), "sick": ["yes", "no"] * 60, "age": age}), tmp_path / "x.parquet")
    data = read(tmp_path / "x.parquet", images=True, label="sick")
    assert (pixels_of(data) == x).all() and data.schema["sick"].kind == "category" and data.schema["age"].kind == "numeric"


def test_sixteen_bits(tmp_path):
    x = np.random.default_rng(0).integers(0, 2**16, (120, 9, 7)).astype(np.uint16)
    data = read(folder(tmp_path / "f", x), images=True, label="label")
    assert (pixels_of(data)[..., 0] == np.concatenate([x[::2], x[1::2]])).all() and data.schema.image.options["bits"] == 16
    assert (pixels_of(data.take(np.arange(100, 40, -7))) == pixels_of(data)[100:40:-7]).all()


def test_size_brings_all_to_one_size(tmp_path):
    (tmp_path / "f").mkdir()
    for i in range(120):
        (tmp_path / "f" / f"{i}.png").write_bytes(png(np.full((10 + i % 3, 20), i, np.uint8)))
    with pytest.raises(DataError, match=r"is 20 x 11, 8 bits, grey, but .*size: \[height, width\] brings all to one size"):
        read(tmp_path / "f", images=True)
    data = read(tmp_path / "f", images=True, size=(8, 8))
    assert pixels_of(data).shape == (120, 8, 8, 1) and sorted(np.unique(pixels_of(data))) == list(range(120))


def test_the_picture_is_turned_as_its_exif_says_and_nothing_else_of_it_is_kept(tmp_path):
    pixels, exif = np.arange(96, dtype=np.uint8).reshape(8, 12), Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "JOHN DOE 1950"
    (tmp_path / "f").mkdir()
    for i in range(120):
        (tmp_path / "f" / f"DOE_{i}.png").write_bytes(png(pixels, exif=exif))
    data = read(tmp_path / "f", images=True)
    assert (pixels_of(data)[0, :, :, 0] == np.rot90(pixels, -1)).all()
    pq.write_table(published(data), tmp_path / "out.parquet", compression="none")
    assert b"DOE" not in (tmp_path / "out.parquet").read_bytes()


@pytest.mark.parametrize(("channels", "bits"), [(1, 8), (3, 8), (1, 16)])
def test_what_is_published_holds_every_pixel_and_says_that_it_is_images(channels, bits):
    data = pictures.stripes(channels=channels, bits=bits)
    values = published(data)
    assert raw(values, data.schema).equals(data.values)
    features = json.loads(values.schema.metadata[b"huggingface"])["info"]["features"]
    assert features == {"image": {"_type": "Image"}, "label": {"dtype": "string", "_type": "Value"}}
    first = values.column("image")[0].as_py()
    assert set(first) == {"bytes", "path"} and first["path"] is None and Image.open(io.BytesIO(first["bytes"])).format == "PNG"


def whole(tmp_path):
    return folder(tmp_path / "f", some())


def damaged(path):
    path.write_bytes(path.read_bytes()[:60])


def moving(path):
    frames = [Image.fromarray(one) for one in some(3)]
    frames[0].save(path, "PNG", save_all=True, append_images=frames[1:])


def see_through(path):
    Image.fromarray(np.zeros((12, 12, 4), np.uint8), "RGBA").save(path, "PNG")


BAD_FILES = {
    "empty": (lambda p: p.write_bytes(b""), "cat/000.png: empty, expected an image"),
    "cut off": (damaged, "cat/000.png: damaged"),
    "text": (lambda p: p.write_bytes(b"patient Doe"), "cat/000.png: not an image, expected PNG, JPEG, TIFF, BMP"),
    "animated": (moving, r"cat/000.png: 3 pictures in one file \(animated, or pages\), expected one"),
    "transparent": (see_through, "cat/000.png: partly transparent"),
    "colour among grey": (lambda p: p.write_bytes(png(some(1, colour=True)[0])), "is 12 x 12, 8 bits, grey, but cat/000.png is 12 x 12, 8 bits, colour"),
    "another size": (lambda p: p.write_bytes(png(some(1, 14)[0])), r"is 12 x 12, 8 bits, grey, but cat/000.png is 14 x 14, .*size: \[height, width\]"),
    "huge": (lambda p: p.write_bytes(png(np.zeros((5000, 5000), np.uint8))), "cat/000.png: 5000 x 5000 pixels, expected at most 16,777,216"),
    "a gif": (lambda p: p.write_bytes(b"GIF89a" + bytes(20)), "cat/000.png: a GIF, expected PNG, JPEG, TIFF, BMP"),
    "a bomb": (lambda p: p.write_bytes(png(np.zeros((20_000, 20_000), np.uint8))), "cat/000.png: a picture of more than 16,777,216 pixels"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_named(tmp_path, name):
    make, words = BAD_FILES[name]
    make(whole(tmp_path) / "cat" / "000.png")
    with pytest.raises(DataError, match=words) as found:
        read(tmp_path / "f", images=True, label="label")
    assert "Doe" not in str(found.value)


def arrays(path, **held):
    np.savez(path / "x.npz", **held)
    return path / "x.npz"


def parts(path, sides=(12, 12), kinds=(np.uint8, np.uint8), labels=(60, 60), words=(int, int)):
    held = {f"{part}_images": some(60, side).astype(kind) for part, side, kind in zip(("train", "val"), sides, kinds, strict=True)}
    told = {f"{part}_labels": (np.arange(n) % 2).astype(kind) for part, n, kind in zip(("train", "val"), labels, words, strict=True)}
    return arrays(path, **held, **told)


def beside(path, name: str):
    (path / name).parent.mkdir(parents=True, exist_ok=True)
    (path / name).write_bytes(png(some(1)[0]))
    return path


def lost(path):
    (path / "cat" / "lost.png").symlink_to(path / "nowhere.png")
    return path


def spoiled(path):
    np.savez_compressed(path / "x.npz", images=some(), labels=np.arange(120) % 2)
    held = bytearray((path / "x.npz").read_bytes())
    held[400:440] = bytes(40)
    (path / "x.npz").write_bytes(held)
    return path / "x.npz"


def renamed(path):
    np.save(path / "x.npy", some())
    return (path / "x.npy").rename(path / "x.npz")


def claiming(path):
    """A header that promises more than any machine holds."""
    with zipfile.ZipFile(path / "x.npz", "w") as file, file.open("images.npy", "w") as array:
        np.lib.format.write_array_header_1_0(array, {"descr": "|u1", "fortran_order": False, "shape": (10**11, 1000)})
    return path / "x.npz"


def nothing(path):
    pq.write_table(pa.table({"x": pa.array([], pa.binary())}), path / "x.parquet")
    return path / "x.parquet"


BAD_SOURCES = [
    (lambda p: arrays(p, images=some(), labels=np.arange(60) % 2), r"x.npz: labels: found shape \(60,\) for 120 images, expected one label for each"),
    (lambda p: arrays(p, images=some(), labels=np.r_[np.arange(119) % 2, 7]), "label: 1 of 3 classes have one image alone"),
    (lambda p: arrays(p, images=some(), labels=np.zeros(120)), "label: column 'label' holds one class or none"),
    (lambda p: arrays(p, pictures=some()), "x.npz: holds pictures, expected images and labels, or train_images"),
    (lambda p: arrays(p, images=some().astype(float)), "x.npz: images: found float64, expected uint8 or uint16"),
    (lambda p: arrays(p, images=some()[:, 0]), r"x.npz: images: found shape \(120, 12\), expected"),
    (lambda p: arrays(p, train_images=some(), train_labels=np.arange(120) % 2, test_images=some()), "labels for some of its images only"),
    (lambda p: arrays(p, images=some(40), labels=np.arange(40) % 2), "found 40 images, expected at least 100"),
    (lambda p: arrays(p, images=some(side=200), labels=np.arange(120) % 2), "images of 200 x 200 pixels, expected 4 to 128 a side; size:"),
    (lambda p: arrays(p, images=some()), "label: no column 'label'; beside the images there is nothing"),
    (lambda p: p / "nothing.npz", "nothing.npz: no such file, expected a .npz"),
    (lambda p: folder(p / "deep" / "er" / "f", some()).parents[1], "lies beside class folders or below one"),
    (lambda p: beside(folder(p / "f", some()), "cat/in/zz.png"), r"cat/in/zz\.png: lies beside class folders or below one"),
    (lambda p: beside(folder(p / "f", some()), "zz.png"), r"f: zz\.png: lies beside class folders or below one"),
    (lambda p: lost(folder(p / "f", some())), r"cat/lost\.png: cannot be read"),
    (lambda p: parts(p, labels=(59, 61)), r"x\.npz: train_labels: found shape \(59,\) for 60 images"),
    (lambda p: parts(p, kinds=(np.uint8, np.uint16)), r"val_images: uint16, is 12 x 12, 16 bits, grey, but train_images: uint8"),
    (lambda p: parts(p, sides=(12, 9)), r"val_images: uint8, is 9 x 9, 8 bits, grey, but train_images: uint8, is 12 x 12"),
    (lambda p: parts(p, words=(int, str)), r"val_labels: <U\d+, but train_labels: int64; expected all alike"),
    (lambda p: arrays(p, images=some(), train_images=some()), "holds images and train_images, expected one or the other"),
    (lambda p: arrays(p, images=some(), labels=np.array(3)), r"found shape \(\) for 120 images"),
    (lambda p: arrays(p, images=some(), labels=np.ones(120, complex)), "found complex128, expected whole numbers or words"),
    (lambda p: arrays(p, images=np.zeros((120, 0, 8), np.uint8)), r"found shape \(120, 0, 8\), expected images of at least one pixel"),
    (lambda p: arrays(p, images=some()[:0], labels=np.arange(0)), "found 0 images, expected at least 100"),
    (lambda p: spoiled(p), "damaged, or holds Python objects"),
    (lambda p: renamed(p), "damaged, or holds Python objects"),
    (lambda p: claiming(p), "damaged, or holds Python objects"),
    (lambda p: nothing(p), "holds no row, expected images"),
    (lambda p: p / "nowhere", r"nowhere: no such file or folder, expected a \.npz, Parquet"),
]


def test_bytes_are_words_and_size_brings_parts_and_digits_to_one_size(tmp_path):
    y = np.array([b"cat", b"dog"])[np.arange(120) % 2]
    assert read(arrays(tmp_path, images=some(), labels=y), images=True, label="kind").column("kind").to_pylist()[:2] == ["cat", "dog"]
    assert pixels_of(read(parts(tmp_path, sides=(12, 9)), images=True, size=(8, 8))).shape == (120, 8, 8, 1)
    assert pixels_of(read("digits", images=True, size=np.int64(16))).shape == (1797, 16, 16, 1)
    with pytest.raises(DataError, match="found ndarray, expected a path, a URL, the name of a dataset or a pandas DataFrame"):
        read(some(), images=True)
    with pytest.raises(DataError, match="DataFrame: found beside images=True"):
        read(pd.DataFrame({"a": range(200)}), images=True)


def test_bytes_of_few_values_days_and_what_a_mac_leaves_beside(tmp_path):
    files = pa.array([png(one) for one in some()])
    days = pa.array(np.arange(120) % 5, pa.int32()).cast(pa.date32())
    pq.write_table(pa.table({"x": files.dictionary_encode(), "kind": np.arange(120) % 2, "day": days}), tmp_path / "x.parquet")
    data = read(tmp_path / "x.parquet", images=True, label="kind")
    assert (pixels_of(data)[..., 0] == some()).all()
    features = json.loads(published(data).schema.metadata[b"huggingface"])["info"]["features"]
    assert features["day"] == {"dtype": "date32", "_type": "Value"} and {"_type": "Image"} in features.values()
    place = beside(folder(tmp_path / "f", some()), "__MACOSX/zz.png")
    assert set(read(place, images=True, label="kind").column("kind").to_pylist()) == {"cat", "dog"}


@pytest.mark.parametrize(("make", "words"), BAD_SOURCES)
def test_a_bad_source_is_refused_in_plain_words(tmp_path, make, words):
    with pytest.raises(DataError, match=words):
        read(make(tmp_path), images=True, label="label")


def test_python_objects_in_a_npz_are_not_opened(tmp_path):
    np.savez(tmp_path / "x.npz", images=np.array([object()], dtype=object))
    with pytest.raises(DataError, match="damaged, or holds Python objects"):
        read(tmp_path / "x.npz", images=True)
