"""The training loop, in time order. It knows neither the family nor the method.

Noise, timesteps and captions of a step come from generators seeded by (seed, step), the order of the pictures from
(seed, epoch). So a resumed run is exactly the run that was not interrupted, and two runs with one seed share their noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.utils.checkpoint
from torch import Tensor

from sdplay import checkpoint, losses, optimizers, templates
from sdplay.attach import base_alone
from sdplay.cache import Latents
from sdplay.compiled import CompiledBlocks, compiling
from sdplay.config import TrainConfig
from sdplay.device import autocast
from sdplay.diffusion.objective import AnyObjective, per_sample_loss, step_generator
from sdplay.disk import disk_plan
from sdplay.events import Checkpoint, Finished, Note, Phase, Started, Stopped, Validation
from sdplay.families import Conditioning, batch
from sdplay.job import Hooks, Job
from sdplay.losses import Drawn
from sdplay.material import VALIDATION, Material, prepare_material
from sdplay.memory_watch import MemoryWatch, piece_rows
from sdplay.methods import Trainable
from sdplay.optimizers import Learner, learning_rate_at, open_groups, parameter_groups
from sdplay.prior import Prior
from sdplay.resting import idle_in_steps, resting
from sdplay.results import write_results
from sdplay.rounds import SampleRounds
from sdplay.step_teller import LateSum, StepTeller

MEMORY_EVERY = 25
VALIDATION_TIMESTEPS = (0.1, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True)
class Batch:
    """B pictures with their noise, and the text that each is shown with."""

    drawn: Drawn
    texts: list[str]

    def rows(self, which: slice) -> Batch:
        """Some of them."""
        return Batch(self.drawn.rows(which), self.texts[which])


def train(job: Job, hooks: Hooks) -> None:
    """Run from step 0 or the newest checkpoint to the end, or until a stop is asked for. Writes into the run folder."""
    config = job.config
    trainable = job.method.prepare(job.parts, job.family, config)
    try:
        learner = Learner(parameter_groups(trainable), config, device_kind=job.device.kind)
        step = _resume(job, trainable, learner)
        hooks.emit(Started(step=step, device=job.device.label))
        material = prepare_material(job, hooks, trainable)
        if step == 0:
            told = disk_plan(config, trainable).sentence
            for note in (told, *optimizers.notes(config), *losses.notes(config, material.objective)):
                hooks.emit(Note(text=note))
            SampleRounds(job, hooks, material).draw(0)
        if config.gradient_checkpointing == "on":
            # With reentrant checkpointing frozen inputs would leave the adapters without gradients.
            job.parts.denoiser.enable_gradient_checkpointing(partial(torch.utils.checkpoint.checkpoint, use_reentrant=False))
        hooks.emit(Phase(name="training"))
        idle = idle_in_steps(job.parts, trainable, config, sees_pictures=material.holes is not None)
        with resting(job.parts, idle):
            step = _steps(job, hooks, material, trainable, learner, step=step)
            _finish(job, hooks, trainable, learner, step=step)
    finally:
        job.parts.denoiser.disable_gradient_checkpointing()
        trainable.detach()


def _steps(job: Job, hooks: Hooks, material: Material, trainable: Trainable, learner: Learner, *, step: int) -> int:
    """To the last step, or until a stop is asked for; and what comes after each. Returns how many are done."""
    config, teller = job.config, StepTeller(hooks, job.device)
    hooks = replace(hooks, emit=teller.emit)
    blocks = CompiledBlocks(job.parts.denoiser, wanted=config.compile == "on")
    watch, rounds = MemoryWatch(hooks.emit), SampleRounds(job, hooks, material)
    validate = partial(validation_loss, job, material, trainable)
    with compiling(blocks):
        while step < config.steps and not hooks.stop_requested():
            teller.begin()
            rate = learning_rate_at(step, config)
            with blocks.at_work():
                loss = _one_step(job, material, trainable, learner, step=step, watch=watch)
            step += 1
            teller.done(step, loss, learner.rate_in_use(rate))
            _now_and_then(config, hooks, rounds, learner, validate, step=step)
            wanted = hooks.requested("save")
            if (wanted or step % config.checkpoint_every == 0) and step < config.steps:
                teller.flush()
                _save_checkpoint(job, hooks, trainable, learner, step=step)
            hooks.between_steps()
    teller.flush()
    return step


def _resume(job: Job, trainable: Trainable, learner: Learner) -> int:
    restored = checkpoint.newest_valid(job.run.folder / "checkpoints")
    if restored is None:
        return 0
    trainable.load(restored.path)
    learner.load(restored.state)
    return restored.step


def _one_step(
    job: Job, material: Material, trainable: Trainable, learner: Learner, *, step: int, watch: MemoryWatch | None = None
) -> LateSum:
    """Add up the gradients of the micro-batches, then change the weights. Returns the mean loss; nothing here waits for it.

    With a watch, a batch that is too much for the memory goes through in pieces.
    """
    config = job.config
    open_groups(learner.optimizer, step, config)
    gradients = partial(_gradients, job, material, trainable, step)
    clean = partial(learner.optimizer.zero_grad, set_to_none=True)
    losses_of = watch.attempt(gradients, step=step, batch_size=config.batch_size, clean=clean) if watch else gradients(1)
    torch.nn.utils.clip_grad_norm_(learner.parameters, config.max_grad_norm)
    learner.step()
    trainable.after_step(step)
    learner.update_average()
    return LateSum(losses_of)


def _gradients(job: Job, material: Material, trainable: Trainable, step: int, pieces: int) -> list[Tensor]:
    """Add the step's gradients to what the weights have. Returns what its mean loss is the sum of."""
    accumulation, shares = job.config.gradient_accumulation, []
    for micro in range(accumulation):
        whole = pieces == 1
        losses_of = _piece_losses(job, material, trainable, step=step, micro=micro, pieces=pieces)
        for loss in [_batch_loss(job, material, trainable, step=step, micro=micro)] if whole else losses_of:
            share = loss / accumulation
            if share.requires_grad:  # a word learns nothing from texts without it
                share.backward()
            shares.append(share.detach())
    return shares


