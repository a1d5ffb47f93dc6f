"""What the drawing commands can be told, and what they then ask of the engine."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from sdplay.config import AnimateConfig, DrawConfig, GenerateConfig, Scheduler


def add_generate(parser: argparse.ArgumentParser) -> None:
    """`sdplay generate`."""
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--adapter", default="base", metavar="RUN|FILE[:STRENGTH]")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-n", type=int, default=1, dest="count", help="how many, with seeds counting up")
    parser.add_argument("-o", "--out", type=Path, help="folder (default: in the workspace)")
    parser.add_argument("--image", default="", metavar="FILE", help="picture to begin with")
    parser.add_argument("--mask", default="", metavar="FILE", help="as large as --image: white is drawn anew, black stays")
    strength = DrawConfig().strength
    parser.add_argument("--strength", type=float, default=strength, help=f"how much of --image is given up, 0 to 1 (default: {strength})")
    add_drawing(parser)


def add_animate(parser: argparse.ArgumentParser) -> None:
    """`sdplay animate`."""
    first = AnimateConfig.model_fields
    parser.add_argument("--prompts", required=True, nargs="+", metavar="TEXT", help="one for each key picture, or one")
    parser.add_argument("--seeds", default="1", help="1,2,3: one for each key picture, or one (default: 1)")
    parser.add_argument("--strengths", default="1", help="0,1: factors on the adapters' strengths, one for each key picture (default: 1)")
    parser.add_argument("--adapter", default="base", metavar="RUN|FILE[:STRENGTH]")
    parser.add_argument("--motion", default="", metavar="FOLDER|ID", help="AnimateDiff's motion adapter: one prompt, Stable Diffusion 1.x")
    parser.add_argument("--frames", type=int, default=first["frames"].default, help="from a key picture to the next; with --motion of all")
    parser.add_argument("--fps", type=int, default=first["fps"].default, help="frames per second")
    parser.add_argument("-o", "--out", type=Path, nargs="+", required=True, metavar="FILE", help=".gif or .mp4; may be both")
    add_drawing(parser)


def add_drawing(parser: argparse.ArgumentParser) -> None:
    """How pictures are drawn, for every command that draws."""
    parser.add_argument("--base", default="mini", help="base model (default: mini)")
    parser.add_argument("--steps", type=int, default=GenerateConfig().steps)
    parser.add_argument("--guidance", type=float, default=GenerateConfig().guidance_scale, help="0 or 1: none")
    parser.add_argument("--guidance-rescale", type=float, default=0.0, help="0 to 1 (default: 0)")
    parser.add_argument(
        "--guidance-from", default="adapter", metavar="adapter|base", help="base: away from what the base alone draws (default: adapter)"
    )
    parser.add_argument("--guidance-stop", type=float, default=1.0, metavar="SHARE", help="of the steps that are guided (default: 1)")
    parser.add_argument("--negative", default="")
    parser.add_argument("--size", type=int, metavar="PX", help="width, without --height the side of a square (default: the base's own)")
    parser.add_argument("--height", type=int, metavar="PX")
    parser.add_argument("--scheduler", default="base", metavar="NAME", help=f"one of: {', '.join(get_args(Scheduler))}")
    parser.add_argument("--clip-skip", type=int, default=1, metavar="N", help="2: the text encoder's last but one layer (default: 1)")


def generate_values(arguments: argparse.Namespace) -> dict[str, object]:
    """DrawConfig's values."""
    seeds = [arguments.seed + index for index in range(arguments.count)]
    return {
        "prompts": [arguments.prompt], "seeds": seeds, "drawing": drawing_values(arguments), "adapter": arguments.adapter,
        "base_model": arguments.base, "image": arguments.image, "mask": arguments.mask, "strength": arguments.strength,
    }  # fmt: skip


def animate_values(arguments: argparse.Namespace) -> dict[str, object]:
    """AnimateConfig's values."""
    return {
        "prompts": arguments.prompts, "seeds": listed(arguments.seeds), "strengths": listed(arguments.strengths),
        "adapter": arguments.adapter, "base_model": arguments.base, "motion": arguments.motion, "frames": arguments.frames,
        "fps": arguments.fps, "drawing": drawing_values(arguments),
    }  # fmt: skip


def drawing_values(arguments: argparse.Namespace) -> dict[str, object]:
    """GenerateConfig's values."""
    return {
        "steps": arguments.steps, "guidance_scale": arguments.guidance, "guidance_rescale": arguments.guidance_rescale,
        "guidance_from": arguments.guidance_from, "guidance_stop": arguments.guidance_stop,
        "negative_prompt": arguments.negative, "size": arguments.size, "height": arguments.height,
        "scheduler": arguments.scheduler, "clip_skip": arguments.clip_skip,
    }  # fmt: skip


def listed(text: str) -> list[str]:
    """`1, 2` -> ["1", "2"]."""
    return [piece.strip() for piece in text.split(",") if piece.strip()]
