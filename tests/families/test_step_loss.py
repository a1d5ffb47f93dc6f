"""The loss of a training step of every family and method, against closed forms written here from the papers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sdplay.attach.words import table_of
from sdplay.cache import Latents
from sdplay.config import DreamBoothConfig, LoraConfig, TextualInversionConfig, TrainConfig
from sdplay.device import Device
from sdplay.diffusion.objective import step_generator
from sdplay.families import Conditioning, Parts, family
from sdplay.job import Job
from sdplay.material import Bucket, Material
from sdplay.methods import Trainable, method
from sdplay.prior import Prior
from sdplay.runs import Run
from sdplay.train import _batch_loss
from tests.families.test_contract import CASES, Case

TEXT, CLASS = "a dog", "dog"
GEOMETRY = torch.tensor([[64.0, 48, 0, 4, 32, 32], [32, 32, 0, 0, 32, 32], [96, 96, 16, 0, 32, 32]])
Answer = Callable[[Tensor], Tensor]


@pytest.fixture(params=CASES.values(), ids=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    name, fixture = request.param
    return Case(name, request.getfixturevalue(fixture))


@dataclass(frozen=True)
class Step:
    """What a step computed, and the noise that it is said to use: seeded by (seed, step, micro-batch)."""

    loss: Tensor
    trainable: Trainable
    pictures: tuple[Tensor, Tensor, Tensor]
    """x0, eps, t."""
    geometry: Tensor
    random: torch.Generator
    """Where the step left off."""


def latents(parts: Parts, count: int, seed: int) -> Latents:
    shape, random = (count, parts.latent_channels, 8, 8), torch.Generator().manual_seed(seed)
    return Latents(torch.randn(shape, generator=random), torch.rand(shape, generator=random), GEOMETRY[:count])


def pictures_of(case: Case, of: Latents, rows: list[int], random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """The posterior's sample, its noise, and t: uniform, but logit-normal with shift 3 for SD 3 (Esser et al. 2024, eq. 23)."""
    x0 = of.mean[rows] + of.std[rows] * torch.randn(of.mean[rows].shape, generator=random)
    eps = torch.randn(x0.shape, generator=random)
    if case.family != "sd3":
        return x0, eps, torch.randint(0, 1000, (len(rows),), generator=random)
    share = torch.randn(len(rows), generator=random).sigmoid()
    return x0, eps, 1000 * 3 * share / (1 + 2 * share)


@torch.no_grad()
def read(case: Case, parts: Parts, text: str) -> Conditioning:
    return family(case.family).encode_prompts(parts, [text])


def step_of(case: Case, parts: Parts, config: TrainConfig, prior: Prior | None = None, text: str = TEXT) -> Step:
    """Our loss of step 0 with weights that have moved: 0.02 x noise is added to all that learns."""
    chosen = family(case.family)
    known = {} if config.method == "textual_inversion" else {name: read(case, parts, name) for name in ("", text, CLASS)}
    own = latents(parts, 1, seed=1)
    trainable = method(config.method).prepare(parts, chosen, config)
    with torch.no_grad():
        for index, parameter in enumerate(parameter for group in trainable.groups() for parameter in group.parameters):
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index)))
    material = Material([Bucket(own, [0], None)], [], [[text]], [], known, chosen.objective(parts), prior)
    job = Job(Run(Path()), config, (), parts, chosen, method(config.method), Device("cpu", "CPU"), Path())

    loss = _batch_loss(job, material, trainable, step=0, micro=0)

    random = step_generator(config.seed, 0, 0)
    rows = [0] * config.batch_size
    pictures = pictures_of(case, own, rows, random)
    torch.rand(2 * config.batch_size, generator=random)  # which caption, and whether it is dropped
    return Step(loss, trainable, pictures, own.geometry[rows], random)


