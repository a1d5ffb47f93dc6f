"""The training loop, in time order. It knows neither the family nor the method.

Noise, timesteps and captions of a step come from generators seeded by (seed, step), the order of the pictures from
(seed, epoch). So a resumed run is exactly the run that was not interrupted, and two runs with one seed share their noise.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sdplay import checkpoint, templates
from sdplay.attach import base_alone
from sdplay.cache import Latents, encode_examples, encode_texts
from sdplay.config import TrainConfig
from sdplay.data import Example
from sdplay.device import Device, autocast
from sdplay.diffusion.objective import AnyObjective, min_snr_weight, per_sample_loss, step_generator
from sdplay.errors import DataError, DeviceError
from sdplay.events import Checkpoint, Event, Finished, Note, Phase, Started, Step, Stopped, Validation
from sdplay.families import Conditioning, Family, Parts, batch, checked_size
from sdplay.methods import Method, Trainable
from sdplay.prior import ClassSource, Prior, prepare_prior
from sdplay.results import draw_samples, write_results
from sdplay.runs import Run

ORDER, VALIDATION = 1001, 1002
"""Streams of random numbers beside the micro-batches of a step, which are numbered from 0."""
VALIDATION_TIMESTEPS = (0.1, 0.3, 0.5, 0.7, 0.9)
SMALLEST_SET_WITH_VALIDATION = 8


@dataclass(frozen=True)
class Hooks:
    """What the loop asks and tells the outside."""

    emit: Callable[[Event], None]
    stop_requested: Callable[[], bool]
    between_steps: Callable[[], bool]
    """Lets waiting pictures through; True if there were any. The base comes back as it was left."""


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
    class_examples: Sequence[Example] = ()
    """Pictures of the class, for prior preservation with a data set."""


@dataclass(frozen=True)
class Material:
    """What the loop draws batches from."""

    train: Latents
    held_out: Latents | None
    captions: list[list[str]]
    """For each training picture every text it may be shown with."""
    held_out_captions: list[str]
    conditioning: dict[str, Conditioning]
    """Of every text, as the base reads it; empty where the method changes what texts mean."""
    objective: AnyObjective
    prior: Prior | None


@dataclass(frozen=True)
class Drawn:
    """A batch of pictures with noise."""

    x0: Tensor
    """(B, C, h, w)"""
    eps: Tensor
    """(B, C, h, w)"""
    t: Tensor
    """(B,)"""
    geometry: Tensor
    """(B, 6) as in `Latents`."""

    def to(self, device: torch.device) -> Drawn:
        """The same on a device."""
        return Drawn(*(tensor.to(device) for tensor in (self.x0, self.eps, self.t, self.geometry)))


def train(job: Job, hooks: Hooks) -> None:
    """Run from step 0 or the newest checkpoint to the end, or until a stop is asked for. Writes into the run folder."""
    config = job.config
    trainable = job.method.prepare(job.parts, job.family, config)
    try:
        optimizer = torch.optim.AdamW(
            parameter_groups(trainable), lr=config.learning_rate, weight_decay=config.weight_decay, fused=job.device.kind != "mps"
        )
        step = _resume(job, trainable, optimizer)
        hooks.emit(Started(step=step, device=job.device.label))
        material = prepare_material(job, hooks, trainable)
        if step == 0:
            _draw_samples(job, hooks, trainable, 0)
        hooks.emit(Phase(name="training"))
        while step < config.steps and not hooks.stop_requested():
            started = time.perf_counter()
            learning_rate = learning_rate_at(step, config)
            loss = _one_step(job, material, trainable, optimizer, step=step)
            step += 1
            hooks.emit(Step(step=step, loss=loss, learning_rate=learning_rate, seconds=time.perf_counter() - started))
            _now_and_then(job, hooks, material, trainable, step=step)
            if step % config.checkpoint_every == 0 and step < config.steps:
                _save_checkpoint(job, hooks, trainable, optimizer, step=step)
            hooks.between_steps()
        _finish(job, hooks, trainable, optimizer, step=step)
    finally:
        trainable.detach()


def prepare_material(job: Job, hooks: Hooks, trainable: Trainable) -> Material:
    """Split off the held-out pictures; compute or read latents and text embeddings."""
    config = job.config
    size = checked_size(job.parts, config.resolution)
    held_out, train_examples = split(job.examples, config.validation_share, config.seed)
    captions = [texts_for(example.caption, config) for example in train_examples]
    held_out_captions = [texts_for(example.caption, config)[0] for example in held_out]

    def say(name: str) -> Callable[[int, int], None]:
        return lambda done, total: hooks.emit(Phase(name=name, done=done, total=total))

    def latents(examples: Sequence[Example]) -> Latents:
        return encode_examples(
            examples, job.parts, job.family, size=size, folder=job.cache_folder / "latents", on_progress=say("encoding pictures")
        )

    texts = [] if trainable.changes_text else ["", *held_out_captions, *(text for choices in captions for text in choices)]
    source = ClassSource(
        dataset=job.class_examples,
        cache_folder=job.cache_folder,
        size=size,
        on_progress=lambda name, done, total: hooks.emit(Phase(name=name, done=done, total=total)),
        stop_requested=hooks.stop_requested,
    )
    prior = prepare_prior(config, job.parts, job.family, source)
    if prior and not trainable.changes_text:
        texts.append(prior.text)
    return Material(
        train=latents(train_examples),
        held_out=latents(held_out) if held_out else None,
        captions=captions,
        held_out_captions=held_out_captions,
        conditioning=encode_texts(texts, job.parts, job.family, folder=job.cache_folder / "text", on_progress=say("encoding text")),
        objective=job.family.objective(job.parts),
        prior=prior,
    )


def parameter_groups(trainable: Trainable) -> list[dict[str, object]]:
    """What the method trains, as an optimiser takes it; `rate`, `first_step` and `end_step` stay with each group."""
    facts = ("rate", "first_step", "end_step")
    made = []
    for group in trainable.groups():
        decay = {} if group.weight_decay is None else {"weight_decay": group.weight_decay}
        made.append({"params": list(group.parameters), **decay, **{name: getattr(group, name) for name in facts}})
    return made


def open_groups(optimizer: torch.optim.Optimizer, step: int, config: TrainConfig) -> None:
    """Give each group its learning rate, and let it learn or not, by the step alone: so also after a resume.

    The schedule of a group runs over its own steps.
    """
    for group in optimizer.param_groups:
        first, end = group["first_step"], config.steps if group["end_step"] is None else group["end_step"]
        learns = first <= step < end
        if learns:
            own = config if (first, end) == (0, config.steps) else config.model_copy(update={"steps": end - first})
            group["lr"] = group["rate"] * learning_rate_at(step - first, own)
        for parameter in group["params"]:
            parameter.requires_grad_(learns)


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


def learning_rate_at(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then constant, linear to zero, or half a cosine to zero."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    shapes = {"constant": 1.0, "linear": 1 - progress, "cosine": 0.5 * (1 + math.cos(math.pi * progress))}
    return config.learning_rate * shapes[config.lr_schedule]


def indices_of(first: int, count: int, *, num_examples: int, seed: int) -> list[int]:
    """Which pictures come at positions first ... first + count - 1 of the endless sequence of shuffled epochs."""
    chosen = []
    for position in range(first, first + count):
        epoch, within = divmod(position, num_examples)
        order = torch.randperm(num_examples, generator=step_generator(seed, epoch, ORDER))
        chosen.append(int(order[within]))
    return chosen


def _resume(job: Job, trainable: Trainable, optimizer: torch.optim.Optimizer) -> int:
    restored = checkpoint.newest_valid(job.run.folder / "checkpoints")
    if restored is None:
        return 0
    trainable.load(restored.path)
    checkpoint.load_optimizer(optimizer, restored.optimizer)
    return restored.step


def _one_step(job: Job, material: Material, trainable: Trainable, optimizer: torch.optim.Optimizer, *, step: int) -> float:
    """Add up the gradients of the micro-batches, then change the weights. Returns the mean loss."""
    config = job.config
    open_groups(optimizer, step, config)
    total = 0.0
    for micro in range(config.gradient_accumulation):
        loss = _batch_loss(job, material, trainable, step=step, micro=micro) / config.gradient_accumulation
        if loss.requires_grad:  # a word learns nothing from texts without it
            loss.backward()
        total += loss.item()
    if not math.isfinite(total):
        raise DeviceError(f"The loss at step {step + 1} is not a number.", "Lower the learning rate, for example to half, and train again.")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    trainable.after_step(step)
    return total


def _batch_loss(job: Job, material: Material, trainable: Trainable, *, step: int, micro: int) -> Tensor:
    """Error of one micro-batch: per picture, weighted by noise level, then averaged."""
    config = job.config
    random = step_generator(config.seed, step, micro)
    first = (step * config.gradient_accumulation + micro) * config.batch_size
    chosen = indices_of(first, config.batch_size, num_examples=len(material.captions), seed=config.seed)
    drawn = _draw_noise(job, material, material.train, chosen, random)
    texts = [_draw_caption(material, index, config.caption_dropout, random) for index in chosen]
    error = _denoising_error(job, material.objective, drawn, conditioning_of(job, material, trainable, texts, step=step))
    loss = _weighted_by_noise(job, material.objective, error, drawn.t).mean()
    if material.prior:
        loss = loss + material.prior.weight * _prior_loss(job, material, trainable, drawn, step=step, random=random)
    return loss


def _draw_noise(job: Job, material: Material, latents: Latents, chosen: Sequence[int], random: torch.Generator) -> Drawn:
    """The chosen pictures with noise of their own, on the base's device."""
    mean, std = latents.mean[chosen], latents.std[chosen]
    x0 = mean + std * torch.randn(mean.shape, generator=random)
    eps = torch.randn(x0.shape, generator=random)
    t = material.objective.draw_timesteps(len(x0), random)
    return Drawn(x0, eps, t, latents.geometry[chosen]).to(job.parts.device)


