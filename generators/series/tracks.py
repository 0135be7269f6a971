"""Tracks: series as dense tensors for networks that see all steps at once, and a network for them.

Attention is all you need; A. Vaswani et al.; 2017; https://arxiv.org/abs/1706.03762
A time series is worth 64 words (patches for tokens); Y. Nie, N. Nguyen, P. Sinthong, J. Kalagnanam; 2023; https://arxiv.org/abs/2211.14730
FiLM: visual reasoning with a general conditioning layer; E. Perez, F. Strub, H. de Vries, V. Dumoulin, A. Courville; 2018; https://arxiv.org/abs/1709.07871
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators.layout import Sequences, SeriesLayout, moments
from generators.nets import dropout

DIRECTIONS = 8  # channels of a class, at most
TOKENS = 32  # that a series is cut into, about
AROUND = 3  # steps on either side that a token sees beside its own
HEADS = 4


class Tracks(nn.Module):
    """Steps as channels: a number as it is, a class as a point, which is as far from those of other classes as there is room.

    Numbers that are not there are carried on from the step before that had one, so that a track never breaks off.
    """

    def __init__(self, layout: SeriesLayout):
        super().__init__()
        self.step, self.longest = layout.step, layout.longest
        self.sizes = [f.classes for f in self.step.fields]
        for j in self.step.discrete:
            k = self.sizes[j]
            points = nn.init.orthogonal_(torch.empty(k, k)) if k <= DIRECTIONS else F.normalize(torch.randn(k, DIRECTIONS), dim=1)
            self.register_buffer(f"points_{j}", points * points.shape[1] ** 0.5)
        self.widths = [min(k, DIRECTIONS) or 1 for k in self.sizes]  # channels of each field

    @property
    def channels(self) -> int:
        return sum(self.widths)

    def points(self, j: int) -> Tensor:
        """Of a field of classes, (classes, channels)."""
        return getattr(self, f"points_{j}")

    def filled(self, x: Sequences) -> Tensor:
        """Steps (steps, fields), with numbers where there were none."""
        on, out, moment = self.step.active(x.steps), x.steps.clone(), moments(x.lengths)
        at = torch.arange(len(out), device=out.device)
        first, last = at - moment, (at - moment) + torch.repeat_interleave(x.lengths, x.lengths) - 1
        for j in (i for i in self.step.continuous if self.step.fields[i].gate is not None):
            before = torch.where(on[:, j], at, -1).cummax(0).values
            after = torch.where(on[:, j], at, len(out)).flip(0).cummin(0).values.flip(0)
            found = torch.where(before >= first, before, torch.where(after <= last, after, at))
            out[:, j] = torch.where(found.eq(at) & ~on[:, j], 0.0, out[found, j])
        return out

    def dense(self, steps: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Steps (sum of lengths, fields) -> (n, longest, fields), 0 behind the end, and mask (n, longest, 1) of 0 and 1."""
        whose = torch.repeat_interleave(torch.arange(len(lengths), device=steps.device), lengths)
        out = steps.new_zeros(len(lengths), self.longest, steps.shape[1])
        out[whose, moments(lengths)] = steps
        return out, (torch.arange(self.longest, device=steps.device) < lengths[:, None])[:, :, None].float()

    def placed(self, dense: Tensor) -> Tensor:
        """(n, longest, fields) -> (n, longest, channels)."""
        return torch.cat([self.points(j)[dense[:, :, j].long()] if k else dense[:, :, j : j + 1] for j, k in enumerate(self.sizes)], 2)

    def steps_of(self, dense: Tensor, lengths: Tensor, most: float = 6.0) -> Tensor:
        """(n, longest, fields) -> steps (sum of lengths, fields), 0 where a field does not count, numbers at most so far out."""
        whose = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
        out = dense[whose, moments(lengths)]
        numbers = self.step.continuous
        out[:, numbers] = out[:, numbers].clamp(-most, most)
        return out * self.step.active(out)


class Trunk(nn.Module):
    """Every step of a series given all steps: overlapping patches are tokens (a convolution), which attend to each other; a condition scales
    and shifts."""

    def __init__(self, longest: int, inside: int, outside: int, width: int, depth: int, dropout: float):
        super().__init__()
        self.patch = -(-longest // TOKENS)
        self.tokens, self.heads, self.dropout = -(-longest // self.patch), HEADS if width % HEADS == 0 else 1, dropout
        self.inlet, self.outlet = nn.Linear((self.patch + 2 * AROUND) * (inside + 1), width), nn.Linear(width, self.patch * outside)
        self.place = nn.Parameter(torch.randn(self.tokens, width) * 0.1)
        self.norms, self.last = nn.ModuleList([nn.LayerNorm(width, elementwise_affine=False) for _ in range(2 * depth)]), nn.LayerNorm(width)
        self.tell = nn.ModuleList([nn.Linear(width, 4 * width) for _ in range(depth)])
        self.look, self.join = (nn.ModuleList([nn.Linear(width, k * width) for _ in range(depth)]) for k in (3, 1))
        self.wide = nn.ModuleList([nn.Linear(width, 2 * width) for _ in range(depth)])
        self.back = nn.ModuleList([nn.Linear(2 * width, width) for _ in range(depth)])
        for layer in (*self.join, *self.back):  # a block starts as nothing
            nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, mask: Tensor, condition: Tensor) -> Tensor:
        """x (n, longest, inside), mask (n, longest, 1), condition (n, width) -> (n, longest, outside)."""
        return self.unpatched(self.outlet(self.last(self.read(x, mask, condition))), x.shape[1])

    def read(self, x: Tensor, mask: Tensor, condition: Tensor) -> Tensor:
        """(n, tokens, width)."""
        h = self.inlet(self._patched(torch.cat([x * mask, mask], 2))) + self.place
        alive = F.pad(mask[:, :, 0], (0, self.tokens * self.patch - mask.shape[1])).view(len(x), self.tokens, self.patch).amax(2)
        barred = ((alive - 1) * 1e9)[:, None, None, :]  # tokens behind the end are not looked at
        for i, tell in enumerate(self.tell):
            a, b, c, d = tell(F.silu(condition))[:, None].chunk(4, 2)
            h = h + self.join[i](self._attend(self.look[i](self.norms[2 * i](h) * (1 + a) + b), barred))
            inner = F.gelu(self.wide[i](self.norms[2 * i + 1](h) * (1 + c) + d))
            h = h + self.back[i](dropout(inner, self.dropout, self.training))
        return h

    def _attend(self, looked: Tensor, barred: Tensor) -> Tensor:
        n, t, width = looked.shape[0], looked.shape[1], looked.shape[2] // 3
        q, k, v = looked.view(n, t, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        weight = (q @ k.mT / (width // self.heads) ** 0.5 + barred).softmax(-1)
        return (weight @ v).transpose(1, 2).reshape(n, t, width)

    def _patched(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, 0, AROUND, AROUND + self.tokens * self.patch - x.shape[1]))
        return x.unfold(1, self.patch + 2 * AROUND, self.patch).flatten(2)

    def unpatched(self, h: Tensor, longest: int) -> Tensor:
        return h.reshape(len(h), self.tokens * self.patch, -1)[:, :longest]