def answering(case: Case, parts: Parts, conditioning: Conditioning, t: Tensor, geometry: Tensor) -> Answer:
    """The denoiser as the families' papers call it: SDXL is told size and crop (Podell et al. 2023), SD 3 the pooled vectors."""

    def answer(x_t: Tensor) -> Tensor:
        given = {"encoder_hidden_states": conditioning.hidden.expand(len(x_t), -1, -1), "return_dict": False}
        pooled = conditioning.pooled.expand(len(x_t), -1) if conditioning.pooled is not None else None
        if case.family == "sd3":
            return parts.denoiser(hidden_states=x_t, timestep=t, pooled_projections=pooled, **given)[0]
        if case.family == "sdxl":
            given["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": geometry}
        return parts.denoiser(x_t, t, **given)[0]

    return answer


def diffusion_terms(parts: Parts, x0: Tensor, eps: Tensor, t: Tensor, gamma: float | None) -> tuple[Tensor, Tensor, Tensor]:
    """x_t, target and weight. Ho et al. 2020, eq. 4 and 14; Salimans & Ho 2022 for v; Hang et al. 2023 for the weight."""
    config = parts.pipeline.scheduler.config
    betas = torch.linspace(config.beta_start**0.5, config.beta_end**0.5, config.num_train_timesteps, dtype=torch.float64) ** 2
    root = (1 - betas).cumprod(0).sqrt()
    if config.get("rescale_betas_zero_snr"):  # Lin et al. 2023, arXiv 2305.08891, algorithm 1
        root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    a = root[t].square().view(-1, 1, 1, 1)
    v = config.prediction_type == "v_prediction"
    snr = (a / (1 - a)).flatten()
    weight = torch.ones_like(snr) if gamma is None else snr.clamp(max=gamma) / (snr + 1 if v else snr)
    return a.sqrt() * x0 + (1 - a).sqrt() * eps, a.sqrt() * eps - (1 - a).sqrt() * x0 if v else eps.double(), weight


