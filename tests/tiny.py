"""Base models of a few thousand random weights, in diffusers' classes and layout. Each is made in about a second."""

from __future__ import annotations

import json
import shutil
import string
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tokenizers import pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

WIDTH = 16
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


def clip_tokenizer() -> CLIPTokenizer:
    """All bytes and two merges: any text can be written with it."""
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*symbols, *(symbol + "</w>" for symbol in symbols), "do", "dog</w>", "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={token: index for index, token in enumerate(tokens)}, merges=[("d", "o"), ("do", "g</w>")], model_max_length=77
    )


def clip_config(tokenizer: CLIPTokenizer, **changes: object) -> CLIPTextConfig:
    """Three layers, so that the last but one is neither the first nor the last."""
    return CLIPTextConfig(**{
        "vocab_size": len(tokenizer), "hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
        "max_position_embeddings": 77, "projection_dim": WIDTH, "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id, **changes,
    })  # fmt: skip


def unet(**changes: object) -> UNet2DConditionModel:
    """Two blocks, 8 x 8 latents."""
    return UNet2DConditionModel(**{
        "sample_size": 8, "in_channels": 4, "out_channels": 4, "block_out_channels": (16, 32), "layers_per_block": 1,
        "norm_num_groups": 8, "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "attention_head_dim": 2, "cross_attention_dim": WIDTH, **changes,
    })  # fmt: skip


def vae(**changes: object) -> AutoencoderKL:
    """32 px -> 8 x 8."""
    return AutoencoderKL(**{
        "block_out_channels": (8, 16, 16), "down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3,
        "layers_per_block": 1, "norm_num_groups": 8, "latent_channels": 4, "sample_size": 32, **changes,
    })  # fmt: skip


def make_sd15(folder: Path) -> Path:
    """SD 1.x at tiny size: 32 px, a few thousand weights."""
    torch.manual_seed(0)
    tokenizer = clip_tokenizer()
    StableDiffusionPipeline(
        text_encoder=CLIPTextModel(clip_config(tokenizer, num_hidden_layers=1)), unet=unet(), vae=vae(), tokenizer=tokenizer,
        scheduler=DDIMScheduler(**SCHEDULE, clip_sample=False, set_alpha_to_one=False),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def make_sd2(folder: Path) -> Path:
    """SD 2.x at tiny size: gelu, v-prediction, and a schedule that ends without any signal."""
    torch.manual_seed(2)
    tokenizer = clip_tokenizer()
    StableDiffusionPipeline(
        vae=vae(), text_encoder=CLIPTextModel(clip_config(tokenizer, hidden_act="gelu")), tokenizer=tokenizer, unet=unet(),
        scheduler=DDIMScheduler(
            **SCHEDULE, clip_sample=False, set_alpha_to_one=False, prediction_type="v_prediction", rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
        ),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def make_inpainting(folder: Path, plain: Path) -> Path:
    """A base's inpainting version: nine channels in, the inpainting pipeline's name in its index."""
    torch.manual_seed(5)
    shutil.copytree(plain, folder, ignore=shutil.ignore_patterns("unet"))
    config = json.loads((plain / "unet" / "config.json").read_text())
    UNet2DConditionModel.from_config({**config, "in_channels": 9}).save_pretrained(folder / "unet")
    index = json.loads((plain / "model_index.json").read_text())
    kind = index["_class_name"].replace("Pipeline", "InpaintPipeline")
    (folder / "model_index.json").write_text(json.dumps({**index, "_class_name": kind}))
    return folder


def make_sdxl(folder: Path, **unet_changes: object) -> Path:
    """SDXL at tiny size: the two encoders have different widths and weights."""
    torch.manual_seed(3)
    tokenizer = clip_tokenizer()
    second = CLIPTextModelWithProjection(clip_config(tokenizer, hidden_act="gelu", hidden_size=24, projection_dim=12))
    StableDiffusionXLPipeline(
        vae=vae(scaling_factor=0.13025, force_upcast=True), text_encoder=CLIPTextModel(clip_config(tokenizer)), text_encoder_2=second,
        tokenizer=tokenizer, tokenizer_2=clip_tokenizer(), scheduler=EulerDiscreteScheduler(**SCHEDULE),
        unet=unet(**{
            "cross_attention_dim": WIDTH + 24, "addition_embed_type": "text_time", "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 12 + 6 * 8, **unet_changes,
        }),
        add_watermarker=False,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def make_sd3(folder: Path, *, t5: bool) -> Path:
    """SD3 at tiny size, with or without T5."""
    torch.manual_seed(4)
    tokenizer = clip_tokenizer()
    scores = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((letter, -3.0) for letter in string.ascii_lowercase)]
    t5_config = T5Config(vocab_size=len(scores), d_model=40, d_ff=32, d_kv=8, num_layers=1, num_heads=2)
    StableDiffusion3Pipeline(
        vae=vae(scaling_factor=1.5305, shift_factor=0.0609, latent_channels=16, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=CLIPTextModelWithProjection(clip_config(tokenizer)), tokenizer=tokenizer,
        text_encoder_2=CLIPTextModelWithProjection(clip_config(tokenizer, hidden_act="gelu", hidden_size=24, projection_dim=12)),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=T5EncoderModel(t5_config) if t5 else None,
        tokenizer_3=T5Tokenizer(vocab=scores, extra_ids=0, model_max_length=512) if t5 else None,
        transformer=SD3Transformer2DModel(
            sample_size=8, patch_size=2, in_channels=16, num_layers=2, attention_head_dim=8, num_attention_heads=2,
            joint_attention_dim=40, caption_projection_dim=16, pooled_projection_dim=WIDTH + 12, out_channels=16, pos_embed_max_size=12,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    ).save_pretrained(folder)  # fmt: skip
    return folder
