"""Prior preservation and the loss of a step, against closed forms written here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from sdplay.cache import Latents
from sdplay.config import DreamBoothConfig, LoraConfig, TextualInversionConfig, TrainConfig
from sdplay.device import Device
from sdplay.diffusion.objective import step_generator
from sdplay.engine import Engine
from sdplay.errors import ConfigError
from sdplay.events import Phase
from sdplay.families import Conditioning, Parts, family
from sdplay.job import Job
from sdplay.material import Bucket, Material
from sdplay.methods import Trainable, method
from sdplay.prior import ClassSource, Prior, prepare_prior
from sdplay.runs import Run
from sdplay.train import _batch_loss
from tests.methods.test_contract import settings
from tests.test_train import trained

SD15 = "sd15"
TEXT, CLASS = "a dog", "dog"


@pytest.fixture
def parts(tiny_base: Path) -> Parts:
    return family(SD15).load(tiny_base, Device("cpu", "CPU"), source="tiny")


def latents(count: int, seed: int) -> Latents:
    random = torch.Generator().manual_seed(seed)
    mean, std = torch.randn((count, 4, 8, 8), generator=random), torch.rand((count, 4, 8, 8), generator=random)
    return Latents(mean, std, torch.zeros(count, 6))


@torch.no_grad()
def conditioning(parts: Parts, text: str) -> Conditioning:
    return family(SD15).encode_prompts(parts, [text])


def step_loss(
    parts: Parts, config: TrainConfig, prior: Prior | None, text: str = TEXT
) -> tuple[Tensor, Trainable, tuple[Tensor, Tensor, Tensor], torch.Generator]:
    """Our loss of step 0, and the noise that it is said to use: seeded by (seed, step, micro-batch)."""
    base_text = {} if config.method == "textual_inversion" else {name: conditioning(parts, name) for name in ("", text, CLASS)}
    train_latents = latents(1, 1)
    objective = family(SD15).objective(parts)
    trainable = method(config.method).prepare(parts, family(SD15), config)
    with torch.no_grad():
        for group in trainable.groups():
            for index, parameter in enumerate(group.parameters):
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index)))
    material = Material([Bucket(train_latents, [0], None)], [], [[text]], [], base_text, objective, prior)
    job = Job(Run(Path()), config, (), parts, family(SD15), method(config.method), Device("cpu", "CPU"), Path())

    loss = _batch_loss(job, material, trainable, step=0, micro=0)

    random = step_generator(config.seed, 0, 0)
    mean, std = train_latents.mean[[0] * config.batch_size], train_latents.std[[0] * config.batch_size]
    x0 = mean + std * torch.randn(mean.shape, generator=random)
    eps = torch.randn(x0.shape, generator=random)
    t = torch.randint(0, 1000, (len(x0),), generator=random)
    torch.rand(2 * config.batch_size, generator=random)
    return loss, trainable, (x0, eps, t), random


def noised(parts: Parts, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """Ho et al. 2020, eq. 4."""
    a = parts.pipeline.scheduler.alphas_cumprod[t].view(-1, 1, 1, 1)
    return a.sqrt() * x0 + (1 - a).sqrt() * eps


def snr_weights(parts: Parts, t: Tensor, gamma: float) -> Tensor:
    """Hang et al. 2023: min(snr, gamma) / snr for epsilon."""
    a = parts.pipeline.scheduler.alphas_cumprod[t]
    return ((a / (1 - a)).clamp(max=gamma)) / (a / (1 - a))


def unet(parts: Parts, x_t: Tensor, t: Tensor, hidden: Tensor) -> Tensor:
    return parts.denoiser(x_t, t, hidden.expand(len(x_t), -1, -1), return_dict=False)[0]


@pytest.mark.trap(7, 23)
@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("config_class", [LoraConfig, DreamBoothConfig])
@torch.no_grad()
def test_the_bases_prediction_as_prior_is_a_second_error_weighted_sample_by_sample(
    parts: Parts, config_class: type[LoraConfig] | type[DreamBoothConfig], batch_size: int
) -> None:
    """mean_i w(t_i) |eps - net(x_t, text)|^2 + weight x mean_i w(t_i) |base(x_t, class) - net(x_t, class)|^2.

    With batch size 1 too: there, weights of 2B timesteps on a chunked loss of B would be broadcast without a word.
    """
    config = config_class(
        batch_size=batch_size, caption_dropout=0, min_snr_gamma=5.0, prior="prediction", prior_weight=0.3, class_word=CLASS
    )
    prior = Prior(0.3, CLASS, conditioning(parts, CLASS), None)
    text, class_text = conditioning(parts, TEXT).hidden, conditioning(parts, CLASS).hidden

    loss, trainable, (x0, eps, t), _ = step_loss(parts, config, prior)

    x_t, weight = noised(parts, x0, eps, t), snr_weights(parts, t, 5.0)
    own, of_class = unet(parts, x_t, t, text), unet(parts, x_t, t, class_text)
    trainable.detach()
    base = unet(parts, x_t, t, class_text)
    expected = (weight * (own - eps).square().mean((1, 2, 3))).mean() + 0.3 * (weight * (of_class - base).square().mean((1, 2, 3))).mean()
    assert float(loss) == pytest.approx(float(expected), abs=1e-6)
    assert float((of_class - base).abs().max()) > 1e-3


@pytest.mark.trap(7, 23)
@torch.no_grad()
def test_class_pictures_have_noise_and_timesteps_of_their_own(parts: Parts) -> None:
    config = DreamBoothConfig(batch_size=2, caption_dropout=0, min_snr_gamma=5.0, prior="images", prior_weight=2.0, class_word=CLASS)
    class_latents = latents(3, 2)
    prior = Prior(2.0, CLASS, conditioning(parts, CLASS), class_latents)
    text, class_text = conditioning(parts, TEXT).hidden, conditioning(parts, CLASS).hidden

    loss, _, (x0, eps, t), random = step_loss(parts, config, prior)

    expected = (snr_weights(parts, t, 5.0) * (unet(parts, noised(parts, x0, eps, t), t, text) - eps).square().mean((1, 2, 3))).mean()
    chosen = torch.randint(0, 3, (2,), generator=random)
    mean, std = class_latents.mean[chosen], class_latents.std[chosen]
    x0 = mean + std * torch.randn(mean.shape, generator=random)
    eps = torch.randn(x0.shape, generator=random)
    t = torch.randint(0, 1000, (2,), generator=random)
    error = (unet(parts, noised(parts, x0, eps, t), t, class_text) - eps).square().mean((1, 2, 3))
    assert float(loss) == pytest.approx(float(expected + 2.0 * (snr_weights(parts, t, 5.0) * error).mean()), abs=1e-6)


def test_the_loss_of_textual_inversion_is_the_plain_one_with_the_vectors_in_the_text(parts: Parts) -> None:
    """Gal et al. 2022, eq. 2; the gradient of a vector is the one that reaches its place in the text."""
    config = TextualInversionConfig(batch_size=2, vectors=1, token="ohwx", class_word=CLASS, min_snr_gamma=None)
    encoder = parts.text_encoders["text_encoder"]
    ids = parts.tokenizers["text_encoder"]("a dog", padding="max_length", max_length=77, return_tensors="pt").input_ids
    rows = encoder.get_input_embeddings()(ids).detach()

    loss, trainable, (x0, eps, t), _ = step_loss(parts, config, None, text="a ohwx")
    vectors = trainable.groups()[0].parameters[0]
    loss.backward()
    trainable.detach()

    copy = vectors.detach().clone().requires_grad_()
    place = int((ids[0] == parts.tokenizers["text_encoder"](CLASS, add_special_tokens=False).input_ids[0]).nonzero()[0])
    rows = torch.cat([rows[:, :place], copy[None], rows[:, place + 1 :]], dim=1)
    handle = encoder.get_input_embeddings().register_forward_hook(lambda module, given, output: rows)
    hidden = encoder(ids).last_hidden_state
    handle.remove()
    expected = (unet(parts, noised(parts, x0, eps, t), t, hidden) - eps).square().mean()
    expected.backward()
    assert float(loss) == pytest.approx(float(expected), abs=1e-6)
    torch.testing.assert_close(vectors.grad, copy.grad)


def test_class_pictures_are_drawn_once_and_reused_by_content(parts: Parts, tmp_path: Path) -> None:
    said: list[tuple[str, int, int]] = []
    source = ClassSource((), tmp_path, 32, lambda *facts: said.append(facts), lambda: False)
    config = LoraConfig(prior="images", prior_images=3, class_word=CLASS, sample_steps=1)

    first = prepare_prior(config, parts, family(SD15), source)
    drawn = {path: path.stat().st_mtime_ns for path in tmp_path.glob("class/*.png")}
    said.clear()
    again = prepare_prior(config, parts, family(SD15), source)
    more = prepare_prior(config.model_copy(update={"prior_images": 4}), parts, family(SD15), source)

    assert first
    assert again
    assert more
    assert first.latents is not None
    assert again.latents is not None
    assert more.latents is not None
    assert torch.equal(first.latents.mean, again.latents.mean)
    assert len(more.latents.mean) == 4
    assert all(path.stat().st_mtime_ns == moment for path, moment in drawn.items())
    assert [facts for facts in said if facts[0] == "drawing class pictures"] == [("drawing class pictures", 3, 4)]
    with torch.no_grad():
        parts.denoiser.conv_out.bias.add_(1.0)
    prepare_prior(config, parts, family(SD15), source)
    assert len(list(tmp_path.glob("class/*.png"))) == 7, "another base draws its own"


def test_class_pictures_show_their_progress_in_a_run(engine: Engine, tiny_base: Path, pictures: Path) -> None:
    run = trained(
        engine,
        settings(engine, tiny_base, pictures, "lora", sample_prompts=[], prior="images", prior_images=2, class_word="ball"),
    )

    names = [event.name for event in run.events() if isinstance(event, Phase)]
    assert names.index("drawing class pictures") < names.index("training")


def test_a_data_set_can_show_the_class(engine: Engine, tiny_base: Path, pictures: Path) -> None:
    class_set = engine.datasets.create([pictures], name="balls")

    run = trained(
        engine,
        settings(
            engine, tiny_base, pictures, "dreambooth", sample_prompts=[], prior="dataset", prior_dataset=class_set.id, class_word="ball"
        ),
    )
    plain = trained(engine, settings(engine, tiny_base, pictures, "dreambooth", sample_prompts=[]))

    assert run.state().losses[0].loss > plain.state().losses[0].loss, "the class adds to the loss"


def test_without_a_prior_nothing_is_added(parts: Parts) -> None:
    config = LoraConfig(batch_size=2)

    assert prepare_prior(config, parts, family(SD15), ClassSource((), Path(), 32, lambda *facts: None, lambda: False)) is None


@pytest.mark.parametrize(
    ("changes", "says"), [({"prior": "prediction"}, "no class"), ({"prior": "dataset", "class_word": "dog"}, "data set")]
)
def test_a_prior_without_a_class_or_pictures_is_refused(changes: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        LoraConfig(**changes).check()  # type: ignore[arg-type]


@pytest.mark.trap(3)
def test_the_prior_hears_the_class_as_the_base_reads_it(parts: Parts, tmp_path: Path) -> None:
    """Also when the text encoder has been changed by the run already."""
    expected = conditioning(parts, CLASS)
    trainable = method("dreambooth").prepare(parts, family(SD15), DreamBoothConfig(text_encoder_share=1.0))
    with torch.no_grad():
        for group in trainable.groups():
            for parameter in group.parameters:
                parameter.add_(0.1)
    source = ClassSource((), tmp_path, 32, lambda *facts: None, lambda: False)

    prior = prepare_prior(LoraConfig(prior="prediction", class_word=CLASS), parts, family(SD15), source)

    assert prior
    assert torch.equal(prior.conditioning.hidden, expected.hidden)
