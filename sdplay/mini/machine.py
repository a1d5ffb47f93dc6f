"""Where the embedded base model is trained, and in which precision. The weights are float32 everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPTextModel


@dataclass(frozen=True)
class Machine:
    """Where it is trained, and whether matrix products may be bfloat16: two to five times as fast where the hardware multiplies it."""

    device: torch.device
    bfloat16: bool

    def autocast(self) -> torch.autocast:
        """For the forward pass. The weights stay float32."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bfloat16)

    def prepare(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
        """Move both there. On a processor, bfloat16 attention is faster written out than fused, whose backward pass has no tiles."""
        unet.to(self.device)
        text_encoder.to(self.device)
        if self.device.type == "cpu":
            quicken_norms(unet)
        if self.bfloat16 and self.device.type == "cpu":
            unet.set_attn_processor(AttnProcessor())
            text_encoder.set_attn_implementation("eager")


def this_machine() -> Machine:
    """A CUDA device if there is one, else the processor; float32 unless it multiplies bfloat16 in hardware."""
    if torch.cuda.is_available():
        return Machine(torch.device("cuda"), torch.cuda.is_bf16_supported())
    return Machine(torch.device("cpu"), torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def quicken_norms(network: nn.Module) -> None:
    """Let a network's group norms work on channels one after another: torch's backward pass for channels last takes nine times as long."""
    for module in network.modules():
        if isinstance(module, nn.GroupNorm):
            module.forward = partial(_group_norm, module)  # type: ignore[method-assign]


def _group_norm(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """(B, C, ...) -> the same, normalised, channels last if it is a picture."""
    done = F.group_norm(x.contiguous(), norm.num_groups, norm.weight, norm.bias, norm.eps)
    return done.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else done
