"""What a run learns from: pictures as latents in buckets, the texts they may be shown with, and which come when.

The order of the pictures comes from generators seeded by (seed, epoch), so a resumed run goes on in place.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sdplay import buckets, losses, templates
from sdplay.cache import Latents, encode_examples, encode_texts, latent_area
from sdplay.config import TrainConfig
from sdplay.data import Example
from sdplay.diffusion.objective import AnyObjective, step_generator
from sdplay.door import no_masks
from sdplay.errors import DataError
from sdplay.events import Note, Phase
from sdplay.families import Conditioning, checked_size
from sdplay.holes import Holes, holes_for
from sdplay.job import Hooks, Job
from sdplay.methods import Trainable
from sdplay.prior import ClassSource, Prior, prepare_prior
from sdplay.resting import resting

ORDER, VALIDATION = buckets.ORDER, 1002
"""Streams of random numbers beside the micro-batches of a step, which are numbered from 0."""
SMALLEST_SET_WITH_VALIDATION = 8


@dataclass(frozen=True)
class Bucket:
    """Pictures that are shown at one size."""

    latents: Latents
    pictures: list[int]
    """For each row of the latents, which picture it is."""
    areas: Tensor | None
    """(N, 1, h, w) how much each latent counts; None: all alike."""


@dataclass(frozen=True)
class Material:
    """What the loop draws batches from."""

    train: list[Bucket]
    """One, with all pictures in order, unless the run has several sizes."""
    held_out: list[Bucket]
    captions: list[list[str]]
    """For each training picture every text it may be shown with."""
    held_out_captions: list[str]
    conditioning: dict[str, Conditioning]
    """Of every text, as the base reads it; empty where the method changes what texts mean."""
    objective: AnyObjective
    prior: Prior | None
    holes: Holes | None = None
    """What an inpainting base sees of the pictures."""
    shares: list[list[float]] = field(default_factory=list)
    """For each training picture how much each of its texts counts; empty: all alike."""

    def rows_at(self, position: int, config: TrainConfig) -> tuple[Bucket, list[int]]:
        """The bucket of the batch at a position of the run, and which of its rows."""
        if config.bucketing == "off" and not config.resolutions:
            count, only = config.batch_size, self.train[0]
            return only, indices_of(position * count, count, num_examples=len(only.pictures), seed=config.seed)
        counts = [len(bucket.pictures) for bucket in self.train]
        index, rows = buckets.batch_at(position, counts, config.batch_size, seed=config.seed)
        return self.train[index], rows

    def draw_caption(self, picture: int, dropout: float, random: torch.Generator) -> str:
        """One of the picture's texts, or none for a share `dropout` of the draws."""
        dropped, choice = torch.rand(2, generator=random).tolist()
        choices = self.captions[picture]
        if dropped < dropout:
            return ""
        return chosen_by_share(choices, self.shares[picture], choice) if self.shares else choices[int(choice * len(choices))]


def prepare_material(job: Job, hooks: Hooks, trainable: Trainable) -> Material:
    """Split off the held-out pictures; compute or read latents and text embeddings."""
    config = job.config
    sides = [checked_size(job.parts, side) for side in config.resolutions or (config.resolution,)]
    held_out, train_examples = split(job.examples, config.validation_share, config.seed)
    captions = [texts_for(example.caption, config) for example in train_examples]
    held_out_captions = [texts_for(example.caption, config)[0] for example in held_out]
    if config.masked_loss == "mask":
        hooks.emit(Note(text=_about_masks(train_examples)))
    source = ClassSource(
        dataset=job.class_examples,
        cache_folder=job.cache_folder,
        size=sides[0],
        on_progress=lambda name, done, total: hooks.emit(Phase(name=name, done=done, total=total)),
        stop_requested=hooks.stop_requested,
    )
    prior = prepare_prior(config, job.parts, job.family, source)
    encoders, others = list(job.parts.text_encoders.values()), [job.parts.pipeline.vae, job.parts.denoiser]
    texts = ["", *held_out_captions, *(text for choices in captions for text in choices), *([prior.text] if prior else [])]
    with resting(job.parts, encoders):
        train = _encoded(job, train_examples, sides, say=_say(hooks, "encoding pictures"))
        validated = _encoded(job, held_out, sides[:1], say=_say(hooks, "encoding pictures"))
    with resting(job.parts, others if "text_encoder_3" in job.parts.text_encoders else []):
        conditioning = encode_texts(
            [] if trainable.changes_text else texts,
            job.parts,
            job.family,
            folder=job.cache_folder / "text",
            on_progress=_say(hooks, "encoding text"),
        )
    return Material(
        train=train,
        held_out=validated,
        captions=captions,
        held_out_captions=held_out_captions,
        conditioning=conditioning,
        objective=losses.prepared_objective(job.family.objective(job.parts), config),
        prior=prior,
        shares=[shares_for(example.caption, config) for example in train_examples] if config.template_weights else [],
        holes=holes_for(job.parts, job.family, train_examples, config),
    )


