"""Writes loaded SD 1.x, 2.x, XL and 3 pipelines as their publishers' programs would. Only for models without odd parts."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from safetensors.torch import save_file
from torch import Tensor, nn

RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0", "conv2": "out_layers.3"}
RESNET |= {"conv_shortcut": "skip_connection"}
ENDS = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "conv_in": "input_blocks.0.0"}
ENDS |= {"add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2"}
ENDS |= {"conv_norm_out": "out.0", "conv_out": "out.2"}
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


OPENCLIP = {
    "embeddings.token_embedding.weight": "token_embedding.weight", "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.": "ln_final.", "encoder.layers.": "transformer.resblocks.", ".layer_norm1.": ".ln_1.", ".layer_norm2.": ".ln_2.",
    ".self_attn.out_proj.": ".attn.out_proj.", ".mlp.fc1.": ".mlp.c_fc.", ".mlp.fc2.": ".mlp.c_proj.",
}  # fmt: skip


MMDIT = {
    "pos_embed.pos_embed": "pos_embed",
    "pos_embed.proj.": "x_embedder.proj.",
    "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
    "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2",
    "norm_out.linear.": "final_layer.adaLN_modulation.1.",
    "proj_out.": "final_layer.linear.",
    "transformer_blocks.": "joint_blocks.",
    ".attn.to_out.0.": ".x_block.attn.proj.",
    ".attn.to_add_out.": ".context_block.attn.proj.",
    ".norm1.linear.": ".x_block.adaLN_modulation.1.",
    ".norm1_context.linear.": ".context_block.adaLN_modulation.1.",
    ".ff.net.0.proj.": ".x_block.mlp.fc1.",
    ".ff.net.2.": ".x_block.mlp.fc2.",
    ".ff_context.net.0.proj.": ".context_block.mlp.fc1.",
    ".ff_context.net.2.": ".context_block.mlp.fc2.",
    ".attn.to_q.": ".x_block.attn.qkv.",
    ".attn.add_q_proj.": ".context_block.attn.qkv.",
}


def write_original(pipeline: DiffusionPipeline, path: Path) -> None:
    """One safetensors file: model.diffusion_model.*, first_stage_model.*, and the text encoders where each family has them."""
    denoiser = mmdit_tensors(pipeline.transformer) if hasattr(pipeline, "transformer") else unet_tensors(pipeline.unet)
    tensors = {f"model.diffusion_model.{name}": tensor for name, tensor in denoiser.items()}
    tensors |= {f"first_stage_model.{name}": tensor for name, tensor in vae_tensors(pipeline.vae).items()} | text_tensors(pipeline)
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, path)


def text_tensors(pipeline: DiffusionPipeline) -> dict[str, Tensor]:
    """The text encoders under each family's names."""
    if hasattr(pipeline, "transformer"):
        first = pipeline.text_encoder.state_dict().items()
        second = pipeline.text_encoder_2.state_dict().items()
        without = {f"text_encoders.clip_l.transformer.{name}": tensor for name, tensor in first if "text_projection" not in name}
        return without | {f"text_encoders.clip_g.transformer.{name}": tensor for name, tensor in second}
    if hasattr(pipeline, "text_encoder_2"):
        first = clip_tensors(pipeline.text_encoder, "conditioner.embedders.0.transformer.text_model.")
        return first | openclip_tensors(pipeline.text_encoder_2, "conditioner.embedders.1.model.")
    if pipeline.text_encoder.config.hidden_act == "gelu":
        return openclip_tensors(pipeline.text_encoder, "cond_stage_model.model.")
    return clip_tensors(pipeline.text_encoder, "cond_stage_model.transformer.text_model.")


def mmdit_tensors(transformer: nn.Module) -> dict[str, Tensor]:
    """SD3 has query, key and value in one matrix; where a layer only scales and shifts, it has these two the other way round."""
    weights = transformer.state_dict()
    last = f"transformer_blocks.{len(transformer.transformer_blocks) - 1}.norm1_context."
    found = {}
    for name, tensor in weights.items():
        if name.startswith(("norm_out.", last)):
            tensor = torch.cat(tensor.chunk(2)[::-1])
        for first, rest in ((".to_q.", (".to_k.", ".to_v.")), (".add_q_proj.", (".add_k_proj.", ".add_v_proj."))):
            if first in name:
                tensor = torch.cat([tensor, *(weights[name.replace(first, other)] for other in rest)])
        if not any(part in name for part in (".to_k.", ".to_v.", ".add_k_proj.", ".add_v_proj.")):
            found[replaced(name, MMDIT)] = tensor
    return found


