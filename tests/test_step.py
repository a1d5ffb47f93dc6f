"""One step of the loop: micro-batches add up to their mean, gradients are cut to their longest, every weight learns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sdplay import train
from sdplay.config import LoraConfig
from sdplay.device import Device
from sdplay.engine import Engine
from sdplay.families import Parts, family
from sdplay.job import Job
from sdplay.material import Bucket, Material
from sdplay.methods import method
from sdplay.optimizers import Learner, parameter_groups
from sdplay.runs import Run
from tests.methods.test_contract import settings
from tests.methods.test_prior import conditioning, latents
from tests.test_train import trained

Gradients = list[Tensor]


@pytest.fixture
def parts(tiny_base: Path) -> Parts:
    return family("sd15").load(tiny_base, Device("cpu", "CPU"), source="tiny")


@pytest.fixture
def step(parts: Parts) -> Callable[..., tuple[float, Gradients]]:
    """Run step 0 of a LoRA; its loss and the gradients that the optimiser gets."""

    def run(**changes: object) -> tuple[float, Gradients]:
        config = LoraConfig(**{"batch_size": 1, "caption_dropout": 0, "rank": 2, **changes})  # type: ignore[arg-type]
        trainable = method("lora").prepare(parts, family("sd15"), config)
        material = Material(
            [Bucket(latents(3, 1), [0, 1, 2], None)], [], [["a dog"]] * 3, [], {"a dog": conditioning(parts, "a dog")},
            family("sd15").objective(parts), None,
        )  # fmt: skip
        job = Job(Run(Path()), config, (), parts, family("sd15"), method("lora"), Device("cpu", "CPU"), Path())
        learner = Learner(parameter_groups(trainable), config, device_kind="cpu")
        found: Gradients = []
        learner.optimizer.register_step_pre_hook(
            lambda *given: found.extend(parameter.grad.clone() for parameter in learner.parameters if parameter.grad is not None)
        )
        loss = train._one_step(job, material, trainable, learner, step=0).read()
        trainable.detach()
        return loss, found

    return run


@pytest.mark.trap(31)
def test_accumulated_gradients_are_the_mean_of_the_micro_batches_also_in_the_first_step(
    step: Callable[..., tuple[float, Gradients]], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_loss = train._batch_loss
    loss, together = step(gradient_accumulation=3, max_grad_norm=1000)

    alone = []
    for number in range(3):
        monkeypatch.setattr(train, "_batch_loss", lambda *given, step, micro, number=number: batch_loss(*given, step=step, micro=number))
        alone.append(step(max_grad_norm=1000))

    assert loss == pytest.approx(sum(each for each, _ in alone) / 3, rel=1e-6)
    for index, gradient in enumerate(together):
        torch.testing.assert_close(gradient, torch.stack([gradients[index] for _, gradients in alone]).mean(0), rtol=1e-4, atol=1e-8)


@pytest.mark.trap(19)
def test_gradients_are_cut_to_the_longest_that_is_allowed(step: Callable[..., tuple[float, Gradients]]) -> None:
    _, whole = step(max_grad_norm=1000)
    length = torch.cat([gradient.flatten() for gradient in whole]).norm().item()

    _, cut = step(max_grad_norm=length / 4)

    assert torch.cat([gradient.flatten() for gradient in cut]).norm().item() == pytest.approx(length / 4, rel=1e-3)


@pytest.mark.trap(19)
def test_a_fine_tune_moves_every_weight_of_the_denoiser(engine: Engine, tiny_base: Path, pictures: Path, parts: Parts) -> None:
    run = trained(engine, settings(engine, tiny_base, pictures, "dreambooth", sample_prompts=[], caption_dropout=0.0))

    learned = load_file(run.folder / run.state().artifacts[0].file)

    assert learned.keys() == {f"unet.{name}" for name, _ in parts.denoiser.named_parameters()}
    assert [name for name, weight in parts.denoiser.named_parameters() if torch.equal(weight, learned[f"unet.{name}"])] == []
