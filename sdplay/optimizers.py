"""How weights change: optimisers, learning-rate schedules, and the averages that some runs show in place of the last weights.

Packages that only one choice needs are imported when it is chosen.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from sdplay.config import TrainConfig
from sdplay.diffusion.ema import Average
from sdplay.errors import ConfigError, DeviceError, RunError
from sdplay.methods import Trainable

Groups = Sequence[Mapping[str, Any]]
"""As torch takes them: `params`, and what is special to the group. `rate`, if there, is its factor on the learning rate."""


class Learner:
    """The optimiser of a run, and which weights the run shows: the trained ones, or their average where there is one."""

    def __init__(self, groups: Groups, config: TrainConfig, *, device_kind: str) -> None:
        """Raises ConfigError or DeviceError where the config's optimiser cannot be used."""
        assert not (config.optimizer == "schedule_free" and config.ema_decay), "checked at the door"
        self.optimizer = make_optimizer(groups, config, device_kind=device_kind)
        self.parameters: list[Tensor] = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        self._average = Average(self.parameters, config.ema_decay) if config.ema_decay else None
        self._averages_itself = config.optimizer == "schedule_free"

    def step(self) -> None:
        """Change the weights by their gradients, and clear these."""
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def update_average(self) -> None:
        """Take in the weights, once for every step, when all that belongs to it is done to them."""
        if self._average:
            self._average.update(self.parameters)

    def rate_in_use(self, learning_rate: float) -> float:
        """The learning rate times the factor that Prodigy has found so far."""
        return learning_rate * float(self.optimizer.param_groups[0].get("d", 1.0))

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Inside, the weights are those to validate, draw and save. Afterwards they are bit for bit the trained ones again."""
        if not (self._average or self._averages_itself):
            yield
            return
        trained = [parameter.detach().clone() for parameter in self.parameters]
        if self._average:
            _put(self.parameters, self._average.values)
        else:
            self.optimizer.eval()  # type: ignore[attr-defined]
        try:
            yield
        finally:
            if self._averages_itself:
                self.optimizer.train()  # type: ignore[attr-defined]
            _put(self.parameters, trained)

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs beside the shown weights, which are saved. Call it outside `shown`; write what it gives inside."""
        kept: dict[str, Any] = {"optimizer": self.optimizer.state_dict()}
        if self._average:
            kept["average_updates"] = self._average.updates
        if self._average or self._averages_itself:  # the saved weights are the averaged ones
            kept["trained"] = [parameter.detach().clone() for parameter in self.parameters]
        return kept

    def load(self, state: Mapping[str, Any]) -> None:
        """Put back what `state` gave, when the weights are the saved ones. Raises RunError if it is not of this optimiser."""
        try:
            self.optimizer.load_state_dict(dict(state["optimizer"]))
            _stride_like_weights(self.optimizer)
            if self._average:
                self._average.load(self.parameters, state["average_updates"])
            if self._average or self._averages_itself:
                _put(self.parameters, state["trained"])
        except (KeyError, ValueError, TypeError) as error:
            raise RunError("The checkpoint is of another optimiser.", "Start the run again with the same settings.") from error


@torch.no_grad()
def _put(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)


def _stride_like_weights(optimizer: Optimizer) -> None:
    """A file knows no strides, but fused optimisers walk parameter and state side by side in memory."""
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride():
                values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


# ---- groups


def parameter_groups(trainable: Trainable) -> list[dict[str, Any]]:
    """What the method trains, as an optimiser takes it; `rate`, `first_step` and `end_step` stay with each group."""
    facts = ("rate", "first_step", "end_step")
    made = []
    for group in trainable.groups():
        decay = {} if group.weight_decay is None else {"weight_decay": group.weight_decay}
        made.append({"params": list(group.parameters), **decay, **{name: getattr(group, name) for name in facts}})
    return made


def open_groups(optimizer: Optimizer, step: int, config: TrainConfig) -> None:
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


# ---- schedules


