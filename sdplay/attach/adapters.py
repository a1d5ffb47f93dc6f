"""Adapters by peft: small trained tensors beside frozen layers, in the denoiser and in text encoders.

LoRA: Hu et al. 2021, arXiv 2106.09685. DoRA: Liu et al. 2024, arXiv 2402.09353. rsLoRA: Kalajdzievski 2023,
arXiv 2312.03732. LoHa: Hyeon-Woo et al. 2021, arXiv 2108.06098. LoKr: Yeh et al. 2023, arXiv 2309.14859.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from peft import LoHaConfig, LoKrConfig, PeftConfig, inject_adapter_in_model
from peft import LoraConfig as PeftLoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from sdplay.attach.low_rank import quicken
from sdplay.errors import ConfigError
from sdplay.formats.names import text_encoder_path

NAME = "trainee"
Kind = Literal["lora", "dora", "rslora", "loha", "lokr"]
Targets = Literal["attention", "attention+mlp", "attention+mlp+conv"]

MLP = ("proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2")
CONV = ("conv1", "conv2", "conv_shortcut", "time_emb_proj", "downsamplers.0.conv", "upsamplers.0.conv")
"""diffusers' names inside a U-Net's residual and resampling blocks, as LyCORIS targets them."""
CLIP_ATTENTION, CLIP_MLP = ("q_proj", "k_proj", "v_proj", "out_proj"), ("fc1", "fc2")
BLOCK_PRESETS = {"content": "up_blocks.0.attentions.0.", "style": "up_blocks.0.attentions.1."}
"""The two blocks of SDXL that hold what is shown and how it looks: B-LoRA, Frenkel et al. 2024, arXiv 2403.14572."""


@dataclass(frozen=True)
class Shape:
    """How an adapter is built."""

    kind: Kind
    rank: int
    alpha: float

    @property
    def true_alpha(self) -> float:
        """What, divided by the rank, is the scale. rsLoRA divides by the root of the rank instead."""
        return self.alpha * math.sqrt(self.rank) if self.kind == "rslora" else self.alpha

    def peft_config(self, layers: Sequence[str]) -> PeftConfig:
        """For layers by their full names; B (or its like) starts at zero, so a fresh adapter changes nothing."""
        names = list(layers)
        if self.kind == "loha":
            return LoHaConfig(r=self.rank, alpha=self.alpha, target_modules=names)
        if self.kind == "lokr":
            return LoKrConfig(r=self.rank, alpha=self.alpha, target_modules=names)
        dora, rslora = self.kind == "dora", self.kind == "rslora"
        return PeftLoraConfig(
            r=self.rank, lora_alpha=self.alpha, target_modules=names, init_lora_weights="gaussian", use_dora=dora, use_rslora=rslora
        )


@dataclass(frozen=True)
class Host:
    """A model that carries adapters, and which of its layers do."""

    model: nn.Module
    layers: tuple[str, ...]


@dataclass(frozen=True)
class _Place:
    """Where a layer with an adapter stands in for the layer alone."""

    parent: nn.Module
    attribute: str
    path: str
    layer: BaseTunerLayer


class Adapter:
    """An attachment: adapters of one shape on the layers of one or more models, by the models' names."""

    def __init__(self, shape: Shape, hosts: Mapping[str, Host], *, seed: int) -> None:
        """Fresh adapters with float32 weights whose random part depends on the seed; they are off until `put_on`."""
        self.shape = shape
        self.hosts = {name: host for name, host in hosts.items() if host.layers}
        self._places: dict[str, list[_Place]] = {}
        for name, host in self.hosts.items():
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                inject_adapter_in_model(shape.peft_config(host.layers), host.model, adapter_name=NAME)
            self._places[name] = _places(host.model)
        self.parameters: dict[str, dict[str, nn.Parameter]] = {name: _parameters(places) for name, places in self._places.items()}
        for parameters in self.parameters.values():
            for parameter in parameters.values():
                parameter.data = parameter.data.float()
        for places in self._places.values():
            for place in places:
                _scale_as_in_files(place.layer)
                quicken(place.layer, NAME)
        self.take_off()

    def put_on(self) -> None:
        """The layers with adapters stand in for the base's."""
        for places in self._places.values():
            for place in places:
                setattr(place.parent, place.attribute, place.layer)

    def take_off(self) -> None:
        """The base's own layers are back."""
        for name, places in self._places.items():
            for place in places:
                setattr(place.parent, place.attribute, place.layer.get_base_layer())
            self.hosts[name].model.__dict__.pop("peft_config", None)

    def weights(self) -> dict[str, Tensor]:
        """`<model>.<layer>.lora_A.weight` and so on, peft's names; a float32 copy on the CPU."""
        return {name: parameter.detach().cpu().clone().contiguous() for name, parameter in self._by_file_name().items()}

    @torch.no_grad()
    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """In place, so that an optimiser keeps its parameters."""
        own = self._by_file_name()
        assert own.keys() == weights.keys(), "the checkpoint is of another adapter"
        for name, parameter in own.items():
            parameter.copy_(weights[name])

    def _by_file_name(self) -> dict[str, nn.Parameter]:
        named = [(f"{model}.{name}", parameter) for model, own in self.parameters.items() for name, parameter in own.items()]
        return {_file_name(name): parameter for name, parameter in named}

    @torch.no_grad()
    def cap_norms(self, longest: float) -> None:
        """Shrink each layer's change to a Frobenius norm of at most `longest`: its n factors by the n-th root of the excess.

        What sd-scripts calls scale_weight_norms, there for two factors.
        """
        for places in self._places.values():
            for place in places:
                norm = float(place.layer.get_delta_weight(NAME).norm())
                factors = [parameter for name, parameter in _parameters([place]).items() if "magnitude" not in name]
                if norm > longest:
                    for parameter in factors:
                        parameter.mul_((longest / norm) ** (1 / len(factors)))


