"""Pictures that know how they were made: settings inside a PNG, written and read again."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from PIL import Image, PngImagePlugin

from sdplay.config import parse
from sdplay.drawing import DrawConfig, GenerateConfig, Scheduler
from sdplay.errors import ConfigError
from sdplay.workspace import write_atomically

MAX_TEXT = 100_000
_NAMED = {
    "Steps": "steps", "Sampler": "scheduler", "CFG scale": "guidance_scale", "Seed": "seed", "Size": "size", "Model": "base_model",
    "Adapter": "adapter", "Clip skip": "clip_skip", "Denoising strength": "strength",
}  # fmt: skip
_FACT = re.compile(r'\s*(?P<label>[\w ()/-]+):\s*(?P<value>"(?:\\.|[^"\\])*"|[^,]*)(?:,|$)')
_UNSAID = (None, "", "base", 1)
"""What is as usual is not said: no adapter, the base's own scheduler, clip skip 1."""


def write_png(path: Path, picture: Image.Image, settings: Mapping[str, object]) -> None:
    """Write a PNG that knows how it was made: `sdplay` holds the settings as JSON, `parameters` as other programs show them."""
    chunks = PngImagePlugin.PngInfo()
    chunks.add_itxt("sdplay", json.dumps(settings, ensure_ascii=False))
    chunks.add_itxt("parameters", parameters_text({**settings, "size": f"{picture.width}x{picture.height}"}))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=chunks)
    write_atomically(path, buffer.getvalue())


def parameters_text(settings: Mapping[str, object]) -> str:
    """The text that A1111 and its relatives read from a PNG."""
    lines = [str(settings.get("prompt", ""))]
    if settings.get("negative_prompt"):
        lines.append(f"Negative prompt: {settings['negative_prompt']}")
    always = ("seed", "steps", "guidance_scale", "strength")
    said = {label: settings.get(key) for label, key in _NAMED.items() if key in always or settings.get(key) not in _UNSAID}
    lines.append(", ".join(f"{label}: {_quoted(value)}" for label, value in said.items() if value not in (None, "")))
    return "\n".join(lines)


def read_settings(path: Path) -> dict[str, object]:
    """Settings inside a picture, under the names of `DrawConfig` and `GenerateConfig` with `prompt` and `seed`.

    A picture of another program gives what its `parameters` say; a scheduler sdplay does not have is left out.
    Raises ConfigError when the file is no picture or says nothing.
    """
    try:
        with Image.open(path) as picture:
            picture.load()  # texts may stand behind the pixels
            texts = {key: str(value) for key, value in picture.info.items() if key in ("sdplay", "parameters")}
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise ConfigError(f"{path.name[:80]!r} is no picture that can be read.", "Give a PNG that sdplay or A1111 made.") from None
    try:
        own = json.loads(texts.get("sdplay", "")[:MAX_TEXT])
    except ValueError:
        own = None
    if isinstance(own, dict):
        return own
    if "parameters" in texts:
        return _from_parameters(texts["parameters"][:MAX_TEXT])
    raise ConfigError(f"{path.name[:80]!r} does not say how it was made.", "Give the PNG file itself; programs that send pictures drop it.")


def as_asked(settings: Mapping[str, object]) -> DrawConfig:
    """What was asked for when a picture with these settings was drawn; what they do not say is as usual. Raises ConfigError."""
    drawing = {key: settings[key] for key in GenerateConfig.model_fields if key in settings}
    whole = {key: settings[key] for key in ("base_model", "adapter", "strength") if settings.get(key) not in (None, "")}
    return parse(DrawConfig, {**whole, "prompts": (settings.get("prompt", ""),), "seeds": (settings.get("seed", 1),), "drawing": drawing})


def _from_parameters(text: str) -> dict[str, object]:
    """A1111's text: the prompt, maybe `Negative prompt:`, and a last line of `Label: value, ...`."""
    body, _, last = text.strip().rpartition("\n")
    facts = {found["label"].strip(): _unquoted(found["value"].strip()) for found in _FACT.finditer(last)} if "Steps:" in last else {}
    if not facts:
        body = text.strip()
    prompt, _, negative = body.partition("\nNegative prompt:") if not body.startswith("Negative prompt:") else ("", "", body[16:])
    settings: dict[str, object] = {"prompt": prompt.strip(), "negative_prompt": negative.strip()}
    for label, key in _NAMED.items():
        if label in facts and key not in ("base_model", "adapter"):  # names that mean something else there
            settings[key] = _number(facts[label])
    settings |= _size(facts.get("Size", "")) | _scheduler(facts)
    return {key: value for key, value in settings.items() if value is not None}


def _size(text: str) -> dict[str, object]:
    found = re.fullmatch(r"(\d{1,5})\s*x\s*(\d{1,5})", text)
    return {"size": int(found[1]), "height": int(found[2])} if found else {"size": None}


def _scheduler(facts: Mapping[str, str]) -> dict[str, object]:
    """A1111 splits a name since 1.9: `Sampler: DPM++ 2M, Schedule type: Karras`."""
    names = (f"{facts.get('Sampler', '')} {facts.get('Schedule type', '')}", facts.get("Sampler", ""))
    return {"scheduler": next((name.strip() for name in names if name.strip() in get_args(Scheduler)), None)}


def _number(text: str) -> object:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _quoted(value: object) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if re.search(r'[,:\n"]', text) else text


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(text)) if text.startswith('"') else text
    except ValueError:
        return text
