"""A finished run that goes on: its config for more steps, and what that means for the learning rate.

A longer run would have had other rates at the steps that are done, unless the rate is constant: then the result is, bit
for bit, what the longer run would have been.
"""

from __future__ import annotations

import math

from sdplay.config import PivotalConfig, TextEncoderConfig, TrainConfig
from sdplay.errors import ConfigError

MOST_STEPS = 20_000


def lengthened(config: TrainConfig, steps: int) -> TrainConfig:
    """The config for `steps` in all. What learned in a share of the old steps learns in the same steps, so that nothing begins again."""
    if steps == config.steps:
        return config
    changes: dict[str, object] = {"steps": steps}
    if isinstance(config, PivotalConfig):
        changes["pivot"] = config.pivot * config.steps / steps
    if isinstance(config, TextEncoderConfig):
        changes["text_encoder_share"] = config.text_encoder_share * config.steps / steps
    return config.model_copy(update=changes)


def checked_total(done: int, more: int) -> int:
    """Steps in all. Raises ConfigError when that is no longer run, or too long."""
    if more < 1:
        raise ConfigError(f"{more} more steps are none.", "Give a whole number above 0.")
    if done + more > MOST_STEPS:
        raise ConfigError(f"{done + more} steps are more than {MOST_STEPS}.", f"Give at most {MOST_STEPS - done} more.")
    return done + more


def same_as_longer(config: TrainConfig) -> bool:
    """Whether going on gives, bit for bit, what a longer run from the start would have given."""
    staged = isinstance(config, PivotalConfig) or (isinstance(config, TextEncoderConfig) and config.text_encoder_share > 0)
    return not staged and (config.lr_schedule == "constant" or config.optimizer == "schedule_free")


def what_happens(config: TrainConfig, done: int, total: int) -> str:
    """Sentences on the learning rate of a run that has done `done` steps and goes on to `total`."""
    if same_as_longer(config):
        return f"The learning rate is constant, so the result is exactly that of a run of {total} steps."
    if config.optimizer == "schedule_free":
        return f"The learning rate stays as it is until step {total}."
    if config.lr_schedule == "constant":
        return f"The learning rate stays at {config.learning_rate:g}; only what learned in the first steps is not taught again."
    left = _share_left(config, done, total)
    rate = "" if left is None or config.optimizer == "prodigy" else f" from {config.learning_rate * left:.2g}"
    return (
        f"The rate had come down by its {config.lr_schedule.replace('_', ' ')} schedule; it goes on{rate} as in a run of {total} steps "
        "and comes down again. The result is close to such a run's, not the same: its first steps would have had higher rates."
    )


def _share_left(config: TrainConfig, done: int, total: int) -> float | None:
    """The schedule's share of the rate at step `done` of `total`, where it is a plain formula; see optimizers.learning_rate_at."""
    if config.method == "pivotal":
        return None  # its adapter has a schedule of its own
    progress = max(0, done - config.warmup_steps) / max(1, total - config.warmup_steps)
    shapes = {
        "cosine": 0.5 * (1 + math.cos(math.pi * progress)),
        "linear": 1 - progress,
        "polynomial": (1 - progress) ** config.lr_power,
    }
    return shapes.get(config.lr_schedule)
