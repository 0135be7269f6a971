"""Autoregressive: p(x) = prod_j p(x_j | the fields before j), for any order of the fields, by one network.

The network sees some fields i of a row and gives the distribution of every other field j:
    h_j = f(place_j + sum over seen i of A_ji * e(x_i)),   p(x_j = v | seen) = softmax_v(u_v . h_j + b_v)
with an embedding e of every value, and A_ji one learned weight for each pair of fields. Most rows are learned from in the
layout's order, in which rows are drawn; the others in orders drawn at random, so that what is given may stand first (see
Ordered). Numbers are fine bins, entered and predicted through smooth functions over their bins, so that
neighbours share what they learn. Rows are drawn together, with evenly spread random numbers over rows that are alike
(array-RQMC).

The neural autoregressive distribution estimator; H. Larochelle, I. Murray; 2011; https://proceedings.mlr.press/v15/larochelle11a
A deep and tractable density estimator; B. Uria, I. Murray, H. Larochelle; 2014; https://arxiv.org/abs/1310.1757
A randomized quasi-Monte Carlo simulation method for Markov chains; P. L'Ecuyer, C. Lecot, B. Tuffin; 2008; https://doi.org/10.1287/opre.1070.0492
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from generators.descent import Descent
from generators.heads import spread
from generators.ordered import Ordered


class Autoregressive(Ordered):
    """Arguments: see Ordered."""

    descent = Descent(passes=8, rate=0.01)

    def bins_for(self, n: int) -> int:
        return min(max(n // 20, 16), 128)

    def nats(self, codes: Tensor, x: Tensor, sees: Tensor) -> Tensor:
        hidden = self.net(F.embedding(codes, self.values.vectors()), sees)
        return self.values.nats(hidden.unbind(1), self.codes.within(codes))

    def density(self, x: Tensor) -> Tensor:
        return self.codes.log_density(x)

    def value(self, j: int, hidden: Tensor, head: tuple[Tensor, Tensor], start: float, inside: Tensor) -> Tensor:
        return spread(F.linear(hidden, *head).softmax(1), start)
