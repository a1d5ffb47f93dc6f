"""LoRA on the denoiser's attention: small matrices beside the frozen ones. Hu et al. 2021, arXiv 2106.09685."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig as PeftLoraConfig
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from sdplay.config import LoraConfig, TrainConfig
from sdplay.families import Family, Parts
from sdplay.formats import write_lora

TITLE = "LoRA"
ADAPTER = "trainee"


@dataclass
class LoraTrainable:
    """Adapters attached to a denoiser under the name `trainee`."""

    parts: Parts
    config: LoraConfig
    prefix: str
    """diffusers' name for the denoiser, with which the names of its weights begin."""

    def parameters(self) -> list[nn.Parameter]:
        """A and B of every adapted layer, in the order of their names."""
        named = sorted(self.parts.denoiser.named_parameters(), key=lambda pair: pair[0])
        return [parameter for name, parameter in named if f".{ADAPTER}." in name]

    def weights(self) -> dict[str, Tensor]:
        """`<prefix>.<layer>.lora_A.weight` (rank, in) and `.lora_B.weight` (out, rank): diffusers' names."""
        state = get_peft_model_state_dict(self.parts.denoiser, adapter_name=ADAPTER)
        return {f"{self.prefix}.{name}": tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """In place, so that the optimiser keeps its parameters."""
        state = {name.removeprefix(f"{self.prefix}."): tensor for name, tensor in weights.items()}
        assert {f"{self.prefix}.{name}" for name in state} == set(self.weights()), "the checkpoint is of another adapter"
        set_peft_model_state_dict(self.parts.denoiser, state, adapter_name=ADAPTER)

    def activate(self) -> None:
        """Drawing with other adapters switches this one off; switch it on and let it learn again."""
        for module in self.parts.denoiser.modules():
            if isinstance(module, BaseTunerLayer):
                module.enable_adapters(True)
                module.set_adapter(ADAPTER)
                module.set_scale(ADAPTER, 1.0)

    def save(self, path: Path) -> None:
        """One safetensors file in diffusers' layout, with alpha and trigger word in its header."""
        write_lora(path, self.weights(), rank=self.config.rank, alpha=self.config.alpha, facts=_facts(self.config))

    def detach(self) -> None:
        """Take all adapters off the denoiser."""
        self.parts.denoiser.unload_lora()


def prepare(parts: Parts, family: Family, config: TrainConfig) -> LoraTrainable:
    """Attach adapters: A from a normal distribution seeded by the config, B zero, so step 0 draws what the base draws."""
    assert isinstance(config, LoraConfig)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        parts.denoiser.add_adapter(
            PeftLoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=list(family.LORA_TARGETS), init_lora_weights="gaussian"),
            adapter_name=ADAPTER,
        )
    trainable = LoraTrainable(parts, config, family.DENOISER)
    for parameter in trainable.parameters():
        parameter.data = parameter.data.float()
    trainable.activate()
    return trainable


def _facts(config: LoraConfig) -> dict[str, str]:
    return {
        "sdplay.base_model": config.base_model,
        "sdplay.token": config.token,
        "sdplay.steps": str(config.steps),
        "modelspec.trigger_phrase": config.token,
    }
