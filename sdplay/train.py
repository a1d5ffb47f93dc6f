"""The training loop, in time order. It knows neither the family nor the method.

Noise, timesteps and captions of a step come from generators seeded by (seed, step), the order of the pictures from
(seed, epoch). So a resumed run is exactly the run that was not interrupted, and two runs with one seed share their noise.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
import torch.utils.checkpoint
from torch import Tensor

from sdplay import buckets, checkpoint, losses, optimizers, sample, templates
from sdplay.cache import Latents, encode_examples, encode_texts, latent_area
from sdplay.config import GenerateConfig, TrainConfig
from sdplay.data import Example
from sdplay.device import Device, autocast
from sdplay.diffusion.objective import AnyObjective, per_sample_loss, step_generator
from sdplay.errors import AdapterError, DataError, DeviceError
from sdplay.events import Artifact, Checkpoint, Event, Finished, Note, Phase, Samples, Started, Step, Stopped, Validation
from sdplay.families import Conditioning, Family, Parts, batch, checked_size
from sdplay.formats import prove, sha256_of, write_adapter
from sdplay.methods import Method, Trainable
from sdplay.optimizers import Learner, learning_rate_at
from sdplay.runs import Run
from sdplay.workspace import slug

ORDER, VALIDATION = buckets.ORDER, 1002
"""Streams of random numbers beside the micro-batches of a step, which are numbered from 0."""
VALIDATION_TIMESTEPS = (0.1, 0.3, 0.5, 0.7, 0.9)
SMALLEST_SET_WITH_VALIDATION = 8


@dataclass(frozen=True)
class Hooks:
    """What the loop asks and tells the outside."""

    emit: Callable[[Event], None]
    stop_requested: Callable[[], bool]
    between_steps: Callable[[], bool]
    """Lets waiting pictures through; True if another adapter was in use."""


@dataclass(frozen=True)
class Job:
    """Everything a run needs, loaded."""

    run: Run
    config: TrainConfig
    examples: Sequence[Example]
    parts: Parts
    family: Family
    method: Method
    device: Device
    cache_folder: Path


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
    objective: AnyObjective


def train(job: Job, hooks: Hooks) -> None:
    """Run from step 0 or the newest checkpoint to the end, or until a stop is asked for. Writes into the run folder."""
    config = job.config
    trainable = job.method.prepare(job.parts, job.family, config)
    try:
        learner = Learner([{"params": trainable.parameters()}], config, device_kind=job.device.kind)
        step = _resume(job, trainable, learner)
        hooks.emit(Started(step=step, device=job.device.label))
        material = prepare_material(job, hooks)
        if step == 0:
            for note in (*optimizers.notes(config), *losses.notes(config, material.objective)):
                hooks.emit(Note(text=note))
            _draw_samples(job, hooks, 0)
        if config.gradient_checkpointing == "on":
            # With reentrant checkpointing frozen inputs would leave the adapters without gradients.
            job.parts.denoiser.enable_gradient_checkpointing(partial(torch.utils.checkpoint.checkpoint, use_reentrant=False))
        hooks.emit(Phase(name="training"))
        while step < config.steps and not hooks.stop_requested():
            started = time.perf_counter()
            learning_rate = learning_rate_at(step, config)
            loss = _one_step(job, material, learner, step=step, learning_rate=learning_rate)
            step += 1
            rate = learner.rate_in_use(learning_rate)
            hooks.emit(Step(step=step, loss=loss, learning_rate=rate, seconds=time.perf_counter() - started))
            with learner.shown():
                _now_and_then(job, hooks, material, step)
            if step % config.checkpoint_every == 0 and step < config.steps:
                _save_checkpoint(job, hooks, trainable, learner, step=step)
            if hooks.between_steps():
                trainable.activate()
        _finish(job, hooks, trainable, learner, step=step)
    finally:
        job.parts.denoiser.disable_gradient_checkpointing()
        trainable.detach()


def prepare_material(job: Job, hooks: Hooks) -> Material:
    """Split off the held-out pictures; compute or read latents and text embeddings."""
    config = job.config
    sides = [checked_size(job.parts, side) for side in config.resolutions or (config.resolution,)]
    held_out, train_examples = split(job.examples, config.validation_share, config.seed)
    captions = [texts_for(example.caption, config) for example in train_examples]
    held_out_captions = [texts_for(example.caption, config)[0] for example in held_out]

    def say(name: str) -> Callable[[int, int], None]:
        return lambda done, total: hooks.emit(Phase(name=name, done=done, total=total))

    def encoded(examples: Sequence[Example], sides: Sequence[int]) -> list[Bucket]:
        sizes = [(example.width, example.height) for example in examples]
        unit = math.lcm(2 * job.parts.latent_factor, job.parts.size_multiple)
        grouped = buckets.by_size(sizes, sides, unit=unit, square=config.bucketing == "off")
        folder, on_progress = job.cache_folder / "latents", say("encoding pictures")
        made = []
        for size, chosen in grouped.items():
            of_size = [examples[index] for index in chosen]
            latents = encode_examples(of_size, job.parts, job.family, size=size, folder=folder, on_progress=on_progress)
            masks = [latent_area(example, size, job.parts.latent_factor) for example in of_size] if config.masked_loss == "mask" else []
            made.append(Bucket(latents, chosen, losses.weighted_areas(masks, config) if masks else None))
        return made

    if config.masked_loss == "mask":
        hooks.emit(Note(text=_about_masks(train_examples)))
    texts = ["", *held_out_captions, *(text for choices in captions for text in choices)]
    return Material(
        train=encoded(train_examples, sides),
        held_out=encoded(held_out, sides[:1]),
        captions=captions,
        held_out_captions=held_out_captions,
        conditioning=encode_texts(texts, job.parts, job.family, folder=job.cache_folder / "text", on_progress=say("encoding text")),
        objective=losses.prepared_objective(job.family.objective(job.parts), config),
    )


def _about_masks(examples: Sequence[Example]) -> str:
    """A sign that masks are used. Raises DataError if there is none."""
    count = sum(example.mask is not None for example in examples)
    if not count:
        raise DataError(
            "Masked loss is on, but no picture has a mask.", "Add pictures with transparency or mask files, or set Masked loss to off."
        )
    return f"Masked loss: {count} of {len(examples)} pictures have a mask."


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
    values = templates.Values(token=config.token, class_word=config.class_word, caption=caption, style=config.token)
    return [text for template in config.caption_templates for text in templates.expand_all(template, values)]


def indices_of(first: int, count: int, *, num_examples: int, seed: int) -> list[int]:
    """Which pictures come at positions first ... first + count - 1 of the endless sequence of shuffled epochs."""
    chosen = []
    for position in range(first, first + count):
        epoch, within = divmod(position, num_examples)
        order = torch.randperm(num_examples, generator=step_generator(seed, epoch, ORDER))
        chosen.append(int(order[within]))
    return chosen


def _resume(job: Job, trainable: Trainable, learner: Learner) -> int:
    restored = checkpoint.newest_valid(job.run.folder / "checkpoints")
    if restored is None:
        return 0
    trainable.load_weights(restored.weights)
    learner.load(restored.state)
    return restored.step


def _one_step(job: Job, material: Material, learner: Learner, *, step: int, learning_rate: float) -> float:
    """Add up the gradients of the micro-batches, then change the weights. Returns the mean loss."""
    config = job.config
    for group in learner.optimizer.param_groups:
        group["lr"] = learning_rate
    total = 0.0
    for micro in range(config.gradient_accumulation):
        loss = _batch_loss(job, material, step=step, micro=micro) / config.gradient_accumulation
        loss.backward()
        total += loss.item()
    if not math.isfinite(total):
        raise DeviceError(f"The loss at step {step + 1} is not a number.", "Lower the learning rate, for example to half, and train again.")
    torch.nn.utils.clip_grad_norm_(learner.parameters, config.max_grad_norm)
    learner.step()
    return total


def _batch_loss(job: Job, material: Material, *, step: int, micro: int) -> Tensor:
    """Draw one micro-batch and see how far off the denoiser is; losses.py says how that is counted."""
    config = job.config
    random = step_generator(config.seed, step, micro)
    bucket, rows = _chosen(material, config, position=step * config.gradient_accumulation + micro)
    mean, std = bucket.latents.mean[rows], bucket.latents.std[rows]
    x0 = mean + std * torch.randn(mean.shape, generator=random)
    eps = torch.randn(x0.shape, generator=random)
    t = material.objective.draw_timesteps(len(x0), random)
    texts = [_draw_caption(material, bucket.pictures[row], config.caption_dropout, random) for row in rows]
    if config.caption_shuffle == "on":
        shuffling = step_generator(config.seed, step, losses.TAGS + micro)
        order_of = lambda count: torch.randperm(count, generator=shuffling).tolist()  # noqa: E731
        texts = [templates.shuffled_tags(text, config.keep_tags, order_of) for text in texts]
    area = None if bucket.areas is None else bucket.areas[rows]
    drawn = losses.Drawn(x0, eps, t, bucket.latents.geometry[rows], area=area)
    drawn = losses.varied(drawn, config, material.objective, step=step, micro=micro).to(job.parts.device)
    predicted = _predict(job, material.objective, drawn, conditioning_of(job, material, texts))
    return losses.batch_loss(predicted, drawn, config, material.objective)


def _chosen(material: Material, config: TrainConfig, *, position: int) -> tuple[Bucket, list[int]]:
    """The bucket of the batch at a position of the run, and which of its rows."""
    if config.bucketing == "off" and not config.resolutions:
        count, only = config.batch_size, material.train[0]
        return only, indices_of(position * count, count, num_examples=len(only.pictures), seed=config.seed)
    counts = [len(bucket.pictures) for bucket in material.train]
    index, rows = buckets.batch_at(position, counts, config.batch_size, seed=config.seed)
    return material.train[index], rows


def conditioning_of(job: Job, material: Material, texts: Sequence[str]) -> Conditioning:
    """The texts as the base reads them; those that only a shuffle makes are encoded when they come."""
    known = material.conditioning
    with torch.no_grad():
        return batch([known[text] if text in known else job.family.encode_prompts(job.parts, [text]) for text in texts])


def _predict(job: Job, objective: AnyObjective, drawn: losses.Drawn, conditioning: Conditioning) -> Tensor:
    """(B, C, h, w) the denoiser's answer at x_t; `drawn` is on its device."""
    x_t = drawn.noised(objective).contiguous(memory_format=torch.channels_last)
    with autocast(job.parts.device) if job.config.mixed_precision == "auto" else nullcontext():
        return job.family.predict(job.parts, x_t, drawn.t, conditioning, drawn.geometry)


