"""What a run needs on a card, computed before it starts. Nothing is loaded or downloaded: a base's configs are enough."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sdplay.config import TrainConfig
from sdplay.errors import ConfigError

if TYPE_CHECKING:
    from sdplay.hub import Base

Precision = Literal["bfloat16", "float32"]
STATE_BYTES = {"adamw": 8, "adamw8bit": 2, "adafactor": 4, "prodigy": 16, "lion": 4, "schedule_free": 8}
"""For every trained weight: one, two or four float32 numbers; adafactor's for vectors."""
LEARN_WORDS = ("textual_inversion", "pivotal")
"""They begin with the numbers of a base's vocabulary, of which a plan knows the shape only."""
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
    """The base's own weights by network; all of them stay on the card while training, also those that a full fine-tune copies."""
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

    @property
    def total(self) -> int:
        """Everything at the fullest moment of a step."""
        return sum(self.frozen.values()) + self.trained + self.optimizer + self.step + self.reserve

    @property
    def sentence(self) -> str:
        """The plan in one line."""
        return (
            f"Training {self.base_model} at {self.size} px, batch {self.batch_size}, in {self.precision} takes about "
            f"{_gb(self.total)} GB: weights of the base {_gb(sum(self.frozen.values()))}, trained weights {_gb(self.trained)}, "
            f"optimiser {_gb(self.optimizer)}, a step {_gb(self.step)} (activations {_gb(self.activations)}, "
            f"gradients {_gb(self.gradients)}), reserve {_gb(self.reserve)}."
        )

    def verdict(self, free: int) -> str:
        """Whether it fits into `free` bytes, in a sentence."""
        if self.total > free:
            return f"It does not fit: {_gb(free)} GB are free. Lower the batch size or Size, or turn on gradient checkpointing."
        return f"It fits, but tightly: {_gb(free)} GB are free." if self.total > NEAR * free else f"It fits: {_gb(free)} GB are free."


def memory_plan(base: Base, config: TrainConfig, precision: Precision) -> MemoryPlan:
    """The plan of a config on a base. Takes some seconds to a minute.

    precision: bfloat16 arithmetic, as on GPUs that have it, or float32.
    Raises ConfigError for sizes that the base does not take, and for methods that learn words.
    """
    from sdplay import families, footprint
    from sdplay.methods import method

    if config.method in LEARN_WORDS:
        raise ConfigError(f"The memory of {config.method} cannot be computed yet.", "Plan for LoRA: a word takes about as much.")
    family = families.family(base.family)
    parts = footprint.without_numbers(base, family, precision, weights=config.frozen_weights)
    size = max(families.checked_size(parts, side) for side in config.resolutions or (config.resolution,))
    frozen = footprint.weight_bytes(parts)  # also of weights that learn: the base's own stay beside them
    trainable = method(config.method).prepare(parts, family, config)
    learning = [parameter.requires_grad_(True) for group in trainable.groups() for parameter in group.parameters]
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
    step = footprint.predicted_step(parts, family, batch, times=config.gradient_accumulation)
    return MemoryPlan(
        base_model=base.source,
        size=size,
        batch_size=config.batch_size,
        precision=precision,
        frozen=frozen,
        trained=4 * sum(map(math.prod, shapes)),
        gradients=step.gradients,
        optimizer=sum(state_bytes(shape, config) for shape in shapes),
        activations=step.kept,
        step=step.fullest,
        reserve=RESERVE if precision == "bfloat16" else 0,
    )


def state_bytes(shape: tuple[int, ...], config: TrainConfig) -> int:
    """What the config's optimiser, and the average where there is one, keep of a trained tensor. Counters are left out."""
    count = math.prod(shape)
    average = 4 * count if config.ema_decay else 0
    if config.optimizer == "adafactor" and len(shape) > 1:  # a row and a column of each matrix
        return average + 4 * (count // shape[-1] + count // shape[-2])
    return average + STATE_BYTES[config.optimizer] * count


def _gb(num_bytes: int) -> str:
    """In units of 10^9 bytes; two digits after the point where it is small."""
    return f"{num_bytes / 1e9:.1f}" if num_bytes >= 1e9 else f"{num_bytes / 1e9:.2f}"