def conditioning_of(job: Job, material: Material, trainable: Trainable, texts: Sequence[str], *, step: int) -> Conditioning:
    """The texts as the base reads them, from the cache; or as the method makes them mean now, with gradients while it learns."""
    if not trainable.changes_text:
        return batch([material.conditioning[text] for text in texts])
    with torch.set_grad_enabled(torch.is_grad_enabled() and trainable.trains_text(step)):
        return job.family.encode_prompts(job.parts, texts)


def _weighted_by_noise(job: Job, objective: AnyObjective, error: Tensor, t: Tensor) -> Tensor:
    """(B,) error of each picture -> (B,) error times the weight of its noise level."""
    if job.config.min_snr_gamma is None:
        return error
    return error * min_snr_weight(objective.snr(t), job.config.min_snr_gamma, objective.prediction)


def _prior_loss(job: Job, material: Material, trainable: Trainable, drawn: Drawn, *, step: int, random: torch.Generator) -> Tensor:
    """Mean error on the class: on class pictures with noise of their own, or against the base's prediction of the run's pictures."""
    prior, count = material.prior, len(drawn.t)
    assert prior is not None
    if prior.latents is not None:
        chosen = torch.randint(0, len(prior.latents.mean), (count,), generator=random).tolist()
        drawn = _draw_noise(job, material, prior.latents, chosen, random)
        target = material.objective.target(drawn.x0, drawn.eps, drawn.t)
    else:
        with torch.no_grad(), base_alone(job.parts):
            target = _predicted(job, material.objective, drawn, batch([prior.conditioning] * count))
    conditioning = conditioning_of(job, material, trainable, [prior.text] * count, step=step)
    error = per_sample_loss(_predicted(job, material.objective, drawn, conditioning), target)
    return _weighted_by_noise(job, material.objective, error, drawn.t).mean()


