"""Networks that a run seldom needs wait in the computer's memory, so that the card has room for what learns.

On the CPU nothing moves: there is only one memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from sdplay.config import TrainConfig
    from sdplay.families import Parts
    from sdplay.methods import Trainable


def idle_in_steps(parts: Parts, trainable: Trainable, config: TrainConfig, *, sees_pictures: bool) -> list[nn.Module]:
    """What no training step needs: the autoencoder, and the text encoders where every text is in the cache.

    sees_pictures: whether steps look at the pictures themselves, as those of inpainting bases do.
    """
    reads = trainable.changes_text or config.caption_shuffle == "on"
    return [*(() if sees_pictures else [parts.pipeline.vae]), *(() if reads else parts.text_encoders.values())]


@contextmanager
def resting(parts: Parts, networks: Sequence[nn.Module]) -> Iterator[None]:
    """Inside, the networks are off the card, but where `at_hand` brings them. The same again afterwards."""
    before = list(parts.resting)
    added = [network for network in networks if network not in before]
    parts.resting = [*before, *added]
    _move(parts, added, torch.device("cpu"))
    try:
        yield
    finally:
        parts.resting = before
        _move(parts, added, parts.device)


@contextmanager
def at_hand(parts: Parts, networks: Sequence[nn.Module] | None = None) -> Iterator[None]:
    """Inside, the networks that rest, or those of them that are named, are on the card: to draw, to encode, to decode."""
    before = list(parts.resting)
    brought = [network for network in before if networks is None or any(network is one for one in networks)]
    parts.resting = [network for network in before if not any(network is one for one in brought)]
    _move(parts, brought, parts.device)
    try:
        yield
    finally:
        parts.resting = before
        _move(parts, brought, torch.device("cpu"))


@contextmanager
def reading(parts: Parts) -> Iterator[None]:
    """Inside, the text encoders are on the card. T5 is larger than the denoiser, which makes room for it in a run."""
    room = [parts.denoiser] if "text_encoder_3" in parts.text_encoders and parts.resting else []
    with resting(parts, room), at_hand(parts, list(parts.text_encoders.values())):
        yield


@contextmanager
def looking(parts: Parts) -> Iterator[None]:
    """Inside, the autoencoder and the denoiser are on the card."""
    with at_hand(parts, [parts.pipeline.vae, parts.denoiser]):
        yield


def _move(parts: Parts, networks: Sequence[nn.Module], device: torch.device) -> None:
    if parts.device.type == "cpu" or not networks:
        return
    for network in networks:
        network.to(device)
    if device.type == "cpu" and parts.device.type == "cuda":
        torch.cuda.empty_cache()
