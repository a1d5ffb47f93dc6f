"""What is special about one family: geometry, latents, layers, precision."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from sdplay.cache import encode_examples, geometry_of, load_pixels
from sdplay.config import GenerateConfig
from sdplay.data import Example
from sdplay.device import best_device
from sdplay.engine import Engine
from sdplay.errors import ConfigError, ModelError
from sdplay.families import Conditioning, Parts, batch, checked_size, family
from sdplay.hub import find_base
from sdplay.methods import method, parse_train_config
from sdplay.pipelines import decode_latents
from sdplay.sample import Shot, draw
from tests import tiny
from tests.test_train import trained, values


def example(width: int, height: int, path: Path = Path("x.png")) -> Example:
    return Example(f"{width}x{height}", path, "", width, height, "x", ())


def test_geometry_is_original_size_crop_and_target() -> None:
    """1000 x 600 px at 512: resized by 512 / 600, so the crop begins at 200 * 512 / 600 = 170.7 from the left."""
    assert geometry_of(example(1000, 600), (512, 512)) == (600, 1000, 0, 171, 512, 512)
    assert geometry_of(example(600, 1000), (512, 512)) == (1000, 600, 171, 0, 512, 512)
    assert geometry_of(example(64, 64), (512, 512)) == (64, 64, 0, 0, 512, 512)


@pytest.mark.trap(10)
def test_geometry_of_a_bucket_counts_its_own_sides() -> None:
    """1000 x 400 px cut to 3:2 is 600 x 400, from 200 on; at 768 x 512 that is 200 * 768 / 600 = 256."""
    assert geometry_of(example(1000, 400), (768, 512)) == (400, 1000, 0, 256, 512, 768)
    assert geometry_of(example(400, 1000), (512, 768)) == (1000, 400, 256, 0, 768, 512)


@pytest.mark.trap(11)
@pytest.mark.parametrize("size", [(50, 50), (60, 40), (40, 60)])
def test_the_crop_that_is_told_is_the_crop_that_is_seen(tmp_path: Path, size: tuple[int, int]) -> None:
    """A picture whose colour is its column: after resizing, the first column seen is column `left` of the resized picture."""
    width, height = size
    wide = Image.new("RGB", (200, 100))
    wide.putdata([(column, 0, 0) for _ in range(100) for column in range(200)])
    wide.save(tmp_path / "wide.png")
    _, _, _, left, _, _ = geometry_of(example(200, 100), size)

    seen = load_pixels(tmp_path / "wide.png", size)

    assert seen.shape == (3, height, width)
    assert ((seen[0, 0, 0] + 1) * 127.5).item() == pytest.approx(left * 100 / height, abs=2.5)


@pytest.mark.trap(10, 11)
def test_every_picture_keeps_its_own_geometry_through_the_cache(tiny_sdxl: Path, tmp_path: Path) -> None:
    examples = []
    for width, height in ((64, 64), (96, 48), (40, 80)):
        Image.new("RGB", (width, height), "red").save(tmp_path / f"{width}.png")
        examples.append(example(width, height, tmp_path / f"{width}.png"))
    parts = family("sdxl").load(tiny_sdxl, best_device(), source="tiny")

    for chosen, size in ((examples, (32, 32)), (examples[::-1], (32, 32)), (examples, (48, 24))):
        latents = encode_examples(chosen, parts, family("sdxl"), size=size, folder=tmp_path / "cache", on_progress=lambda done, total: None)
        assert latents.geometry.tolist() == [list(geometry_of(entry, size)) for entry in chosen]


@pytest.mark.trap(10)
@torch.no_grad()
def test_sdxl_is_told_the_geometry_of_each_picture_by_itself(tiny_sdxl: Path) -> None:
    chosen = family("sdxl")
    parts = chosen.load(tiny_sdxl, best_device(), source="tiny")
    x_t = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)).repeat(2, 1, 1, 1)
    t, conditioning = torch.tensor([500, 500]), chosen.encode_prompts(parts, ["dog", "dog"])
    geometry = torch.tensor([[64.0, 64, 0, 0, 32, 32], [48, 96, 0, 16, 32, 32]])

    both = chosen.predict(parts, x_t, t, conditioning, geometry)
    alone = chosen.predict(parts, x_t[1:], t[1:], batch(conditioning.rows()[1:]), geometry[1:])

    assert torch.allclose(both[1:], alone, atol=1e-6)
    assert not torch.allclose(both[0], both[1], atol=1e-4)


@pytest.mark.trap(9)
@torch.no_grad()
@pytest.mark.parametrize(("name", "base"), [("sd15", "tiny_base"), ("sdxl", "tiny_sdxl"), ("sd3", "tiny_sd3")])
def test_latents_are_shifted_and_scaled_by_the_autoencoders_own_numbers(name: str, base: str, request: pytest.FixtureRequest) -> None:
    """SD 1.x .18215, SDXL .13025, SD3 (x - .0609) 1.5305: mixing them up trains on latents the denoiser never saw."""
    shift, scale = {"sd15": (0, 0.18215), "sdxl": (0, 0.13025), "sd3": (0.0609, 1.5305)}[name]
    parts = family(name).load(request.getfixturevalue(base), best_device(), source="tiny")
    pixels = torch.rand(1, 3, 32, 32) * 2 - 1

    mean, std = family(name).encode_images(parts, pixels)

    posterior = parts.pipeline.vae.encode(pixels).latent_dist
    assert torch.allclose(mean, (posterior.mean - shift) * scale, atol=1e-6)
    assert torch.allclose(std, posterior.std * scale, atol=1e-6)


def test_large_pictures_are_encoded_a_few_at_a_time(tiny_sdxl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight at 1024 px would take tens of GB in float32."""
    parts = family("sdxl").load(tiny_sdxl, best_device(), source="tiny")
    pixels = torch.rand(5, 3, 32, 32) * 2 - 1
    together, _ = family("sdxl").encode_images(parts, pixels)
    seen: list[int] = []
    parts.pipeline.vae.encoder.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))

    monkeypatch.setattr("sdplay.pipelines.AT_ONCE_PX", 2 * 32 * 32)
    few, _ = family("sdxl").encode_images(parts, pixels)

    assert seen == [2, 2, 1]
    assert torch.allclose(few, together, atol=1e-5)


