"""A base model with adapters added to its weights, written as a model of its own."""

from __future__ import annotations

from pathlib import Path

import torch

from sdplay.families import Parts
from sdplay.formats.attach import Strengths, denoiser_name, merged
from sdplay.formats.original import original_tensors
from sdplay.formats.weights import write_large
from sdplay.workspace import folder_written_atomically


def write_merged(path: Path, parts: Parts, family: str, adapters: Strengths) -> Path:
    """Write a folder in diffusers' layout, or, when the path ends in .safetensors, one file in the original layout.

    The folder has the precision the base is loaded in, float32 here; the file float16: 2 GB for Stable Diffusion 1.x,
    6.5 GB for XL. The loaded base is afterwards what it was. Raises AdapterError when an adapter does not fit, or when
    there is no original layout for the family.
    """
    with merged(parts, adapters):
        if path.suffix == ".safetensors":
            _write_file(path, parts, family)
        else:
            with folder_written_atomically(path) as beside:
                parts.pipeline.save_pretrained(beside, safe_serialization=True)
    return path


def _write_file(path: Path, parts: Parts, family: str) -> None:
    modules = {denoiser_name(parts): parts.denoiser, "vae": parts.pipeline.vae, **parts.text_encoders}
    tensors = {name: tensor.to(torch.float16) for name, tensor in original_tensors(modules, family).items()}
    write_large(path, tensors, {"format": "pt"})
