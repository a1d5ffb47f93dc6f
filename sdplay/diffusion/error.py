"""How far off the denoiser is: one number per value, then one per picture."""

from __future__ import annotations

from torch import Tensor


def squared_error(predicted: Tensor, target: Tensor) -> Tensor:
    """(B, C, h, w) twice -> (B, C, h, w), in float32."""
    return (predicted.float() - target.float()).square()


def pseudo_huber_error(predicted: Tensor, target: Tensor, c: Tensor) -> Tensor:
    """2 c (sqrt(d^2 + c^2) - c): the square for |d| far below c, 2 c |d| far above, so outliers in the data pull less.

    predicted, target: (B, C, h, w).  c: (B,), > 0, one for each picture.  Returns (B, C, h, w), in float32.
    Khrapov et al. 2024, arXiv 2403.16728, scaled so that c -> infinity gives the squared error.
    """
    c = c.float().view(-1, 1, 1, 1)
    return 2 * c * ((squared_error(predicted, target) + c.square()).sqrt() - c)


def huber_schedule(snr: Tensor, c: float) -> Tensor:
    """(B,) the c of each picture: 1 where it is clean, falling to `c` where it is noise: (1 - c) / (1 + sigma)^2 + c.

    snr: (B,), >= 0; sigma = snr^-1/2 is noise over signal.  c: in (0, 1].
    Khrapov et al. 2024, arXiv 2403.16728; the formula is the schedule that sd-scripts calls snr. That one leaves flow matching
    out; by its SNR, with the share of noise s, it is (1 - c) (1 - s)^2 + c there.
    """
    return (1 - c) / (1 + snr.rsqrt()).square() + c


def area_mean(error: Tensor, area: Tensor) -> Tensor:
    """(B,) mean of each picture's error where `area` says it counts. A small subject learns as fast as a large one.

    error: (B, C, h, w).  area: (B, 1, h, w), each value in [0, 1], none all zero.
    """
    return (error * area).sum(dim=(1, 2, 3)) / (area.sum(dim=(1, 2, 3)) * error.shape[1])
