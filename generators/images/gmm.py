"""A mixture over pictures: of what lies along their main directions, and how much along all others, given what stands beside.

    x = mean + V z,     p(z_1..q, e | beside) a mixture (apart.py, together.py),     z_q+1.. as much as e says (grain.py, directions.py)
q: whichever makes held-out pictures likeliest.

Mixtures of probabilistic principal component analysers; M. Tipping, C. Bishop; 1999; https://doi.org/10.1162/089976699300016728
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from generators.arguments import whole
from generators.base import Mechanism
from generators.images.apart import Apart
from generators.images.directions import KEPT, MOST, Directions
from generators.images.grain import Grain, beyond
from generators.images.noisy import normals
from generators.images.together import Together
from generators.layout import ImageLayout, Pictures, levelled, shades
from generators.threads import single_thread

TRIED, TOGETHER = (16, 32, 64, 128, 256), 64  # directions that the mixture is over, and at most where it is one for all kinds
PICTURES = 8  # that there are for each direction: what lies beyond those of few pictures is hardly there in them, though it is in others
LEARNED = 2**13  # pictures that the mixture is learned from, at most
CHUNK = 4096  # pictures that are turned together


class PictureMixture(nn.Module):
    """layout: what an image is.

    directions: that the mixture is over; None: 16 to 256, whichever measure best
    components: of a mixture; None: as many as measure best; through a mechanism one of each kind (noisy.py)
    passes:     passes over the pictures at most
    """

    device = "cpu"
    private = True  # can be learned through a mechanism

    def __init__(self, layout: ImageLayout, directions: int | None = None, components: int | None = None, passes: int = 12):
        super().__init__()
        whole(directions=directions, components=components, passes=passes)
        self.layout, self.asked, self.directions = layout, {"components": components, "passes": passes}, directions
        self.normal = Directions()
        self.grain: Grain | None = None
        self.main: Together | Apart | None = None
        self.curve: list[dict] = []

    @torch.no_grad()
    def fit(
        self, x: Pictures, held_out: Pictures, *, rng: torch.Generator, log: Callable[[str], None] = lambda line: None,
        checkpoint: Path | None = None, mechanism: Mechanism | None = None,
    ) -> PictureMixture:  # fmt: skip
        """checkpoint: not used, a fit takes seconds.

        mechanism: sees to it that no more is told of the pictures than may be"""
        if mechanism is not None:
            with single_thread():
                self.normal, self.grain, self.main, note = normals(self.layout, x, self.directions, mechanism)
            log(f"gmm: {note['model']}, from noisy sums of about {note['rows']} pictures")
            self.curve = [note]
            return self
        with single_thread():
            some = self._flat(x.pixels[torch.randperm(len(x), generator=rng)[:MOST]], rng)
            kept = self.normal.fit(some, self._flat(held_out.pixels[:MOST], rng), rng, min(KEPT, max(len(some) // PICTURES, 1))).kept
            x = x[torch.randperm(len(x), generator=rng)[:LEARNED]]
            (z, left), (held, held_left) = self._turned(x, rng), self._turned(held_out, rng)
            apart, best = Apart.can(x.static), None
            tried = [self.directions] if self.directions else [q for q in TRIED if apart or q <= TOGETHER]
            for q in sorted({min(q, kept) for q in tried}):  # the best is between worse ones
                grain = Grain(q, kept, len(self.layout))
                e, held_e = grain.energies(z, left), grain.energies(held, held_left)
                places, held_places = torch.cat([z[:, :q], grain.fit(e, held_e)], 1), torch.cat([held[:, :q], grain.placed(held_e)], 1)
                main = self._empty(apart, places.shape[1]).fit(x.static, places, held_out.static, held_places, rng)
                found = float((main.log_prob(held_out.static, held_places) + grain.log_volume(held_e)).mean())
                log(f"gmm: {main.size} over {q} directions: {found:.3f} nats a picture held out, up to a constant")
                self.curve.append({"rows": len(x), "model": f"{main.size} over {q} directions", "held_out": [found], "unit": "Nats a picture on held-out ones"})
                if best is not None and found <= best:
                    break
                best, self.main, self.grain, chosen = found, main, grain, self.curve[-1]
        chosen["chosen"] = True
        return self

    def _flat(self, pixels: Tensor, rng: torch.Generator | None) -> Tensor:
        """(n, pixels of a picture); with a stream, anywhere within their levels."""
        x = shades(pixels, self.layout.levels).flatten(1)
        return x if rng is None else x + (torch.rand(x.shape, generator=rng) - 0.5) * (2 / self.layout.levels)

    def _turned(self, x: Pictures, rng: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Along each direction, in units of what pictures vary along it, (n, kept); and mean square of what is beyond, (n,)."""
        flat = [self._flat(part, rng) for part in x.pixels.split(CHUNK)]
        return torch.cat([self.normal.along(part) for part in flat]), torch.cat([beyond(self.normal, part) for part in flat])

    def _empty(self, apart: bool, places: int) -> Apart | Together:
        return Apart(len(self.layout.static), places, **self.asked) if apart else Together(self.layout.static, places, **self.asked)

    @torch.no_grad()
    def sample(self, static: Tensor, *, rng: torch.Generator) -> Tensor:
        """static (n, fields) -> pixels (n, channels, height, width)."""
        return levelled(self.drawn(static, rng), self.layout.levels)

    @torch.no_grad()
    def drawn(self, static: Tensor, rng: torch.Generator) -> Tensor:
        """static (n, fields) -> shades (n, channels, height, width) before they become whole numbers of 0 to the most that a pixel can be."""
        with single_thread():
            z, energies = self.main.sample(static, rng).split([self.grain.main, self.grain.places], 1)
            others, gains = self.grain.drawn(energies, rng)
            return self.normal.pictures(torch.cat([z, others], 1), rng, gains).view(-1, *self.layout.shape)

    @torch.no_grad()
    def log_prob(self, x: Pictures) -> Tensor:
        """(n,) nats of the pixels given what stands beside, as densities of shades within -1 and 1."""
        out = []
        for part in torch.arange(len(x)).split(CHUNK):
            z, left = self._turned(x[part], None)
            e = self.grain.energies(z, left)
            places = torch.cat([z[:, : self.grain.main], self.grain.placed(e)], 1)
            out.append(self.main.log_prob(x.static[part], places) + self.grain.log_volume(e) + self.normal.units())
        return torch.cat(out)

    def size(self, rows: int) -> str:
        """In words, what would be fitted to so many images."""
        return "mixtures over principal directions, as many of both as measure best"

    def cost(self, x: Pictures, n: int) -> tuple[float, float]:
        """(seconds that a fit to n images takes, about, bytes that it holds beside them)."""
        pixels, some = len(self.layout), min(n, MOST)
        return 1e-6 * some * pixels + 5e-3 * min(n, LEARNED) + 1e-4 * n, 16.0 * some * pixels + 12.0 * n * KEPT

    def structure(self) -> dict:
        """What `restore` needs beside the tensors of the state."""
        return {"curve": self.curve, "apart": isinstance(self.main, Apart), "directions": self.grain.main, "main": self.main.structure()}

    def restore(self, structure: dict, tensors: dict[str, Tensor]) -> PictureMixture:
        self.curve, self.normal = structure["curve"], Directions(*tensors["normal.turn"].shape)
        self.grain = Grain(structure["directions"], self.normal.kept, len(self.layout))
        self.main = self._empty(structure["apart"], structure["directions"] + self.grain.places)
        self.main.restore(structure["main"], {k.removeprefix("main."): v for k, v in tensors.items() if k.startswith("main.")})
        self.load_state_dict(tensors)
        return self