def _denoising_error(job: Job, objective: AnyObjective, drawn: Drawn, conditioning: Conditioning) -> Tensor:
    """(B,) error of the denoiser at x_t, unweighted."""
    return per_sample_loss(_predicted(job, objective, drawn, conditioning), objective.target(drawn.x0, drawn.eps, drawn.t))


def _predicted(job: Job, objective: AnyObjective, drawn: Drawn, conditioning: Conditioning) -> Tensor:
    """(B, C, h, w): what the denoiser says at x_t."""
    x_t = objective.add_noise(drawn.x0, drawn.eps, drawn.t).contiguous(memory_format=torch.channels_last)
    with autocast(job.parts.device) if job.config.mixed_precision == "auto" else nullcontext():
        return job.family.predict(job.parts, x_t, drawn.t, conditioning, drawn.geometry)


def _draw_caption(material: Material, index: int, dropout: float, random: torch.Generator) -> str:
    dropped, choice = torch.rand(2, generator=random).tolist()
    choices = material.captions[index]
    return "" if dropped < dropout else choices[int(choice * len(choices))]


@torch.no_grad()
def validation_loss(job: Job, material: Material, trainable: Trainable) -> float | None:
    """Mean error on the held-out pictures at fixed timesteps and fixed noise; None when nothing is held out."""
    if material.held_out is None:
        return None
    x0, geometry = material.held_out.mean, material.held_out.geometry
    random = step_generator(job.config.seed, 0, VALIDATION)
    conditioning = conditioning_of(job, material, trainable, material.held_out_captions, step=0)
    errors = []
    for share in VALIDATION_TIMESTEPS:
        t = torch.full((len(x0),), int(share * material.objective.num_timesteps))
        drawn = Drawn(x0, torch.randn(x0.shape, generator=random), t, geometry).to(job.parts.device)
        errors.append(_denoising_error(job, material.objective, drawn, conditioning))
    return float(torch.stack(errors).mean())


