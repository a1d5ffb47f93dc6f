"""Captioning models: a picture in, a sentence out. BLIP and Florence-2, told apart by their configs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image
from transformers import AutoConfig

from sdplay.device import best_device
from sdplay.errors import ModelError

Describe = Callable[[Image.Image], str]
FLORENCE_TASK = "<DETAILED_CAPTION>"
MAX_TOKENS = 60
LOG = logging.getLogger("sdplay")


def load_captioner(model: str) -> Describe:
    """A function that describes an RGB picture in one sentence. model: a Hub id or a folder with safetensors weights.

    Raises ModelError when the model cannot be had, or is neither BLIP nor Florence-2.
    """
    try:
        kind = AutoConfig.from_pretrained(model).model_type
        if kind not in _LOADERS:
            raise ModelError(f"{model} is a {kind}, not a captioning model that is known here.", "Take a BLIP or a Florence-2.")
        return _LOADERS[kind](model, best_device().torch_device)
    except (OSError, ValueError, ImportError) as error:  # what transformers raises for what it cannot find or read
        LOG.info("captioner refused", exc_info=True)
        raise ModelError(
            f"The captioning model {model} could not be had ({type(error).__name__}).",
            "Check the name and the connection, or give a folder that has it. Captions can also come from file names or a template.",
        ) from error


def _load_blip(model: str, device: torch.device) -> Describe:
    from transformers import BlipForConditionalGeneration, BlipProcessor

    processor = BlipProcessor.from_pretrained(model)
    weights = BlipForConditionalGeneration.from_pretrained(model, use_safetensors=True).to(device).eval()

    def describe(picture: Image.Image) -> str:
        inputs = processor(images=picture, return_tensors="pt").to(device)
        return _sentence(processor.decode(_generated(weights, inputs)[0], skip_special_tokens=True))

    return describe


def _load_florence(model: str, device: torch.device) -> Describe:
    from transformers import AutoProcessor, Florence2ForConditionalGeneration

    processor = AutoProcessor.from_pretrained(model)
    weights = Florence2ForConditionalGeneration.from_pretrained(model, use_safetensors=True).to(device).eval()

    def describe(picture: Image.Image) -> str:
        inputs = processor(text=FLORENCE_TASK, images=picture, return_tensors="pt").to(device)
        return _sentence(processor.decode(_generated(weights, inputs)[0], skip_special_tokens=True))

    return describe


_LOADERS: dict[str, Callable[[str, torch.device], Describe]] = {"blip": _load_blip, "florence2": _load_florence}


@torch.no_grad()
def _generated(weights: Any, inputs: Any) -> torch.Tensor:  # noqa: ANN401  transformers' own classes
    """(1, tokens): the likeliest words, always the same for the same picture."""
    return weights.generate(**inputs, max_new_tokens=MAX_TOKENS, do_sample=False, num_beams=1)


def _sentence(text: str) -> str:
    return " ".join(text.split()).removesuffix(".")