@pytest.mark.parametrize(("name", "fixture"), [("sd15", "tiny_base"), ("sdxl", "tiny_sdxl"), ("sd3", "tiny_sd3")])
def test_large_pictures_are_decoded_a_few_at_a_time(
    name: str, fixture: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch of eight at 512 px would take 6 GB at once in float32."""
    parts = family(name).load(request.getfixturevalue(fixture), best_device(), source="tiny")
    side = 32 // parts.latent_factor
    latents = torch.randn(5, parts.latent_channels, side, side)
    together = decode_latents(parts, latents)
    seen: list[int] = []
    parts.pipeline.vae.decoder.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))

    monkeypatch.setattr("sdplay.pipelines.AT_ONCE_PX", 2 * 32 * 32)
    few = decode_latents(parts, latents)

    assert seen == [2, 2, 1]
    torch.testing.assert_close(torch.stack(few), torch.stack(together), atol=1e-5, rtol=0)


def test_a_picture_too_large_for_the_memory_is_decoded_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the size of the whole, and nearly the same picture; smaller ones are as they were to the bit."""
    parts = family("sd15").load(find_base("mini").folder, best_device(), source="mini")
    pixels = torch.nn.functional.interpolate(torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(2)), size=(192, 192)) * 2 - 1
    latents, _ = family("sd15").encode_images(parts, pixels)
    (whole,) = decode_latents(parts, latents)
    seen: list[int] = []
    parts.pipeline.vae.decoder.register_forward_pre_hook(lambda module, given: seen.append(given[0].shape[-1]))

    monkeypatch.setattr("sdplay.pipelines.WHOLE_PX", 128 * 128)
    (tiled,) = decode_latents(parts, latents)

    assert tiled.shape == (3, 192, 192)
    assert max(seen) == 128 // parts.latent_factor
    assert (tiled - whole).abs().mean() < 0.04
    (small,) = decode_latents(parts, latents[..., :8, :8])
    assert seen[-1] == 8
    assert small.shape == (3, 64, 64)
    monkeypatch.setattr("sdplay.pipelines.WHOLE_PX", 192 * 192)
    decode_latents(parts, latents)
    assert seen[-1] == 24
    monkeypatch.setattr("sdplay.pipelines.affordable_pixels", lambda parts: 0)  # a GPU with no room left
    decode_latents(parts, latents)
    assert seen[-1] < 24


