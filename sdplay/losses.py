"""What a micro-batch is made of, and its loss: error -> mask -> noise-level weight -> sample weight -> mean.

Everything is per picture until the last mean; nothing is cut into parts, so no weight can meet another picture's error.
Each option draws from its own stream of random numbers: one that is off shifts nobody else's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sdplay.config import TrainConfig
from sdplay.device import sent
from sdplay.diffusion.error import area_mean, huber_schedule, pseudo_huber_error, squared_error
from sdplay.diffusion.noise import logit_normal_shares, offset_noise, perturbed_noise, zero_terminal_snr
from sdplay.diffusion.objective import AnyObjective, FlowObjective, min_snr_weight, per_sample_loss, step_generator
from sdplay.diffusion.weights import debiased_weight, soft_min_snr_weight
from sdplay.errors import ConfigError, DataError

OFFSET, PERTURBATION, TIMESTEPS, TAGS = 128, 192, 256, 320
"""First of the 64 streams of each option, one for each micro-batch of a step."""
CLASS = 400
"""How much later the streams of a micro-batch's class pictures are, for prior preservation."""


@dataclass(frozen=True)
class Drawn:
    """B pictures, what is added to them and how they count."""

    x0: Tensor
    """(B, C, h, w) clean latents."""
    eps: Tensor
    """(B, C, h, w) the noise that is the target, or part of it."""
    t: Tensor
    """(B,) timesteps."""
    geometry: Tensor
    """(B, 6), as in `Latents`."""
    added: Tensor | None = None
    """(B, C, h, w) the noise that is added, where it is not `eps`."""
    area: Tensor | None = None
    """(B, 1, h, w) how much each place counts, in [0, 1]; None: all alike."""
    weight: Tensor | None = None
    """(B,) how much each picture counts; None: all alike."""
    hidden: Tensor | None = None
    """(B, 5, h, w) what an inpainting base sees beside the noise: the mask, and the picture without what it hides. None: all is hidden."""
    target: Tensor | None = None
    """(B, C, h, w) what the denoiser should say, where it is not the objective's target."""

    def to(self, device: torch.device) -> Drawn:
        """The same on a device."""
        return Drawn(*(None if value is None else sent(value, device) for value in vars(self).values()))  # type: ignore[arg-type]

    def rows(self, which: slice) -> Drawn:
        """Some of the pictures."""
        return Drawn(*(None if value is None else value[which] for value in vars(self).values()))  # type: ignore[arg-type]

    def noised(self, objective: AnyObjective) -> Tensor:
        """(B, C, h, w) what the denoiser sees."""
        return objective.add_noise(self.x0, self.eps if self.added is None else self.added, self.t)

    def sought(self, objective: AnyObjective) -> Tensor:
        """(B, C, h, w) what the denoiser should say."""
        return objective.target(self.x0, self.eps, self.t) if self.target is None else self.target


def varied(drawn: Drawn, config: TrainConfig, objective: AnyObjective, *, step: int, micro: int) -> Drawn:
    """The same pictures with the timesteps and the noise that the config's options ask for.

    micro: the number of the micro-batch, plus CLASS for its class pictures.
    """
    if config.timestep_sampling == "logit_normal":
        generator = step_generator(config.seed, step, TIMESTEPS + micro)
        shares = logit_normal_shares(len(drawn.t), mean=config.logit_mean, std=config.logit_std, generator=generator)
        drawn = replace(drawn, t=objective.timesteps_at(shares))
    if config.noise_offset:
        eps = offset_noise(drawn.eps, config.noise_offset, step_generator(config.seed, step, OFFSET + micro))
        drawn = replace(drawn, eps=eps)
    if config.input_perturbation:
        added = perturbed_noise(drawn.eps, config.input_perturbation, step_generator(config.seed, step, PERTURBATION + micro))
        drawn = replace(drawn, added=added)
    return drawn


def batch_loss(predicted: Tensor, drawn: Drawn, config: TrainConfig, objective: AnyObjective) -> Tensor:
    """The one number that is learned from.

    predicted: (B, C, h, w), the denoiser's answer to `drawn`, whose tensors are on its device.
    """
    loss = _per_sample(predicted, drawn, config, objective)
    weight = noise_level_weight(drawn.t, config, objective)
    if weight is not None:
        loss = loss * weight
    if drawn.weight is not None:
        loss = loss * drawn.weight
    return loss.mean()


def weighted_areas(masks: Sequence[Tensor], config: TrainConfig) -> Tensor:
    """N masks (1, h, w) in [0, 1] -> (N, 1, h, w): how much each latent counts, by the weight outside masks.

    Raises DataError where nothing of a picture would count.
    """
    areas = torch.stack(list(masks))
    areas = areas + (1 - areas) * config.unmasked_weight
    if (areas.sum(dim=(1, 2, 3)) == 0).any():
        raise DataError(
            "The mask of a picture shows nothing inside the part that training sees.",
            "Set Weight outside masks above 0, switch Aspect-ratio buckets on, or change the mask.",
        )
    return areas


def noise_level_weight(t: Tensor, config: TrainConfig, objective: AnyObjective) -> Tensor | None:
    """(B,) by the config's weighting, or None where all noise levels count alike. In flow matching all weights are 1."""
    if config.loss_weighting == "debiased":
        return debiased_weight(objective.snr(t), objective.prediction)
    if config.min_snr_gamma is None:
        return None
    weight = min_snr_weight if config.loss_weighting == "min_snr" else soft_min_snr_weight
    return weight(objective.snr(t), config.min_snr_gamma, objective.prediction)


def prepared_objective(objective: AnyObjective, config: TrainConfig) -> AnyObjective:
    """The base's objective as the config wants it. Raises ConfigError for zero terminal SNR on a base that predicts no v."""
    if isinstance(objective, FlowObjective) and config.timestep_sampling == "uniform":
        objective = replace(objective, sampling="uniform")
    if config.zero_terminal_snr == "off":
        return objective
    if isinstance(objective, FlowObjective) or objective.prediction != "v_prediction":
        why = (
            "learns by flow matching, which ends in noise alone anyway"
            if isinstance(objective, FlowObjective)
            else (f"predicts {objective.prediction}, which pure noise does not hold")
        )
        raise ConfigError(
            f"Zero terminal SNR needs a base that predicts v; this one {why}.",
            "Set Zero terminal SNR to off, or choose a v-prediction base.",
        )
    return replace(objective, alphas_cumprod=zero_terminal_snr(objective.alphas_cumprod))


def notes(config: TrainConfig, objective: AnyObjective) -> list[str]:
    """Which settings have no effect on this base, in sentences."""
    if objective.prediction == "flow" and config.loss_weighting != "min_snr":
        return ["This base learns by flow matching, where all noise levels count alike: the setting Loss weighting is not used."]
    return []


def _per_sample(predicted: Tensor, drawn: Drawn, config: TrainConfig, objective: AnyObjective) -> Tensor:
    """(B,) mean error of each picture, by its mask where it has one."""
    target = drawn.sought(objective)
    if config.huber_c is None and drawn.area is None:
        return per_sample_loss(predicted, target)
    if config.huber_c is None:
        error = squared_error(predicted, target)
    else:
        error = pseudo_huber_error(predicted, target, huber_schedule(objective.snr(drawn.t), config.huber_c))
    return error.mean(dim=(1, 2, 3)) if drawn.area is None else area_mean(error, drawn.area)
