"""One `.safetensors` file as a base model: told by its tensors' names, loaded by configs that ship with sdplay. Nothing is downloaded.

The names are those of the publishers' own programs (CompVis, Stability AI), which other programs keep. Only the header is read
here; pickled checkpoints never are.
"""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sdplay.errors import ModelError
from sdplay.workspace import PRESETS, folder_written_atomically
from sdplay.yaml_text import parse_yaml

LAYOUTS = PRESETS / "layouts"
MAX_HEADER_BYTES = 100_000_000
UNET = "model.diffusion_model."
FIRST_CONV = f"{UNET}input_blocks.0.0.weight"
GIVE_A_FOLDER = "Give the model's Hub id or its folder in diffusers layout instead."
KINDS = {"text_encoder": "CLIPTextModel", "text_encoder_2": "CLIPTextModelWithProjection", "vae": "AutoencoderKL"}
DENOISERS = {"unet": "UNet2DConditionModel", "transformer": "SD3Transformer2DModel"}


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file is."""

    layout: str
    """A key of layouts.yaml."""
    family: str
    scheduler: Mapping[str, object]
    """What differs from the layout's scheduler, as the file says."""


def inspect_checkpoint(path: Path) -> Checkpoint:
    """Tell what a file is from its header. Raises ModelError, which says what to do, for what cannot be a base model here."""
    header = _header(path)
    metadata = {str(key): str(value) for key, value in (header.pop("__metadata__", None) or {}).items()}
    layout = _layout_of(path.name, {name: tuple(entry.get("shape", ())) for name, entry in header.items()})
    return Checkpoint(layout, str(layouts()[layout]["family"]), _scheduler_facts(metadata, set(header)))


@cache
def layouts() -> dict[str, dict[str, Any]]:
    """The shipped layouts by name."""

    return dict(parse_yaml((LAYOUTS / "layouts.yaml").read_text(encoding="utf-8"))["layouts"])


def layout_folder(checkpoint: Checkpoint, cache_folder: Path) -> Path:
    """A folder in diffusers layout with the configs and tokenizers of a checkpoint, but no weights; written when first asked for."""
    scheduler = {**layouts()[checkpoint.layout]["scheduler"], **checkpoint.scheduler}
    folder = cache_folder / f"{checkpoint.layout}-{scheduler.get('prediction_type', 'plain')}-{bool(checkpoint.scheduler)}"
    if not (folder / "model_index.json").is_file():
        with folder_written_atomically(folder) as beside:
            write_layout(checkpoint.layout, beside, scheduler)
    return folder


def write_layout(name: str, folder: Path, scheduler: Mapping[str, object]) -> None:
    """Write the configs of a layout as `save_pretrained` would."""
    layout = layouts()[name]
    index: dict[str, object] = {"_class_name": layout["pipeline"], "scheduler": ["diffusers", scheduler["_class_name"]]}
    for part, config in layout.items():
        if part in ("family", "pipeline", "tokenizers", "scheduler"):
            continue
        kind = KINDS.get(part) or DENOISERS[part]
        if layout["family"] == "sd3" and part == "text_encoder":
            kind = KINDS["text_encoder_2"]
        library = "transformers" if "encoder" in part else "diffusers"
        index[part] = [library, kind]
        facts = {"architectures": [kind], "model_type": "clip_text_model"} if library == "transformers" else {"_class_name": kind}
        _write_json(folder / part / "config.json", {**facts, **config})
    _write_json(folder / "scheduler" / "scheduler_config.json", dict(scheduler))
    for part, padding in layout["tokenizers"].items():
        index[part] = ["transformers", "CLIPTokenizer"]
        clip_tokenizer(padding).save_pretrained(folder / part)
    if layout["family"] == "sd3":
        index |= {"text_encoder_3": [None, None], "tokenizer_3": [None, None]}
    _write_json(folder / "model_index.json", index)


