"""Images through the whole job: labelled ones in, judged ones out, or the reasons why not."""

import base64
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pictures
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from projects import run

from generators.data import DataError, pixels_of
from pipelines import sources
from pipelines.cli import main
from pipelines.config import load_entry
from pipelines.draw import draw
from pipelines.init import entry_for
from pipelines.pictures import _png
from pipelines.plan import plan

ENTRY = "{p}:\n  source: {{images: {f}, label: kind{more}}}\n  generator: {{gmm: {{static: gmm, directions: 16}}}}\n  seed: 1\n"


def lay(folder: Path, more: str = "", files: str = "x.npz", beside: str = "") -> Path:
    digits = pictures.digits(1797)
    np.savez(folder / "x.npz", images=pixels_of(digits)[..., 0], labels=digits.column("label").to_numpy())
    (folder / "flows.yaml").write_text(ENTRY.format(p="p", f=files, more=more) + beside)
    return folder / "flows.yaml"


@pytest.fixture(scope="module")
def published(tmp_path_factory, prefect):
    config = lay(tmp_path_factory.mktemp("images"))
    code, result = run(config, name="p")
    assert code == 0, result
    return config, result


def test_images_are_published_as_png_with_their_labels(published):
    _, result = published
    part = next((Path(result["published"]) / "data").glob("*.parquet"))
    table = pq.read_table(part)
    assert table.num_rows == result["rows"] == 1348 and set(table.column("kind").to_pylist()) == set(range(10))
    picture = Image.open(io.BytesIO(table.column("image")[0].as_py()["bytes"]))
    assert picture.size == (8, 8) and picture.mode == "L" and picture.format == "PNG" and not picture.info
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"} and table.schema.metadata[b"likeness.synthetic"] == b"true"


