"""Prior preservation as data: the class in general, learned beside the user's pictures so that it stays what it was.

Ruiz et al. 2022, arXiv 2208.12242, sec. 3.2. Where the base's own prediction is the target no class pictures are needed;
each picture of a step is then also seen with the class prompt, under the same noise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from sdplay import sample
from sdplay.attach import base_alone
from sdplay.cache import Latents, encode_examples, encode_texts
from sdplay.config import GenerateConfig, PriorConfig, TrainConfig
from sdplay.data import Example
from sdplay.errors import DataError
from sdplay.families import Conditioning, Family, Parts

CLASS_STEPS = 20
"""Denoising steps of a class picture."""


@dataclass(frozen=True)
class Prior:
    """What the base knows about the class."""

    weight: float
    text: str
    conditioning: Conditioning
    """The text as the base alone reads it, batch 1."""
    latents: Latents | None
    """Pictures of the class; None: the base's prediction is the target."""


@dataclass(frozen=True)
class ClassSource:
    """Where class pictures come from and how drawing them is watched."""

    dataset: Sequence[Example]
    cache_folder: Path
    size: int
    on_progress: Callable[[str, int, int], None]
    stop_requested: Callable[[], bool]


def prepare_prior(config: TrainConfig, parts: Parts, family: Family, source: ClassSource) -> Prior | None:
    """What a config asks for, None when it asks for nothing. Draws class pictures that are not there yet."""
    if not isinstance(config, PriorConfig) or config.prior == "none":
        return None
    text = config.prior_prompt or config.class_word
    with base_alone(parts):
        conditioning = encode_texts([text], parts, family, folder=source.cache_folder / "text", on_progress=lambda done, total: None)[text]
        latents = None
        if config.prior != "prediction":
            examples = source.dataset if config.prior == "dataset" else class_pictures(text, config, parts, family, source=source)
            if not examples:
                raise DataError("There is no picture of the class.", "Add some to the class data set, or let the base draw them.")
            latents = encode_examples(
                examples, parts, family, size=(source.size, source.size), folder=source.cache_folder / "latents",
                on_progress=lambda done, total: source.on_progress("encoding class pictures", done, total),
            )  # fmt: skip
    return Prior(config.prior_weight, text, conditioning, latents)


def class_pictures(text: str, config: PriorConfig, parts: Parts, family: Family, *, source: ClassSource) -> list[Example]:
    """Pictures that the base draws, one for each of the first seeds. They are kept by content, so they are drawn once.

    A stop that is asked for meanwhile ends the drawing; what is there is returned.
    """
    drawing = GenerateConfig(steps=CLASS_STEPS, guidance_scale=config.guidance_scale, size=source.size)
    key = _digest(text, drawing.model_dump_json(), parts.fingerprint, _fingerprint(parts))
    folder = source.cache_folder / "class"
    paths = [folder / f"{key}-{seed}.png" for seed in range(config.prior_images)]
    missing = [seed for seed, path in enumerate(paths) if not path.is_file()]
    for start in range(0, len(missing), sample.BATCH):
        if start and source.stop_requested():
            break
        source.on_progress("drawing class pictures", config.prior_images - len(missing) + start, config.prior_images)
        chunk = missing[start : start + sample.BATCH]
        pictures = sample.draw(parts, family, [sample.Shot(text, seed) for seed in chunk], drawing)
        for seed, picture in zip(chunk, pictures, strict=True):
            sample.write_png(paths[seed], picture, {**drawing.model_dump(), "prompt": text, "seed": seed, "base_model": config.base_model})
    return [_example(path, text) for path in paths if path.is_file()]


def _example(path: Path, text: str) -> Example:
    with Image.open(path) as picture:
        width, height = picture.size
    return Example(path.stem, path, text, width, height, path.name, ())


def _fingerprint(parts: Parts) -> str:
    """Of the denoiser's values, which decide what a class picture looks like."""
    digest = hashlib.sha256()
    for name, tensor in parts.denoiser.state_dict().items():
        digest.update(name.encode() + tensor.detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()


def _digest(*facts: str) -> str:
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()[:16]
