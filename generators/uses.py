"""What else a fitted model can do: paint what is hidden, make small images large, lead from one synthetic image to another, say what is unusual.

"Denoising diffusion null-space model" (what is known is put right in every estimate of the clean image): Zero-shot image restoration using
denoising diffusion null-space model; Y. Wang, J. Yu, J. Zhang; 2023; https://arxiv.org/abs/2212.00490
Sampling generative networks (paths along the sphere, on which normal numbers lie); T. White; 2016; https://arxiv.org/abs/1609.04468
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from generators.base import Density
from generators.data import DataError, Table, pixels_of
from generators.encoding.image import ImageEncoder
from generators.images.album import Album
from generators.images.diffusion import Denoiser
from generators.images.vae import PictureVAE
from generators.layout import Given, Pictures


def inpainted(encoder: ImageEncoder, generator: Any, images: Table, hidden: np.ndarray, rng: torch.Generator) -> Table:
    """Images of the schema that was learned, with the pixels where `hidden` is true drawn anew, given the others."""
    denoiser = _images_of(generator, Denoiser, "inpaint")
    _like(encoder, images, "inpaint")
    height, width = encoder.layout.shape[1:]
    hidden = np.asarray(hidden)
    if hidden.dtype != bool or hidden.shape not in ((height, width), (len(images), height, width)):
        expected = f"booleans of shape ({height}, {width}), or ({len(images)}, {height}, {width})"
        raise DataError(f"inpaint: mask: found {hidden.dtype} of shape {hidden.shape}, expected {expected}")
    x, mask = encoder.encode(images, rng=rng), torch.from_numpy(hidden).expand(len(images), height, width)[:, None]
    known = denoiser.scaled(x.pixels)
    out = denoiser.completed(x.static, lambda clean, i: torch.where(mask[i], clean, known[i]), rng)
    return encoder.decode(Pictures(x.static, torch.where(mask, out, x.pixels)), rng=rng)


def enlarged(encoder: ImageEncoder, generator: Any, images: Table, rng: torch.Generator) -> Table:
    """Images of the size that was learned, each of which, made smaller again, is the small one that was given (to a level or so)."""
    denoiser = _images_of(generator, Denoiser, "enlarge")
    _like(encoder, images, "enlarge", smaller=True)
    _, height, width = encoder.layout.shape
    pixels = torch.from_numpy(np.ascontiguousarray(pixels_of(images).transpose(0, 3, 1, 2)).astype(np.int32))
    times = height // pixels.shape[2], width // pixels.shape[3]
    small, static = denoiser.scaled(pixels), encoder.beside(images, rng=rng)

    def right(clean: Tensor, i: Tensor) -> Tensor:
        wrong = small[i] - F.avg_pool2d(clean, times)
        return clean + wrong.repeat_interleave(times[0], 2).repeat_interleave(times[1], 3)

    return encoder.decode(Pictures(static, denoiser.completed(static, right, rng)), rng=rng)


def interpolated(encoder: ImageEncoder, generator: Any, pairs: int, steps: int, given: Given | None, rng: torch.Generator) -> Table:
    """Pairs of synthetic images of a kind and what lies between them, `steps` images a pair, the ends among them, one pair after the other."""
    vae = _images_of(generator, PictureVAE, "interpolate")
    static = generator.static.sample(pairs, given, rng=rng)
    out = vae.between(static, steps, rng)
    return encoder.decode(Pictures(static.repeat_interleave(steps, 0), out), rng=rng)


def unusual(encoder: Any, generator: Any, data: Table, rng: torch.Generator) -> np.ndarray:
    """(rows, or subjects,) minus nats: the higher, the less a row, a series or an image is like what was learned."""
    parts = (generator.static, generator.rest) if hasattr(generator, "rest") else (generator,)
    if not all(isinstance(part, Density) for part in parts):
        name = next(getattr(p, "called", None) or type(p).__name__.lower() for p in parts if not isinstance(p, Density))
        raise DataError(f"anomaly_scores: {name} knows no density, expected a model that does, such as gmm, autoregressive or flow")
    _columns(encoder, data, "anomaly_scores")
    if data.schema.image is not None:
        _like(encoder, data, "anomaly_scores")
    for field in encoder.schema.arrow:
        if (found := data.schema.arrow.field(field.name).type) != field.type:
            raise DataError(f"anomaly_scores: found column {field.name!r} of type {found}, expected {field.type}")
    if not len(data):
        return np.zeros(0)
    return -generator.log_prob(encoder.encode(data, rng=rng)).double().numpy()


def _images_of(generator: Any, family: type, what: str) -> Any:
    """The part of the generator that says pixels, if it is of this family."""
    if not (isinstance(generator, Album) and isinstance(generator.rest, family)):
        raise DataError(f"{what}: found a model of another family or of other data, expected {family.called} of images")
    return generator.rest


def _like(encoder: ImageEncoder, images: Table, what: str, smaller: bool = False) -> None:
    """Raises DataError where images are not as those that were learned, but for their size if they are to be smaller."""
    _columns(encoder, images, what)
    found, known = images.schema.image.options, encoder.schema.image.options
    same = ("channels", "bits") if smaller else ("channels", "bits", "height", "width")
    if any(found[k] != known[k] for k in same):
        raise DataError(f"{what}: found images of {_said(found)}, expected {_said(known)}")
    if smaller and any(found[k] > known[k] or known[k] % found[k] for k in ("height", "width")):
        raise DataError(f"{what}: found images of {_said(found)}, expected a whole part of {_said(known)} in height and width")


def _columns(encoder: Any, data: Table, what: str) -> None:
    """Raises DataError for what is no Table, or has other columns than were learned."""
    if not isinstance(data, Table):
        raise DataError(f"{what}: found {type(data).__name__}, expected a Table, as read(...) and sample(...) give it")
    found, known = data.schema, encoder.schema
    if found.arrow.names != known.arrow.names or (found.image is None) != (known.image is None):
        raise DataError(f"{what}: found columns {', '.join(found.arrow.names)}; expected {', '.join(known.arrow.names)}")


def _said(options: dict) -> str:
    return f"{options['height']} x {options['width']} pixels, {options['channels']} channel{'s' * (options['channels'] > 1)} of {options['bits']} bits"
