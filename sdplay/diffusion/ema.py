"""A running average of the weights: smoother than the last step's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Average:
    """avg <- d avg + (1 - d) weight after each step, with d = min(decay, (1 + n) / (10 + n)) at the n-th, counted from 1.

    The rising decay lets the average leave the first weights quickly. Polyak & Juditsky 1992; the rise is TensorFlow's,
    which diffusers uses too.
    """

    def __init__(self, weights: Sequence[Tensor], decay: float) -> None:
        """decay: in (0, 1)."""
        self.values = [weight.detach().clone() for weight in weights]
        self.updates = 0
        self._decay = decay

    @torch.no_grad()
    def update(self, weights: Sequence[Tensor]) -> None:
        """Take in the weights after a step, in the order they were given at first."""
        self.updates += 1
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates))
        for value, weight in zip(self.values, weights, strict=True):
            value.lerp_(weight, 1 - decay)

    @torch.no_grad()
    def load(self, values: Sequence[Tensor], updates: int) -> None:
        """Go on from `values` and `updates` of another."""
        for value, stored in zip(self.values, values, strict=True):
            value.copy_(stored)
        self.updates = updates
