"""Guidance away from what the base alone would draw, and in a part of the steps only.

Classifier-free guidance goes from what the denoiser says without the words to what it says with them (Ho & Salimans 2022, arXiv
2207.12598). An adapter changes both: what it teaches whatever the words are, a style above all, is in both and is not made stronger.
Here the side without the words is the base's, so guidance makes stronger what the adapter teaches, too. Texts are read as ever.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def twin(network: nn.Module) -> nn.Module:
    """A second network of the same values, which take no second place in memory.

    What is put on the first one later, adapters or other values for its weights, is not on the second.
    """
    shared: dict[int, Any] = {id(buffer): buffer for buffer in network.buffers()}
    shared |= {id(weight): nn.Parameter(weight.data, requires_grad=False) for weight in network.parameters()}
    return copy.deepcopy(network, shared)


class Steps:
    """How far a pipeline of diffusers is. Its callback at the end of a step has to say so."""

    def __init__(self, pipeline: Any) -> None:  # noqa: ANN401  diffusers' own
        self._pipeline = pipeline
        self.done = 0

    def first(self, share: float) -> Callable[[], bool] | None:
        """Whether the next step is among the first `share` of all, as a question to ask later; None when all are."""
        return None if share >= 1 else lambda: self.done < round(share * self._pipeline.num_timesteps)


@contextmanager
def guided_from(denoiser: nn.Module, base: nn.Module | None, goes_on: Callable[[], bool] | None = None) -> Iterator[None]:
    """Inside, `base` answers for the first half of each batch, which is the negative prompt's. None: the denoiser answers for all.

    goes_on: asked each time; once it says no, the second half is answered alone and stands for both, so that guidance changes nothing
    and costs nothing (Kynkäänniemi et al. 2024, arXiv 2404.07724; `stop` of diffusers' guiders). None: guidance never ends.
    For pipelines that guide: they give the denoiser tensors of 2 B rows, negative prompts first.
    """
    if base is None and goes_on is None:
        yield
        return
    usual, kept = denoiser.forward, {name: value for name, value in vars(denoiser).items() if name == "forward"}

    def forward(*given: Any, **named: Any) -> Any:  # noqa: ANN401  as diffusers' denoisers have it
        is_guided = goes_on is None or goes_on()
        if is_guided and base is None:
            return usual(*given, **named)
        with_words = usual(*_half(given, 1), **_half(named, 1))
        without = base(*_half(given, 0), **_half(named, 0)) if is_guided and base is not None else with_words
        if isinstance(without, tuple):
            return (torch.cat([without[0], with_words[0]]),)
        return type(without)(sample=torch.cat([without.sample, with_words.sample]))

    denoiser.forward = forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        del denoiser.forward
        vars(denoiser).update(kept)


def _half(value: Any, side: int) -> Any:  # noqa: ANN401  whatever denoisers are given
    """The rows of one side in all tensors that have rows, however deep they are in lists and dicts; other things as they are."""
    if isinstance(value, Tensor):
        return value.chunk(2)[side] if value.dim() else value
    if isinstance(value, dict):
        return {name: _half(entry, side) for name, entry in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_half(entry, side) for entry in value)
    return value
