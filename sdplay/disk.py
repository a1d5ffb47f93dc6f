"""What a run writes, in bytes, known before it starts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sdplay.config import DreamBoothConfig, TrainConfig

if TYPE_CHECKING:
    from sdplay.methods import Trainable

STATE_BYTES = {"adamw": 8, "adamw8bit": 2, "adafactor": 4, "prodigy": 16, "lion": 4, "schedule_free": 8}
"""What optimisers keep for every trained weight: one, two or four float32 numbers; adafactor's for vectors."""
HEAVY_CHECKPOINTS = 3
"""Whole weights are kept in the last two checkpoints, and there are three while one is written."""
KEPT_STATES = 2
"""Checkpoints that keep the optimiser's state, as in checkpoint.py."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class DiskPlan:
    """Bytes on disk. Headers, some kB, and pictures are left out."""

    results: Mapping[str, int] = field(default_factory=dict)
    """The files for other programs, by what they are."""
    checkpoints: int = 0
    """All checkpoints together, at their fullest."""

    @property
    def total(self) -> int:
        """Everything."""
        return sum(self.results.values()) + self.checkpoints

    @property
    def sentence(self) -> str:
        """In one line."""
        files = ", ".join(f"{title} {size_text(num_bytes)}" for title, num_bytes in self.results.items())
        return f"On disk: {files}; checkpoints up to {size_text(self.checkpoints)}."


def disk_plan(config: TrainConfig, trainable: Trainable) -> DiskPlan:
    """Of a run that trains this; tensors need shapes only."""
    groups = [[tuple(parameter.shape) for parameter in group.parameters] for group in trainable.groups()]
    return files_of(config, groups, light=trainable.light)


def files_of(config: TrainConfig, groups: Sequence[Sequence[Shape]], *, light: bool) -> DiskPlan:
    """By the shapes of what learns: a group for each rate, a word's vectors first."""
    shapes = [shape for group in groups for shape in group]
    weights = 4 * sum(map(math.prod, shapes))
    state = sum(state_bytes(shape, config) for shape in shapes) + (weights if config.optimizer == "schedule_free" else 0)
    count = math.ceil(config.steps / config.checkpoint_every)
    checkpoints = count * weights + min(count, KEPT_STATES) * state if light else min(count, HEAVY_CHECKPOINTS) * (weights + state)
    return DiskPlan(_results(config, weights, vectors=4 * sum(map(math.prod, groups[0])), encoders=len(groups[0])), checkpoints)


def state_bytes(shape: Shape, config: TrainConfig) -> int:
    """What the config's optimiser, and the average where there is one, keep of a trained tensor. Counters are left out."""
    count = math.prod(shape)
    average = 4 * count if config.ema_decay else 0
    if config.optimizer == "adafactor" and len(shape) > 1:  # a row and a column of each matrix
        return average + 4 * (count // shape[-1] + count // shape[-2])
    return average + STATE_BYTES[config.optimizer] * count


def size_text(num_bytes: int) -> str:
    """In the unit that fits, in powers of ten."""
    if num_bytes >= 1e9:
        return f"{num_bytes / 1e9:.1f} GB"
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes >= 1e6 else f"{max(1, round(num_bytes / 1e3))} KB"


def _results(config: TrainConfig, weights: int, *, vectors: int, encoders: int) -> dict[str, int]:
    """As the methods' `export` writes them."""
    if isinstance(config, DreamBoothConfig):
        return {"whole weights": weights // 2 if config.save_dtype == "float16" else weights}
    if config.method == "textual_inversion":
        return {"embedding": weights} if encoders > 1 else {"embedding": weights, "the same for A1111 and ComfyUI": weights}
    adapter = {"adapter": weights, "the same for A1111 and ComfyUI": weights}
    return {**adapter, "its word alone": vectors} if config.method == "pivotal" else adapter
