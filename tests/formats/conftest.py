"""The tiny base as loaded parts, and adapters of every kind for it, random but always the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sdplay.families import Family, Parts, family
from sdplay.formats import AdapterFile, Layer

LINEAR = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
OUT = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_out.0"
CONV = "down_blocks.0.resnets.0.conv1"
CLIP = "encoder.layers.0.self_attn.q_proj"
CLIP_OUT = "encoder.layers.0.self_attn.out_proj"
"""Without it diffusers 0.42 cannot tell what a text encoder's kohya keys are."""
UNET_LAYERS = (LINEAR, OUT, "up_blocks.1.attentions.0.proj_in", "mid_block.attentions.0.transformer_blocks.0.attn2.to_k")


@pytest.fixture(scope="session")
def sd15(tiny_base: Path) -> Family:  # the fixture comes first, so that libraries are imported in one place
    return family("sd15")


@pytest.fixture(scope="session")
def parts(tiny_base: Path, sd15: Family) -> Parts:
    from sdplay.device import best_device

    return sd15.load(tiny_base, best_device(), source="tiny")


def weight_of(parts: Parts, path: str) -> Tensor:
    component, _, inside = path.partition(".")
    module: nn.Module = parts.denoiser if component == "unet" else parts.text_encoders[component]
    return module.get_submodule(inside.removeprefix("text_model.")).weight  # type: ignore[return-value]


def lora(weight: Tensor, random: torch.Generator, *, rank: int = 2, alpha: float = 1.0, dora: bool = False) -> Layer:
    """Random factors for a weight, (out, in) or (out, in, k, k); the magnitude is a little longer than the weight's."""
    ones = [1] * (weight.dim() - 2)
    tensors = {
        "down": torch.randn((rank, *weight.shape[1:]), generator=random) * 0.3,
        "up": torch.randn((weight.shape[0], rank, *ones), generator=random) * 0.3,
    }
    if dora:
        tensors["dora_scale"] = 1.2 * weight.detach().flatten(1).norm(dim=1).reshape(-1, 1, *ones)
    return Layer("lora", tensors, rank, alpha)


@pytest.fixture
def random() -> torch.Generator:
    return torch.Generator().manual_seed(5)


@pytest.fixture
def make(parts: Parts, random: torch.Generator) -> Callable[..., AdapterFile]:
    """An adapter with layers of different ranks and alphas on U-Net, convolution and text encoder."""

    def build(*, dora: bool = False, alpha: float | None = None) -> AdapterFile:
        unet = [f"unet.{path}" for path in (*UNET_LAYERS, CONV)]
        layers = {
            path: lora(weight_of(parts, path), random, rank=2 + index % 2, alpha=alpha or 1.0 + index % 3, dora=dora)
            for index, path in enumerate(unet)
        }
        for path in (f"text_encoder.text_model.{CLIP}", f"text_encoder.text_model.{CLIP_OUT}"):
            layers[path] = lora(weight_of(parts, path), random, rank=2, alpha=alpha or 3.0, dora=dora)
        return AdapterFile("made", layers, facts={"sdplay.token": "sks-fox", "sdplay.steps": "6"}, family="sd15")

    return build


@torch.no_grad()
def answers(parts: Parts, family: Family, prompt: str = "a dog") -> Tensor:
    """What the denoiser says to fixed noise and a prompt."""
    noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(1))
    return family.predict(
        parts, noise, torch.tensor([500]), family.encode_prompts(parts, [prompt]), torch.tensor([[32.0, 32.0, 0.0, 0.0, 32.0, 32.0]])
    )
