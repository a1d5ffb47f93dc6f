"""Pictures in the cheapest order: what is on the base changes least often, then what a drawing is told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sdplay.axes import Spec
from sdplay.config import GenerateConfig


@dataclass(frozen=True)
class Batch:
    """Pictures that differ in prompt and seed alone: one call draws them."""

    drawing: GenerateConfig
    specs: tuple[Spec, ...]


@dataclass(frozen=True)
class Load:
    """Pictures that are drawn with the same adapters, at the same strength, on the base."""

    column: str
    strength: float
    batches: tuple[Batch, ...]


@dataclass(frozen=True)
class Effort:
    """What drawing takes."""

    pictures: int
    loads: int
    steps: int
    """Denoising steps of all pictures together."""


def plan(specs: Iterable[Spec]) -> list[Load]:
    """Each different picture once; every set of adapters is put on the base once, every setting of the drawing once with each."""
    loads: dict[tuple[str, float], dict[GenerateConfig, dict[Spec, None]]] = {}
    for spec in specs:
        loads.setdefault((spec.column, spec.strength), {}).setdefault(spec.drawing, {})[spec] = None
    return [
        Load(column, strength, tuple(Batch(drawing, tuple(same)) for drawing, same in batches.items()))
        for (column, strength), batches in loads.items()
    ]


def effort(loads: Iterable[Load]) -> Effort:
    """How much a plan is."""
    listed = list(loads)
    batches = [batch for load in listed for batch in load.batches]
    pictures = sum(len(batch.specs) for batch in batches)
    return Effort(pictures, len(listed), sum(batch.drawing.steps * len(batch.specs) for batch in batches))
