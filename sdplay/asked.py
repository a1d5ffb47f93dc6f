"""Pictures and films that somebody asks for: what the worker does for them. A picture is a PNG with its settings inside."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from sdplay.columns import Column
from sdplay.config import AnimateConfig, DrawConfig
from sdplay.errors import Cancelled
from sdplay.start import StartPicture
from sdplay.workspace import slug

if TYPE_CHECKING:
    from PIL import Image

    from sdplay.families import Family, Parts


@dataclass(frozen=True)
class Drawn:
    """A picture drawn on request."""

    path: Path
    prompt: str
    seed: int


@dataclass(frozen=True)
class Coming:
    """Pictures that are being drawn just now: small ones of what they will be, and how far they are."""

    pictures: tuple[Image.Image, ...] = ()
    step: int = 0
    steps: int = 0


@dataclass
class Watch:
    """Lets another thread see pictures as they come, and end the work between two denoising steps."""

    drawn: list[Drawn] = field(default_factory=list)
    coming: Coming = field(default_factory=Coming)
    """Empty while nothing is known of them, or where they come too fast to be looked at."""
    cancelled: Event = field(default_factory=Event)


@dataclass(frozen=True)
class Asked:
    """Pictures that are asked for, with everything found that the config names."""

    config: DrawConfig
    column: Column
    start: StartPicture | None
    folder: Path
    watch: Watch = field(default_factory=Watch)


def draw_asked(parts: Parts, family: Family, asked: Asked) -> list[Drawn]:
    """Draw and write every picture into the folder, beside those that are there; fewer when it is cancelled. Raises SdplayError."""
    from sdplay import sample
    from sdplay.formats import read_adapter
    from sdplay.preview import Previews

    config, watch = asked.config, asked.watch
    if watch.cancelled.is_set():
        return []
    shots = [sample.Shot(prompt, seed) for prompt in config.prompts for seed in config.seeds]
    adapters = [(read_adapter(path), strength) for path, strength in asked.column.adapters]
    shared = {**config.drawing.model_dump(), "base_model": config.base_model, "adapter": asked.column.text}
    if asked.start:
        shared |= {"image_strength": config.strength, "image": Path(config.image).name, "mask": Path(config.mask).name}

    def show(step: int, steps: int, pictures: list[Image.Image]) -> None:
        watch.coming = Coming(tuple(pictures), step, steps)

    onlooker = sample.Onlooker(watch.cancelled.is_set, Previews(parts, family, show).after_step)
    drawn = sample.draw(parts, family, shots, config.drawing, onlooker=onlooker, start=asked.start)
    with sample.using(parts, adapters, [config.drawing]), suppress(Cancelled):
        for shot, picture in zip(shots, drawn, strict=True):
            path = _free_path(asked.folder, f"{slug(shot.prompt) or 'picture'}-s{shot.seed}")
            sample.write_png(path, picture, {**shared, "prompt": shot.prompt, "seed": shot.seed})
            watch.coming = Coming()
            watch.drawn.append(Drawn(path, shot.prompt, shot.seed))
    return list(watch.drawn)


def draw_frames(parts: Parts, family: Family, config: AnimateConfig, column: Column) -> list[Image.Image]:
    """The frames of a film. Raises SdplayError."""
    from sdplay import animate
    from sdplay.formats import read_adapter
    from sdplay.resting import at_hand

    film = animate.Film(config, [(read_adapter(path), strength) for path, strength in column.adapters], parts, family)
    with at_hand(parts):
        return animate.moving_frames(film, animate.open_motion(config.motion)) if config.motion else list(animate.frames_between(film))


def given(value: object) -> Mapping[str, object]:
    """Settings inside settings, as far as that is what they are."""
    return value if isinstance(value, Mapping) else {}


def _free_path(folder: Path, stem: str) -> Path:
    path, number = folder / f"{stem}.png", 1
    while path.exists():
        number += 1
        path = folder / f"{stem}-{number}.png"
    return path