def clip_tensors(encoder: nn.Module, prefix: str) -> dict[str, Tensor]:
    """OpenAI's CLIP keeps the names of transformers."""
    return {prefix + name.removeprefix("text_model."): tensor for name, tensor in encoder.state_dict().items()}


def openclip_tensors(encoder: nn.Module, prefix: str) -> dict[str, Tensor]:
    """OpenCLIP has query, key and value in one matrix, and the projection the other way round."""
    weights = clip_tensors(encoder, "")
    found = {"text_projection": weights.pop("text_projection.weight", torch.eye(encoder.config.hidden_size)).T}
    for name, tensor in weights.items():
        if ".q_proj." in name:
            stacked = torch.cat([weights[name.replace(".q_proj.", f".{which}_proj.")] for which in "qkv"])
            found[replaced(name.replace(".self_attn.q_proj.", ".attn.in_proj_"), OPENCLIP)] = stacked
        elif ".k_proj." not in name and ".v_proj." not in name:
            found[replaced(name, OPENCLIP)] = tensor
    return {prefix + name: tensor for name, tensor in found.items()}


def replaced(name: str, table: dict[str, str]) -> str:
    """Each entry of the table that occurs in the name, replaced."""
    for old, new in table.items():
        name = name.replace(old, new)
    return name


def unet_tensors(unet: nn.Module) -> dict[str, Tensor]:
    """CompVis counts one list of input blocks and one of output blocks, in the order of computation."""
    places = dict(ENDS)
    number = 1
    for level, block in enumerate(unet.down_blocks):
        for layer in range(len(block.resnets)):
            places[f"down_blocks.{level}.resnets.{layer}"] = f"input_blocks.{number}.0"
            places[f"down_blocks.{level}.attentions.{layer}"] = f"input_blocks.{number}.1"
            number += 1
        if block.downsamplers:
            places[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{number}.0.op"
            number += 1
    places |= {"mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1", "mid_block.resnets.1": "middle_block.2"}
    number = 0
    for level, block in enumerate(unet.up_blocks):
        for layer in range(len(block.resnets)):
            places[f"up_blocks.{level}.resnets.{layer}"] = f"output_blocks.{number}.0"
            places[f"up_blocks.{level}.attentions.{layer}"] = f"output_blocks.{number}.1"
            number += 1
        after = 2 if hasattr(block, "attentions") else 1
        places[f"up_blocks.{level}.upsamplers.0.conv"] = f"output_blocks.{number - 1}.{after}.conv"
    return {renamed(name, places, RESNET): tensor for name, tensor in unet.state_dict().items()}


def vae_tensors(vae: nn.Module) -> dict[str, Tensor]:
    """The decoder's levels are counted from the finest; attention is a convolution of 1 x 1."""
    places = {}
    levels = len(vae.encoder.down_blocks)
    for level in range(levels):
        places[f"encoder.down_blocks.{level}.downsamplers.0.conv"] = f"encoder.down.{level}.downsample.conv"
        places[f"decoder.up_blocks.{level}.upsamplers.0.conv"] = f"decoder.up.{levels - 1 - level}.upsample.conv"
        for layer in range(3):
            places[f"encoder.down_blocks.{level}.resnets.{layer}"] = f"encoder.down.{level}.block.{layer}"
            places[f"decoder.up_blocks.{level}.resnets.{layer}"] = f"decoder.up.{levels - 1 - level}.block.{layer}"
    for half in ("encoder", "decoder"):
        places |= {f"{half}.mid_block.resnets.{index}": f"{half}.mid.block_{index + 1}" for index in (0, 1)}
        places |= {f"{half}.mid_block.attentions.0": f"{half}.mid.attn_1", f"{half}.conv_norm_out": f"{half}.norm_out"}
    found = {}
    for name, tensor in vae.state_dict().items():
        new = renamed(name, places, {"conv_shortcut": "nin_shortcut"} | ATTENTION)
        found[new] = tensor[:, :, None, None] if ".attn_1." in new and tensor.dim() == 2 else tensor
    return found


def renamed(name: str, places: dict[str, str], inside: dict[str, str]) -> str:
    """The longest known place at the name's beginning, then what is inside of a residual block."""
    place = max((old for old in places if name.startswith(f"{old}.")), key=len, default="")
    rest = name.removeprefix(place) if place else name
    if "resnets" in place or "attentions" in place:
        for old, new in inside.items():
            rest = re.sub(rf"^\.{re.escape(old)}\.", f".{new}.", rest)
    return places.get(place, "") + rest