def learning_rate_at(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then the schedule's share of the learning rate. `step` counts changes of the weights, from 0.

    A function of the step alone: accumulation cannot stretch it and a resumed run cannot lose its place.
    Prodigy finds the rate itself and takes a factor, 1; schedule-free AdamW takes the warm-up only.
    """
    base = 1.0 if config.optimizer == "prodigy" else config.learning_rate
    if step < config.warmup_steps:
        return base * (step + 1) / config.warmup_steps
    if config.optimizer == "schedule_free":
        return base
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    shapes = {"constant": 1.0, "linear": 1 - progress, "cosine": 0.5 * (1 + math.cos(math.pi * progress))}
    if config.lr_schedule in shapes:
        return base * shapes[config.lr_schedule]
    options = {"num_cycles": config.lr_cycles} if config.lr_schedule == "cosine_with_restarts" else {"power": config.lr_power}
    share = _diffusers_schedule(config.lr_schedule, max(1, config.steps - config.warmup_steps), **options)
    return base * share(step - config.warmup_steps)


@lru_cache(maxsize=8)
def _diffusers_schedule(name: str, num_steps: int, **options: float) -> Callable[[int], float]:
    """diffusers' own, as the share of the learning rate at a step; the warm-up is ours."""
    from diffusers.optimization import get_scheduler

    nobody = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    made = get_scheduler(name, nobody, num_warmup_steps=0, num_training_steps=num_steps, **options)
    return made.lr_lambdas[0]


# ---- optimisers


def notes(config: TrainConfig) -> list[str]:
    """Which settings the chosen optimiser does not use, in sentences."""
    if config.optimizer == "prodigy":
        return ["Prodigy finds the learning rate itself: the setting Learning rate is not used, the schedule is."]
    if config.optimizer == "schedule_free" and config.lr_schedule != "constant":
        return ["Schedule-free AdamW averages the weights in place of a schedule: only the warm-up is used."]
    return []


def make_optimizer(groups: Groups, config: TrainConfig, *, device_kind: str) -> Optimizer:
    """The config's optimiser over the groups. Raises ConfigError if its package is missing or it cannot take these groups,
    DeviceError if it needs another device.
    """
    if config.optimizer == "prodigy":
        _require_equal_rates(groups)
    if config.optimizer in ("prodigy", "schedule_free"):
        _require_all_steps(groups, config)
    made = _MAKERS[config.optimizer](config, device_kind)([dict(group) for group in groups])
    assert isinstance(made, Optimizer)
    return made


def _adamw(config: TrainConfig, device_kind: str) -> Callable[..., Any]:
    """Loshchilov & Hutter 2019, arXiv 1711.05101."""
    return partial(torch.optim.AdamW, lr=config.learning_rate, weight_decay=config.weight_decay, fused=device_kind != "mps")


def _adamw8bit(config: TrainConfig, device_kind: str) -> Callable[..., Any]:
    """Dettmers et al. 2022, arXiv 2110.02861: the state takes a quarter of the memory."""
    if device_kind != "cuda":
        raise DeviceError("8-bit AdamW needs an NVIDIA GPU.", "Set Optimiser to adamw.")
    made = _package("bitsandbytes", "8-bit AdamW").optim.AdamW8bit
    return partial(made, lr=config.learning_rate, weight_decay=config.weight_decay)


def _adafactor(config: TrainConfig, device_kind: str) -> Callable[..., Any]:
    """With a given rate. Shazeer & Stern 2018, arXiv 1804.04235: the state takes a row and a column of each matrix."""
    from transformers import Adafactor

    own_rate = {"scale_parameter": False, "relative_step": False, "warmup_init": False}
    return partial(Adafactor, lr=config.learning_rate, weight_decay=config.weight_decay, **own_rate)


def _prodigy(config: TrainConfig, device_kind: str) -> Callable[..., Any]:
    """Mishchenko & Defazio 2023, arXiv 2306.06101. Betas and corrections as its authors advise for diffusion models."""
    made = _package("prodigyopt", "Prodigy").Prodigy
    advised = {"betas": (0.9, 0.99), "use_bias_correction": True, "safeguard_warmup": True}

    def quietly(groups: Groups) -> Optimizer:
        """prodigyopt 1.1 prints a line when the constructor is given the weight decay."""
        return made([{"weight_decay": config.weight_decay, **group} for group in groups], lr=1.0, **advised)

    return quietly


def _lion(config: TrainConfig, device_kind: str) -> Callable[..., Any]:
    return partial(Lion, lr=config.learning_rate, weight_decay=config.weight_decay)


def _schedule_free(config: TrainConfig, device_kind: str) -> Callable[..., Any]:
    """Defazio et al. 2024, arXiv 2405.15682."""
    made = _package("schedulefree", "Schedule-free AdamW").AdamWScheduleFree

    def training(groups: Groups) -> Optimizer:
        optimizer = made(groups, lr=config.learning_rate, weight_decay=config.weight_decay)
        optimizer.train()
        return optimizer

    return training


_MAKERS: dict[str, Callable[[TrainConfig, str], Callable[..., Any]]] = {
    "adamw": _adamw,
    "adamw8bit": _adamw8bit,
    "adafactor": _adafactor,
    "prodigy": _prodigy,
    "lion": _lion,
    "schedule_free": _schedule_free,
}


class Lion(Optimizer):
    """w <- (1 - lr decay) w - lr sign(b1 m + (1 - b1) g), then m <- b2 m + (1 - b2) g. Chen et al. 2023, arXiv 2302.06675, alg. 2."""

    def __init__(
        self, params: Iterable[dict[str, Any]], *, lr: float, weight_decay: float, betas: tuple[float, float] = (0.9, 0.99)
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Change the weights that have a gradient."""
        assert closure is None
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                momentum = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
                direction = momentum.mul(beta1).add(parameter.grad, alpha=1 - beta1).sign()
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(direction, alpha=group["lr"])
                momentum.mul_(beta2).add_(parameter.grad, alpha=1 - beta2)


def _package(name: str, title: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigError(f"{title} needs the package {name}, which is not installed.", f"Install it: pip install {name}") from None


def _require_equal_rates(groups: Groups) -> None:
    """One factor for all is what Prodigy finds; it raises in the middle of a run otherwise."""
    rates = sorted({float(group.get("rate", 1.0)) for group in groups})
    if len(rates) > 1:
        raise ConfigError(
            f"Prodigy finds one learning rate for all weights, but these have the factors {', '.join(f'{rate:g}' for rate in rates)}.",
            "Set these factors to 1, or choose another optimiser.",
        )


def _require_all_steps(groups: Groups, config: TrainConfig) -> None:
    """What these optimisers gather over the steps counts also those in which a group does not learn."""
    if any(group.get("first_step") or (group.get("end_step") or config.steps) < config.steps for group in groups):
        raise ConfigError(
            f"The optimiser {config.optimizer} needs all weights to learn in all steps, but here some learn in a part of them only.",
            "Choose another optimiser, or a Text encoder share of 0 or 1, or another method than pivotal tuning.",
        )
