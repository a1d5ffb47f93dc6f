"""The config of each training method: the parts it takes, and what it does differently."""

from __future__ import annotations

from typing import Literal

from sdplay.config.settings import setting
from sdplay.config.train import AdapterConfig, PriorConfig, TextEncoderConfig, WordsConfig


class LoraConfig(AdapterConfig, TextEncoderConfig, PriorConfig):
    """Adapters beside the frozen weights of the denoiser, and of the text encoders if wanted."""

    method: Literal["lora"] = setting("lora", "Method", "How the base model is taught.", level="hidden")


class DreamBoothConfig(TextEncoderConfig, PriorConfig):
    """Every weight of the denoiser, and of the text encoders if wanted (Ruiz et al. 2022, arXiv 2208.12242)."""

    method: Literal["dreambooth"] = setting("dreambooth", "Method", "How the base model is taught.", level="hidden")
    learning_rate: float = setting(
        5e-6, "Learning rate", "How far each step goes.", level="basic",
        typical="1e-6 to 5e-6 for Stable Diffusion, 1e-4 for the embedded model",
        risk="Too high: noise and blotches; halve it.", gt=0, le=0.1,
    )  # fmt: skip
    save_dtype: Literal["float16", "float32"] = setting(
        "float16", "Result as", "Number format of the result. float16 halves the file.", typical="float16"
    )


class TextualInversionConfig(WordsConfig):
    """A new word; the base itself stays as it is."""

    method: Literal["textual_inversion"] = setting("textual_inversion", "Method", "How the base model is taught.", level="hidden")
    learning_rate: float = setting(
        5e-3, "Learning rate", "How far each step goes.", level="basic", typical="1e-3 to 5e-3", risk="Too high: the vectors run away.",
        gt=0, le=0.1,
    )  # fmt: skip


class PivotalConfig(WordsConfig, AdapterConfig, PriorConfig):
    """First a new word, then, with the word frozen, an adapter around it (Roich et al. 2021, arXiv 2106.05744, for GANs)."""

    method: Literal["pivotal"] = setting("pivotal", "Method", "How the base model is taught.", level="hidden")
    pivot: float = setting(
        0.5, "Pivot", "Share of the steps that teach the word; the rest teach the adapter.", level="basic", typical="0.3 to 0.5", gt=0, lt=1
    )
    words_rate: float = setting(
        5.0, "Word rate", "Factor on the learning rate for the word's vectors.", typical="5 to 50: a word needs larger steps", gt=0, le=1000
    )
