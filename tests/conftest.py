"""A tiny Stable Diffusion of random weights, made once per session, and pictures to train it on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in diffusers layout: SD 1.x's classes, 32 px, a few thousand weights, random."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from tokenizers import pre_tokenizers
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*symbols, *(symbol + "</w>" for symbol in symbols), "do", "dog</w>", "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(
        vocab={token: index for index, token in enumerate(tokens)}, merges=[("d", "o"), ("do", "g</w>")], model_max_length=77
    )
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokens), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
            max_position_embeddings=77, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        )
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=2, cross_attention_dim=16,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(8, 16, 16), down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1, norm_num_groups=8, latent_channels=4, sample_size=32,
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1
    )
    pipeline = StableDiffusionPipeline(
        vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("tiny-base")
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_sd2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SD 2.x's classes at tiny size, v-prediction, zero terminal SNR."""
    from tests import tiny

    return tiny.make_sd2(tmp_path_factory.mktemp("tiny-sd2"))


@pytest.fixture(scope="session")
def tiny_sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SDXL's classes at tiny size."""
    from tests import tiny

    return tiny.make_sdxl(tmp_path_factory.mktemp("tiny-sdxl"))


@pytest.fixture(scope="session")
def tiny_sd3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SD3's classes at tiny size, with T5."""
    from tests import tiny

    return tiny.make_sd3(tmp_path_factory.mktemp("tiny-sd3"), t5=True)


@pytest.fixture(scope="session")
def tiny_sd3_without_t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SD3's classes at tiny size; the folder has no T5."""
    from tests import tiny

    return tiny.make_sd3(tmp_path_factory.mktemp("tiny-sd3-without-t5"), t5=False)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with six different captioned pictures of 64 px."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, colour in enumerate(("red", "green", "blue", "orange", "purple", "teal")):
        picture = Image.new("RGB", (64, 64), "white")
        ImageDraw.Draw(picture).ellipse((8, 8 + index, 40 + index, 48), fill=colour)
        picture.save(folder / f"{colour}.png")
        (folder / f"{colour}.txt").write_text(f"a {colour} ball")
    return folder


@pytest.fixture
def engine(tmp_path: Path) -> Iterator["Engine"]:  # noqa: F821, UP037  imported late, so that light tests stay light
    """An engine over an empty workspace; its worker is gone when the test ends."""
    from sdplay.engine import Engine
    from sdplay.workspace import open_workspace

    made = Engine(open_workspace(tmp_path / "workspace"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real inputs beside the project; a test that needs them skips where they are absent."""
    if not SHARED.is_dir():
        pytest.skip("the real inputs are not here")
    return SHARED
