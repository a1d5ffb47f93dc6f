"""Where the embedded base model is trained, and in which precision its denoiser is. Its autoencoder learns in float32 everywhere."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTextModel


@dataclass(frozen=True)
class Machine:
    """Where the denoiser is trained, and whether its matrix products may be bfloat16: three times as fast where there are tiles."""

    device: torch.device
    bfloat16: bool

    def autocast(self) -> torch.autocast:
        """For the forward pass. The weights stay float32."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bfloat16)

    def prepare(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
        """Move both there. On a processor, bfloat16 attention is faster written out than fused, whose backward pass has no tiles."""
        unet.to(self.device)
        text_encoder.to(self.device)
        if self.bfloat16 and self.device.type == "cpu":
            unet.set_attn_processor(AttnProcessor())
            text_encoder.set_attn_implementation("eager")


def this_machine() -> Machine:
    """A CUDA device if there is one, else the processor; float32 unless it multiplies bfloat16 in hardware."""
    if torch.cuda.is_available():
        return Machine(torch.device("cuda"), torch.cuda.is_bf16_supported())
    return Machine(torch.device("cpu"), torch.cpu._is_amx_tile_supported())