def _draw_caption(material: Material, index: int, dropout: float, random: torch.Generator) -> str:
    dropped, choice = torch.rand(2, generator=random).tolist()
    choices = material.captions[index]
    return "" if dropped < dropout else choices[int(choice * len(choices))]


@torch.no_grad()
def validation_loss(job: Job, material: Material) -> float | None:
    """Mean error on the held-out pictures at fixed timesteps and fixed noise; None when nothing is held out."""
    if not material.held_out:
        return None
    random = step_generator(job.config.seed, 0, VALIDATION)
    errors = []
    for share in VALIDATION_TIMESTEPS:
        for bucket in material.held_out:
            x0 = bucket.latents.mean
            t = torch.full((len(x0),), int(share * material.objective.num_timesteps))
            drawn = losses.Drawn(x0, torch.randn(x0.shape, generator=random), t, bucket.latents.geometry).to(job.parts.device)
            conditioning = conditioning_of(job, material, [material.held_out_captions[index] for index in bucket.pictures])
            predicted = _predict(job, material.objective, drawn, conditioning)
            errors.append(per_sample_loss(predicted, material.objective.target(drawn.x0, drawn.eps, drawn.t)))
    return float(torch.cat(errors).mean())


def _now_and_then(job: Job, hooks: Hooks, material: Material, step: int) -> None:
    config = job.config
    last = step == config.steps
    if config.validate_every and (step % config.validate_every == 0 or last):
        loss = validation_loss(job, material)
        if loss is not None:
            hooks.emit(Validation(step=step, loss=loss))
    if last or (config.sample_every and step % config.sample_every == 0):
        _draw_samples(job, hooks, step)
        hooks.emit(Phase(name="training"))