def clip_tokenizer(padding: str) -> Any:  # noqa: ANN401  transformers' own
    """CLIP's tokenizer, from the merges that OpenAI published. padding: what fills a short text up."""
    from transformers import CLIPTokenizer

    lines = gzip.decompress((LAYOUTS / "clip_merges.txt.gz").read_bytes()).decode().split("\n")
    merges = [(first, second) for first, second in (line.split() for line in lines[1 : 49152 - 256 - 2 + 1])]
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    symbols = [*map(chr, printable), *(chr(256 + index) for index in range(256 - len(printable)))]
    tokens = [*symbols, *(symbol + "</w>" for symbol in symbols), *("".join(pair) for pair in merges), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77, pad_token=padding)


def _layout_of(name: str, shapes: Mapping[str, tuple[int, ...]]) -> str:
    if any(key.startswith(f"{UNET}joint_blocks.") for key in shapes):
        return _sd3_layout(name, shapes)
    if FIRST_CONV not in shapes:
        kind = "a LoRA" if any("lora" in key for key in shapes) else "not a whole Stable Diffusion checkpoint"
        raise ModelError(
            f"{name} is {kind}, so it cannot be a base model.", "Give a checkpoint with denoiser, text encoder and autoencoder."
        )
    channels = shapes[FIRST_CONV][1] if len(shapes[FIRST_CONV]) == 4 else 0
    if channels != 4:
        raise ModelError(f"{name} takes {channels} channels: it is an inpainting model, which is not read from one file.", GIVE_A_FOLDER)
    if not any(key.startswith("first_stage_model.") for key in shapes):
        raise ModelError(f"{name} has no autoencoder inside.", GIVE_A_FOLDER)
    return _unet_layout(name, shapes)


def _unet_layout(name: str, shapes: Mapping[str, tuple[int, ...]]) -> str:
    if any(key.startswith("conditioner.embedders.1.model.") for key in shapes):
        if f"{UNET}middle_block.1.transformer_blocks.9.attn1.to_q.weight" not in shapes:
            raise ModelError(f"{name} is a distilled SDXL with fewer layers, whose configs are not in the file.", GIVE_A_FOLDER)
        return "sdxl"
    if any(key.startswith("conditioner.embedders.0.model.") for key in shapes):
        raise ModelError(f"{name} is the SDXL refiner, which cannot be trained on its own.", "Choose the SDXL base model.")
    if any(key.startswith("cond_stage_model.model.") for key in shapes):
        return "sd2"
    if any(key.startswith("cond_stage_model.transformer.") for key in shapes):
        return "sd15"
    raise ModelError(f"{name} has no text encoder that sdplay knows.", GIVE_A_FOLDER)


def _sd3_layout(name: str, shapes: Mapping[str, tuple[int, ...]]) -> str:
    if not all(any(key.startswith(f"text_encoders.{encoder}.") for key in shapes) for encoder in ("clip_l", "clip_g")):
        raise ModelError(f"{name} is a Stable Diffusion 3 without its text encoders.", GIVE_A_FOLDER)
    if f"{UNET}joint_blocks.37.x_block.attn.qkv.weight" in shapes:
        return "sd35-large"
    return "sd35-medium" if f"{UNET}joint_blocks.0.x_block.attn2.qkv.weight" in shapes else "sd3-medium"


def _scheduler_facts(metadata: Mapping[str, str], names: set[str]) -> dict[str, object]:
    """What a base predicts cannot be seen in its weights: it is said by ModelSpec metadata, or by the marks `v_pred` and `ztsnr`."""
    facts: dict[str, object] = {}
    said = metadata.get("modelspec.prediction_type", "").lower()
    if said in ("v", "v_prediction") or "v_pred" in names:
        facts["prediction_type"] = "v_prediction"
    elif said == "epsilon":
        facts["prediction_type"] = "epsilon"
    if "ztsnr" in names:
        facts |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return facts


def _header(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            header = json.loads(file.read(length)) if 2 <= length <= MAX_HEADER_BYTES else None
    except (OSError, ValueError):
        header = None
    if not isinstance(header, dict) or not all(isinstance(entry, dict) for entry in header.values()):
        raise ModelError(f"{path.name} is not a safetensors file.", "Only .safetensors checkpoints are read; pickled .ckpt files are not.")
    return header


def _write_json(path: Path, values: Mapping[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2), encoding="utf-8")
