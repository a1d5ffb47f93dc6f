"""Bases with nine channels: noisy latents, mask, and the latents of what the mask leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from sdplay.device import best_device
from sdplay.engine import Engine
from sdplay.families import family
from sdplay.hub import find_base
from tests import tiny
from tests.test_train import pixels, trained, values

BASES = {"sd15": "tiny_base", "sd2": "tiny_sd2", "sdxl": "tiny_sdxl"}


@pytest.fixture(params=BASES.items(), ids=BASES)
def inpainting(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    name, base = request.param
    return name, tiny.make_inpainting(tmp_path / "inpainting", request.getfixturevalue(base))


def grey_latents(pipeline: DiffusionPipeline) -> torch.Tensor:
    with torch.no_grad():
        return pipeline.vae.encode(torch.zeros(1, 3, 32, 32)).latent_dist.mean * pipeline.vae.config.scaling_factor


def plain_diffusers(folder: Path, adapter: Path) -> np.ndarray:
    """diffusers' own inpainting pipeline, given a grey picture that is hidden from edge to edge."""
    pipeline = DiffusionPipeline.from_pretrained(folder)
    assert "Inpaint" in type(pipeline).__name__
    pipeline.load_lora_weights(adapter.parent, weight_name=adapter.name)
    drawn = pipeline(
        "a red ball", negative_prompt="", image=torch.full((1, 3, 32, 32), 0.5), mask_image=torch.ones(1, 1, 32, 32), strength=1.0,
        masked_image_latents=grey_latents(pipeline), latents=torch.randn((4, 8, 8), generator=torch.Generator().manual_seed(7))[None],
        height=32, width=32, num_inference_steps=4, guidance_scale=4.0, output_type="np",
    )  # fmt: skip
    return (drawn.images[0] * 255).round().astype(int)


def test_an_inpainting_base_is_of_its_plain_versions_family(inpainting: tuple[str, Path]) -> None:
    name, folder = inpainting

    assert find_base(str(folder)).family == name


@torch.no_grad()
def test_the_denoiser_sees_latents_then_mask_then_what_is_not_hidden(inpainting: tuple[str, Path]) -> None:
    name, folder = inpainting
    chosen = family(name)
    parts = chosen.load(folder, best_device(), source="tiny")
    seen: list[torch.Tensor] = []
    parts.denoiser.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    x_t = torch.randn(2, 4, 8, 8)

    chosen.predict(parts, x_t, torch.tensor([5, 9]), chosen.encode_prompts(parts, ["a", "b"]), torch.tensor([[32.0, 32, 0, 0, 32, 32]] * 2))

    assert torch.equal(seen[0][:, :4], x_t)
    assert (seen[0][:, 4] == 1).all()
    assert torch.allclose(seen[0][:, 5:], grey_latents(parts.pipeline).expand(2, -1, -1, -1), atol=1e-6)


def test_an_adapter_trained_on_an_inpainting_base_draws_the_same_in_plain_diffusers(
    engine: Engine, inpainting: tuple[str, Path], pictures: Path, tmp_path: Path
) -> None:
    _, folder = inpainting
    run = trained(engine, values(engine, folder, pictures, steps=3, learning_rate=5e-2))
    path = engine.export(run.id, tmp_path / "mine.safetensors")

    ours = engine.draw(["a red ball"], [7], {"steps": 4, "guidance_scale": 4.0}, adapter=str(path), base_model=str(folder))[0].path

    assert abs(pixels(ours) - plain_diffusers(folder, path)).max() <= 2
