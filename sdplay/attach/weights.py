"""Whole weights in the place of the base's: what a full fine-tune learns, and how it is drawn with."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Weights:
    """An attachment: other values for the parameters of some models, by the models' names.

    The models keep their Parameter objects; only what those point to is exchanged, which costs nothing.
    """

    def __init__(self, models: Mapping[str, nn.Module]) -> None:
        """Start from a float32 copy of the base's values; off until `put_on`."""
        self.parameters: dict[str, nn.Parameter] = {
            f"{model}.{name}": parameter for model, module in models.items() for name, parameter in module.named_parameters()
        }
        self._base: dict[str, Tensor] = {name: parameter.data for name, parameter in self.parameters.items()}
        self.values: dict[str, Tensor] = {name: tensor.float().clone() for name, tensor in self._base.items()}

    def put_on(self) -> None:
        """The base computes with these values."""
        for name, parameter in self.parameters.items():
            parameter.data = self.values[name]

    def take_off(self) -> None:
        """The base has its own values back, the same tensors."""
        for name, parameter in self.parameters.items():
            parameter.data = self._base[name]

    @torch.no_grad()
    def load(self, values: Mapping[str, Tensor], strength: float = 1.0) -> None:
        """In place: base + strength x (values - base); exactly `values` at 1. Raises ValueError when names or shapes differ."""
        strange = next(
            (
                name
                for name in self.values.keys() | values.keys()
                if name not in self.values or name not in values or values[name].shape != self.values[name].shape
            ),
            None,
        )
        if strange is not None:
            raise ValueError(strange)
        for name, own in self.values.items():
            own.copy_(values[name])
            if strength != 1:
                own.lerp_(self._base[name].to(own), 1 - strength)