def test_large_pictures_are_drawn_a_few_at_a_time(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = family("sd15").load(tiny_base, best_device(), source="tiny")
    seen: list[int] = []
    parts.denoiser.register_forward_pre_hook(lambda module, given: seen.append(len(given[0]) // 2))

    monkeypatch.setattr("sdplay.sample.BATCH_PX", 2 * 32 * 32)
    drawn = list(draw(parts, family("sd15"), [Shot("dog", seed) for seed in range(3)], GenerateConfig(steps=1)))

    assert (len(drawn), seen) == (3, [2, 1])


@pytest.mark.trap(8)
def test_latents_that_are_not_finite_stop_the_run_before_it_trains(engine: Engine, tiny_sdxl: Path, pictures: Path, tmp_path: Path) -> None:
    """SDXL's autoencoder overflows in float16; such a base must not train on zeros or worse."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny_sdxl, tmp_path / "broken")
    path = tmp_path / "broken" / "vae" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    save_file({**weights, "quant_conv.bias": weights["quant_conv.bias"] + torch.inf}, path, metadata={"format": "pt"})
    run_id = engine.submit(values(engine, tmp_path / "broken", pictures, sample_prompts=[]))

    state = engine.wait(run_id)

    assert state.status == "failed"
    assert "not finite" in state.message


@pytest.mark.trap(4, 8)
@pytest.mark.parametrize(("name", "base"), [("sdxl", "tiny_sdxl"), ("sd3", "tiny_sd3")])
@pytest.mark.parametrize(
    "training",
    [
        {"rank": 2},
        {"rank": 2, "text_encoder_share": 1.0},
        {"method": "dreambooth"},
        {"method": "dreambooth", "text_encoder_share": 1.0},
        {"method": "textual_inversion"},
    ],
    ids=lambda training: " ".join(map(str, training.values())),
)
def test_frozen_bfloat16_weights_are_trained_in_float32(
    name: str, base: str, training: dict[str, object], request: pytest.FixtureRequest
) -> None:
    """What a GPU does with large bases, here on the CPU: the autoencoder stays float32, what learns and its gradients are float32."""
    chosen = family(name)
    parts = chosen.load(request.getfixturevalue(base), best_device(), source="tiny")
    for module in (parts.denoiser, *parts.text_encoders.values()):
        module.to(torch.bfloat16)
    config = parse_train_config({"token": "ohwx", **training})
    trainable = method(config.method).prepare(parts, chosen, config)
    parameters = [parameter for group in trainable.groups() for parameter in group.parameters]
    for parameter in parameters:
        parameter.requires_grad_(True)
    conditioning = chosen.encode_prompts(parts, ["dog ohwx"])
    x_t = torch.randn(1, parts.latent_channels, 8, 8)

    predicted = chosen.predict(parts, x_t, torch.tensor([500]), conditioning, torch.tensor([[32.0, 32, 0, 0, 32, 32]]))
    predicted.float().square().mean().backward()

    assert conditioning.hidden.dtype == conditioning.pooled.dtype == torch.float32
    assert next(parts.pipeline.vae.parameters()).dtype == torch.float32
    assert {parameter.dtype for parameter in parameters} == {torch.float32}
    assert all(parameter.grad is None or parameter.grad.dtype == torch.float32 for parameter in parameters)
    assert any(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in parameters)
    trainable.detach()
    assert {parameter.dtype for parameter in parts.denoiser.parameters()} == {torch.bfloat16}


def test_distilled_sdxl_layouts_are_known_by_their_configs_and_train(engine: Engine, pictures: Path, tmp_path: Path) -> None:
    """SSD-1B and Vega have other depths in every block and no name that says so."""
    folder = tiny.make_sdxl(
        tmp_path / "unnamed", down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=[1, [2]], reverse_transformer_layers_per_block=[[2, 1], 1], mid_block_type=None,
    )  # fmt: skip

    assert find_base(str(folder)).family == "sdxl"
    assert trained(engine, values(engine, folder, pictures, steps=2, sample_prompts=[])).state().status == "finished"


def test_pruned_sd15_layouts_are_known_by_their_configs_and_train(engine: Engine, tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    """small-sd and tiny-sd have fewer layers, the smallest no middle block."""
    shutil.copytree(tiny_base, tmp_path / "pruned", ignore=shutil.ignore_patterns("unet"))
    tiny.unet(
        down_block_types=("CrossAttnDownBlock2D",) * 2, up_block_types=("CrossAttnUpBlock2D",) * 2, mid_block_type=None
    ).save_pretrained(tmp_path / "pruned" / "unet")

    assert find_base(str(tmp_path / "pruned")).family == "sd15"
    assert trained(engine, values(engine, tmp_path / "pruned", pictures, steps=2, sample_prompts=[])).state().status == "finished"


def test_sd2_is_told_from_sd1_by_width_or_activation(tiny_base: Path, tiny_sd2: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_base, tmp_path / "wide", ignore=shutil.ignore_patterns("*.safetensors"))
    config = tmp_path / "wide" / "unet" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "cross_attention_dim": 1024}))

    assert [find_base(str(folder)).family for folder in (tiny_base, tiny_sd2, tmp_path / "wide")] == ["sd15", "sd2", "sd2"]


def test_sd2s_schedule_ends_without_signal_and_still_trains(engine: Engine, tiny_sd2: Path, pictures: Path) -> None:
    """At the last timestep the SNR is 0: v aims at -x0, and no weight is divided by it (Lin et al. 2023, arXiv 2305.08891)."""
    objective = family("sd2").objective(family("sd2").load(tiny_sd2, best_device(), source="tiny"))
    x0, eps = torch.randn(2, 1, 4, 2, 2)
    last = torch.tensor([objective.num_timesteps - 1])

    assert objective.prediction == "v_prediction"
    assert objective.snr(last).item() == 0
    assert torch.allclose(objective.target(x0, eps, last), -x0)
    assert trained(engine, values(engine, tiny_sd2, pictures, steps=2, sample_prompts=["a dog"])).state().status == "finished"


def test_schedules_that_cannot_be_trained_are_named(tiny_base: Path) -> None:
    from diffusers import EDMEulerScheduler

    parts = family("sd15").load(tiny_base, best_device(), source="tiny")
    parts.pipeline.scheduler = EDMEulerScheduler()

    with pytest.raises(ModelError, match="EDMEulerScheduler"):
        family("sd15").objective(parts)


def test_sizes_that_the_transformer_cannot_cut_into_patches_are_refused(tiny_sd3: Path) -> None:
    """Latents of 4 px and patches of 2: multiples of 8 px here, of 16 px at true size."""
    parts = family("sd3").load(tiny_sd3, best_device(), source="tiny")

    assert (parts.size_multiple, checked_size(parts, None), checked_size(parts, 40)) == (8, 32, 40)
    with pytest.raises(ConfigError, match="36 px"):
        checked_size(parts, 36)


def test_where_t5_is_absent_its_place_is_empty(tiny_sd3: Path, tiny_sd3_without_t5: Path) -> None:
    def encoded(folder: Path) -> tuple[Parts, Conditioning]:
        parts = family("sd3").load(folder, best_device(), source="tiny")
        return parts, family("sd3").encode_prompts(parts, ["a dog"])

    (with_t5, full), (without, empty) = encoded(tiny_sd3), encoded(tiny_sd3_without_t5)

    assert list(with_t5.text_encoders) == ["text_encoder", "text_encoder_2", "text_encoder_3"]
    assert list(without.text_encoders) == ["text_encoder", "text_encoder_2"]
    assert full.hidden.shape == empty.hidden.shape == (1, 77 + 256, 40)
    assert empty.hidden[:, 77:].abs().max() == 0 < full.hidden[:, 77:].abs().max()


def test_a_t5_that_was_not_downloaded_is_done_without(tiny_sd3: Path, tmp_path: Path) -> None:
    """The folder's index may still name it."""
    shutil.copytree(tiny_sd3, tmp_path / "light", ignore=shutil.ignore_patterns("text_encoder_3", "tokenizer_3"))

    parts = family("sd3").load(tmp_path / "light", best_device(), source="light")

    assert list(parts.text_encoders) == ["text_encoder", "text_encoder_2"]
    assert list(draw(parts, family("sd3"), [Shot("dog", 1)], GenerateConfig(steps=1)))


def test_the_refiner_is_not_taken_for_sdxl(tiny_sdxl: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_sdxl, tmp_path / "refiner", ignore=shutil.ignore_patterns("*.safetensors"))
    index = tmp_path / "refiner" / "model_index.json"
    index.write_text(
        json.dumps({**json.loads(index.read_text()), "_class_name": "StableDiffusionXLImg2ImgPipeline", "text_encoder": [None, None]})
    )

    with pytest.raises(ModelError, match="StableDiffusionXLImg2ImgPipeline"):
        find_base(str(tmp_path / "refiner"))
