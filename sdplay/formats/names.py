"""One layer, many names: the key normaliser between the programs of the field. Everything is turned into diffusers' paths.

    diffusers / peft   unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q
    kohya, flat        lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q
    original U-Net     input_blocks.4.1.transformer_blocks.0.attn1.to_q      (what SDXL files of kohya's scripts use, flat)
    kohya's SD 3       joint_blocks.0.x_block.attn.qkv                       (three of diffusers' layers in one)

Text encoders are written as transformers named them until 5.5 (`text_model.encoder.layers...`): that is what every other
program reads. transformers 5.6 dropped the level from CLIPTextModel; `attach.py` finds the layers by either name.
"""

from __future__ import annotations

import re

WORDS = """
    down_blocks up_blocks mid_block transformer_blocks time_embedding add_embedding linear_1 linear_2 conv_in conv_out
    conv_norm_out conv_shortcut time_emb_proj proj_in proj_out to_q to_k to_v to_out to_add_out add_q_proj add_k_proj
    add_v_proj ff_context norm1_context pos_embed time_text_embed timestep_embedder text_embedder context_embedder
    norm_out norm_q norm_k norm_added_q norm_added_k text_model self_attn q_proj k_proj v_proj out_proj text_projection
    final_layer_norm layer_norm layer_norm1 layer_norm2 token_embedding position_embedding relative_attention_bias wi_0
    wi_1 input_blocks middle_block output_blocks in_layers out_layers emb_layers skip_connection time_embed label_emb
    joint_blocks x_block context_block final_layer x_embedder t_embedder y_embedder adaLN_modulation norm2_context
"""
"""Every name with an underscore in it that a layer's path may contain; all other underscores of a flat name stand for dots."""
_WORD = re.compile("(?:" + "|".join(sorted(WORDS.split(), key=len, reverse=True)) + r")(?=_|$)|[^_]+")
RESNET_PARTS = {
    "in_layers.0": "norm1", "in_layers.2": "conv1", "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2", "out_layers.3": "conv2", "skip_connection": "conv_shortcut",
}  # fmt: skip
UNET_ENDS = {
    "input_blocks.0.0": "conv_in", "out.0": "conv_norm_out", "out.2": "conv_out",
    "time_embed.0": "time_embedding.linear_1", "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1", "label_emb.0.2": "add_embedding.linear_2",
}  # fmt: skip
PER_LEVEL = 3
"""Blocks of the original U-Net on each level: two of layers and one that changes the size, in every Stable Diffusion."""
SD3_PARTS = {
    "x_block.attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "x_block.attn.proj": ("attn.to_out.0",),
    "x_block.attn2.qkv": ("attn2.to_q", "attn2.to_k", "attn2.to_v"),
    "x_block.attn2.proj": ("attn2.to_out.0",),
    "x_block.mlp.fc1": ("ff.net.0.proj",),
    "x_block.mlp.fc2": ("ff.net.2",),
    "x_block.adaLN_modulation.1": ("norm1.linear",),
    "context_block.attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "context_block.attn.proj": ("attn.to_add_out",),
    "context_block.mlp.fc1": ("ff_context.net.0.proj",),
    "context_block.mlp.fc2": ("ff_context.net.2",),
    "context_block.adaLN_modulation.1": ("norm1_context.linear",),
}


def unflatten(flat: str) -> str:
    """`down_blocks_0_attentions_1` -> `down_blocks.0.attentions.1`."""
    return ".".join(_WORD.findall(flat))


def denoiser_paths(dotted: str) -> tuple[str, ...]:
    """diffusers' path of a denoiser's layer that may be named as in the original code; several where that fuses them."""
    found = re.fullmatch(r"joint_blocks\.(\d+)\.(.+)", dotted)
    if found and found[2] in SD3_PARTS:
        return tuple(f"transformer_blocks.{found[1]}.{part}" for part in SD3_PARTS[found[2]])
    return (from_original_unet(dotted),)


def text_encoder_path(dotted: str) -> str:
    """A CLIP layer's path with the level `text_model`, whether it came with it or not."""
    bare = dotted.removeprefix("text_model.")
    return f"text_model.{bare}" if bare.startswith(("encoder.layers.", "embeddings.", "final_layer_norm")) else dotted


def without_text_model(path: str) -> str:
    """The same path as transformers 5.6 and later name it in CLIPTextModel."""
    return path.removeprefix("text_model.")


def from_original_unet(path: str) -> str:
    """`input_blocks.4.1.proj_in` -> `down_blocks.1.attentions.0.proj_in`; a path that is diffusers' own stays as it is."""
    if path in UNET_ENDS:
        return UNET_ENDS[path]
    found = re.fullmatch(r"(input_blocks|output_blocks)\.(\d+)\.(\d+)\.(.+)|(middle_block)\.(\d)\.(.+)", path)
    if not found:
        return path
    if found[5]:
        place = {"0": "resnets.0", "1": "attentions.0", "2": "resnets.1"}.get(found[6])
        return f"mid_block.{place}.{_resnet_part(found[7])}" if place else path
    number, inner, rest = int(found[2]), found[3], found[4]
    if found[1] == "input_blocks":
        level, index = divmod(number - 1, PER_LEVEL)
        if rest == "op":
            return f"down_blocks.{level}.downsamplers.0.conv"
        side = "down_blocks"
    else:
        level, index = divmod(number, PER_LEVEL)
        if rest == "conv":
            return f"up_blocks.{level}.upsamplers.0.conv"
        side = "up_blocks"
    return f"{side}.{level}.{'resnets' if inner == '0' else 'attentions'}.{index}.{_resnet_part(rest)}"


def to_original_unet(path: str, *, plain_up_blocks: frozenset[int] = frozenset(), per_level: int = PER_LEVEL) -> str:
    """The inverse. `plain_up_blocks`: numbers of the up blocks without attention, whose upsampler comes one place earlier.

    `per_level`: one more than the layers of a block.
    """
    for original, ours in UNET_ENDS.items():
        if path == ours:
            return original
    found = re.fullmatch(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", path)
    if found:
        level, index = int(found[2]), int(found[4])
        if found[3] == "downsamplers":
            return f"input_blocks.{per_level * level + per_level}.0.op"
        if found[3] == "upsamplers":
            return f"output_blocks.{per_level * level + per_level - 1}.{1 if level in plain_up_blocks else 2}.conv"
        inner, rest = (0, _original_resnet_part(found[5])) if found[3] == "resnets" else (1, found[5])
        number = per_level * level + index + (1 if found[1] == "down" else 0)
        return f"{'input_blocks' if found[1] == 'down' else 'output_blocks'}.{number}.{inner}.{rest}"
    found = re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", path)
    if found:
        inner = 1 if found[1] == "attentions" else 2 * int(found[2])
        return f"middle_block.{inner}.{found[3] if inner == 1 else _original_resnet_part(found[3])}"
    return path


def _resnet_part(rest: str) -> str:
    return RESNET_PARTS.get(rest, rest)


def _original_resnet_part(rest: str) -> str:
    return next((original for original, ours in RESNET_PARTS.items() if ours == rest), rest)