def flow_terms(x0: Tensor, eps: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x_t, target and weight. Esser et al. 2024, eq. 13 and 14: straight lines, velocity eps - x0, no weight."""
    sigma = (t.double() / 1000).view(-1, 1, 1, 1)
    return (1 - sigma) * x0 + sigma * eps, eps - x0, torch.ones(len(x0))


def paper_loss(
    case: Case, parts: Parts, pictures: tuple[Tensor, Tensor, Tensor], answer: Answer, *, gamma: float | None, of: Answer | None = None
) -> Tensor:
    """mean of weight x mean of (answer - target)^2. `of`: whose answer is the target instead, the frozen base's."""
    terms = flow_terms(*pictures) if case.family == "sd3" else diffusion_terms(parts, *pictures, gamma=gamma)
    x_t, target, weight = terms
    sought = target if of is None else of(x_t.float())
    return ((answer(x_t.float()) - sought).square().mean((1, 2, 3)) * weight).mean()


@pytest.mark.trap(6, 29)
@pytest.mark.parametrize("gamma", [5.0, None])
@torch.no_grad()
def test_the_loss_of_a_lora_is_the_papers(case: Case, gamma: float | None) -> None:
    """SD 2 with v-prediction and min-SNR; SD 3's plain flow loss, without the sigma^2 of a preconditioned output."""
    parts = case.load()
    config = LoraConfig(batch_size=3, caption_dropout=0, min_snr_gamma=gamma)

    step = step_of(case, parts, config)

    answer = answering(case, parts, read(case, parts, TEXT), step.pictures[2], step.geometry)
    expected = paper_loss(case, parts, step.pictures, answer, gamma=gamma)
    step.trainable.detach()
    base = paper_loss(case, parts, step.pictures, answer, gamma=gamma)
    assert step.loss.item() == pytest.approx(expected.item(), rel=1e-6, abs=1e-6)
    assert abs(base.item() - expected.item()) > 1e-5, "the adapter takes part"


@pytest.mark.trap(7, 23)
@pytest.mark.parametrize("batch_size", [1, 2])
@torch.no_grad()
def test_the_loss_of_dreambooth_with_class_pictures_is_the_papers(case: Case, batch_size: int) -> None:
    """Ruiz et al. 2022, eq. 2: each picture weighted by its own noise level, the class with its own text, time ids and noise."""
    parts = case.load()
    config = DreamBoothConfig(
        batch_size=batch_size, caption_dropout=0, min_snr_gamma=5.0, prior="images", prior_weight=0.7, class_word=CLASS
    )
    of_class = latents(parts, 3, seed=2)
    known, known_class = read(case, parts, TEXT), read(case, parts, CLASS)

    step = step_of(case, parts, config, Prior(0.7, CLASS, known_class, of_class))

    own = paper_loss(case, parts, step.pictures, answering(case, parts, known, step.pictures[2], step.geometry), gamma=5.0)
    rows = torch.randint(0, 3, (batch_size,), generator=step.random).tolist()
    pictures = pictures_of(case, of_class, rows, step.random)
    shown = paper_loss(case, parts, pictures, answering(case, parts, known_class, pictures[2], of_class.geometry[rows]), gamma=5.0)
    assert step.loss.item() == pytest.approx((own + 0.7 * shown).item(), rel=1e-6, abs=1e-6)


@pytest.mark.trap(7, 23)
@torch.no_grad()
def test_the_loss_of_a_lora_with_the_bases_prediction_as_prior_has_the_base_as_target(case: Case) -> None:
    parts = case.load()
    config = LoraConfig(batch_size=2, caption_dropout=0, min_snr_gamma=5.0, prior="prediction", prior_weight=0.7, class_word=CLASS)
    known, known_class = read(case, parts, TEXT), read(case, parts, CLASS)

    step = step_of(case, parts, config, Prior(0.7, CLASS, known_class, None))

    t = step.pictures[2]
    own = paper_loss(case, parts, step.pictures, answering(case, parts, known, t, step.geometry), gamma=5.0)
    learning = answering(case, parts, known_class, t, step.geometry)
    x_t = (flow_terms(*step.pictures) if case.family == "sd3" else diffusion_terms(parts, *step.pictures, gamma=5.0))[0].float()
    answered = learning(x_t)
    step.trainable.detach()
    kept = paper_loss(case, parts, step.pictures, lambda _: answered, gamma=5.0, of=learning)
    assert kept.item() > 1e-9
    assert step.loss.item() == pytest.approx((own + 0.7 * kept).item(), rel=1e-6, abs=1e-6)


@pytest.mark.trap(2)
def test_the_loss_of_textual_inversion_is_that_of_a_table_with_the_words_row_changed(case: Case) -> None:
    """Gal et al. 2022, eq. 2: a word with the vector v reads as a word whose row in the encoders' tables is v, gradients too."""
    if "text_encoder_3" in (parts := case.load()).text_encoders:
        pytest.skip("T5 has no row for the word, it reads its letters; without T5 the family is tested")
    config = TextualInversionConfig(batch_size=2, caption_dropout=0, vectors=1, token="ohwx", class_word=CLASS, min_snr_gamma=None)

    step = step_of(case, parts, config, text="a ohwx")
    step.loss.backward()
    (group,) = step.trainable.groups()
    step.trainable.detach()

    tables = [table_of(encoder).weight for encoder in parts.text_encoders.values()]
    ids = [tokenizer(CLASS, add_special_tokens=False).input_ids[0] for tokenizer in parts.tokenizers.values()]
    for table, row, vectors in zip(tables, ids, group.parameters, strict=True):
        table.data[row] = vectors.data[0]
        table.requires_grad_(True)
    conditioning = family(case.family).encode_prompts(parts, [TEXT])
    answer = answering(case, parts, conditioning, step.pictures[2], step.geometry)
    expected = paper_loss(case, parts, step.pictures, answer, gamma=None)
    expected.backward()
    assert step.loss.item() == pytest.approx(expected.item(), rel=1e-6, abs=1e-6)
    for table, row, vectors in zip(tables, ids, group.parameters, strict=True):
        assert table.grad is not None
        torch.testing.assert_close(vectors.grad[0], table.grad[row], rtol=1e-4, atol=1e-7)