def split(examples: Sequence[Example], share: float, seed: int) -> tuple[list[Example], list[Example]]:
    """(held out, trained on). The choice depends on the pictures and the seed, not on their order."""
    if not examples:
        raise DataError("The data set has no pictures.", "Add at least one, better 10 to 20.")
    count = round(share * len(examples)) if len(examples) >= SMALLEST_SET_WITH_VALIDATION else 0
    by_key = sorted(examples, key=lambda example: example.key)
    order = torch.randperm(len(by_key), generator=step_generator(seed, 0, VALIDATION)).tolist()
    chosen = {by_key[index].key for index in order[:count]}
    return [example for example in by_key if example.key in chosen], [example for example in by_key if example.key not in chosen]


def texts_for(caption: str, config: TrainConfig) -> list[str]:
    """Every text a picture may be shown with, from all templates."""
    return [text for texts in _texts_by_template(caption, config) for text in texts]


def shares_for(caption: str, config: TrainConfig) -> list[float]:
    """How much each of `texts_for` counts: a template's weight, shared out evenly among the texts it makes."""
    by_template = zip(config.template_weights, _texts_by_template(caption, config), strict=True)
    return [weight / len(texts) for weight, texts in by_template for _ in texts]


def chosen_by_share(choices: Sequence[str], shares: Sequence[float], choice: float) -> str:
    """The text at `choice`, a number in [0, 1), when the texts lie side by side, each as wide as its share."""
    edges = list(itertools.accumulate(shares))
    return choices[min(bisect.bisect_right(edges, choice * edges[-1]), len(choices) - 1)]


def _texts_by_template(caption: str, config: TrainConfig) -> list[list[str]]:
    values = templates.Values(token=config.token, class_word=config.class_word, caption=caption, style=config.token)
    return [templates.expand_all(template, values) for template in config.caption_templates]


def indices_of(first: int, count: int, *, num_examples: int, seed: int) -> list[int]:
    """Which pictures come at positions first ... first + count - 1 of the endless sequence of shuffled epochs."""
    chosen = []
    for position in range(first, first + count):
        epoch, within = divmod(position, num_examples)
        order = torch.randperm(num_examples, generator=step_generator(seed, epoch, ORDER))
        chosen.append(int(order[within]))
    return chosen


def _encoded(job: Job, examples: Sequence[Example], sides: Sequence[int], *, say: Callable[[int, int], None]) -> list[Bucket]:
    """The pictures at each size that the config wants them at."""
    config, parts = job.config, job.parts
    sizes = [example.size for example in examples]
    unit = math.lcm(2 * parts.latent_factor, parts.size_multiple)
    made = []
    for size, chosen in buckets.by_size(sizes, sides, unit=unit, square=config.bucketing == "off").items():
        of_size = [examples[index] for index in chosen]
        latents = encode_examples(of_size, parts, job.family, size=size, folder=job.cache_folder / "latents", on_progress=say)
        masks = [latent_area(example, size, parts.latent_factor) for example in of_size] if config.masked_loss == "mask" else []
        made.append(Bucket(latents, chosen, losses.weighted_areas(masks, config) if masks else None))
    return made


def _say(hooks: Hooks, name: str) -> Callable[[int, int], None]:
    return lambda done, total: hooks.emit(Phase(name=name, done=done, total=total))


def _about_masks(examples: Sequence[Example]) -> str:
    """A sign that masks are used. Raises DataError if there is none."""
    count = sum(example.mask is not None for example in examples)
    if not count:
        raise no_masks()
    return f"Masked loss: {count} of {len(examples)} pictures have a mask."
