"""One checkpoint file as a base: told from its header, loaded by shipped configs, offline."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import pytest
import torch
from diffusers import SD3Transformer2DModel, UNet2DConditionModel

from sdplay.config import GenerateConfig
from sdplay.device import best_device
from sdplay.errors import ModelError
from sdplay.families import family
from sdplay.hub import find_base
from sdplay.sample import Shot, draw
from sdplay.single_file import clip_tokenizer, inspect_checkpoint, layout_folder, layouts, write_layout
from tests.original_layout import write_original

CONV = "model.diffusion_model.input_blocks.0.0.weight"
VAE = "first_stage_model.encoder.conv_in.weight"
SD1 = {CONV: (320, 4, 3, 3), VAE: (128, 3, 3, 3), "cond_stage_model.transformer.text_model.final_layer_norm.weight": (768,)}
SD2 = {CONV: (320, 4, 3, 3), VAE: (128, 3, 3, 3), "cond_stage_model.model.ln_final.weight": (1024,)}
SDXL = {CONV: (320, 4, 3, 3), VAE: (128, 3, 3, 3), "conditioner.embedders.1.model.ln_final.weight": (1280,)}
TENTH = {"model.diffusion_model.middle_block.1.transformer_blocks.9.attn1.to_q.weight": (1280, 1280)}
SD3 = {
    "model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": (4608, 1536),
    "text_encoders.clip_l.transformer.text_model.final_layer_norm.weight": (768,),
    "text_encoders.clip_g.transformer.text_model.final_layer_norm.weight": (1280,),
}
PUBLISHED = {
    "sd15": 859_520_964, "sd2": 865_910_724, "sdxl": 2_567_463_684, "sd3-medium": 2_028_328_000,
    "sd35-medium": 2_243_171_520, "sd35-large": 8_056_627_520,
}  # fmt: skip
"""Weights of the published denoisers: 860 M, 866 M, 2.57 B, 2.0 B, 2.24 B, 8.06 B."""


@pytest.fixture(autouse=True)
def _own_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDPLAY_HOME", str(tmp_path / "home"))


def header_file(path: Path, shapes: dict[str, tuple[int, ...]], metadata: dict[str, str] | None = None) -> Path:
    """A file whose header says these tensors; there is nothing behind it, because only the header may be read."""
    header: dict[str, object] = {name: {"dtype": "F16", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()}
    raw = json.dumps({**header, "__metadata__": metadata or {}}).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw)
    return path


@pytest.mark.parametrize(
    ("shapes", "layout"),
    [
        (SD1, "sd15"),
        (SD2, "sd2"),
        (SDXL | TENTH, "sdxl"),
        (SD3, "sd3-medium"),
        (SD3 | {"model.diffusion_model.joint_blocks.0.x_block.attn2.qkv.weight": (4608, 1536)}, "sd35-medium"),
        (SD3 | {"model.diffusion_model.joint_blocks.37.x_block.attn.qkv.weight": (7296, 2432)}, "sd35-large"),
    ],
)
def test_a_checkpoint_is_told_by_its_header(tmp_path: Path, shapes: dict[str, tuple[int, ...]], layout: str) -> None:
    found = find_base(str(header_file(tmp_path / "model.safetensors", shapes)))

    assert inspect_checkpoint(tmp_path / "model.safetensors").layout == layout
    assert found.family == layouts()[layout]["family"]
    assert found.checkpoint == tmp_path / "model.safetensors"
    assert family(found.family).identify(found.folder)
    assert family(found.family).native_size(found.folder) == (512 if layout == "sd15" else 768 if layout == "sd2" else 1024)


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        ({"lora_unet_x.lora_down.weight": (4, 320)}, "is a LoRA"),
        ({"encoder.conv_in.weight": (128, 3, 3, 3)}, "not a whole"),
        (SD1 | {CONV: (320, 9, 3, 3)}, "inpainting"),
        ({CONV: (320, 4, 3, 3)}, "no autoencoder"),
        (SDXL, "distilled SDXL"),
        ({CONV: (384, 4, 3, 3), VAE: (1,), "conditioner.embedders.0.model.ln_final.weight": (1280,)}, "refiner"),
        ({key: shape for key, shape in SD3.items() if "clip_g" not in key}, "without its text encoders"),
    ],
)
def test_what_cannot_be_a_base_is_refused_in_a_sentence(tmp_path: Path, shapes: dict[str, tuple[int, ...]], says: str) -> None:
    with pytest.raises(ModelError, match=says) as caught:
        find_base(str(header_file(tmp_path / "model.safetensors", shapes)))
    assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "content"), [("a.ckpt", b"PK\x03\x04"), ("a.safetensors", b"PK\x03\x04" + b"\0" * 90), ("b.safetensors", b"")]
)
def test_pickled_files_are_refused_whatever_their_name(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(ModelError, match=r"not a .*safetensors file"):
        find_base(str(tmp_path / name))


@pytest.mark.parametrize(("metadata", "prediction"), [({}, "v_prediction"), ({"modelspec.prediction_type": "epsilon"}, "epsilon")])
def test_sd2_predicts_v_unless_the_file_says_otherwise(tmp_path: Path, metadata: dict[str, str], prediction: str) -> None:
    folder = find_base(str(header_file(tmp_path / "model.safetensors", SD2, metadata))).folder

    assert json.loads((folder / "scheduler" / "scheduler_config.json").read_text())["prediction_type"] == prediction


def test_sdxl_checkpoints_marked_for_v_prediction_get_it(tmp_path: Path) -> None:
    folder = find_base(str(header_file(tmp_path / "m.safetensors", SDXL | TENTH | {"v_pred": (0,), "ztsnr": (0,)}))).folder

    scheduler = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    assert (scheduler["prediction_type"], scheduler["rescale_betas_zero_snr"]) == ("v_prediction", True)


def test_clips_tokenizer_is_the_published_one() -> None:
    """Ids as in OpenAI's CLIP: a 320, photo 1125, of 539, cat 2368."""
    assert clip_tokenizer("!")("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert (clip_tokenizer("!").pad_token_id, clip_tokenizer("<|endoftext|>").pad_token_id) == (0, 49407)


@pytest.mark.parametrize("layout", PUBLISHED)
def test_the_shipped_configs_build_the_published_networks(layout: str) -> None:
    config = layouts()[layout]
    with torch.device("meta"):
        network = SD3Transformer2DModel(**config["transformer"]) if "transformer" in config else UNet2DConditionModel(**config["unet"])

    assert sum(parameter.numel() for parameter in network.parameters()) == PUBLISHED[layout]


@pytest.mark.parametrize(
    ("name", "base"), [("sd15", "tiny_base"), ("sd2", "tiny_sd2"), ("sdxl", "tiny_sdxl"), ("sd3", "tiny_sd3_without_t5")]
)
def test_a_checkpoint_in_the_original_layout_is_the_base_it_was_written_from(
    name: str, base: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(base)
    pipeline = family(name).load(folder, best_device(), source="tiny").pipeline
    if name == "sd3":  # its files leave this matrix out, because in the published base it changes nothing
        pipeline.text_encoder.text_projection.weight.copy_(torch.eye(16))
    write_original(pipeline, tmp_path / "tiny.safetensors")
    shutil.copytree(folder, tmp_path / "configs", ignore=shutil.ignore_patterns("*.safetensors"))
    chosen, device = family(name), best_device()

    of_file = chosen.load(tmp_path / "configs", device, source="tiny", checkpoint=tmp_path / "tiny.safetensors")

    parts = [(of_file.denoiser, getattr(pipeline, chosen.DENOISER)), (of_file.pipeline.vae, pipeline.vae)]
    parts += [(encoder, getattr(pipeline, part)) for part, encoder in of_file.text_encoders.items()]
    for found, expected in parts:
        weights = expected.state_dict()
        assert found.state_dict().keys() == weights.keys()
        assert all(torch.equal(tensor, weights[name]) for name, tensor in found.state_dict().items())
    assert len(parts) == {"sd15": 3, "sd2": 3}.get(name, 4)
    assert list(draw(of_file, chosen, [Shot("dog", 1)], GenerateConfig(steps=1)))


def test_a_header_without_its_weights_is_a_sentence(tmp_path: Path) -> None:
    base = find_base(str(header_file(tmp_path / "model.safetensors", SD1)))

    with pytest.raises(ModelError, match="cannot be read"):
        family("sd15").load(base.folder, best_device(), source="model.safetensors", checkpoint=base.checkpoint)


def test_layouts_are_written_once_and_read_by_diffusers(tmp_path: Path) -> None:
    found = inspect_checkpoint(header_file(tmp_path / "model.safetensors", SD1))

    folder = layout_folder(found, tmp_path / "layouts")

    assert layout_folder(found, tmp_path / "layouts") == folder
    assert family("sd15").count_tokens(folder, ["a photo"])[0].tokens == ("a", "photo")
    write_layout("sd3-medium", tmp_path / "sd3", layouts()["sd3-medium"]["scheduler"])
    assert family("sd3").identify(tmp_path / "sd3")