def _now_and_then(job: Job, hooks: Hooks, material: Material, trainable: Trainable, *, step: int) -> None:
    config = job.config
    last = step == config.steps
    if config.validate_every and (step % config.validate_every == 0 or last):
        loss = validation_loss(job, material, trainable)
        if loss is not None:
            hooks.emit(Validation(step=step, loss=loss))
    if last or (config.sample_every and step % config.sample_every == 0):
        _draw_samples(job, hooks, trainable, step)
        hooks.emit(Phase(name="training"))


def _draw_samples(job: Job, hooks: Hooks, trainable: Trainable, step: int) -> None:
    """As a file written now would draw them."""
    if not job.config.sample_prompts:
        return
    hooks.emit(Phase(name="sampling", total=len(job.config.sample_prompts)))
    with trainable.shown():
        hooks.emit(draw_samples(job.run, job.config, job.parts, job.family, step=step))


def _save_checkpoint(job: Job, hooks: Hooks, trainable: Trainable, optimizer: torch.optim.Optimizer, *, step: int) -> None:
    checkpoint.write_checkpoint(job.run.folder / "checkpoints", step, trainable, optimizer)
    hooks.emit(Checkpoint(step=step))


def _finish(job: Job, hooks: Hooks, trainable: Trainable, optimizer: torch.optim.Optimizer, *, step: int) -> None:
    """Keep what was learned, also after a stop. A run stopped before its first step has learned nothing to keep."""
    if step:
        hooks.emit(Phase(name="saving"))
        _save_checkpoint(job, hooks, trainable, optimizer, step=step)
        for event in write_results(job.run.folder, f"out/{job.run.id}.safetensors", trainable, job.parts, job.family):
            hooks.emit(event)
    else:
        hooks.emit(Note(text="Stopped before the first step: nothing was learned."))
    hooks.emit(Finished(step=step) if step == job.config.steps else Stopped(step=step))
