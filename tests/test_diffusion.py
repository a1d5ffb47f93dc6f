"""Formulas against their closed forms."""

from __future__ import annotations

import pytest
import torch

from sdplay.diffusion.objective import FlowObjective, Objective, Prediction, min_snr_weight, per_sample_loss, step_generator

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


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_min_snr_is_finite_where_a_schedule_ends_without_signal(prediction: Prediction) -> None:
    """Zero terminal SNR (Lin et al. 2023): 0 / 0 is taken as its limit, 1 for epsilon and 0 for v."""
    assert min_snr_weight(torch.zeros(1), 5.0, prediction).item() == (1 if prediction == "epsilon" else 0)


def test_timesteps_of_discrete_diffusion_are_the_plain_uniform_draw() -> None:
    """Older runs drew them so; their resumed halves must go on so."""
    t = Objective(ALPHAS, "epsilon").draw_timesteps(50, torch.Generator().manual_seed(1))

    assert torch.equal(t, torch.randint(0, 3, (50,), generator=torch.Generator().manual_seed(1)))


def test_a_flow_is_a_straight_line_from_picture_to_noise() -> None:
    objective = FlowObjective(1000)
    x0, eps = torch.randn(2, 3, 4, 2, 2)
    t = torch.tensor([0.0, 250.0, 1000.0])

    x_t = objective.add_noise(x0, eps, t)

    assert torch.equal(x_t[0], x0[0])
    assert torch.allclose(x_t[1], 0.75 * x0[1] + 0.25 * eps[1])
    assert torch.equal(x_t[2], eps[2])
    assert torch.allclose(x_t[1] - 0.25 * objective.target(x0, eps, t)[1], x0[1], atol=1e-6), "the velocity leads back to the picture"


@pytest.mark.trap(29)
def test_sigmas_are_exact_also_for_bfloat16_pictures() -> None:
    """t = 1 of 1000: computed in bfloat16, 1 - sigma would be 1."""
    one = torch.ones(1, 1, 1, 1, dtype=torch.bfloat16)

    assert FlowObjective(1000).add_noise(0 * one, one, torch.tensor([1.0])).item() == pytest.approx(0.001, rel=1e-2)


def test_shifted_timesteps_have_the_shifted_median() -> None:
    """sigma = 3 s / (1 + 2 s), and the median of s is 1/2: 3/4 (Esser et al. 2024, eq. 23)."""
    for sampling in ("logit_normal", "uniform"):
        t = FlowObjective(1000, shift=3.0, sampling=sampling).draw_timesteps(20_001, torch.Generator().manual_seed(0))

        assert t.median().item() == pytest.approx(750, abs=10)
        assert 0 <= t.min() < t.max() <= 1000


def test_logit_normal_timesteps_prefer_the_middle() -> None:
    """P(|logit s| < 1) = 0.683, which is s between 0.269 and 0.731; uniform has 0.462 there."""
    shares = {
        sampling: FlowObjective(1000, sampling=sampling).draw_timesteps(20_000, torch.Generator().manual_seed(0)) / 1000
        for sampling in ("logit_normal", "uniform")
    }
    middle = {sampling: ((s > 0.2689) & (s < 0.7311)).float().mean().item() for sampling, s in shares.items()}

    assert middle == {"logit_normal": pytest.approx(0.683, abs=0.01), "uniform": pytest.approx(0.462, abs=0.01)}


def test_min_snr_leaves_flow_matching_alone() -> None:
    objective = FlowObjective(1000)

    assert min_snr_weight(objective.snr(torch.tensor([1.0, 500, 999])), 5.0, objective.prediction).tolist() == [1, 1, 1]
    assert objective.snr(torch.tensor([250.0])).item() == pytest.approx(9)


def test_loss_is_one_number_per_picture() -> None:
    predicted, target = torch.zeros(2, 4, 3, 3), torch.ones(2, 4, 3, 3)
    target[1] *= 2

    assert per_sample_loss(predicted, target).tolist() == [1, 4]


def test_random_numbers_of_a_step_depend_on_seed_step_and_stream_only() -> None:
    draws = {key: torch.rand(1, generator=step_generator(*key)).item() for key in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]}

    assert len(set(draws.values())) == 4
    assert torch.rand(1, generator=step_generator(0, 1, 0)).item() == draws[0, 1, 0]
