"""Synthesizer: an encoder and a generator, together from data to data. The only file that sees both sides."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch

from generators import uses
from generators.base import Mechanism
from generators.building import beside, build, descent_of, kind_of, private
from generators.data import DataError, Schema, Table, first_of_each, some_of_each
from generators.encoding.image import ImageEncoder
from generators.encoding.series import SeriesEncoder
from generators.encoding.table import TableEncoder
from generators.layout import Given, ImageLayout, Sequences, SeriesLayout
from generators.registry import FAMILIES, OF_IMAGES, OF_SERIES
from generators.series.panel import Panel

PART = 50_000  # rows that are drawn at a time
HELD_OUT = 0.1  # share of the subjects on which a generator decides when to stop,
FEW = 2000  # and twice that where there are no more subjects than this
TRIED = 200  # rows that are drawn to see whether a request can be met
PIXELS = 2**26  # of the images of a part, at most
# shares of what may be told, a training's too: the number of rows, the values of columns, and where there are no columns
ROWS, ENCODING, NOTHING = 0.01, 0.15, 1e-3
FORMAT = 4
ENCODERS = {encoder.modality: encoder for encoder in (TableEncoder, SeriesEncoder, ImageEncoder)}


class Synthesizer:
    """family: a name in registry.FAMILIES, or for series in OF_SERIES; arguments: keyword arguments of its constructor; rare_below: see TableEncoder.

    >>> model = Synthesizer("gmm", components=50).fit(table)     # doctest: +SKIP
    >>> more = model.sample(1000, where={"malignant": True})     # doctest: +SKIP
    """

    def __init__(self, family: str = "gmm", *, rare_below: int = 10, seed: int = 0, **arguments: Any):
        known = list(dict.fromkeys([*FAMILIES, *OF_SERIES, *OF_IMAGES]))
        if family not in known:
            raise DataError(f"generator: unknown family {family!r}, expected one of {', '.join(known)}")
        self.family, self.arguments, self.seed, self.rare_below = family, arguments, seed, rare_below
        self.built = arguments  # with which the generator was
        self.rows: int | None = None  # that were learned from, where they are not told exactly

    def __getattr__(self, name: str) -> Any:
        if name in ("encoder", "generator"):
            raise DataError("this model has learned nothing yet, expected fit(...) first")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def fit(
        self, data: Table, log: Callable[[str], None] = lambda line: None, *, avoid: Table | None = None, checkpoint: Path | None = None,
        mechanism: Mechanism | None = None,
    ) -> Synthesizer:  # fmt: skip
        """Learns. Rows of one subject are all in the part that is learned from, or all in the part that decides when to stop.

        avoid: real rows that are not learned from (a holdout), whose ids and personal data must not be invented by chance
        checkpoint: a file in which a long training keeps its state; the same fit, killed and called again, goes on from there
        mechanism: what alone may tell something of the data, which makes the model differentially private; no seed controls it
        """
        if mechanism is not None:
            return self._fit_under(mechanism, data, log)
        rng, count = _stream(self.seed, "fit"), int(data.subjects.max(initial=-1)) + 1
        if count < 2:
            raise DataError(f"found {count} subjects, expected at least 2: one to learn from and one to decide when to stop")
        self.encoder = encoder_of(data.schema)(self.rare_below).fit(data, rng=rng, avoid=avoid)
        if not len(self.encoder.layout):
            raise DataError("no column is learned: every one is of kind id, pii or text; expected at least one numeric, category, boolean or datetime column")
        x = self.encoder.encode(data, rng=rng)
        held = torch.randperm(count, generator=rng) < HELD_OUT * (1 + (count <= FEW)) * count
        held = held if isinstance(x, Sequences) else held[torch.from_numpy(data.subjects)]  # a row, or an image
        self.built = self.arguments
        self.generator = build(self.family, self.encoder.layout, self.built)
        self.generator.fit(x[~held], x[held], rng=rng, log=log, checkpoint=checkpoint)
        return self

    def _fit_under(self, mechanism: Mechanism, data: Table, log: Callable[[str], None]) -> Synthesizer:
        """Learns what the mechanism tells. All rows are learned from: none decides when to stop.

        Where a number falls within its class is drawn by the operating system: from a stream that a seed fixes, one person more would change what
        all after him get."""
        kind = kind_of(data.schema)
        private(kind, self.family)
        if (mechanism.steps is not None) != bool(data.schema.time):
            raise DataError(f"mechanism: found {'no ' if data.schema.time else ''}steps=, expected {'it' if data.schema.time else 'none'}: it is for series")
        if not len(data) or mechanism.rest < 1:
            raise DataError(
                f"mechanism: found {'one that was spent' if len(data) else 'no rows'}, expected {'a new one for each fit' if len(data) else 'some'}"
            )
        self.built = beside(kind, self.arguments)
        rng = torch.Generator().manual_seed(int.from_bytes(os.urandom(7)))
        data = (first_of_each(data, mechanism.steps) if data.schema.time else some_of_each(data, mechanism.rows)).open()
        how = descent_of(kind, self.family, self.arguments)
        counted, many = how.counted if how else 1.0, len(data.lengths) if data.schema.time else len(data)
        self.rows = max(int(mechanism.part(ROWS / counted, "how many there are").counts(torch.tensor([many], dtype=torch.double), 1.0)), 1)
        alone = data.schema.image and len(data.schema.columns) == 1  # pictures, and nothing beside them
        own = mechanism.part(NOTHING if alone else ENCODING / counted, "the values of each column")
        self.encoder = encoder_of(data.schema)(self.rare_below).fit(data, rng=rng, mechanism=own)
        self.generator = build(self.family, self.encoder.layout, self.built)
        x = self.encoder.encode(data, rng=rng)
        self.generator.fit(x, x[:0], rng=rng, log=log, mechanism=mechanism.part(mechanism.rest, "what they have to do with each other"))
        return self

    def sample(self, rows: int, *, where: Mapping[str, Any] | None = None, balance: str | None = None, seed: int | None = None) -> Table:
        """So many rows, or series, drawn from the model. where: column -> value that all hold; balance: a column whose classes come out equally often."""
        import pyarrow as pa

        parts = [part.values for part in self.parts(rows, where=where, balance=balance, seed=seed)]
        return Table(pa.concat_tables(parts) if parts else self.encoder.schema.arrow.empty_table(), self.encoder.schema)

    def parts(self, rows: int, *, where: Mapping[str, Any] | None = None, balance: str | None = None, seed: int | None = None) -> Iterator[Table]:
        """The same rows part by part. Part i depends on (model, request, seed, i) alone: any worker can make any part."""
        _sensible(rows, where, balance)
        for i in range(-(-rows // self.each)):
            yield self.part(i, min(self.each, rows - i * self.each), where=where, balance=balance, seed=seed)

    @property
    def each(self) -> int:
        """Rows, series or images of a part."""
        layout = self.encoder.layout
        if isinstance(layout, ImageLayout):
            return min(max(PIXELS // len(layout), 1), PART)
        return max(PART // layout.longest, 1) if isinstance(layout, SeriesLayout) else PART

    def part(self, i: int, rows: int, *, where: Mapping[str, Any] | None = None, balance: str | None = None, seed: int | None = None) -> Table:
        _sensible(rows, where, balance)
        rng = _stream(self.seed if seed is None else seed, f"part {i}")
        given = self._given(rows, dict(where or {}), balance, start=i * self.each)
        try:
            x = self.generator.sample(rows, given, rng=rng)
        except ValueError as problem:
            asked = ", ".join([*(where or {}), *([balance] if balance else [])])
            raise DataError(f"where/balance on {asked}: {problem}") from None
        data = self.encoder.decode(x, rng=rng, start=i * self.each)
        return self._exactly(data, dict(where or {}))

    def futures(self, series: int, after: int, draws: int = 10, *, where: Mapping[str, Any] | None = None, seed: int | None = None) -> Table:
        """So many synthetic series, each `draws` times in a row: its first `after` steps are the same, what comes then is drawn anew given
        those. What begins them is drawn too: no generator is started from the first steps of a real series. Raises DataError for a family
        that does not draw step after step."""
        _sensible(series, where, None, "series", 1), _sensible(after, None, None, "after"), _sensible(draws, None, None, "draws", 1)
        rng = _stream(self.seed if seed is None else seed, "futures")
        if not isinstance(self.generator, Panel):
            raise DataError("futures: found a model of a table, expected one of series")
        try:
            x = self.generator.futures(series, after, draws, self._given(series, dict(where or {}), None, 0), rng=rng)
        except TypeError as problem:
            raise DataError(f"futures: {self.family} {problem}") from None
        except ValueError as problem:
            raise DataError(f"where on {', '.join(where)}: {problem}" if where else str(problem)) from None
        return self._exactly(self.encoder.decode(x, rng=rng), dict(where or {}))

    def inpaint(self, images: Table, mask: np.ndarray, *, seed: int | None = None) -> Table:
        """Images with the pixels where mask is true, (height, width) or (images, height, width) bool, drawn anew given all others; `diffusion` of images.

        Raises DataError for another model, or images or a mask of another shape."""
        return uses.inpainted(self.encoder, self.generator, images, mask, self._own(seed, "inpaint"))

    def enlarge(self, images: Table, *, seed: int | None = None) -> Table:
        """Super-resolution: images of a half, a third, ... of the size that was learned, in that size; `diffusion` of images.

        Raises DataError for another model, or images of another kind."""
        return uses.enlarged(self.encoder, self.generator, images, self._own(seed, "enlarge"))

    def interpolate(self, pairs: int, steps: int = 8, *, where: Mapping[str, Any] | None = None, seed: int | None = None) -> Table:
        """Pairs of synthetic images and what lies between them, so many steps a pair with the ends, pair after pair; `vae` of images."""
        _sensible(pairs, where, None, "pairs", 1), _sensible(steps, None, None, "steps", 2)
        try:
            return uses.interpolated(self.encoder, self.generator, pairs, steps, self._given(pairs, dict(where or {}), None, 0), self._own(seed, "interpolate"))
        except ValueError as problem:
            raise DataError(f"where on {', '.join(where)}: {problem}" if where else str(problem)) from None

    def anomaly_scores(self, data: Table) -> np.ndarray:
        """(rows, series or images,) minus nats: the higher, the less it is like what was learned. Raises DataError for a model without a density."""
        return uses.unusual(self.encoder, self.generator, data, self._own(None, "anomaly"))

    def _own(self, seed: int | None, purpose: str) -> torch.Generator:
        return _stream(self.seed if seed is None else seed, purpose)

    def _given(self, rows: int, where: dict, balance: str | None, start: int) -> Given | None:
        if balance is not None:
            if balance in where:
                raise DataError(f"balance: column {balance!r} is fixed under where: too; expected only one of the two")
            classes = self.encoder.classes(balance)
            where = {**where, balance: [classes[(start + j) % len(classes)] for j in range(rows)]}
        return self.encoder.given(where, rows) if where else None

    def _exactly(self, data: Table, where: dict) -> Table:
        """A number that was asked for comes out as asked, not as the middle of its bin."""
        import pyarrow as pa

        values = data.values
        for name in where:
            if where[name] is not None and data.schema[name].kind in ("numeric", "datetime"):
                at, column = values.schema.get_field_index(name), self.encoder.columns[name]
                exact = column.scale.to_arrow(np.full(1, column.scale.number(where[name])), np.zeros(1, dtype=bool))
                exact = exact.take(pa.array(np.zeros(len(data), dtype=np.int64)))
                exact = exact.dictionary_encode().cast(column.type) if pa.types.is_dictionary(column.type) else exact
                values = values.set_column(at, values.schema.field(at), exact)
        return Table(values, data.schema)

    def check(self, where: Mapping[str, Any] | None = None, balance: str | None = None, rows: int = 1) -> None:
        """Raises DataError if not all of the rows, of which at most TRIED are tried, or not every class, can be drawn as asked."""
        if where or balance:
            classes = len(self.encoder.classes(balance)) if balance else 1
            self.part(0, max(classes, min(rows, TRIED)), where=where, balance=balance)

    @property
    def parameters(self) -> int:
        """Numbers that the model holds."""
        return sum(v.numel() for v in self.generator.state_dict().values())

    @property
    def device(self) -> str:
        """What it was trained on: cpu, or cuda."""
        return self.generator.device

    @property
    def curve(self) -> list[dict]:
        """What was tried: the size and, pass by pass, how likely held-out rows were (nats a row)."""
        return self.generator.curve

    @property
    def grown(self) -> list[tuple[float, np.ndarray]]:
        """Of images: the share of a training that was over, and pixels (n, height, width, channels) of some that were drawn then; not saved."""
        return [(done, self.encoder.pixels(drawn)) for done, drawn in getattr(getattr(self.generator, "rest", None), "grown", [])]

    @property
    def protected(self) -> dict[str, dict]:
        """What was done to each column so that nobody's value stands out, for the report."""
        return {name: column.protected for name, column in self.encoder.columns.items()}

    def save(self, folder: Path) -> None:
        """Writes model.json and weights.safetensors. Needs the package safetensors."""
        from safetensors.torch import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            "format": FORMAT, "modality": self.encoder.modality, "family": self.family, "arguments": self.built, "seed": self.seed,
            "encoder": self.encoder.state(), "structure": self.generator.structure(), "rows": self.rows,
        }  # fmt: skip
        (folder / "model.json").write_text(json.dumps(state, sort_keys=True))
        save_file({k: v.contiguous().clone() for k, v in self.generator.state_dict().items()}, folder / "weights.safetensors")

    @classmethod
    def load(cls, folder: Path) -> Synthesizer:
        from safetensors.torch import load_file

        model, weights = Path(folder) / "model.json", Path(folder) / "weights.safetensors"
        if not (model.is_file() and weights.is_file()):
            raise DataError(f"{folder}: no model here, expected model.json and weights.safetensors")
        with _whole(model):
            state = json.loads(model.read_text())
            if state.get("format") != FORMAT:
                raise DataError(f"{folder}: model of format {state.get('format')}, expected {FORMAT}; fit it again with this version")
            self = cls(state["family"], rare_below=state["encoder"]["rare_below"], seed=state["seed"], **state["arguments"])
            self.rows = state["rows"]
            self.encoder = ENCODERS[state["modality"]].restore(state["encoder"])
            self.generator = build(self.family, self.encoder.layout, self.arguments)
        with _whole(weights):
            self.generator.restore(state["structure"], load_file(weights))
        return self


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Whatever goes wrong with a file that `save` wrote, as one line."""
    try:
        yield
    except (DataError, OSError):
        raise
    except Exception as error:
        raise DataError(f"{path}: truncated or damaged ({type(error).__name__}), expected what was saved; fit the model again") from None


def encoder_of(schema: Schema) -> type[SeriesEncoder] | type[TableEncoder] | type[ImageEncoder]:
    """What encodes data of this schema."""
    return ENCODERS["series" if schema.time else "images" if schema.image else "table"]


def _sensible(rows: Any, where: Any, balance: Any, name: str = "rows", least: int = 0) -> None:
    """Raises DataError for a request that is none."""
    if isinstance(rows, bool) or not isinstance(rows, Integral) or rows < least:
        raise DataError(f"{name}: found {rows!r}, expected a whole number, {least} or more")
    if where is not None and not isinstance(where, Mapping):
        raise DataError(f"where: found a {type(where).__name__}, expected a mapping of columns to values")
    for name, value in (where or {}).items():
        if isinstance(value, list | tuple | set | dict):
            raise DataError(f"where: column {name!r}: found a {type(value).__name__}, expected one value")
    if balance is not None and not isinstance(balance, str):
        raise DataError(f"balance: found a {type(balance).__name__}, expected the name of a column")


def _stream(seed: int, purpose: str) -> torch.Generator:
    """A random stream of its own for every seed and purpose."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
