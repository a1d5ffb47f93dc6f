"""What differs between base-model families, one file each.

A family never imports another. Adding one is one file here whose module satisfies `Family`; it is found by its name.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

from sdplay.config import Scheduler
from sdplay.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from diffusers import SD3Transformer2DModel, UNet2DConditionModel
    from torch import Tensor, nn

    from sdplay.attach import Attachment
    from sdplay.device import Device
    from sdplay.diffusion.objective import AnyObjective

NAMES = ("sd15", "sd2", "sdxl", "sd3")
_IMPORTING = Lock()


@dataclass
class Parts:
    """The loaded pieces of a pipeline. The base weights are frozen; adapters are added to `denoiser`."""

    pipeline: Any
    """A DiffusionPipeline; what it holds differs between families and only the family's own file touches it."""
    denoiser: UNet2DConditionModel | SD3Transformer2DModel
    text_encoders: dict[str, nn.Module]
    """By the pipeline's names for them: text_encoder, text_encoder_2 ..."""
    tokenizers: dict[str, Any]
    """The tokenizer of each text encoder, under the encoder's name."""
    device: torch.device
    size: int
    """Side in px the base was made for."""
    size_multiple: int
    """Sizes in px must be whole multiples of it."""
    latent_factor: int
    latent_channels: int
    source: str
    """What the user called it: `mini`, a Hub id, a folder."""
    fingerprint: str
    """Hash of the weights that turn pictures and text into numbers; keys of the caches contain it."""
    attached: list[Attachment] = field(default_factory=list)
    """What is on the base now, see sdplay/attach."""
    resting: list[nn.Module] = field(default_factory=list)
    """What is off the device for now, see sdplay/resting.py."""
    grey_latents: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    """By latent height and width, what an inpainting base sees of a hidden picture; filled as sizes are met."""
    text_mark: tuple[object, ...] = ()
    """What tells that the text encoders are as they were loaded, see sdplay/remembered_texts.py."""
    known_texts: dict[Any, Conditioning] = field(default_factory=dict)
    """Texts that the base alone has read for drawing."""
    latent_colours: Tensor | None = None
    """(C + 1, 3), see sdplay/preview.py; found when it is first needed."""
    base_denoiser: nn.Module | None = None
    """The denoiser without what is on it now, see sdplay/guidance.py; there while pictures are drawn that are guided away from it."""

    @property
    def clip_encoders(self) -> dict[str, nn.Module]:
        """The text encoders that methods teach. SD3's T5, its third, is far larger than they are and stays as it is."""
        return {name: encoder for name, encoder in self.text_encoders.items() if name != "text_encoder_3"}


@dataclass(frozen=True)
class Conditioning:
    """What a family's `encode_prompts` makes and only its `predict` and `draw` read."""

    hidden: Tensor
    """(B, tokens, width)"""
    pooled: Tensor | None = None
    """(B, width), where the family has one vector for the whole text beside the tokens'."""

    def rows(self) -> list[Conditioning]:
        """B conditionings of batch 1."""
        pooled = self.pooled.split(1) if self.pooled is not None else [None] * len(self.hidden)
        return [Conditioning(*row) for row in zip(self.hidden.split(1), pooled, strict=True)]

    def tensors(self) -> dict[str, Tensor]:
        """What there is, by name, to be kept in a file."""
        return {name: tensor for name, tensor in vars(self).items() if tensor is not None}

    def to(self, device: torch.device) -> Conditioning:
        """The same on a device."""
        return Conditioning(**{name: tensor.to(device) for name, tensor in self.tensors().items()})


@dataclass(frozen=True)
class Reading:
    """How texts are read."""

    clip_skip: int = 1
    """1 reads the layer the base was made with, 2 the one before it, and so on."""
    whole: bool = False
    """Weights are obeyed and nothing is cut (see prompting.py), for one text at a time; else as training sees texts."""


AS_TRAINED = Reading()


def batch(conditionings: Sequence[Conditioning]) -> Conditioning:
    """One conditioning of all their rows."""
    import torch

    names = conditionings[0].tensors()
    return Conditioning(**{name: torch.cat([entry.tensors()[name] for entry in conditionings]) for name in names})