def _draw_samples(job: Job, hooks: Hooks, step: int) -> None:
    """Every sample prompt with the config's sample seed, with the weights as they are now."""
    config = job.config
    values = templates.Values(token=config.token, class_word=config.class_word, style=config.token)
    prompts = [templates.expand_one(prompt, values, 0) for prompt in config.sample_prompts]
    if not prompts:
        return
    hooks.emit(Phase(name="sampling", total=len(prompts)))
    drawing = GenerateConfig(
        steps=config.sample_steps, guidance_scale=config.guidance_scale, size=config.resolution, negative_prompt=config.negative_prompt
    )
    shots = [sample.Shot(prompt, config.sample_seed) for prompt in prompts]
    files = []
    for index, (shot, picture) in enumerate(zip(shots, sample.draw(job.parts, job.family, shots, drawing), strict=True)):
        file = f"samples/{step:06d}/{index:02d}-{slug(shot.prompt) or 'prompt'}.png"
        settings = {**drawing.model_dump(), "prompt": shot.prompt, "seed": shot.seed, "base_model": config.base_model}
        sample.write_png(job.run.folder / file, picture, {**settings, "adapter": f"{job.run.id}@{step}"})
        files.append(file)
    hooks.emit(Samples(step=step, prompts=tuple(prompts), files=tuple(files)))


