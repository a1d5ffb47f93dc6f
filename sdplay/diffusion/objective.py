"""What the denoiser learns to predict: noising, targets and signal-to-noise ratio of discrete-time diffusion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Prediction = Literal["epsilon", "v_prediction"]


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


def min_snr_weight(snr: Tensor, gamma: float, prediction: Prediction) -> Tensor:
    """How much each picture of the batch counts, by its noise level.

    snr: (B,) signal-to-noise ratio, > 0.  gamma: cap, 5.0 in the paper.
    Returns (B,): min(snr, gamma) / snr for epsilon, min(snr, gamma) / (snr + 1) for v.
    Hang et al. 2023, arXiv 2303.09556, sec. 3.4.
    """
    capped = snr.clamp(max=gamma)
    return capped / snr if prediction == "epsilon" else capped / (snr + 1)


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
