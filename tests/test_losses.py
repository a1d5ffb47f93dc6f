"""Losses against closed forms and papers; every option off by default, and none touches another's random numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sdplay.config import LoraConfig
from sdplay.diffusion.error import area_mean, huber_schedule, pseudo_huber_error
from sdplay.diffusion.noise import zero_terminal_snr
from sdplay.diffusion.objective import FlowObjective, Objective, Prediction
from sdplay.diffusion.weights import debiased_weight, soft_min_snr_weight
from sdplay.losses import Drawn, batch_loss, noise_level_weight, notes

T = 1000
BETAS = torch.linspace(0.00085**0.5, 0.012**0.5, T) ** 2  # Stable Diffusion's
ALPHAS = (1 - BETAS).cumprod(0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(count: int = 2, t: list[int] | None = None) -> Drawn:
    x0, eps = torch.randn(2, count, 4, 8, 8, generator=generator())
    return Drawn(x0, eps, torch.tensor(t or [100, 900][:count]), torch.zeros(count, 6))


def row(of: Drawn, index: int) -> Drawn:
    return Drawn(*(value[index : index + 1] for value in (of.x0, of.eps, of.t, of.geometry)))


def answer(like: Tensor) -> Tensor:
    return torch.randn(like.shape, generator=generator(1))


# ---- weights


@pytest.mark.parametrize(("prediction", "per_error_in_x0"), [("epsilon", lambda snr: snr), ("v_prediction", lambda snr: snr + 1)])
def test_weights_mean_the_same_for_an_error_in_x0_whatever_is_predicted(prediction: Prediction, per_error_in_x0: object) -> None:
    """An error d in x0 is d^2 SNR in eps and d^2 (SNR + 1) in v: the weight times that is the paper's weight on x0."""
    snr = torch.tensor([20.0, 4.0, 0.01])

    soft = soft_min_snr_weight(snr, 4.0, prediction) * per_error_in_x0(snr)  # type: ignore[operator]
    debiased = debiased_weight(snr, prediction) * per_error_in_x0(snr)  # type: ignore[operator]

    assert soft.tolist() == pytest.approx([20 * 4 / 24, 4 * 4 / 8, 0.01 * 4 / 4.01], rel=1e-6)
    assert debiased.tolist() == pytest.approx([20**0.5, 2, 0.1], rel=1e-6)


def test_soft_min_snr_is_one_over_sigma_squared_plus_one_over_gamma() -> None:
    """The paper's form on x0, for SNR = 1 / sigma^2."""
    sigma = torch.tensor([0.1, 1.0, 10.0])
    snr = sigma**-2

    assert (soft_min_snr_weight(snr, 4.0, "epsilon") * snr).tolist() == pytest.approx((1 / (sigma**2 + 1 / 4)).tolist(), rel=1e-6)


def test_soft_min_snr_stays_below_min_snr_and_meets_it_far_from_the_corner() -> None:
    snr = torch.tensor([1e-4, 5.0, 1e4])
    hard = snr.clamp(max=5.0) / snr

    soft = soft_min_snr_weight(snr, 5.0, "epsilon")

    assert (soft <= hard).all()
    assert (soft / hard).tolist() == pytest.approx([1, 0.5, 1], abs=1e-3)


@pytest.mark.trap(6)
@pytest.mark.parametrize("weighting", ["min_snr", "soft_min_snr", "debiased"])
def test_v_weights_are_finite_and_zero_where_nothing_is_left_of_the_picture(weighting: str) -> None:
    """Zero terminal SNR: other trainers divide by it and get NaN."""
    objective = Objective(zero_terminal_snr(ALPHAS), "v_prediction")

    weight = noise_level_weight(torch.tensor([T - 1]), LoraConfig(loss_weighting=weighting), objective)

    assert weight is not None
    assert weight.tolist() == [0]


# ---- errors


def test_pseudo_huber_is_the_square_for_small_errors_and_linear_for_large() -> None:
    error = torch.tensor([1e-2, 1e3]).view(1, 1, 1, 2)

    small, large = pseudo_huber_error(error, torch.zeros_like(error), torch.tensor([0.5])).flatten().tolist()

    assert small == pytest.approx(1e-4, rel=1e-3)
    assert large == pytest.approx(2 * 0.5 * (1e3 - 0.5), rel=1e-3)


def test_pseudo_huber_has_the_closed_form() -> None:
    """d = 3, c = 4: 2 * 4 * (sqrt(9 + 16) - 4) = 8."""
    three = torch.full((1, 1, 1, 1), 3.0)

    assert pseudo_huber_error(three, torch.zeros_like(three), torch.tensor([4.0])).item() == pytest.approx(8)


def test_the_huber_schedule_goes_from_one_to_c() -> None:
    """sigma 1 (SNR 1): (1 - 0.1) / 4 + 0.1."""
    assert huber_schedule(torch.tensor([1e12, 1.0, 0.0]), 0.1).tolist() == pytest.approx([1, 0.325, 0.1], abs=1e-5)


@pytest.mark.trap(31)
def test_huber_is_per_picture_so_a_batch_may_mix_timesteps() -> None:
    """A known limit elsewhere: one timestep for the whole batch."""
    objective, config = Objective(ALPHAS, "epsilon"), LoraConfig(huber_c=0.1)
    both = drawn()
    predicted = answer(both.x0)

    each = [batch_loss(predicted[i : i + 1], row(both, i), config, objective) for i in (0, 1)]

    assert batch_loss(predicted, both, config, objective).item() == pytest.approx(torch.stack(each).mean().item(), rel=1e-6)


