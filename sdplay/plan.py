"""What a run needs on a card, computed before it starts. Nothing is loaded or downloaded: a base's configs are enough."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sdplay.config import TrainConfig

if TYPE_CHECKING:
    from sdplay.families import Family, Parts
    from sdplay.hub import Base

Precision = Literal["bfloat16", "float32"]
ADAMW_STATES = 2
"""Running means of the gradient and of its square, float32, for every trained weight."""
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
    """Weights that do not learn, by their names in the pipeline; all of them stay on the card while training."""
    trained: int
    """Weights that learn, float32."""
    gradients: int
    optimizer: int
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
            f"{_gb(self.total)} GB: frozen weights {_gb(sum(self.frozen.values()))}, trained weights {_gb(self.trained)}, "
            f"optimiser {_gb(self.optimizer)}, a step {_gb(self.step)} (activations {_gb(self.activations)}, "
            f"gradients {_gb(self.gradients)}), reserve {_gb(self.reserve)}."
        )

    def verdict(self, free: int) -> str:
        """Whether it fits into `free` bytes, in a sentence."""
        if self.total > free:
            return f"It does not fit: {_gb(free)} GB are free. Lower the batch size or Size."
        return f"It fits, but tightly: {_gb(free)} GB are free." if self.total > NEAR * free else f"It fits: {_gb(free)} GB are free."


def memory_plan(base: Base, config: TrainConfig, precision: Precision, *, gradient_checkpointing: bool = False) -> MemoryPlan:
    """The plan of a config's method on a base. Takes some seconds. Raises ConfigError for sizes that the base does not take.

    precision: bfloat16 arithmetic, as on GPUs that have it, or float32.
    """
    from sdplay.methods import method

    def attach(parts: Parts, family: Family) -> None:
        method(config.method).prepare(parts, family, config)

    return _plan(base, config, precision, attach, gradient_checkpointing=gradient_checkpointing)


def full_plan(base: Base, config: TrainConfig, precision: Precision, *, gradient_checkpointing: bool = False) -> MemoryPlan:
    """The plan of a full fine-tune: the denoiser's own weights learn, in float32. See `memory_plan`."""

    def attach(parts: Parts, family: Family) -> None:
        parts.denoiser.float().requires_grad_(True)

    return _plan(base, config, precision, attach, gradient_checkpointing=gradient_checkpointing)


def _plan(
    base: Base, config: TrainConfig, precision: Precision, attach: Callable[[Parts, Family], None], *, gradient_checkpointing: bool
) -> MemoryPlan:
    from sdplay import families, footprint

    family = families.family(base.family)
    parts = footprint.without_numbers(base, family, precision)
    size = families.checked_size(parts, config.resolution)
    attach(parts, family)
    if gradient_checkpointing:
        footprint.checkpoint_gradients(parts)
    frozen, trained = footprint.weight_bytes(parts)
    computes = precision if config.mixed_precision == "auto" else "float32"
    batch = footprint.MicroBatch(config.batch_size, size, bfloat16=computes == "bfloat16")
    step = footprint.predicted_step(parts, family, batch, times=config.gradient_accumulation)
    return MemoryPlan(
        base_model=base.source,
        size=size,
        batch_size=config.batch_size,
        precision=precision,
        frozen=frozen,
        trained=trained,
        gradients=step.gradients,
        optimizer=ADAMW_STATES * trained,
        activations=step.kept,
        step=step.fullest,
        reserve=RESERVE if precision == "bfloat16" else 0,
    )


def _gb(num_bytes: int) -> str:
    """In units of 10^9 bytes; two digits after the point where it is small."""
    return f"{num_bytes / 1e9:.1f}" if num_bytes >= 1e9 else f"{num_bytes / 1e9:.2f}"