class Family(Protocol):
    """What a module in this package provides. See sd15.py."""

    NAME: str
    TITLE: str
    DENOISER: str
    """diffusers' name for the denoiser in a pipeline and in adapter files: unet or transformer."""
    LORA_TARGETS: tuple[str, ...]

    def identify(self, folder: Path) -> bool:
        """Whether a folder in diffusers layout is of this family, by its configs."""

    def native_size(self, folder: Path) -> int:
        """Side in px the base was made for, by its configs."""

    def load(self, folder: Path, device: Device, *, source: str, checkpoint: Path | None = None) -> Parts:
        """Read the weights onto the device: from the folder, or by its configs from one checkpoint file. Raises ModelError."""

    def encode_images(self, parts: Parts, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) in [-1, 1] -> mean and standard deviation of the latents, each (B, C, h, w), scaled for the denoiser."""

    def encode_prompts(self, parts: Parts, prompts: Sequence[str], how: Reading = AS_TRAINED) -> Conditioning:
        """B texts -> conditioning of batch B. Gradients flow to the text encoders where they are switched on. Raises ConfigError."""

    def objective(self, parts: Parts) -> AnyObjective:
        """The noise schedule the base was trained with."""

    def predict(self, parts: Parts, x_t: Tensor, t: Tensor, conditioning: Conditioning, geometry: Tensor) -> Tensor:
        """The denoiser's answer, (B, C, h, w), for pictures of a geometry (B, 6) as in `Latents`."""

    def draw(self, parts: Parts, request: DrawRequest) -> list[Tensor]:
        """Pictures, each (3, H, W) in [0, 1]."""

    def count_tokens(self, folder: Path, texts: Sequence[str]) -> list[TokenCount]:
        """How the base reads the texts; needs the tokenizer only."""

    def ordinary_words(self, folder: Path) -> set[str]:
        """Words the base has a token of their own for, the rarest left out; needs the tokenizer only."""


@dataclass(frozen=True)
class Start:
    """A picture that drawing begins with, as the denoiser sees it. All on the base's device."""

    latents: Tensor
    """(1, C, h, w) of the whole picture."""
    hidden: Tensor
    """(1, 1, H, W): 1 where the picture is drawn anew, 0 where it stays; whole latents at a time."""
    seen: Tensor
    """(1, C, h, w) of the picture with grey where it is hidden; only inpainting bases look at it."""
    strength: float
    """Share of the denoising steps that are done, > 0."""


class AfterStep(Protocol):
    """Called after every denoising step."""

    def __call__(self, step: int, steps: int, latents: Tensor) -> None:
        """`step` of `steps` are done; latents: (B, C, h, w), what the scheduler takes the clean ones for."""


@dataclass(frozen=True)
class DrawRequest:
    """A batch of pictures that share settings. `conditioning`, `negative` and `seeds` have the same length B."""

    conditioning: Conditioning
    negative: Conditioning
    seeds: tuple[int, ...]
    steps: int
    guidance_scale: float
    width: int
    height: int
    cancelled: Callable[[], bool]
    """Asked before every denoising step; True ends the drawing with Cancelled."""
    scheduler: Scheduler = "base"
    guidance_rescale: float = 0.0
    guided_from: nn.Module | None = None
    """What answers for the negative prompts where guidance is on; None: the denoiser, with all that is on it."""
    guidance_stop: float = 1.0
    """Share of the steps that are guided."""
    start: Start | None = None
    """None: pure noise."""
    noise: Tensor | None = None
    """(B, C, h, w) to begin with in place of the seeds' own."""
    after_step: AfterStep | None = None


@dataclass(frozen=True)
class TokenCount:
    """How a base reads a text."""

    tokens: tuple[str, ...]
    """The tokens that are kept, without start and end."""
    cut: tuple[str, ...]
    """The tokens that do not fit."""
    limit: int
    ends: tuple[bool, ...] = ()
    """For each of `tokens` and then `cut`, whether a word ends with it."""


def checked_size(parts: Parts, size: int | None) -> int:
    """A size in px that the base takes; its own when `size` is None. Raises ConfigError."""
    if size is not None and size % parts.size_multiple:
        nearest = max(1, round(size / parts.size_multiple)) * parts.size_multiple
        raise ConfigError(
            f"This base model cannot have a size of {size} px.", f"Take a multiple of {parts.size_multiple}, such as {nearest}."
        )
    return size or parts.size


def family(name: str) -> Family:
    """A family by its file's name."""
    import_libraries()
    return importlib.import_module(f"sdplay.families.{name}")  # type: ignore[return-value]


def import_libraries() -> None:
    """Import what computes, one thread at a time: transformers' lazy imports fail when two threads meet in them."""
    with _IMPORTING:
        for module in ("sdplay.train", *(f"sdplay.families.{name}" for name in NAMES)):
            importlib.import_module(module)
