"""Other ways to draw noise and timesteps."""

from __future__ import annotations

import torch
from torch import Tensor


def offset_noise(eps: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """eps plus one random number per picture and channel, so that very dark and very bright pictures can be learned.

    eps: (B, C, h, w).  strength: 0.03 to 0.1. The result is the noise to add and, for epsilon, the target.
    Guttenberg 2023, "Diffusion With Offset Noise" (Cross Labs).
    """
    return eps + strength * torch.randn(*eps.shape[:2], 1, 1, generator=generator)


def perturbed_noise(eps: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """The noise to add, where `eps` stays the target: the denoiser meets inputs that are slightly off, as when it draws.

    eps: (B, C, h, w).  strength: 0.1 in the paper.
    Ning et al. 2023, arXiv 2301.11706, alg. 1.
    """
    return eps + strength * torch.randn(eps.shape, generator=generator)


def zero_terminal_snr(alphas_cumprod: Tensor) -> Tensor:
    """The schedule, stretched so that nothing of the picture is left at the last timestep.

    alphas_cumprod: (T,), falling. Its square root is shifted to end in 0 and scaled to begin where it began.
    Lin et al. 2023, arXiv 2305.08891, alg. 1. Epsilon cannot be learned at SNR 0; v can.
    """
    root = alphas_cumprod.sqrt()
    return ((root - root[-1]) * (root[0] / (root[0] - root[-1]))).square()


def logit_normal_shares(count: int, *, mean: float, std: float, generator: torch.Generator) -> Tensor:
    """(count,) in [0, 1], how far from picture to noise: sigmoid(normal(mean, std)), so the middle comes most.

    mean: 0 for the middle, above for more noise.  std: 1 in the paper.
    Esser et al. 2024, arXiv 2403.03206, sec. 3.1.
    """
    return torch.sigmoid(mean + std * torch.randn(count, generator=generator))