def test_the_datasets_library_loads_what_was_published(published, tmp_path, monkeypatch):
    """As somebody would who has never heard of us; in a process of its own, which looks for no hub."""
    pytest.importorskip("datasets", reason="pip install likeness[datasets]")
    said = """
import sys, datasets
d = datasets.load_dataset("parquet", data_files=sys.argv[1], split="train")
print(len(d), d.features, d[0]["image"].size, d[0]["image"].mode, d[0]["kind"])
"""
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = subprocess.run([sys.executable, "-c", said, str(Path(published[1]["published"]) / "data" / "*.parquet")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1348 {'image': Image(") and "(8, 8) L" in done.stdout


def test_the_report_shows_synthetic_images_and_no_real_one(published):
    config, result = published
    page = (Path(result["run"]) / "report.html").read_text()
    table = pq.read_table(Path(result["published"]) / "data").to_pylist()
    shown = [Image.open(io.BytesIO(base64.b64decode(p.split('"')[0]))) for p in page.split("data:image/png;base64,")[1:]]
    assert len(shown) == 10 and "None of them is real" in page
    made = {np.asarray(Image.open(io.BytesIO(row["image"]["bytes"]))).tobytes() for row in table}
    real = {one.tobytes() for one in np.load(config.parent / "x.npz")["images"]}
    for row in shown:
        pieces = [np.asarray(row)[:, i : i + 8].tobytes() for i in range(0, row.width, 9)]
        assert len(pieces) == 12 and set(pieces) <= made and not set(pieces) & real


def test_every_judge_of_images_was_asked(published):
    _, result = published
    assert {"fidelity.frechet", "fidelity.density", "fidelity.agreement", "utility.target", "privacy.membership", "privacy.copies"} <= set(result["scores"])


def test_a_dry_run_says_what_it_would_do_and_writes_nothing(tmp_path):
    said = plan(load_entry(lay(tmp_path), "p"))
    assert "images x.npz" in said and "1348 to learn from, 449 held out" in said and "fidelity.agreement min 0.9" in said and ": 64 pixels, " in said
    assert {p.name for p in tmp_path.iterdir()} == {"x.npz", "flows.yaml"}


def test_what_is_learned_from_decides_the_fingerprint(tmp_path):
    entry = load_entry(lay(tmp_path), "p")
    before = sources.fingerprint(entry.source, root=tmp_path)
    assert before == sources.fingerprint(entry.source, root=tmp_path)
    folder = tmp_path / "f"
    for i in range(120):
        (folder / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), i, np.uint8)).save(folder / "ab"[i % 2] / f"{i}.png")
    entry = load_entry(lay(tmp_path, files="f"), "p")
    own = sources.fingerprint(entry.source, root=tmp_path)
    (folder / "a" / "0.png").rename(folder / "b" / "0.png")
    assert own != sources.fingerprint(entry.source, root=tmp_path) != before


def test_a_holdout_of_its_own(tmp_path):
    config = lay(tmp_path, beside="  holdout: {images: y.npz, label: kind}\n")
    digits = pixels_of(pictures.digits(1797))[..., 0]
    np.savez(tmp_path / "y.npz", images=255 - digits[:300], labels=np.arange(300) % 2)
    train, holdout = sources.load_split(load_entry(config, "p"))
    assert len(train) == 1797 and len(holdout) == 300 and holdout.schema == train.schema
    for pixels, words in (
        (digits[100:400], "holds images of the source, expected others"),
        (np.random.default_rng(0).integers(0, 256, (300, 9, 9)).astype(np.uint8), "expected the same size, colours and columns"),
    ):
        np.savez(tmp_path / "y.npz", images=pixels, labels=np.arange(300) % 2)
        with pytest.raises(DataError, match=words):
            sources.load_split(load_entry(config, "p"))


def test_parts_of_a_file_are_its_source_and_its_holdout(tmp_path):
    config = lay(tmp_path, more=", split: [train, val]", beside="  holdout: {images: x.npz, label: kind, split: test}\n")
    x, y = pixels_of(pictures.digits(1797))[..., 0], np.arange(1797) % 2
    parts = {"train": slice(1000), "val": slice(1000, 1200), "test": slice(1200, None)}
    np.savez(tmp_path / "x.npz", **{f"{p}_images": x[at] for p, at in parts.items()}, **{f"{p}_labels": y[at] for p, at in parts.items()})
    train, holdout = sources.load_split(load_entry(config, "p"))
    assert (pixels_of(train)[..., 0] == x[:1200]).all() and (pixels_of(holdout)[..., 0] == x[1200:]).all()
    one = sources.load_split(load_entry(config, "p", ["source.split=val"]))[0]
    assert len(one) == 200


def test_families_of_images_are_compared(tmp_path, capsys):
    """The best is nearest, not farthest: of the distance less is better."""
    config = lay(tmp_path)
    small = ["--set", "generator={gmm: {static: gmm, directions: 16}}"]
    assert main(["compare", "p", "--config", str(config), "--generators", "sdv"]) == 2
    assert "expected all, or some of gmm, autoregressive, flow, vae, gan, diffusion" in capsys.readouterr().err
    assert main(["compare", "p", "--config", str(config), "--generators", "gmm", "--json", *small]) == 0
    said = capsys.readouterr().out
    (row,) = json.loads(said.rstrip().splitlines()[-1])["rows"]
    assert {"fidelity.frechet", "fidelity.density", "fidelity.agreement", "utility.target"} <= set(row["figures"]) and row["verdict"] == "PASS"
    assert 0 < row["quality"] <= 1 and all(word in said.splitlines()[0] for word in ("distance", "density", "labels", "utility"))


def test_the_report_shows_how_images_grew(tmp_path, prefect):
    config = lay(tmp_path)
    small = "generator={vae: {static: gmm, width: 8, latent: 8, modes: 2, passes: 8}}"
    code, result = run(config, "--set", small, "--set", "sample.rows=120", name="p")
    assert code in (0, 1), result
    page = (Path(result["run"]) / "report.html").read_text()
    grown = page.split("Images while the model was trained")[1].split("</table>")[0]
    rows = [Image.open(io.BytesIO(base64.b64decode(p.split('"')[0]))) for p in grown.split("data:image/png;base64,")[1:]]
    assert 2 <= len(rows) <= 4 and all(row.size == (12 * 9, 8) for row in rows)
    manifest = " ".join(f.read_text() for f in Path(result["run"]).rglob("manifest.json"))
    assert "grown" not in manifest


SHEET = [
    ("source: {images: x.npz, target: kind}", "source.target: found beside images:, expected label:"),
    ("source: {images: x.npz, subject: who}", "source.subject: found beside images:, expected no such key"),
    ("source: {table: x.csv, label: kind}", "source.label: found beside table:, expected it beside images: alone"),
    ("source: {images: x.npz, size: [8]}", r"source.size: found 1 numbers, expected one, or \[height, width\]"),
    ("source: {images: x.npz, size: 500}", "source.size: found 500, expected a whole number from 4 to 128"),
    ("source: {images: scans, split: test}", "source.split: found beside scans, expected it beside a .npz"),
    ("source: {images: x.npz}\n  generator: hmm", "generator.hmm: generates no images, expected one of gmm, autoregressive, flow, vae, gan, diffusion"),
    ("source: {images: x.npz}\n  generator: {diffusion: {width: 0}}", "generator.diffusion"),
    ("source: {images: x.npz}\n  sample: {subjects: 200}", "sample.subjects"),
]


@pytest.mark.parametrize(("text", "words"), SHEET)
def test_keys_that_do_not_go_together(tmp_path, text, words):
    (tmp_path / "flows.yaml").write_text(f"p:\n  {text}\n")
    with pytest.raises(DataError, match=words):
        load_entry(tmp_path / "flows.yaml", "p")


def test_a_condition_on_the_label_is_kept_and_judged(tmp_path, prefect):
    code, result = run(lay(tmp_path, beside="  sample: {rows: 300, where: {kind: 1}}\n"), name="p")
    assert code in (0, 1) and result["rows"] == 300, result
    data = pq.read_table(Path(result["run"]) / "data")
    assert set(data.column("kind").to_pylist()) == {1}


def test_columns_of_the_source_are_those_of_its_holdout(tmp_path):
    config = lay(tmp_path)
    (tmp_path / "flows.yaml").write_text(
        "p:\n  source: {images: x.parquet, label: kind, columns: {note: {kind: drop}}}\n  holdout: {images: y.parquet}\n  generator: {gmm: {static: gmm}}\n"
    )
    digits = pictures.digits(1797)
    files = pa.array([_png(one) for one in pixels_of(digits)])
    whole = pa.table({"image": files, "kind": digits.column("label"), "note": pa.array([[1]] * 1797)})
    rest = whole.slice(1000)
    pq.write_table(whole.slice(0, 1000), tmp_path / "x.parquet")
    pq.write_table(rest.append_column("more", rest["kind"]), tmp_path / "y.parquet")
    train, holdout = sources.load_split(load_entry(config, "p"))
    assert (len(train), len(holdout)) == (1000, 797) and train.schema.arrow.names == holdout.schema.arrow.names == ["image", "kind"]
    assert "images: x.parquet" in entry_for("x.parquet", root=tmp_path)


@pytest.mark.parametrize("kind", ["npz", "classes", "plain"])
def test_init_writes_an_entry_that_runs(tmp_path, kind):
    if kind == "npz":
        lay(tmp_path).unlink()
    for i, one in enumerate(pixels_of(pictures.digits(300))[..., 0]):
        place = tmp_path / "scans" / ("ab"[i % 2] if kind == "classes" else "")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(one).save(place / f"{i}.png")
    text = entry_for("x.npz" if kind == "npz" else "scans", root=tmp_path)
    (tmp_path / "flows.yaml").write_text(text)
    entry = load_entry(tmp_path / "flows.yaml", "x" if kind == "npz" else "scans")
    assert entry.source.kind == "images" and entry.source.target == (None if kind == "plain" else "label") and "8 x 8 pixels, 1 of 8 bits" in text
    assert ("1348 to learn from" if kind == "npz" else "to learn from") in plan(entry)
    with pytest.raises(DataError, match="found images and --subject or --time"):
        entry_for("scans", root=tmp_path, subject="who")


def test_init_says_what_stands_beside_images_and_takes_the_label_by_its_name(tmp_path):
    files = [{"bytes": _png(one), "path": None} for one in pixels_of(pictures.digits(300))]
    table = {
        "image": files,
        "who": [f"Person Number {i}" for i in range(300)],
        "age": [20 + i % 50 for i in range(300)],
        "label": ["ab"[i % 2] for i in range(300)],
    }
    pq.write_table(pa.table(table), tmp_path / "x.parquet")
    text = entry_for("x.parquet", root=tmp_path)
    found = yaml.safe_load(text)["x"]["source"]
    assert found["label"] == "label"
    assert set(found["columns"]) == {"who", "age", "label"}
    assert found["columns"]["who"]["kind"] not in ("category", "numeric")
    (tmp_path / "flows.yaml").write_text(text)
    assert "8 x 8" in text and plan(load_entry(tmp_path / "flows.yaml", "x"))
    pq.write_table(pa.table(table).drop_columns("label"), tmp_path / "y.parquet")
    assert "label" not in yaml.safe_load(entry_for("y.parquet", root=tmp_path))["y"]["source"]


def test_a_table_beside_many_images_is_not_taken_for_the_source(tmp_path):
    for i, one in enumerate(pixels_of(pictures.digits(60))[..., 0]):
        place = tmp_path / "scans" / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(one).save(place / f"{i}.png")
    (tmp_path / "scans" / "labels.csv").write_text("file,label\n1.png,a\n")
    with pytest.raises(DataError, match=r"labels\.csv: lies beside class folders"):
        entry_for("scans", root=tmp_path)


def test_images_drawn_from_a_saved_model_are_files_as_published_ones(published, tmp_path):
    _, result = published
    draw(next(Path(result["run"]).glob("**/model.json")).parent, 30, tmp_path / "out", [], None, 1)
    made, before = pq.read_table(tmp_path / "out"), pq.read_table(Path(result["published"]) / "data")
    assert len(made) == 30 and made.schema.equals(before.schema) and made.schema.metadata[b"huggingface"] == before.schema.metadata[b"huggingface"]
    assert made.schema.metadata[b"likeness.synthetic"] == b"true"
    assert all(Image.open(io.BytesIO(row["bytes"])).format == "PNG" for row in made.column("image").to_pylist())


def test_the_report_and_the_card_say_what_images_are_worth_and_how_they_are_published(published):
    _, result = published
    page, card = (Path(result["run"]) / "report.html").read_text(), (Path(result["published"]) / "card.md").read_text()
    assert "balanced accuracy on held-out real rows" in page and "told right" in page
    assert "struct of bytes" in card and "fixed" not in card
