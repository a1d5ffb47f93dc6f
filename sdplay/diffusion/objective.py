"""What the denoiser learns to predict: noising, targets and timesteps of discrete-time diffusion and of flow matching."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Prediction = Literal["epsilon", "v_prediction", "flow"]


@dataclass(frozen=True)
class Objective:
    """A noise schedule and what is predicted under it.

    alphas_cumprod: (T,) float32, the share of signal variance left at each timestep, falling from near 1 to near 0.
    """

    alphas_cumprod: Tensor
    prediction: Prediction

    @property
    def num_timesteps(self) -> int:
        """T: 1000 for Stable Diffusion."""
        return len(self.alphas_cumprod)

    def draw_timesteps(self, count: int, generator: torch.Generator) -> Tensor:
        """(count,) whole numbers from 0 to T - 1, all equally likely."""
        return torch.randint(0, self.num_timesteps, (count,), generator=generator)

    def timesteps_at(self, share: Tensor) -> Tensor:
        """(B,) whole numbers from 0 to T - 1, for share (B,) of the schedule, in [0, 1]."""
        return (share * self.num_timesteps).long().clamp(max=self.num_timesteps - 1)

    def add_noise(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x_t = sqrt(a) x0 + sqrt(1 - a) eps, for x0, eps (B, C, h, w) and t (B,). Ho et al. 2020, arXiv 2006.11239, eq. 4."""
        a = self._alphas(t, x0)
        return a.sqrt() * x0 + (1 - a).sqrt() * eps

    def target(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """What the denoiser should say at x_t: eps, or v = sqrt(a) eps - sqrt(1 - a) x0 (Salimans & Ho 2022, arXiv 2202.00512)."""
        if self.prediction == "epsilon":
            return eps
        a = self._alphas(t, x0)
        return a.sqrt() * eps - (1 - a).sqrt() * x0

    def snr(self, t: Tensor) -> Tensor:
        """(B,) signal-to-noise ratio a / (1 - a)."""
        a = self.alphas_cumprod[t]
        return a / (1 - a)

    def _alphas(self, t: Tensor, like: Tensor) -> Tensor:
        return self.alphas_cumprod[t].to(like.dtype).view(-1, 1, 1, 1)


@dataclass(frozen=True)
class FlowObjective:
    """Straight lines from picture to noise, and the velocity along them. Esser et al. 2024, arXiv 2403.03206, sec. 2 and 3.

    num_timesteps: T, 1000 for Stable Diffusion 3; t = sigma T, where sigma, from 0 to 1, is the share of noise.
    shift: > 0; above 1 moves the drawn timesteps towards noise, which large pictures need (sec. 5.3.2, eq. 23).
    sampling: how t is drawn before the shift; logit_normal (mean 0, deviation 1) prefers the middle (sec. 3.1).
    """

    num_timesteps: int
    shift: float = 1.0
    sampling: Literal["logit_normal", "uniform"] = "logit_normal"
    prediction: Prediction = "flow"

    def draw_timesteps(self, count: int, generator: torch.Generator) -> Tensor:
        """(count,) float32 in [0, T]."""
        uniform = self.sampling == "uniform"
        share = torch.rand(count, generator=generator) if uniform else torch.randn(count, generator=generator).sigmoid()
        return self.timesteps_at(share)

    def timesteps_at(self, share: Tensor) -> Tensor:
        """(B,) in [0, T], for share (B,) of the way from picture to noise, in [0, 1], before the shift."""
        return self.num_timesteps * self.shift * share / (1 + (self.shift - 1) * share)

    def add_noise(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x_t = (1 - sigma) x0 + sigma eps, for x0, eps (B, C, h, w) and t (B,)."""
        sigma = self._sigmas(t, x0)
        return (1 - sigma) * x0 + sigma * eps

    def target(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """The velocity eps - x0, the same at every t."""
        return eps - x0

    def snr(self, t: Tensor) -> Tensor:
        """(B,) signal-to-noise ratio ((1 - sigma) / sigma)^2."""
        sigma = t.float() / self.num_timesteps
        return ((1 - sigma) / sigma).square()

    def _sigmas(self, t: Tensor, like: Tensor) -> Tensor:
        """Divided in float32, whatever the pictures are in: bfloat16 has three digits only."""
        return (t.float() / self.num_timesteps).to(like.dtype).view(-1, 1, 1, 1)


AnyObjective = Objective | FlowObjective
"""What the training loop needs of either."""


def min_snr_weight(snr: Tensor, gamma: float, prediction: Prediction) -> Tensor:
    """How much each picture of the batch counts, by its noise level.

    snr: (B,) signal-to-noise ratio, >= 0; 0 where a schedule ends without signal.  gamma: cap, 5.0 in the paper.
    Returns (B,): min(snr, gamma) / snr for epsilon, min(snr, gamma) / (snr + 1) for v. Hang et al. 2023, arXiv 2303.09556, sec. 3.4.
    1 for flow: its velocity loss already is the error of x0 over sigma^2, and the draw of t balances the noise levels.
    """
    if prediction == "flow":
        return torch.ones_like(snr)
    if prediction == "epsilon":
        return torch.where(snr > gamma, gamma / snr, 1.0)
    return snr.clamp(max=gamma) / (snr + 1)


def per_sample_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """(B, C, h, w) twice -> (B,) mean squared error of each picture, in float32."""
    return (predicted.float() - target.float()).square().mean(dim=(1, 2, 3))


def step_generator(seed: int, step: int, stream: int) -> torch.Generator:
    """The CPU random numbers of one step. They depend on nothing but these three numbers, so a resumed run draws the same.

    stream: which of the step's needs they serve (micro-batch, validation ...).
    """
    generator = torch.Generator()
    generator.manual_seed(((seed * 1_000_003 + step) * 1009 + stream) % 2**63)
    return generator