def _save_checkpoint(job: Job, hooks: Hooks, trainable: Trainable, learner: Learner, *, step: int) -> None:
    state = learner.state()
    with learner.shown():
        checkpoint.write_checkpoint(job.run.folder / "checkpoints", step, trainable, state)
    hooks.emit(Checkpoint(step=step))


def _finish(job: Job, hooks: Hooks, trainable: Trainable, learner: Learner, *, step: int) -> None:
    """Keep what was learned, also after a stop. A run stopped before its first step has learned nothing to keep."""
    if step:
        hooks.emit(Phase(name="saving"))
        _save_checkpoint(job, hooks, trainable, learner, step=step)
        path = job.run.folder / "out" / f"{job.run.id}.safetensors"
        with learner.shown():
            trainable.save(path)
        file = str(path.relative_to(job.run.folder))
        hooks.emit(Artifact(file=file, format="diffusers LoRA", num_bytes=path.stat().st_size, sha256=sha256_of(path)))
        _prove_and_convert(job, hooks, path)
    else:
        hooks.emit(Note(text="Stopped before the first step: nothing was learned."))
    hooks.emit(Finished(step=step) if step == job.config.steps else Stopped(step=step))


def _prove_and_convert(job: Job, hooks: Hooks, path: Path) -> None:
    """Load the written file again and see that it works; then write it for A1111 and ComfyUI too, and see that that works.

    A file that does not is kept, and the run says what is wrong with it.
    """
    try:
        adapter = replace(prove(path, job.parts, job.family), family=job.family.NAME)
        other = path.with_name(f"{path.stem}.kohya.safetensors")
        write_adapter(other, adapter, "kohya")
        prove(other, job.parts, job.family)
    except AdapterError as error:
        hooks.emit(Note(text=str(error)))
        return
    file = str(other.relative_to(job.run.folder))
    hooks.emit(Artifact(file=file, format="kohya, for A1111 and ComfyUI", num_bytes=other.stat().st_size, sha256=sha256_of(other)))
