"""Moving pictures: frames between key pictures, or AnimateDiff's motion adapter on a Stable Diffusion 1.x base.

Between two key pictures what the prompt means moves in a straight line, noise on the sphere (Shoemake 1985), because a straight
line through Gaussian noise loses its length, and the adapters' strength in a straight line.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import AnimateDiffPipeline, MotionAdapter, UNetMotionModel
from PIL import Image
from torch import Tensor

from sdplay import inpainting, sample
from sdplay.attach import base_alone
from sdplay.config import AnimateConfig
from sdplay.errors import Cancelled, ConfigError, ModelError
from sdplay.families import Conditioning, DrawRequest, Family, Parts
from sdplay.formats import AdapterFile
from sdplay.guidance import Steps, guided_from
from sdplay.pipelines import noise_of
from sdplay.schedulers import scheduler_for

Value = TypeVar("Value")
MOTION_SCHEDULE = {"beta_schedule": "linear", "timestep_spacing": "linspace", "clip_sample": False}
"""AnimateDiff's adapters were taught with it, whatever the base's own is (diffusers' documentation of AnimateDiff)."""


@dataclass(frozen=True)
class Film:
    """What is animated, loaded."""

    config: AnimateConfig
    adapters: Sequence[tuple[AdapterFile, float]]
    parts: Parts
    family: Family
    cancelled: Callable[[], bool] = sample.never

    def strength(self, factor: float) -> list[tuple[AdapterFile, float]]:
        """The adapters at a multiple of their strengths."""
        return [(adapter, strength * factor) for adapter, strength in self.adapters]


@dataclass(frozen=True)
class _Key:
    """A key picture: what it is told, its noise (C, h, w), and the factor on the adapters' strengths."""

    texts: sample.Texts
    noise: Tensor
    seed: int
    strength: float

    def towards(self, other: _Key, share: float) -> _Key:
        """The frame that lies at `share` of the way to another key picture, 0 to 1; at 0 it is this one, to the bit."""
        if share == 0:
            return self
        texts = sample.Texts(
            _between(self.texts.conditioning, other.texts.conditioning, share), _between(self.texts.negative, other.texts.negative, share)
        )
        return _Key(texts, slerp(self.noise, other.noise, share), self.seed, self.strength + share * (other.strength - self.strength))


def frames_between(film: Film) -> Iterator[Image.Image]:
    """`frames` frames from each key picture to the next, the last one included. Raises SdplayError, Cancelled."""
    keys = _key_pictures(film)
    frames = film.config.frames
    for first, second in itertools.pairwise(keys):
        for index in range(frames):
            yield _draw(film, first.towards(second, index / frames))
    yield _draw(film, keys[-1])


def slerp(first: Tensor, second: Tensor, share: float) -> Tensor:
    """On the great circle from one noise to another; a straight line where they are (nearly) parallel."""
    cosine = torch.nn.functional.cosine_similarity(first.flatten(), second.flatten(), dim=0).clamp(-1, 1)
    angle = torch.arccos(cosine)
    if torch.sin(angle) < 1e-4:
        return torch.lerp(first, second, share)
    return (torch.sin((1 - share) * angle) * first + torch.sin(share * angle) * second) / torch.sin(angle)


def _key_pictures(film: Film) -> list[_Key]:
    config, count = film.config, film.config.keys
    width, height = sample.drawn_size(film.parts, config.drawing, None)
    prompts, seeds, strengths = _each(config.prompts, count), _each(config.seeds, count), _each(config.strengths, count)
    keys = []
    for prompt, seed, strength in zip(prompts, seeds, strengths, strict=True):
        with sample.using(film.parts, film.strength(strength)), torch.no_grad():
            texts = sample.texts_of(film.parts, film.family, [sample.Shot(text, seed) for text in dict.fromkeys(prompts)], config.drawing)
        keys.append(_Key(texts[prompt], noise_of(film.parts, seed, width, height), seed, strength))
    lengths = {key.texts.conditioning.hidden.shape[1] for key in keys}
    if len(lengths) > 1:
        raise ConfigError("The prompts are read in different numbers of parts.", "Make all of them short, or all about equally long.")
    return keys


def _each(values: Sequence[Value], count: int) -> Sequence[Value]:
    """One for each key picture; what there is one of is the same in all."""
    return list(values) * count if len(values) == 1 else values


def _between(first: Conditioning, second: Conditioning, share: float) -> Conditioning:
    named = second.tensors()
    return Conditioning(**{name: torch.lerp(tensor, named[name], share) for name, tensor in first.tensors().items()})


def _draw(film: Film, key: _Key) -> Image.Image:
    drawing = film.config.drawing
    width, height = sample.drawn_size(film.parts, drawing, None)
    request = DrawRequest(
        conditioning=key.texts.conditioning,
        negative=key.texts.negative,
        seeds=(key.seed,),
        steps=drawing.steps,
        guidance_scale=drawing.guidance_scale,
        width=width,
        height=height,
        cancelled=film.cancelled,
        scheduler=drawing.scheduler,
        guidance_rescale=drawing.guidance_rescale,
        guidance_stop=drawing.guidance_stop,
        noise=key.noise[None],
    )
    with sample.using(film.parts, film.strength(key.strength), [drawing]):
        request = replace(request, guided_from=film.parts.base_denoiser)
        return sample.to_picture(film.family.draw(film.parts, request)[0])


# ---- AnimateDiff


@torch.no_grad()
def moving_frames(film: Film, motion: MotionAdapter) -> list[Image.Image]:
    """`frames` frames of one prompt that move as the motion adapter learned. Raises ConfigError when it does not fit the base."""
    config, drawing = film.config, film.config.drawing
    if film.family.NAME != "sd15" or film.parts.denoiser.config.in_channels == inpainting.CHANNELS:
        raise ConfigError("Motion adapters are for Stable Diffusion 1.x bases, not for inpainting ones.", "Choose such a base.")
    longest = motion.config.motion_max_seq_length
    if config.frames > longest:
        raise ConfigError(f"This motion adapter makes at most {longest} frames.", f"Ask for {longest} or fewer.")
    width, height = sample.drawn_size(film.parts, drawing, None)
    with base_alone(film.parts):
        parts = _in_motion(film.parts, motion)
        with sample.using(parts, film.strength(config.strengths[0]), [drawing] if drawing.guidance_scale > 1 else []):
            shot = sample.Shot(config.prompts[0], config.seeds[0])
            texts = sample.texts_of(parts, film.family, [shot], drawing)[shot.prompt]
            parts.pipeline.scheduler = _motion_scheduler(film.parts.pipeline.scheduler, film)
            steps = Steps(parts.pipeline)
            goes_on = steps.first(drawing.guidance_stop) if drawing.guidance_scale > 1 else None
            with guided_from(parts.denoiser, parts.base_denoiser, goes_on):
                video = parts.pipeline(
                    prompt_embeds=texts.conditioning.hidden, negative_prompt_embeds=texts.negative.hidden, num_frames=config.frames,
                    width=width, height=height, num_inference_steps=drawing.steps, guidance_scale=drawing.guidance_scale,
                    generator=torch.Generator().manual_seed(shot.seed), callback_on_step_end=_stopping(film.cancelled, steps),
                    output_type="pt",
                ).frames[0]  # fmt: skip
    return [sample.to_picture(frame.float().cpu()) for frame in video]


def open_motion(source: str) -> MotionAdapter:
    """A motion adapter from a folder in diffusers' layout or a Hub id. Raises ModelError."""
    folder = Path(source).expanduser()
    if folder.is_file():
        raise ModelError(f"{folder.name} is a file; a motion adapter is read from a folder.", "Give a folder in diffusers' layout.")
    try:
        return MotionAdapter.from_pretrained(str(folder) if folder.is_dir() else source, use_safetensors=True)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise ModelError(
            f"The motion adapter {source!r} cannot be read: {(str(error).strip().splitlines() or [''])[0][:200]}",
            "Give a folder with config.json and .safetensors weights, or a Hub id such as guoyww/animatediff-motion-adapter-v1-5-2.",
        ) from error


def _in_motion(parts: Parts, motion: MotionAdapter) -> Parts:
    """The base with the motion adapter's layers between its own. A copy: what is put on it leaves the base as it is."""
    try:
        network = UNetMotionModel.from_unet2d(parts.denoiser, motion)
    except (ValueError, RuntimeError, KeyError) as error:
        raise ConfigError("The motion adapter does not fit this base.", "Take one that was made for Stable Diffusion 1.x.") from error
    network.requires_grad_(False).eval().to(parts.device)
    components = {
        name: parts.pipeline.components[name] for name in ("vae", "text_encoder", "tokenizer", "feature_extractor", "image_encoder")
    }
    scheduler = copy.deepcopy(parts.pipeline.scheduler)
    pipeline = AnimateDiffPipeline(**components, unet=network, motion_adapter=motion, scheduler=scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return replace(parts, pipeline=pipeline, denoiser=network, attached=[], grey_latents={})


def _motion_scheduler(own: Any, film: Film) -> Any:  # noqa: ANN401  diffusers' own
    name = film.config.drawing.scheduler
    chosen = scheduler_for(own, "DDIM" if name == "base" else name)
    return type(chosen).from_config(chosen.config, **MOTION_SCHEDULE)


def _stopping(cancelled: Callable[[], bool], steps: Steps) -> Callable[..., dict[str, Any]]:
    def check(pipe: Any, step: int, timestep: int, values: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401  diffusers' own
        steps.done = step + 1
        if cancelled():
            raise Cancelled("Drawing was cancelled.")
        return values

    return check
