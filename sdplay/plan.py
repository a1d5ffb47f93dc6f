"""What a run needs on a card, computed before it starts. Nothing is loaded or downloaded: a base's configs are enough."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from sdplay.config import TrainConfig
from sdplay.disk import DiskPlan, disk_plan, state_bytes

if TYPE_CHECKING:
    from sdplay.families import Family, Parts
    from sdplay.hub import Base
    from sdplay.methods import Trainable

LEARN_WORDS = ("textual_inversion", "pivotal")
Precision = Literal["bfloat16", "float32"]
RESERVE = 750 * 10**6
"""An allowance in bytes, not a computed figure: CUDA's own context takes about 500 MB, its matrix libraries' scratch memory the rest."""
NEAR = 0.9
"""Share of the free memory from which on a plan is called tight: the allocator's gaps are not in it."""


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes by part. `total` is frozen + trained + optimizer + step + reserve; activations and gradients are within step."""

    base_model: str
    size: int
    batch_size: int
    precision: Precision
    frozen: Mapping[str, int]
    """The base's own weights by network, as far as they are on the card in a step; also those that a full fine-tune copies."""
    trained: int
    """Weights that learn, float32."""
    gradients: int
    optimizer: int
    """Its state, and the average of the weights where there is one."""
    activations: int
    """What the forward pass of one micro-batch keeps for the backward pass."""
    step: int
    """The most that a forward and backward pass hold at once, what lives for a moment only included."""
    reserve: int
    pictures: int = 0
    """The most that is held when no step runs: while a picture is encoded or decoded, or texts are read."""
    disk: DiskPlan = field(default_factory=DiskPlan)

    @property
    def total(self) -> int:
        """Everything at the fullest moment of a step."""
        return sum(self.frozen.values()) + self.trained + self.optimizer + self.step + self.reserve

    @property
    def most(self) -> int:
        """At the fullest moment of the run: in a step, or with pictures."""
        return max(self.total, self.pictures)

    @property
    def sentence(self) -> str:
        """The plan in one line."""
        return (
            f"Training {self.base_model} at {self.size} px, batch {self.batch_size}, in {self.precision} takes about "
            f"{_gb(self.total)} GB: weights of the base {_gb(sum(self.frozen.values()))}, trained weights {_gb(self.trained)}, "
            f"optimiser {_gb(self.optimizer)}, a step {_gb(self.step)} (activations {_gb(self.activations)}, "
            f"gradients {_gb(self.gradients)}), reserve {_gb(self.reserve)}."
            + (f" Drawing samples takes {_gb(self.pictures)} GB." if self.pictures > self.total else "")
        )

    def verdict(self, free: int) -> str:
        """Whether it fits into `free` bytes, in a sentence."""
        if self.most > free:
            return f"It does not fit: {_gb(free)} GB are free. {_ADVICE}"
        return f"It fits, but tightly: {_gb(free)} GB are free." if self.most > NEAR * free else f"It fits: {_gb(free)} GB are free."


_ADVICE = "Lower the batch size or Size, turn on gradient checkpointing, or keep the base in int8 or nf4."


def memory_plan(base: Base, config: TrainConfig, precision: Precision) -> MemoryPlan:
    """The plan of a config on a base. Takes some seconds to a minute.

    precision: bfloat16 arithmetic, as on GPUs that have it, or float32. Where a word learns, it is counted as if the adapter
    of the second half learned at the same time. Raises ConfigError for sizes that the base does not take.
    """
    from sdplay import families, footprint

    family = families.family(base.family)
    parts = footprint.without_numbers(base, family, precision, weights=config.frozen_weights)
    size = max(families.checked_size(parts, side) for side in config.resolutions or (config.resolution,))
    weights = footprint.weight_bytes(parts)  # also of weights that learn: the base's own stay beside them
    trainable = _prepared(parts, family, config)
    learning = [parameter.requires_grad_(True) for group in trainable.groups() for parameter in group.parameters]
    written, reads = disk_plan(config, trainable), trainable.changes_text or config.caption_shuffle == "on"
    if config.gradient_checkpointing == "on":
        footprint.checkpoint_gradients(parts)
    batch = footprint.MicroBatch(
        config.batch_size,
        size,
        bfloat16=config.mixed_precision == "auto" and precision == "bfloat16",
        passes=2 if getattr(config, "prior", "none") != "none" else 1,
        learns_text=trainable.trains_text(0),
    )
    shapes = [tuple(parameter.shape) for parameter in learning]
    words = getattr(trainable, "words", None)
    pictures = footprint.pictures_bytes(parts, size)
    step = footprint.predicted_step(parts, family, batch, times=config.gradient_accumulation, words=words.vectors if words else {})
    trained, kept = 4 * sum(map(math.prod, shapes)), sum(state_bytes(shape, config) for shape in shapes)
    reserve = RESERVE if precision == "bfloat16" else 0
    return MemoryPlan(
        base_model=base.source,
        size=size,
        batch_size=config.batch_size,
        precision=precision,
        frozen={name: num_bytes for name, num_bytes in weights.items() if name != "vae" and (reads or "encoder" not in name)},
        trained=trained,
        gradients=step.gradients,
        optimizer=kept,
        activations=step.kept,
        step=step.fullest,
        reserve=reserve,
        pictures=max(_looking(weights, reads=reads) + pictures, _reading(weights)) + trained + kept + reserve,
        disk=written,
    )


def _looking(weights: Mapping[str, int], *, reads: bool) -> int:
    """On the card while a picture is encoded or decoded."""
    return sum(num_bytes for name, num_bytes in weights.items() if reads or "encoder" not in name)


def _reading(weights: Mapping[str, int]) -> int:
    """On the card while texts are read: with T5, which is larger than the denoiser, not the denoiser."""
    away = ("denoiser", "vae") if "text_encoder_3" in weights else ("vae",)
    return sum(num_bytes for name, num_bytes in weights.items() if name not in away)


def disk_needed(base: Base, config: TrainConfig) -> DiskPlan:
    """What a run writes. Takes seconds. Raises ConfigError for sizes and blocks that the base does not have."""
    from sdplay import families, footprint

    family = families.family(base.family)
    parts = footprint.without_numbers(base, family, "float32")
    return disk_plan(config, _prepared(parts, family, config))


def _prepared(parts: Parts, family: Family, config: TrainConfig) -> Trainable:
    from sdplay import footprint
    from sdplay.methods import method

    if config.method in LEARN_WORDS:
        footprint.give_tables_numbers(parts)
    return method(config.method).prepare(parts, family, config)


def _gb(num_bytes: int) -> str:
    """In units of 10^9 bytes; two digits after the point where it is small."""
    return f"{num_bytes / 1e9:.1f}" if num_bytes >= 1e9 else f"{num_bytes / 1e9:.2f}"
