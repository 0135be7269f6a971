"""Synthetic images on their way out: PNG files in a Parquet that image people load unchanged, and rows of pictures for the report."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from generators.data import Schema, Table, image_column, pixels_of
from generators.synthesizer import Synthesizer
from pipelines.images import stacked

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # as Hugging Face datasets hold an image
SHOWN, CLASSES, ZOOMED = 12, 20, 64  # pictures of a class and classes in a report, and pixels a side, about, as they are shown


def published(table: Table) -> pa.Table:
    """With PNG files in place of pixels, in the struct and with the metadata by which Hugging Face datasets know an image and the names of classes."""
    column = table.schema.image
    at = table.schema.arrow.names.index(column.name)
    files = [_png(pixels) for pixels in pixels_of(table)]
    made = pa.StructArray.from_arrays([pa.array(files, pa.binary()), pa.nulls(len(files), pa.string())], fields=list(STRUCT))
    values = table.values.set_column(at, pa.field(column.name, STRUCT), made)
    return values.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": dict(_features(values, table.schema))}})})


def raw(values: pa.Table, schema: Schema) -> pa.Table:
    """What was published, with pixels again."""
    column = schema.image
    at = schema.arrow.names.index(column.name)
    files = pc.struct_field(values.column(at), "bytes")
    pixels = stacked(((f"row {i}", v.as_py) for i, v in enumerate(files, 1)), None) if len(files) else pixels_of(Table(schema.arrow.empty_table(), schema))
    return values.set_column(at, schema.arrow.field(at), image_column(column.name, pixels)[1])


def _png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(out, "PNG")
    return out.getvalue()


def _features(values: pa.Table, schema: Schema) -> Iterator[tuple[str, dict]]:
    for field in values.schema:
        if field.name == schema.image.name:
            yield field.name, {"_type": "Image"}
        else:
            kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
            yield field.name, {"dtype": re.sub(r"^(date\d+)\[.*", r"\1", re.sub("^double$", "float64", str(kind))), "_type": "Value"}


def rows(table: Table) -> list[dict]:
    """The first pictures of each class side by side, {"label", "png": base64, "width", "height": as it is shown}."""
    target, pixels = table.schema.target, pixels_of(table)
    labels = table.column(target).cast(pa.string()).fill_null("no label").to_pylist() if target else [None] * len(table)
    found: dict[str | None, list[int]] = {}
    for i, label in enumerate(labels):
        found.setdefault(label, []).append(i)
    made = []
    for label, at in sorted(found.items(), key=lambda item: -len(item[1]))[:CLASSES]:
        made.append({"label": label, "images": len(at)} | _row(pixels[at[:SHOWN]]))
    return made


def growth(model: Synthesizer) -> list[dict]:
    """The same of what was drawn while the model was trained, with the share of the training that was over."""
    return [{"done": done} | _row(drawn) for done, drawn in model.grown]


def _row(some: np.ndarray) -> dict:
    some = (some >> 8).astype(np.uint8) if some.dtype == np.uint16 else some
    row = np.concatenate([np.pad(one, ((0, 0), (0, 1), (0, 0)), constant_values=255) for one in some], 1)
    zoom = max(ZOOMED // some.shape[1], 1)
    return {"png": base64.b64encode(_png(row)).decode(), "width": zoom * row.shape[1], "height": zoom * row.shape[0]}
