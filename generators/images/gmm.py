"""A mixture over pictures: of their main directions given what stands beside, and a normal density of all others.

    x = mean + V z,     p(z_1..q | beside) a mixture (kinds.py),     z_j ~ N(0, 1) for the other directions (directions.py)
One mixture for all kinds of pictures or one for each, and q: whichever makes held-out pictures likeliest.

Mixtures of probabilistic principal component analysers; M. Tipping, C. Bishop; 1999; https://doi.org/10.1162/089976699300016728
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from generators.arguments import whole
from generators.images.directions import KEPT, MOST, Directions
from generators.images.kinds import Apart, Together, score
from generators.layout import ImageLayout, Pictures, levelled, shades
from generators.threads import single_thread

TRIED = (8, 16, 32, 64)  # directions that the mixture is over
CHUNK = 4096  # pictures that are turned together


class PictureMixture(nn.Module):
    """layout: what an image is.

    directions: that the mixture is over; None: 8 to 64, whichever measures best
    components: of a mixture; None: as many as measure best
    passes:     passes over the pictures at most
    """

    device = "cpu"

    def __init__(self, layout: ImageLayout, directions: int | None = None, components: int | None = None, passes: int = 12):
        super().__init__()
        whole(directions=directions, components=components, passes=passes)
        self.layout, self.asked, self.directions = layout, {"components": components, "passes": passes}, directions
        self.normal = Directions()
        self.main: Together | Apart | None = None
        self.curve: list[dict] = []

    @torch.no_grad()
    def fit(
        self, x: Pictures, held_out: Pictures, *, rng: torch.Generator, log: Callable[[str], None] = lambda line: None, checkpoint: Path | None = None
    ) -> PictureMixture:
        """checkpoint: not used, a fit takes seconds."""
        with single_thread():
            some = self._flat(x.pixels[torch.randperm(len(x), generator=rng)[:MOST]], rng)
            kept = self.normal.fit(some, self._flat(held_out.pixels[:MOST], rng), rng).kept
            z, held = self._turned(x, rng), self._turned(held_out, rng)
            ways = [Together, Apart] if Apart.can(x.static, held_out.static) else [Together]
            best, asked = None, [self.directions] if self.directions else [q for q in TRIED if q <= kept] or [kept]
            for q in sorted({min(q, kept) for q in asked}):
                for way in ways:
                    tried = way(self.layout.static, q, **self.asked).fit(x.static, z[:, :q], held_out.static, held[:, :q], rng)
                    found = float(score(tried, held_out.static, held).mean())
                    log(f"gmm: {tried.size}: {found:.3f} nats a picture held out, up to a constant")
                    self.curve.append({"rows": len(x), "model": tried.size, "held_out": [found], "unit": "Nats a picture on held-out ones"})
                    if best is None or found > best:
                        best, self.main, chosen = found, tried, self.curve[-1]
        chosen["chosen"] = True
        return self

    def _flat(self, pixels: Tensor, rng: torch.Generator | None) -> Tensor:
        """(n, pixels of a picture); with a stream, anywhere within their levels."""
        x = shades(pixels, self.layout.levels).flatten(1)
        return x if rng is None else x + (torch.rand(x.shape, generator=rng) - 0.5) * (2 / self.layout.levels)

    def _turned(self, x: Pictures, rng: torch.Generator) -> Tensor:
        """Along each direction, in units of what pictures vary along it, (n, kept)."""
        return torch.cat([self.normal.along(self._flat(part, rng)) for part in x.pixels.split(CHUNK)])

    @torch.no_grad()
    def sample(self, static: Tensor, *, rng: torch.Generator) -> Tensor:
        """static (n, fields) -> pixels (n, channels, height, width)."""
        with single_thread():
            others = torch.randn(len(static), self.normal.kept - self.main.directions, generator=rng)
            out = self.normal.pictures(torch.cat([self.main.sample(static, rng), others], 1), rng)
        return levelled(out, self.layout.levels).view(-1, *self.layout.shape)

    @torch.no_grad()
    def log_prob(self, x: Pictures) -> Tensor:
        """(n,) nats of the pixels given what stands beside, as densities of shades within -1 and 1."""
        out = []
        for part in torch.arange(len(x)).split(CHUNK):
            flat = self._flat(x.pixels[part], None)
            out.append(score(self.main, x.static[part], self.normal.along(flat)) + self.normal.log_beyond(flat))
        return torch.cat(out)

    def size(self, rows: int) -> str:
        """In words, what would be fitted to so many images."""
        return "mixtures over principal directions, as many of both as measure best"

    def cost(self, x: Pictures, n: int) -> tuple[float, float]:
        """(seconds that a fit to n images takes, about, bytes that it holds beside them)."""
        pixels, some = len(self.layout), min(n, MOST)
        return 1e-6 * some * pixels + 2e-2 * n, 16.0 * some * pixels + 12.0 * n * KEPT

    def structure(self) -> dict:
        """What `restore` needs beside the tensors of the state."""
        return {"curve": self.curve, "apart": isinstance(self.main, Apart), "directions": self.main.directions, "main": self.main.structure()}

    def restore(self, structure: dict, tensors: dict[str, Tensor]) -> PictureMixture:
        self.curve, self.normal = structure["curve"], Directions(*tensors["normal.turn"].shape)
        self.main = (Apart if structure["apart"] else Together)(self.layout.static, structure["directions"], **self.asked)
        self.main.restore(structure["main"], {k.removeprefix("main."): v for k, v in tensors.items() if k.startswith("main.")})
        self.load_state_dict(tensors)
        return self
