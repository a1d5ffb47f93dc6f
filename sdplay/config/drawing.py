"""How pictures, grids and films are drawn, and which."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator
from typing_extensions import Self

from sdplay.config.settings import Config, Text, setting
from sdplay.errors import ConfigError

Prompt = Annotated[str, StringConstraints(strip_whitespace=True, max_length=5000)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
Scheduler = Literal[
    "base", "Euler", "Euler a", "Heun", "DPM++ 2M", "DPM++ 2M Karras", "DPM++ 2M SDE", "DPM++ 2M SDE Karras", "DPM++ SDE",
    "DPM++ SDE Karras", "DPM2", "DPM2 a", "DDIM", "DDPM", "PNDM", "UniPC", "LCM",
]  # fmt: skip
"""What `schedulers.py` knows, by the names that A1111 gave them; `base`: the base model's own."""


class GenerateConfig(Config):
    """How pictures are drawn."""

    steps: int = setting(20, "Denoising steps", "More steps, finer picture, longer wait.", level="basic", typical="20 to 30", ge=1, le=200)
    guidance_scale: float = setting(
        4.0,
        "Guidance",
        "How strongly the picture follows the prompt.",
        level="basic",
        typical="3 for the embedded model, 7 for Stable Diffusion",
        risk="High: harsh colours. 0 or 1: no guidance, no negative prompt.",
        ge=0,
        le=30,
    )
    size: int | None = setting(
        None,
        "Size (px)",
        "Width; without a height the side of a square. Empty: the base model's own, or for a start picture its shape at that area.",
        ge=32,
        le=1536,
        multiple_of=8,
    )
    height: int | None = setting(None, "Height (px)", "Empty: as wide.", ge=32, le=1536, multiple_of=8)
    negative_prompt: Prompt = setting("", "Negative prompt", "What the picture should not show.", level="basic")
    scheduler: Scheduler = setting(
        "base", "Scheduler", "How noise becomes a picture, step by step. base: as the base model says.", typical="DPM++ 2M Karras, Euler a"
    )
    clip_skip: int = setting(
        1, "Clip skip", "Which of the text encoder's last layers is read. 1: as the base was made.", typical="1; 2 for anime bases",
        risk="Every step up knows less about the prompt.", ge=1, le=12,
    )  # fmt: skip
    guidance_rescale: float = setting(
        0.0, "Guidance rescale", "Keeps strong guidance from washing out (Lin et al. 2023, sec. 3.4). Not for Stable Diffusion 3.",
        typical="0, or 0.7 for bases of zero terminal SNR", ge=0, le=1,
    )  # fmt: skip
    guidance_from: Literal["adapter", "base"] = setting(
        "adapter", "Guidance reference",
        "What guidance goes away from. adapter: what base and adapter draw without your words, as other programs do. base: what the base "
        "alone draws, which makes stronger what was taught.",
        typical="adapter; base, where a style comes out weak",
    )  # fmt: skip
    guidance_stop: float = setting(
        1.0, "Guidance until",
        "Share of the steps that are guided. The last ones do without as well, at half their time (Kynkäänniemi et al. 2024).",
        typical="1; 0.4 to 0.6 to draw faster", risk="Low: the prompt is followed less.", ge=0, le=1,
    )  # fmt: skip


class DrawConfig(Config):
    """Pictures that are asked for: prompts by seeds, from nothing, from a start picture, or inside a painted mask."""

    base_model: Text = setting("mini", "Base model", "The base model that draws.", level="hidden")
    adapter: Text = setting(
        "base", "Adapters", "base, RUN, RUN@STEP or FILE, each with :STRENGTH if wanted; + mixes several.", level="hidden"
    )
    prompts: tuple[Prompt, ...] = setting((), "Prompts", "What to draw.", level="hidden", min_length=1, max_length=64)
    seeds: tuple[Seed, ...] = setting(
        (1,), "Seeds", "One picture of each prompt for every seed.", level="hidden", min_length=1, max_length=16
    )
    image: Text = setting("", "Start picture", "A file that the pictures begin with; empty: noise.", level="hidden")
    mask: Text = setting("", "Mask", "A file as large as the start picture: white is drawn anew, black stays to the pixel.", level="hidden")
    strength: float = setting(
        0.6, "Strength", "How much of the start picture is given up. 0: none, it comes back as it is; 1: all.", level="basic",
        typical="0.4 to 0.7; 1 to fill a mask with something else", ge=0, le=1,
    )  # fmt: skip
    drawing: GenerateConfig = Field(default_factory=GenerateConfig, title="Drawing")

    @model_validator(mode="after")
    def _a_mask_is_of_a_picture(self) -> Self:
        if self.mask and not self.image:
            raise ConfigError("There is a mask, but no start picture.", "Give the picture that the mask belongs to.")
        return self


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
    prompts: tuple[Prompt, ...] = setting((), "Prompts", "One row each.", min_length=1, max_length=64)
    seeds: tuple[Seed, ...] = setting((1,), "Seeds", "Every column starts from the same noise.", min_length=1, max_length=64)
    axes: dict[str, tuple[int | float | str, ...]] = setting(
        {}, "Axes", "What else changes, by name: strength, checkpoint, style or a setting of the drawing, each with its values."
    )
    drawing: GenerateConfig = Field(default_factory=GenerateConfig, title="Drawing")

    @property
    def num_cells(self) -> int:
        """Places in the grid; some may show one and the same picture."""
        return len(self.columns) * len(self.prompts) * len(self.seeds) * math.prod(len(values) for values in self.axes.values())


class AnimateConfig(Config):
    """Frames between pictures, or a moving picture by a motion adapter.

    Prompts, seeds and strengths are key pictures: as many as the longest of them has; a list of one stays the same all along.
    """

    base_model: Text = setting("mini", "Base model", "The base model that draws.", level="hidden")
    adapter: Text = setting("base", "Adapters", "As for pictures.", level="hidden")
    prompts: tuple[Prompt, ...] = setting((), "Prompts", "One for each key picture, or one.", level="hidden", min_length=1, max_length=16)
    seeds: tuple[Seed, ...] = setting((1,), "Seeds", "One for each key picture, or one.", level="hidden", min_length=1, max_length=16)
    strengths: tuple[float, ...] = setting(
        (1.0,),
        "Strengths",
        "Factors on the adapters' strengths, in each key picture.",
        level="hidden",
        min_length=1,
        max_length=16,
    )
    frames: int = setting(16, "Frames", "From one key picture to the next; by a motion adapter: of the whole.", level="basic", ge=2, le=240)
    fps: int = setting(8, "Frames per second", "How fast they are shown.", level="basic", ge=1, le=50)
    motion: Text = setting("", "Motion adapter", "A folder or Hub id for AnimateDiff; Stable Diffusion 1.x only.", level="hidden")
    drawing: GenerateConfig = Field(default_factory=GenerateConfig, title="Drawing")

    @property
    def keys(self) -> int:
        """Key pictures."""
        return max(len(self.prompts), len(self.seeds), len(self.strengths))

    @model_validator(mode="after")
    def _lists_fit(self) -> Self:
        lengths = {len(self.prompts), len(self.seeds), len(self.strengths)} - {1}
        if len(lengths) > 1:
            raise ConfigError("The prompts, seeds and strengths are not equally many.", "Give one of each, or as many as of the others.")
        if self.motion and self.keys > 1:
            raise ConfigError("A motion adapter moves one prompt with one seed and one strength.", "Give one of each.")
        if not self.motion and self.keys < 2:
            raise ConfigError("There is nothing to go to.", "Give at least two prompts, seeds or strengths, or a motion adapter.")
        return self