def _batch_loss(job: Job, material: Material, trainable: Trainable, *, step: int, micro: int) -> Tensor:
    """Draw one micro-batch and see how far off the denoiser is; losses.py says how that is counted."""
    return _loss_of(job, material, trainable, *_draw_batch(job, material, step=step, micro=micro), step=step)


def _piece_losses(job: Job, material: Material, trainable: Trainable, *, step: int, micro: int, pieces: int) -> Iterator[Tensor]:
    """The same micro-batch under the same noise, in pieces one after another; their losses add up to that of the whole."""
    shown, of_class = _draw_batch(job, material, step=step, micro=micro)
    count = len(shown.texts)
    for rows in piece_rows(count, pieces):
        loss = _loss_of(job, material, trainable, shown.rows(rows), of_class.rows(rows) if of_class else None, step=step)
        yield loss * ((rows.stop - rows.start) / count)


def _draw_batch(job: Job, material: Material, *, step: int, micro: int) -> tuple[Batch, Batch | None]:
    """A micro-batch's pictures, noise and texts, and those of the class where it has pictures of its own."""
    config, objective = job.config, material.objective
    random = step_generator(config.seed, step, micro)
    bucket, rows = material.rows_at(step * config.gradient_accumulation + micro, config)
    drawn = _draw_noise(bucket.latents, rows, objective, random)
    texts = [material.draw_caption(bucket.pictures[row], config.caption_dropout, random) for row in rows]
    if config.caption_shuffle == "on":
        texts = _shuffled(texts, config, step_generator(config.seed, step, losses.TAGS + micro))
    drawn = replace(drawn, area=None if bucket.areas is None else bucket.areas[rows])
    if material.holes is not None:
        pictures = [bucket.pictures[row] for row in rows]
        drawn = replace(drawn, hidden=material.holes.shown(pictures, (drawn.x0.shape[2], drawn.x0.shape[3]), step=step, micro=micro))
    shown = Batch(losses.varied(drawn, config, objective, step=step, micro=micro), texts)
    if material.prior is None or material.prior.latents is None:
        return shown, None
    chosen = torch.randint(0, len(material.prior.latents.mean), (len(rows),), generator=random).tolist()
    drawn = _draw_noise(material.prior.latents, chosen, objective, random)
    drawn = losses.varied(drawn, config, objective, step=step, micro=losses.CLASS + micro)
    return shown, Batch(drawn, [material.prior.text] * len(rows))


def _loss_of(job: Job, material: Material, trainable: Trainable, given: Batch, of_class: Batch | None, *, step: int) -> Tensor:
    """Of some pictures, and of the class in general beside them where the run keeps it."""
    config, objective = job.config, material.objective
    drawn = given.drawn.to(job.parts.device)
    predicted = _predict(job, objective, drawn, conditioning_of(job, material, trainable, given.texts, step=step))
    loss = losses.batch_loss(predicted, drawn, config, objective)
    if material.prior is None:
        return loss
    drawn = of_class.drawn.to(job.parts.device) if of_class else _against_the_base(job, objective, material.prior, drawn)
    drawn = replace(drawn, weight=torch.full_like(drawn.t, material.prior.weight, dtype=torch.float32))
    conditioning = conditioning_of(job, material, trainable, [material.prior.text] * len(drawn.t), step=step)
    return loss + losses.batch_loss(_predict(job, objective, drawn, conditioning), drawn, config, objective)


