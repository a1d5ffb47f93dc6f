"""The settings inside a PNG: how a picture says what it was drawn with, and how that is read back.

Two text chunks: `sdplay` is JSON, whole; `parameters` is the text that A1111 and its relatives write, show and read.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from PIL import Image, PngImagePlugin, UnidentifiedImageError

from sdplay.config import DrawConfig, GenerateConfig, Scheduler, parse
from sdplay.templates import split_negative

CHUNK, TEXT_CHUNK = "sdplay", "parameters"
MAX_TEXT = 100_000
_NAMES = {
    "Steps": "steps", "Sampler": "scheduler", "CFG scale": "guidance_scale", "Seed": "seed", "Size": "size", "Clip skip": "clip_skip",
    "Denoising strength": "image_strength", "Model": "base_model", "Adapter": "adapter",
}  # fmt: skip
"""A1111's name of a setting: ours."""
_NUMBERS = {"steps": int, "seed": int, "clip_skip": int, "guidance_scale": float, "image_strength": float}
_NEGATIVE = "Negative prompt: "
_PAIR = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)')
"""One `Name: value`; A1111's own expression (modules/infotext_utils.py)."""


def write(picture: Image.Image, settings: Mapping[str, object]) -> bytes:
    """The picture as a PNG that knows its settings: JSON values by our names (`prompt`, `seed`, `steps`, `adapter`, ...)."""
    written = io.BytesIO()
    picture.save(written, "PNG", pnginfo=info(settings, picture.size))
    return written.getvalue()


def info(settings: Mapping[str, object], size: tuple[int, int] | None = None) -> PngImagePlugin.PngInfo:
    """The chunks alone, for `Image.save(pnginfo=...)`. size: (width, height) of the picture in px."""
    chunks = PngImagePlugin.PngInfo()
    chunks.add_itxt(CHUNK, json.dumps(dict(settings), ensure_ascii=False))
    chunks.add_itxt(TEXT_CHUNK, parameters_text(settings, size))
    return chunks


def read(path: Path) -> dict[str, Any] | None:
    """The settings of a PNG by our names, written by us or, as far as they have a name here, by A1111 and its relatives.

    None when it is no picture or says nothing about itself. Nothing in it is trusted: check the values before use.
    """
    try:
        with Image.open(path) as picture:
            chunks = dict(picture.info)
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError):
        return None
    return _from_json(chunks.get(CHUNK)) or _from_text(chunks.get(TEXT_CHUNK))


def parameters_text(settings: Mapping[str, object], size: tuple[int, int] | None = None) -> str:
    """The text that A1111 and its relatives read: prompt, negative prompt, and one line of `Name: value`."""
    prompt, own = split_negative(str(settings.get("prompt") or ""))
    lines = [prompt]
    if negative := own or settings.get("negative_prompt"):
        lines.append(f"{_NEGATIVE}{negative}")
    values = {**settings, "size": "x".join(map(str, size)) if size else settings.get("size")}
    lines.append(", ".join(f"{label}: {_quoted(values[key])}" for label, key in _NAMES.items() if values.get(key) not in (None, "")))
    return "\n".join(lines)


def parse_parameters(text: str) -> dict[str, Any]:
    """What A1111's text says, by our names; `size` is the width, `height` is there when it differs. Empty for another kind of text."""
    *lines, last = text[:MAX_TEXT].strip().split("\n")
    pairs = {name: _unquoted(value) for name, value in _PAIR.findall(last)}
    if "Steps" not in pairs:
        return {}
    found: dict[str, Any] = {ours: pairs[theirs] for theirs, ours in _NAMES.items() if pairs.get(theirs)}
    start = next((index for index, line in enumerate(lines) if line.startswith(_NEGATIVE.strip())), len(lines))
    found["prompt"] = "\n".join(lines[:start]).strip()
    found["negative_prompt"] = "\n".join(lines[start:]).removeprefix(_NEGATIVE.strip()).strip()
    for key, kind in _NUMBERS.items():
        if key in found:
            found[key] = _number(str(found[key]), kind)
    if "size" in found:
        width, height = _sides(str(found["size"]))
        found |= {"size": width, "height": height if height != width else None}
    if pairs.get("Schedule type"):  # A1111 splits a scheduler's name since 1.9
        found["scheduler"] = f"{found.get('scheduler', '')} {pairs['Schedule type']}".strip().removesuffix(" Automatic")
    return {key: value for key, value in found.items() if value is not None}


def as_asked(settings: Mapping[str, object]) -> DrawConfig:
    """What was asked for when a picture with these settings was drawn; what they do not say is as usual. Raises ConfigError.

    A scheduler that sdplay does not have is left out.
    """
    drawing = {key: settings[key] for key in GenerateConfig.model_fields if settings.get(key) is not None}
    if drawing.get("scheduler") not in get_args(Scheduler):
        drawing.pop("scheduler", None)
    named = {"base_model": "base_model", "adapter": "adapter", "image_strength": "strength"}
    whole = {ours: settings[key] for key, ours in named.items() if settings.get(key) not in (None, "")}
    asked = {"prompts": (settings.get("prompt", ""),), "seeds": (settings.get("seed", 1),), "drawing": parse(GenerateConfig, drawing)}
    return parse(DrawConfig, {**whole, **asked})


def _sides(text: str) -> tuple[int | None, int | None]:
    sides = [int(side) for side in re.findall(r"\d{1,5}", text)]
    return (sides[0], sides[-1]) if sides else (None, None)


def _from_json(chunk: object) -> dict[str, Any] | None:
    if not isinstance(chunk, str) or len(chunk) > MAX_TEXT:
        return None
    try:
        settings = json.loads(chunk)
    except (ValueError, RecursionError):
        return None
    return settings if isinstance(settings, dict) and settings else None


def _from_text(chunk: object) -> dict[str, Any] | None:
    return (parse_parameters(chunk) or None) if isinstance(chunk, str) else None


def _quoted(value: object) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if re.search(r'[,:\n"]', text) else text


def _unquoted(text: str) -> str:
    if len(text) < 2 or text[0] != '"':
        return text.strip()
    try:
        return str(json.loads(text))
    except ValueError:
        return text


def _number(text: str, kind: type) -> float | int | None:
    try:
        return kind(text)
    except ValueError:
        return None