def matching_layers(model: nn.Module, suffixes: Sequence[str], blocks: str = "") -> tuple[str, ...]:
    """Full names of the linear and convolution layers that end in one of the suffixes and lie in one of the blocks.

    blocks: parts of names or keys of BLOCK_PRESETS, separated by commas; empty: everywhere.
    """
    wanted = [BLOCK_PRESETS.get(block.strip(), block.strip()) for block in blocks.split(",") if block.strip()]
    return tuple(
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
        and any(f".{name}".endswith(f".{suffix}") for suffix in suffixes)
        and (not wanted or any(block in name for block in wanted))
    )


def denoiser_layers(denoiser: nn.Module, attention: Sequence[str], targets: Targets, blocks: str) -> tuple[str, ...]:
    """The denoiser's layers that a config chooses. Raises ConfigError when there are none."""
    suffixes = (*attention, *(MLP if "mlp" in targets else ()), *(CONV if "conv" in targets else ()))
    layers = matching_layers(denoiser, suffixes, blocks)
    if not layers:
        raise ConfigError(
            f"No layer of the base model lies in the blocks {blocks!r}.", "Write for example up_blocks.1, or leave Blocks empty."
        )
    return layers


def text_layers(encoder: nn.Module, targets: Targets) -> tuple[str, ...]:
    """A CLIP text encoder's layers; none in other encoders, which adapters leave alone."""
    return matching_layers(encoder, (*CLIP_ATTENTION, *(CLIP_MLP if "mlp" in targets else ())))


def _places(model: nn.Module) -> list[_Place]:
    """Every layer with an adapter, by its path."""
    found = []
    for path, module in sorted(model.named_modules(), key=lambda pair: pair[0]):
        if isinstance(module, BaseTunerLayer):
            parent, _, attribute = path.rpartition(".")
            found.append(_Place(model.get_submodule(parent), attribute, path, module))
    return found


def _parameters(places: Sequence[_Place]) -> dict[str, nn.Parameter]:
    """The trained tensors by their full names, in the order of the names."""
    named = {
        f"{place.path}.{name}": parameter
        for place in places
        for name, parameter in place.layer.named_parameters()
        if f".{NAME}." in f"{name}." and not name.startswith("base_layer.")
    }
    return dict(sorted(named.items()))


def _file_name(name: str) -> str:
    """peft leaves the adapter's name out of its files, and of a DoRA magnitude also `weight`; CLIP's layers are as in names.py."""
    plain = name.replace(f".{NAME}.", ".").removesuffix(f".{NAME}")
    component, _, inside = plain.partition(".")
    if component.startswith("text_encoder"):
        plain = f"{component}.{text_encoder_path(inside)}"
    return plain.removesuffix(".weight") if "magnitude_vector" in plain else plain


def _scale_as_in_files(layer: BaseTunerLayer) -> None:
    """LoKr with two whole factors is not scaled: LyCORIS, and so every reader of its files, ignores alpha and rank there."""
    whole = [NAME in getattr(layer, factor, {}) for factor in ("lokr_w1", "lokr_w2")]
    if all(whole):
        layer.scaling[NAME] = 1.0  # type: ignore[index, operator]