def _shuffled(texts: Sequence[str], config: TrainConfig, random: torch.Generator) -> list[str]:
    """The texts with their tags in another order."""

    def order_of(count: int) -> list[int]:
        return torch.randperm(count, generator=random).tolist()

    return [templates.shuffled_tags(text, config.keep_tags, order_of) for text in texts]


def _draw_noise(latents: Latents, chosen: Sequence[int], objective: AnyObjective, random: torch.Generator) -> Drawn:
    """The chosen pictures with noise of their own."""
    mean, std = latents.mean[chosen], latents.std[chosen]
    x0 = mean + std * torch.randn(mean.shape, generator=random)
    eps = torch.randn(x0.shape, generator=random)
    return Drawn(x0, eps, objective.draw_timesteps(len(x0), random), latents.geometry[chosen])


def _against_the_base(job: Job, objective: AnyObjective, prior: Prior, drawn: Drawn) -> Drawn:
    """The same pictures under the same noise, all of each; the target is what the base alone says with the class prompt."""
    with torch.no_grad(), base_alone(job.parts):
        target = _predict(job, objective, drawn, batch([prior.conditioning] * len(drawn.t)))
    return replace(drawn, target=target, area=None)


def conditioning_of(job: Job, material: Material, trainable: Trainable, texts: Sequence[str], *, step: int) -> Conditioning:
    """The texts as the base reads them, from the cache, or now where a shuffle has made them.

    Where the method changes what texts mean: as they mean now, with gradients while that learns.
    """
    if trainable.changes_text:
        with torch.set_grad_enabled(torch.is_grad_enabled() and trainable.trains_text(step)):
            return job.family.encode_prompts(job.parts, texts)
    known = material.conditioning
    with torch.no_grad():
        return batch([known[text] if text in known else job.family.encode_prompts(job.parts, [text]) for text in texts])


def _predict(job: Job, objective: AnyObjective, drawn: Drawn, conditioning: Conditioning) -> Tensor:
    """(B, C, h, w) the denoiser's answer at x_t; `drawn` is on its device."""
    x_t = drawn.noised(objective)
    if drawn.hidden is not None:
        x_t = torch.cat([x_t, drawn.hidden], dim=1)
    x_t = x_t.contiguous(memory_format=torch.channels_last)
    with autocast(job.parts.device) if job.config.mixed_precision == "auto" else nullcontext():
        return job.family.predict(job.parts, x_t, drawn.t, conditioning, drawn.geometry)


@torch.no_grad()
def validation_loss(job: Job, material: Material, trainable: Trainable) -> float | None:
    """Mean error on the held-out pictures at fixed timesteps and fixed noise; None when nothing is held out."""
    if not material.held_out:
        return None
    random = step_generator(job.config.seed, 0, VALIDATION)
    held_out = []
    for bucket in material.held_out:
        texts = [material.held_out_captions[index] for index in bucket.pictures]
        held_out.append((bucket.latents, conditioning_of(job, material, trainable, texts, step=0)))
    errors = []
    for share in VALIDATION_TIMESTEPS:
        for latents, conditioning in held_out:
            x0 = latents.mean
            t = torch.full((len(x0),), int(share * material.objective.num_timesteps))
            drawn = Drawn(x0, torch.randn(x0.shape, generator=random), t, latents.geometry).to(job.parts.device)
            predicted = _predict(job, material.objective, drawn, conditioning)
            errors.append(per_sample_loss(predicted, drawn.sought(material.objective)))
    return float(torch.cat(errors).mean())


def _now_and_then(
    config: TrainConfig, hooks: Hooks, rounds: SampleRounds, learner: Learner, validate: Callable[[], float | None], *, step: int
) -> None:
    """Validate and draw when it is time to or somebody wants it, with the weights that the run shows."""
    last = step == config.steps
    if config.validate_every and (step % config.validate_every == 0 or last):
        with learner.shown():
            loss = validate()
        if loss is not None:
            hooks.emit(Validation(step=step, loss=loss))
    wanted = hooks.requested("sample")
    if last or wanted or (config.sample_every and step % config.sample_every == 0):
        with learner.shown():
            rounds.draw(step)
        hooks.emit(Phase(name="training"))
    if step % MEMORY_EVERY == 1 or last:
        rounds.tell_memory(step)


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
        with learner.shown():
            for event in write_results(job.run.folder, f"out/{job.run.id}.safetensors", trainable, job.parts, job.family):
                hooks.emit(event)
    else:
        hooks.emit(Note(text="Stopped before the first step: nothing was learned."))
    hooks.emit(Finished(step=step) if step == job.config.steps else Stopped(step=step))
