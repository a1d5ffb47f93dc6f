"""A merged model draws what the base with the adapter draws, and its single file is the original layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from safetensors.torch import load_file
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from sdplay.device import best_device
from sdplay.errors import AdapterError
from sdplay.families import Family, Parts
from sdplay.formats import AdapterFile, attached, write_merged
from sdplay.formats.original import open_clip_tensors, original_tensors, unet_tensors, vae_tensors
from tests.formats.conftest import answers

Make = Callable[..., AdapterFile]


def test_a_merged_folder_draws_what_the_base_with_the_adapter_draws(make: Make, parts: Parts, sd15: Family, tmp_path: Path) -> None:
    before = answers(parts, sd15)
    adapter = make()
    with attached(parts, [(adapter, 0.7)]):
        beside = answers(parts, sd15)

    write_merged(tmp_path / "model", parts, "sd15", [(adapter, 0.7)])

    loaded = sd15.load(tmp_path / "model", best_device(), source="merged")
    assert (answers(loaded, sd15) - beside).abs().max() < 1e-5
    assert torch.equal(answers(parts, sd15), before)


def test_a_merged_file_has_every_weight_under_its_original_name_in_float16(make: Make, parts: Parts, tmp_path: Path) -> None:
    write_merged(tmp_path / "model.safetensors", parts, "sd15", [(make(), 1.0)])

    written = load_file(tmp_path / "model.safetensors")

    assert all(tensor.dtype == torch.float16 for tensor in written.values())
    assert "cond_stage_model.transformer.text_model.encoder.layers.0.self_attn.q_proj.weight" in written
    assert "first_stage_model.decoder.up.0.block.0.conv1.weight" in written
    unet = convert_ldm_unet_checkpoint(dict(written), config=dict(parts.denoiser.config))
    assert set(unet) == set(parts.denoiser.state_dict())


@pytest.mark.parametrize("layers", [1, 2])
def test_diffusers_turns_our_unet_and_autoencoder_back_into_its_own(layers: int) -> None:
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=layers, norm_num_groups=4, cross_attention_dim=8, attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(8, 16, 16), down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=layers, norm_num_groups=4,
    )  # fmt: skip

    unet_file = {f"model.diffusion_model.{name}": tensor for name, tensor in unet_tensors(unet).items()}
    unet_back = convert_ldm_unet_checkpoint(unet_file, config=dict(unet.config))
    vae_back = convert_ldm_vae_checkpoint({f"first_stage_model.{name}": t for name, t in vae_tensors(vae).items()}, config=dict(vae.config))

    for back, module in ((unet_back, unet), (vae_back, vae)):
        state = module.state_dict()
        assert set(back) == set(state)
        assert all(torch.equal(back[name].reshape(tensor.shape), tensor) for name, tensor in state.items())


def test_diffusers_turns_our_open_clip_names_back_into_its_own() -> None:
    """SDXL's second encoder: q, k, v in one matrix, the projection transposed."""
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "projection_dim": 16}
    encoder = CLIPTextModelWithProjection(CLIPTextConfig(vocab_size=20, **sizes))
    start = "conditioner.embedders.1.model."

    back = convert_open_clip_checkpoint(
        encoder, {f"{start}{name}": tensor for name, tensor in open_clip_tensors(encoder).items()}, prefix=start
    )

    state = {name: tensor for name, tensor in encoder.state_dict().items() if "position_ids" not in name}
    assert set(state) <= set(back)
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())


def test_diffusers_finds_the_text_encoder_of_our_file(parts: Parts) -> None:
    modules = {"unet": parts.denoiser, "vae": parts.pipeline.vae, **parts.text_encoders}

    back = convert_ldm_clip_checkpoint(original_tensors(modules, "sd15"))

    theirs = {name.removeprefix("text_model."): tensor for name, tensor in back.items()}
    for name, tensor in parts.text_encoders["text_encoder"].state_dict().items():
        assert torch.equal(theirs[name.removeprefix("text_model.")], tensor)


def test_words_cannot_be_merged_and_sd3_has_no_single_file(parts: Parts, tmp_path: Path) -> None:
    wordy = AdapterFile("fox", embeddings={"<fox>": {"text_encoder": torch.zeros(1, 16)}})

    with pytest.raises(AdapterError, match="brings words"):
        write_merged(tmp_path / "model", parts, "sd15", [(wordy, 1.0)])
    with pytest.raises(AdapterError, match="cannot be written"):
        write_merged(tmp_path / "model.safetensors", parts, "sd3", [])
    assert list(tmp_path.iterdir()) == []
