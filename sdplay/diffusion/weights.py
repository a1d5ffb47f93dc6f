"""How much each picture of a batch counts, by its noise level.

Papers give the weight of an error in x0. The denoiser answers in another unit, and an error in x0 is
err_eps^2 / SNR  or  err_v^2 / (SNR + 1), so a weight w on x0 is w / SNR on epsilon and w / (SNR + 1) on v.
All take snr (B,), >= 0 (> 0 for epsilon), and give (B,). For flow matching all give 1: its velocity loss already is the
error of x0 over sigma^2, and the draw of the timesteps balances the noise levels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sdplay.diffusion.objective import Prediction


def soft_min_snr_weight(snr: Tensor, gamma: float, prediction: Prediction) -> Tensor:
    """min-SNR without its corner: the weight on x0 is snr gamma / (snr + gamma), below both snr and gamma.

    gamma: 4 in the paper, where it is written 1 / (sigma^2 + 1 / gamma).
    Crowson et al. 2024, arXiv 2401.11605.
    """
    if prediction == "flow":
        return torch.ones_like(snr)
    return gamma / (snr + gamma) * (1 if prediction == "epsilon" else snr / (snr + 1))


def debiased_weight(snr: Tensor, prediction: Prediction) -> Tensor:
    """The weight on x0 is sqrt(snr), so noisy pictures count more than in the plain loss: 1 / sqrt(snr) on epsilon.

    For v it is sqrt(snr) / (snr + 1); some trainers use 1 / (snr + 1) there, which is another weight on x0.
    Yu et al. 2023, arXiv 2310.08442, for epsilon.
    """
    if prediction == "flow":
        return torch.ones_like(snr)
    return snr.rsqrt() if prediction == "epsilon" else snr.sqrt() / (snr + 1)
