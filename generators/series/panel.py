"""Panel: series as what stays and what changes, p(static) p(steps | static). Any family of tables says the first, one of series the second."""

from __future__ import annotations

import torch
from torch import Tensor

from generators.base import Density
from generators.joint import Joint
from generators.layout import Given, Sequences
from generators.series.autoregressive import Recurrent


class Panel(Joint):
    """static: of the layout's static fields, the number of steps among them
    rest:   of Sequences. It has also
            sample(static, lengths, rng) -> steps    static (n, fields), lengths (n,) -> (sum of lengths, fields)
            log_prob(x) -> (n,) nats of the steps given what stays, of a Density
    """

    @torch.no_grad()
    def sample(self, n: int, given: Given | None = None, *, rng: torch.Generator) -> Sequences:
        """n series. Raises ValueError where what is given has no probability."""
        static = self.static.sample(n, given, rng=rng)
        low, high = torch.tensor(self.layout.spans)[static[:, 0].long()].unbind(1)
        lengths = low + (torch.rand(n, generator=rng, dtype=torch.double) * (high - low + 1)).long()
        return Sequences(static, lengths, self.rest.sample(static, lengths, rng=rng))

    @torch.no_grad()
    def futures(self, n: int, after: int, draws: int, given: Given | None = None, *, rng: torch.Generator) -> Sequences:
        """n series, each so many times: with the same first `after` steps, and others drawn given those. Raises TypeError where the steps are
        not drawn one after the other."""
        if not isinstance(self.rest, Recurrent):
            raise TypeError("draws whole series, expected autoregressive, which draws a step given those before")
        x = self.sample(n, given, rng=rng)
        x = x[torch.arange(n).repeat_interleave(draws)]
        return Sequences(x.static, x.lengths, self.rest.sample(x.static, x.lengths, rng=rng, so_far=x.steps, after=after))

    def log_prob(self, x: Sequences) -> Tensor:
        """(n,) nats; a number of steps within its span counts as likely as the others. Raises TypeError where a part is no density."""
        if not (isinstance(self.static, Density) and isinstance(self.rest, Density)):
            raise TypeError(f"{type(self.static).__name__} with {type(self.rest).__name__} says nothing of how likely a series is")
        wide = torch.tensor([high - low + 1 for low, high in self.layout.spans])[x.static[:, 0].long()]
        return self.static.log_prob(x.static) - wide.log() + self.rest.log_prob(x)