@pytest.mark.trap(27)
def test_the_mask_is_normalised_by_its_area() -> None:
    """The same error inside a small and a large mask is the same loss; averaging over all pixels would give 1/16 of it."""
    error, area = torch.full((2, 4, 8, 8), 3.0), torch.zeros(2, 1, 8, 8)
    area[0, :, :2, :2] = 1
    area[1] = 1

    assert area_mean(error, area).tolist() == pytest.approx([3, 3])


def test_what_lies_outside_the_mask_does_not_count_or_counts_its_share() -> None:
    """Error 1 inside a quarter, 5 outside. Share 0: 1. Share 0.2: (16 * 1 + 48 * 0.2 * 5) / (16 + 48 * 0.2) = 2.5."""
    error, area = torch.full((1, 4, 8, 8), 5.0), torch.zeros(1, 1, 8, 8)
    error[:, :, :4, :4], area[:, :, :4, :4] = 1, 1

    assert area_mean(error, area).item() == 1
    assert area_mean(error, area.clamp(min=0.2)).item() == pytest.approx(2.5)


def test_a_full_mask_is_no_mask() -> None:
    objective, config = Objective(ALPHAS, "epsilon"), LoraConfig()
    plain = drawn()
    predicted = answer(plain.x0)

    masked = replace(plain, area=torch.ones(2, 1, 8, 8))

    assert batch_loss(predicted, masked, config, objective).item() == pytest.approx(batch_loss(predicted, plain, config, objective).item())


# ---- the pipeline


@pytest.mark.trap(6)
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_loss_is_the_mean_of_weight_times_error_of_each_picture(prediction: Prediction) -> None:
    """Closed form of the whole pipeline: area, then noise level, then sample weight, then mean, for a batch of two."""
    objective, config = Objective(ALPHAS, prediction), LoraConfig(min_snr_gamma=5.0)
    area = torch.zeros(2, 1, 8, 8)
    area[:, :, 2:5] = 1
    batch = replace(drawn(), area=area, weight=torch.tensor([1.0, 0.25]))
    predicted = answer(batch.x0)

    expected = []
    for i in (0, 1):
        a = ALPHAS[batch.t[i]]
        snr = a / (1 - a)
        target = batch.eps[i] if prediction == "epsilon" else a.sqrt() * batch.eps[i] - (1 - a).sqrt() * batch.x0[i]
        error = (predicted[i, :, 2:5] - target[:, 2:5]).square().mean()
        expected.append((1.0, 0.25)[i] * snr.clamp(max=5) / (snr if prediction == "epsilon" else snr + 1) * error)

    assert batch_loss(predicted, batch, config, objective).item() == pytest.approx(torch.stack(expected).mean().item(), abs=1e-6)


@pytest.mark.trap(7)
def test_one_picture_with_a_weight_is_one_number_and_not_spread_over_two() -> None:
    """Elsewhere a batch of one picture and one prior picture mixes their weights by broadcasting."""
    objective, config = Objective(ALPHAS, "epsilon"), LoraConfig(min_snr_gamma=5.0)
    two = replace(drawn(), weight=torch.tensor([1.0, 0.0]))
    one = row(two, 0)
    predicted = answer(two.x0)

    assert batch_loss(predicted, two, config, objective).item() == pytest.approx(
        batch_loss(predicted[:1], one, config, objective).item() / 2
    )


def test_a_target_of_its_own_is_what_the_answer_is_held_against() -> None:
    objective, config = Objective(ALPHAS, "epsilon"), LoraConfig(min_snr_gamma=None)
    batch = drawn()
    predicted = answer(batch.x0)

    assert batch_loss(predicted, replace(batch, target=predicted), config, objective).item() == 0
    assert batch_loss(predicted, replace(batch, target=predicted - 2), config, objective).item() == pytest.approx(4)


@pytest.mark.parametrize(
    "option", [{"loss_weighting": "soft_min_snr"}, {"loss_weighting": "debiased"}, {"min_snr_gamma": None}, {"huber_c": 0.1}], ids=str
)
def test_each_way_to_count_errors_gives_another_loss(option: dict[str, object]) -> None:
    objective, batch = Objective(ALPHAS, "epsilon"), drawn()
    predicted = answer(batch.x0)

    assert batch_loss(predicted, batch, LoraConfig(**option), objective) != batch_loss(predicted, batch, LoraConfig(), objective)


# ---- flow matching


@pytest.mark.parametrize("weighting", ["min_snr", "soft_min_snr", "debiased"])
def test_every_weight_of_flow_matching_is_one_also_at_the_ends(weighting: str) -> None:
    """At t = 0 the SNR is infinite and at T it is 0."""
    config = LoraConfig(loss_weighting=weighting)

    weight = noise_level_weight(torch.tensor([0.0, 500.0, T]), config, FlowObjective(T))

    assert weight is not None
    assert weight.tolist() == [1, 1, 1]
    assert bool(notes(config, FlowObjective(T))) == (weighting != "min_snr")
    assert notes(config, Objective(ALPHAS, "epsilon")) == []


def test_the_huber_schedule_of_flow_matching_goes_from_one_to_c() -> None:
    """Noise over signal is s / (1 - s), so (1 - c) / (1 + s / (1 - s))^2 + c = (1 - c) (1 - s)^2 + c; s = 0.5: 0.9 / 4 + 0.1."""
    snr = FlowObjective(T).snr(torch.tensor([0.0, 500.0, T]))

    assert huber_schedule(snr, 0.1).tolist() == pytest.approx([1, 0.325, 0.1], abs=1e-6)
