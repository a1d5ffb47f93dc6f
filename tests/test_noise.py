"""How noise and timesteps are drawn: every option off by default, and none touches another's random numbers."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from sdplay.config import LoraConfig
from sdplay.diffusion.noise import logit_normal_shares, offset_noise, perturbed_noise, zero_terminal_snr
from sdplay.diffusion.objective import FlowObjective, Objective, step_generator
from sdplay.errors import ConfigError
from sdplay.losses import CLASS, prepared_objective, varied
from tests.test_losses import ALPHAS, BETAS, T, drawn, generator


def test_class_pictures_have_random_numbers_of_their_own() -> None:
    objective, batch = Objective(ALPHAS, "epsilon"), drawn()
    config = LoraConfig(noise_offset=0.1, input_perturbation=0.1, timestep_sampling="logit_normal")

    own, of_class = (varied(batch, config, objective, step=3, micro=micro) for micro in (1, CLASS + 1))

    assert not torch.equal(own.eps, of_class.eps)
    assert not torch.equal(own.t, of_class.t)


def test_offset_noise_shifts_each_channel_of_each_picture_as_a_whole() -> None:
    eps = torch.randn(2, 4, 8, 8, generator=generator())

    shift = offset_noise(eps, 0.1, generator(1)) - eps

    assert torch.allclose(shift, shift[:, :, :1, :1].expand_as(shift), atol=1e-6)
    assert torch.allclose(shift[:, :, 0, 0], 0.1 * torch.randn(2, 4, generator=generator(1)), atol=1e-6)


def test_offset_noise_is_the_target_and_perturbation_is_not() -> None:
    objective, batch = Objective(ALPHAS, "epsilon"), drawn()

    offset = varied(batch, LoraConfig(noise_offset=0.1), objective, step=0, micro=0)
    perturbed = varied(batch, LoraConfig(input_perturbation=0.1), objective, step=0, micro=0)

    assert not torch.equal(offset.eps, batch.eps)
    assert torch.equal(offset.noised(objective), objective.add_noise(batch.x0, offset.eps, batch.t))
    assert torch.equal(perturbed.eps, batch.eps)
    assert not torch.equal(perturbed.noised(objective), batch.noised(objective))


def test_perturbed_noise_has_the_variance_of_the_paper() -> None:
    """1 + gamma^2."""
    eps = torch.randn(1, 4, 256, 256, generator=generator())

    assert perturbed_noise(eps, 0.5, generator(1)).var().item() == pytest.approx(1.25, rel=0.01)


def test_with_every_option_off_a_batch_is_left_as_it_is() -> None:
    batch = drawn()

    assert varied(batch, LoraConfig(), Objective(ALPHAS, "epsilon"), step=3, micro=1) is batch


def test_options_draw_from_streams_of_their_own() -> None:
    """With all of them on, each draws what it draws alone."""
    objective, batch = Objective(ALPHAS, "epsilon"), drawn()
    alone = varied(batch, LoraConfig(noise_offset=0.1), objective, step=3, micro=1)

    together = varied(
        batch, LoraConfig(noise_offset=0.1, input_perturbation=0.1, timestep_sampling="logit_normal"), objective, step=3, micro=1
    )

    assert torch.equal(together.eps, alone.eps)
    assert not torch.equal(varied(batch, LoraConfig(noise_offset=0.1), objective, step=3, micro=2).eps, alone.eps)


def test_zero_terminal_snr_is_diffusers_and_ends_in_nothing() -> None:
    from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr

    ours = zero_terminal_snr(ALPHAS)

    assert ours[-1] == 0
    assert ours[0] == pytest.approx(ALPHAS[0].item(), rel=1e-6)
    assert torch.allclose(ours, (1 - rescale_zero_terminal_snr(BETAS)).cumprod(0), atol=1e-5)


@pytest.mark.trap(6)
def test_zero_terminal_snr_is_refused_for_epsilon_in_a_sentence() -> None:
    config = LoraConfig(zero_terminal_snr="on")

    with pytest.raises(ConfigError, match=r"predicts v; this one predicts epsilon.*Set Zero terminal SNR to off"):
        prepared_objective(Objective(ALPHAS, "epsilon"), config)

    assert prepared_objective(Objective(ALPHAS, "v_prediction"), config).snr(torch.tensor([T - 1])).item() == 0


def test_logit_normal_timesteps_have_the_quantiles_of_the_paper() -> None:
    """u = sigmoid(z): the quartiles of z, -0.6745 and 0.6745, become sigmoid(-0.6745) = 0.3375 and 0.6625."""
    share = logit_normal_shares(100_000, mean=0, std=1, generator=generator())

    assert torch.quantile(share, torch.tensor([0.25, 0.5, 0.75])).tolist() == pytest.approx([0.3375, 0.5, 0.6625], abs=0.005)


def test_the_ends_of_the_schedule_are_timesteps_of_it() -> None:
    assert Objective(ALPHAS, "epsilon").timesteps_at(torch.tensor([0.0, 0.5, 1.0])).tolist() == [0, T // 2, T - 1]


def test_random_numbers_of_options_are_not_those_of_a_micro_batch() -> None:
    """Up to 64 micro-batches number their streams from 0; 1009 is where those of the next step begin."""
    from sdplay import buckets, losses

    options = [losses.OFFSET, losses.PERTURBATION, losses.TIMESTEPS, losses.TAGS]
    firsts = sorted([0, *options, *(losses.CLASS + first for first in options), buckets.ORDER])

    assert all(after - before >= 64 for before, after in pairwise(firsts))
    assert torch.rand(1, generator=step_generator(0, 0, losses.OFFSET)) != torch.rand(1, generator=step_generator(0, 0, 0))


# ---- flow matching


def test_logit_normal_timesteps_of_a_flow_base_are_drawn_with_the_configs_numbers_and_shifted() -> None:
    """Esser et al. 2024, eq. 23 with shift 3: the median, sigmoid(1), becomes 3 m / (1 + 2 m)."""
    flow, config = FlowObjective(T, shift=3.0), LoraConfig(timestep_sampling="logit_normal", logit_mean=1.0)
    many = drawn(2, [0, 0])
    many = replace(many, t=torch.zeros(50_001))

    t = varied(many, config, flow, step=0, micro=0).t

    m = torch.sigmoid(torch.tensor(1.0)).item()
    assert t.median().item() / T == pytest.approx(3 * m / (1 + 2 * m), abs=0.005)
    assert t.dtype == torch.float32


def test_timesteps_of_a_flow_base_stay_its_own_unless_asked_for_evenly() -> None:
    flow = FlowObjective(T, shift=3.0)

    assert prepared_objective(flow, LoraConfig()) == flow
    assert prepared_objective(flow, LoraConfig(timestep_sampling="uniform")) == replace(flow, sampling="uniform")


def test_uniform_is_what_a_diffusion_base_does_anyway() -> None:
    objective = Objective(ALPHAS, "epsilon")

    assert prepared_objective(objective, LoraConfig(timestep_sampling="uniform")) is objective


def test_zero_terminal_snr_is_refused_for_flow_matching_in_a_sentence() -> None:
    with pytest.raises(ConfigError, match=r"flow matching.*Set Zero terminal SNR to off"):
        prepared_objective(FlowObjective(T), LoraConfig(zero_terminal_snr="on"))
