"""Formulas against their closed forms."""

from __future__ import annotations

import pytest
import torch

from sdplay.diffusion.objective import Objective, min_snr_weight, per_sample_loss, step_generator

ALPHAS = torch.tensor([0.9, 0.5, 0.1])


def test_noising_keeps_the_variance_of_unit_signals() -> None:
    objective = Objective(ALPHAS, "epsilon")
    x0, eps = torch.randn(2, 3, 1, 64, 64, generator=torch.Generator().manual_seed(0))

    x_t = objective.add_noise(x0, eps, torch.tensor([0, 1, 2]))

    assert x_t.var(dim=(1, 2, 3)).tolist() == pytest.approx([1, 1, 1], abs=0.06)


def test_the_clean_picture_is_recovered_from_the_v_target() -> None:
    """x0 = sqrt(a) x_t - sqrt(1 - a) v (Salimans & Ho 2022, appendix D)."""
    objective = Objective(ALPHAS, "v_prediction")
    x0, eps = torch.randn(2, 1, 4, 2, 2)
    t = torch.tensor([2])

    v = objective.target(x0, eps, t)

    assert torch.allclose(0.1**0.5 * objective.add_noise(x0, eps, t) - 0.9**0.5 * v, x0, atol=1e-6)


def test_epsilon_prediction_aims_at_the_noise() -> None:
    eps = torch.randn(1, 4, 2, 2)

    assert Objective(ALPHAS, "epsilon").target(torch.zeros_like(eps), eps, torch.tensor([1])) is eps


def test_snr_is_signal_over_noise() -> None:
    assert Objective(ALPHAS, "epsilon").snr(torch.tensor([0, 1, 2])).tolist() == pytest.approx([9, 1, 1 / 9])


def test_min_snr_caps_clean_pictures_only() -> None:
    """gamma 5: snr 9 -> 5/9, snr 1 -> 1 for epsilon; divided by snr + 1 for v: 5/10, 1/2."""
    snr = torch.tensor([9.0, 1.0])

    assert min_snr_weight(snr, 5.0, "epsilon").tolist() == pytest.approx([5 / 9, 1])
    assert min_snr_weight(snr, 5.0, "v_prediction").tolist() == pytest.approx([5 / 10, 1 / 2])


def test_min_snr_for_v_goes_to_zero_where_there_is_no_signal() -> None:
    """A known bug adds 1 to the weight instead: 2.0 at SNR 0.0047 where 0.0047 is right."""
    assert min_snr_weight(torch.tensor([0.0047]), 5.0, "v_prediction").item() == pytest.approx(0.0047, rel=0.01)


def test_loss_is_one_number_per_picture() -> None:
    predicted, target = torch.zeros(2, 4, 3, 3), torch.ones(2, 4, 3, 3)
    target[1] *= 2

    assert per_sample_loss(predicted, target).tolist() == [1, 4]


def test_random_numbers_of_a_step_depend_on_seed_step_and_stream_only() -> None:
    draws = {key: torch.rand(1, generator=step_generator(*key)).item() for key in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]}

    assert len(set(draws.values())) == 4
    assert torch.rand(1, generator=step_generator(0, 1, 0)).item() == draws[0, 1, 0]
