"""How pictures and grids are drawn."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field

from sdplay.config.settings import Config, Text, setting


class GenerateConfig(Config):
    """How pictures are drawn."""

    steps: int = setting(20, "Denoising steps", "More steps, finer picture, longer wait.", level="basic", typical="20 to 30", ge=1, le=200)
    guidance_scale: float = setting(
        4.0,
        "Guidance",
        "How strongly the picture follows the prompt.",
        level="basic",
        typical="3 for the embedded model, 7 for Stable Diffusion",
        risk="High: harsh colours.",
        ge=1,
        le=30,
    )
    size: int | None = setting(None, "Size (px)", "Side of the square; empty: the base model's own.", ge=32, le=1536, multiple_of=8)
    negative_prompt: Text = setting("", "Negative prompt", "What the picture should not show.", level="basic")


class CompareConfig(Config):
    """A grid: columns (base, a run at a step, an adapter file, each with a strength) by prompts by seeds."""

    base_model: Text = setting("mini", "Base model", "The base model of every column.", level="hidden")
    columns: tuple[Text, ...] = setting(
        ("base",),
        "Columns",
        "base, RUN, RUN@STEP or FILE, each with :STRENGTH if wanted; + mixes several.",
        min_length=1,
        max_length=24,
    )
    prompts: tuple[Text, ...] = setting((), "Prompts", "One row each.", min_length=1, max_length=64)
    seeds: tuple[Annotated[int, Field(ge=0, le=2**31 - 1)], ...] = setting(
        (1,), "Seeds", "Every column starts from the same noise.", min_length=1, max_length=64
    )
    axes: dict[str, tuple[int | float | str, ...]] = setting(
        {}, "Axes", "What else changes, by name: strength, checkpoint, style or a setting of the drawing, each with its values."
    )
    drawing: GenerateConfig = Field(default_factory=GenerateConfig, title="Drawing")

    @property
    def num_cells(self) -> int:
        """Places in the grid; some may show one and the same picture."""
        return len(self.columns) * len(self.prompts) * len(self.seeds) * math.prod(len(values) for values in self.axes.values())
