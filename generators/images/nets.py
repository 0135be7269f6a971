"""Networks for pictures, which a condition scales and shifts: a small U-Net, and from a picture to a vector and back.

U-Net: convolutional networks for biomedical image segmentation; O. Ronneberger, P. Fischer, T. Brox; 2015; https://arxiv.org/abs/1505.04597
Real-time single image and video super-resolution using an efficient sub-pixel convolutional network (space to depth); W. Shi et al.; 2016; https://arxiv.org/abs/1609.05158
FiLM: visual reasoning with a general conditioning layer; E. Perez, F. Strub, H. de Vries, V. Dumoulin, A. Courville; 2018; https://arxiv.org/abs/1709.07871
Group normalization; Y. Wu, K. He; 2018; https://arxiv.org/abs/1803.08494
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.nets import dropout

SIDE = 16  # cells that the longer side of a picture is cut into, at most
HEADS = 4
LEAST = 4  # cells that a picture is when it becomes a vector


def patch(height: int, width: int) -> int:
    """Pixels a side of a cell."""
    return -(-max(height, width) // SIDE)


@contextmanager
def half(where: torch.device) -> Iterator[None]:
    """Products in bf16 where a machine is made for them: a GPU, or a CPU with tiles (AMX)."""
    fit = torch.cuda.is_bf16_supported() if where.type == "cuda" else torch.cpu._is_amx_tile_supported()
    with torch.autocast(where.type, torch.bfloat16, enabled=fit):
        yield


class Block(nn.Module):
    """x + conv(f(conv(f(x)))), f group normalisation and SiLU, the second one scaled and shifted by the condition."""

    def __init__(self, inside: int, outside: int, condition: int, share: float):
        super().__init__()
        self.first, self.second = (nn.GroupNorm(_groups(k), k) for k in (inside, outside))
        self.into, self.out = nn.Conv2d(inside, outside, 3, padding=1), nn.Conv2d(outside, outside, 3, padding=1)
        self.tell, self.share = nn.Linear(condition, 2 * outside), share
        self.skip = nn.Conv2d(inside, outside, 1) if inside != outside else nn.Identity()
        nn.init.zeros_(self.out.weight), nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.tell(condition)[:, :, None, None].chunk(2, 1)
        h = self.into(F.silu(self.first(x)))
        h = F.silu(self.second(h) * (1 + scale) + shift)
        return self.skip(x) + self.out(dropout(h, self.share, self.training))


class Attention(nn.Module):
    """Every cell looks at all others; begins as nothing."""

    def __init__(self, width: int):
        super().__init__()
        self.norm, self.look, self.join = nn.GroupNorm(_groups(width), width), nn.Conv2d(width, 3 * width, 1), nn.Conv2d(width, width, 1)
        self.heads = HEADS if width % HEADS == 0 else 1
        nn.init.zeros_(self.join.weight), nn.init.zeros_(self.join.bias)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        q, k, v = self.look(self.norm(x)).flatten(2).view(n, 3, self.heads, c // self.heads, h * w).transpose(3, 4).unbind(1)
        seen = F.scaled_dot_product_attention(q, k, v)
        return x + self.join(seen.transpose(2, 3).reshape(n, c, h, w))


class UNet(nn.Module):
    """(n, inside, height, width) and a condition (n, condition) -> (n, outside, height, width).

    Pixels are gathered into cells first; then `widths` are the channels at each size, every one half of that before.
    """

    def __init__(self, inside: int, outside: int, shape: tuple[int, int], widths: tuple[int, ...], condition: int, share: float):
        super().__init__()
        self.shape, self.patch, self.outside = shape, patch(*shape), outside
        self.room = [-(-side // self.patch) * self.patch - side for side in shape]
        self.inlet = nn.Conv2d(inside * self.patch**2, widths[0], 3, padding=1)
        wide = list(zip(widths, widths[1:] + widths[-1:], strict=True))
        self.down = nn.ModuleList([Block(a, a, condition, share) for a, _ in wide])
        self.smaller = nn.ModuleList([nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in wide[:-1]])
        self.middle = nn.ModuleList([Attention(widths[-1]), Block(widths[-1], widths[-1], condition, share)])
        self.up = nn.ModuleList([Block(a + b, a, condition, share) for a, b in wide])
        self.look = nn.ModuleList([Attention(widths[-2]) if len(widths) > 1 else nn.Identity()])
        self.last = nn.GroupNorm(_groups(widths[0]), widths[0])
        self.outlet = nn.Conv2d(widths[0], outside * self.patch**2, 3, padding=1)
        nn.init.zeros_(self.outlet.weight), nn.init.zeros_(self.outlet.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        condition = F.silu(condition)
        x = F.pixel_unshuffle(F.pad(x, (0, self.room[1], 0, self.room[0]), mode="replicate"), self.patch)
        h, kept = self.inlet(x.contiguous(memory_format=torch.channels_last)), []
        for i, block in enumerate(self.down):
            h = block(h, condition)
            kept.append(h)
            h = self.smaller[i](h) if i < len(self.smaller) else h
        h = self.middle[1](self.middle[0](h), condition)
        for i, block in reversed(list(enumerate(self.up))):
            h = F.interpolate(h, size=kept[i].shape[2:], mode="nearest") if h.shape[2:] != kept[i].shape[2:] else h
            h = block(torch.cat([kept[i], h], 1), condition)
            h = self.look[0](h) if i == len(self.up) - 2 else h
        h = F.pixel_shuffle(self.outlet(F.silu(self.last(h))), self.patch)
        return h[:, :, : self.shape[0], : self.shape[1]].float()


def _groups(width: int) -> int:
    return next(k for k in (8, 4, 2, 1) if width % k == 0)


def cells(shape: tuple[int, int], least: int) -> list[tuple[int, int]]:
    """Sizes at which a picture is looked at: in cells, then every one half of that before, to the last with a side of at most `least`."""
    side = patch(*shape)
    out = [tuple(-(-n // side) for n in shape)]
    while max(out[-1]) > least:
        out.append(tuple(-(-n // 2) for n in out[-1]))
    return out


class Reader(nn.Module):
    """(n, inside, height, width) and a condition (n, condition) -> (n, outside): a picture as a vector.

    width: channels where a picture is largest; each size below has one more time as many.
    """

    def __init__(self, inside: int, outside: int, shape: tuple[int, int], width: int, condition: int, share: float):
        super().__init__()
        sizes = cells(shape, LEAST)
        self.patch, self.room = patch(*shape), [k * patch(*shape) - side for k, side in zip(sizes[0], shape, strict=True)]
        wide = [width * (i + 1) for i in range(len(sizes))]
        self.inlet = nn.Conv2d(inside * self.patch**2, width, 3, padding=1)
        self.blocks = nn.ModuleList([Block(a, a, condition, share) for a in wide])
        self.smaller = nn.ModuleList([nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(wide)])
        self.last, self.outlet = nn.GroupNorm(_groups(wide[-1]), wide[-1]), nn.Linear(wide[-1] * math.prod(sizes[-1]), outside)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = self.inlet(F.pixel_unshuffle(F.pad(x, (0, self.room[1], 0, self.room[0]), mode="replicate"), self.patch))
        for i, block in enumerate(self.blocks):
            h = block(h, condition)
            h = self.smaller[i](h) if i < len(self.smaller) else h
        return self.outlet(F.silu(self.last(h)).flatten(1))


class Painter(nn.Module):
    """(n, inside) and a condition (n, condition) -> (n, outside, height, width): Reader the other way round."""

    def __init__(self, inside: int, outside: int, shape: tuple[int, int], width: int, condition: int, share: float):
        super().__init__()
        self.shape, self.sizes, self.patch = shape, cells(shape, LEAST)[::-1], patch(*shape)
        wide = [width * (len(self.sizes) - i) for i in range(len(self.sizes))]
        self.inlet = nn.Linear(inside, wide[0] * math.prod(self.sizes[0]))
        self.larger = nn.ModuleList([nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(wide)])
        self.blocks = nn.ModuleList([Block(a, a, condition, share) for a in wide])
        self.last, self.outlet = nn.GroupNorm(_groups(wide[-1]), wide[-1]), nn.Conv2d(wide[-1], outside * self.patch**2, 3, padding=1)

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        h = self.inlet(z).unflatten(1, (-1, *self.sizes[0]))
        for i, block in enumerate(self.blocks):
            h = self.larger[i - 1](F.interpolate(h, size=self.sizes[i], mode="nearest")) if i else h
            h = block(h, condition)
        h = F.pixel_shuffle(self.outlet(F.silu(self.last(h))), self.patch)
        return h[:, :, : self.shape[0], : self.shape[1]]
