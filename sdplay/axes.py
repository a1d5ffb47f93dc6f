"""What may change from picture to picture of a comparison beside its columns, prompts and seeds; and lists of values as people write them.

`1, 2, .., 10` goes on as it began, `0.2..1:0.2` goes from one to the other in steps, `a | b` lists texts that contain commas.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Literal, get_args, get_origin

from sdplay.columns import BASE, MAX_STRENGTH
from sdplay.config import CompareConfig, GenerateConfig, parse
from sdplay.errors import ConfigError

Value = int | float | str
Kind = Literal["whole", "number", "text", "choice"]
MAX_VALUES = 64
PLACE = "{prompt}"
"""Where a style's text takes the prompt in."""
DRAWING_FIELDS = ("scheduler", "clip_skip", "steps", "guidance_from", "guidance_scale", "guidance_stop")
"""Settings of a drawing that can be an axis, the costliest to change first; those that this version has not are left out."""
_NUMBER = r"[+-]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"(?P<first>{_NUMBER})\.\.(?P<last>{_NUMBER})(?::(?P<step>{_NUMBER}))?")


@dataclass(frozen=True)
class Spec:
    """Everything that one picture depends on beside the base model; equal specs are one picture, drawn once."""

    column: str
    """As a user writes it, see columns.py."""
    prompt: str
    seed: int
    drawing: GenerateConfig
    strength: float = 1.0
    """On top of the column's own."""


@dataclass(frozen=True)
class Axis:
    """One thing that can change."""

    name: str
    title: str
    what: str
    example: str
    kind: Kind
    apply: Callable[[Spec, Value], Spec]
    choices: tuple[str, ...] = ()


@lru_cache
def axes() -> dict[str, Axis]:
    """Every axis by name, the costliest to change first: those that put other weights on the base."""
    steps, times = "Steps of the chosen runs; runs that name a step keep it.", "Times each column's own strength; the base has none."
    fixed = [
        Axis("checkpoint", "Checkpoint", steps, "50, 100, .., 300", "whole", _checkpoint),
        Axis("strength", "Strength", times, "0.2..1:0.2", "number", _strength),
    ]
    drawn = [_drawing_axis(name) for name in DRAWING_FIELDS if name in GenerateConfig.model_fields]
    style = Axis("style", "Style", f"Added to each prompt, or put around {PLACE}; - is none.", "- | oil painting | pixel art of {prompt}",
                 "text", _style)  # fmt: skip
    return {axis.name: axis for axis in (*fixed, *drawn, style)}


def axis(name: str) -> Axis:
    """An axis by name. Raises ConfigError that lists the names."""
    found = axes().get(name)
    if found is None:
        raise ConfigError(f"There is no axis {name!r}.", f"Choose from: {', '.join(axes())}.")
    return found


def check_axes(config: CompareConfig) -> None:
    """Every axis exists, has no value twice, and every value can be used. Raises ConfigError."""
    first = Spec(BASE, "prompt", 0, config.drawing)
    for name, values in config.axes.items():
        found = axis(name)
        if not values:
            raise ConfigError(f"{found.title} has no values.", f"Write them like {found.example}, or leave the axis away.")
        _check_twice(found, values)
        for value in values:
            found.apply(first, value)


def parse_axes(texts: dict[str, str]) -> dict[str, tuple[Value, ...]]:
    """Axes as a form holds them, empty ones left out. Raises ConfigError."""
    return {name: tuple(parse_values(text, axis(name))) for name, text in texts.items() if text.strip()}


def parse_values(text: str, given: Axis) -> list[Value]:
    """A list of values for an axis. Raises ConfigError with what to write instead."""
    if given.kind in ("text", "choice"):
        values: list[Value] = [part.strip() for part in re.split(r"[|\n]" if "|" in text or "\n" in text else ",", text) if part.strip()]
        if given.kind == "choice":
            values = [_choice(str(value), given) for value in values]
    else:
        values = list(parse_numbers(text, given.title, whole=given.kind == "whole"))
    _check_twice(given, values)
    return values


def parse_numbers(text: str, title: str, *, whole: bool) -> list[int | float]:
    """Numbers and ranges of them, in the order they are written. Raises ConfigError."""
    hint = "Write it like 1, 2, .., 10 or 1..10:3." if whole else "Write it like 0.2, 0.4, .., 1 or 0.2..1:0.2."
    pieces = [piece for piece in re.split(r"[,;\s]+", re.sub(r"\s*(\.\.|:)\s*", r"\1", text.strip())) if piece]
    found: list[Decimal] = []
    for index, piece in enumerate(pieces):
        if piece == "..":
            if not found or index + 1 == len(pieces):
                raise ConfigError(f"{title}: the dots need a number before and after them.", hint)
            last = _decimal(pieces[index + 1], title, hint)
            step = found[-1] - found[-2] if len(found) > 1 else _towards(found[-1], last)
            found += [value for value in _between(found[-1], last, step, title)[1:] if value != last]
        elif match := _RANGE.fullmatch(piece):
            first, last, size = (_decimal(match[group] or "1", title, hint) for group in ("first", "last", "step"))
            found += _between(first, last, abs(size) * _towards(first, last), title)
        else:
            found.append(_decimal(piece, title, hint))
        if len(found) > MAX_VALUES:
            raise ConfigError(f"{title} has more than {MAX_VALUES} values.", "Take larger steps.")
    if whole and (part := next((value for value in found if value != value.to_integral_value()), None)) is not None:
        raise ConfigError(f"{title}: {part} is not a whole number.", hint)
    return [int(value) if whole else float(value) for value in found]


def spec_of(config: CompareConfig, column: int, prompt: int, seed: int, more: Sequence[int]) -> Spec:
    """What the picture in a place of the grid depends on. more: which value of each axis, in the config's order."""
    spec = Spec(config.columns[column], config.prompts[prompt], seed, config.drawing)
    for (name, values), index in zip(config.axes.items(), more, strict=True):
        spec = axis(name).apply(spec, values[index])
    return spec


def value_label(name: str, value: Value) -> str:
    """`strength 0.5`, `step 100`, `Euler`, `away from base`."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    if name == "guidance_from":
        return f"away from {text}"
    return text if isinstance(value, str) else f"{axis(name).title.lower()} {text}"


def _between(first: Decimal, last: Decimal, step: Decimal, title: str) -> list[Decimal]:
    """From `first` in steps, as far as they reach without passing `last`. Raises ConfigError."""
    if step == 0 or (last - first) * step < 0:
        raise ConfigError(f"{title}: {last} cannot be reached from {first} in steps of {step}.", "Turn the range or the step round.")
    count = int((last - first) / step) + 1
    if count > MAX_VALUES:
        sizes = f"from {first} to {last} in steps of {step} are {count} values"
        raise ConfigError(f"{title}: {sizes}; {MAX_VALUES} are the most.", "Take larger steps.")
    return [first + step * number for number in range(count)]


def _towards(first: Decimal, last: Decimal) -> Decimal:
    return Decimal(1) if last >= first else Decimal(-1)


def _decimal(text: str, title: str, hint: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ConfigError(f"{title}: {text[:30]!r} is not a number.", hint) from None
    if value.is_nan():
        raise ConfigError(f"{title}: {text[:30]!r} is not a number.", hint)
    if abs(value) > 2**31:
        raise ConfigError(f"{title}: {text[:30]!r} is out of range.", hint)
    return value


def _check_twice(given: Axis, values: Sequence[Value]) -> None:
    if twice := next((value for index, value in enumerate(values) if value in values[:index]), None):
        raise ConfigError(f"{given.title}: {twice} is there twice.", "Take one of them away.")


def _choice(text: str, given: Axis) -> str:
    found = next((choice for choice in given.choices if choice.lower() == text.lower()), None)
    if found is None:
        raise ConfigError(f"{given.title}: there is no {text[:40]!r}.", f"Choose from: {', '.join(given.choices)}.")
    return found


def _checkpoint(spec: Spec, value: Value) -> Spec:
    """RUN becomes RUN@STEP; the base, files and mixtures have no steps."""
    if isinstance(value, str) or value != int(value):
        raise ConfigError(f"Checkpoint: {value} is not a whole number.", "Write steps like 50, 100.")
    what, colon, strength = spec.column.partition(":")
    if what == BASE or "@" in what or "+" in what or what.endswith(".safetensors"):
        return spec
    return replace(spec, column=f"{what}@{int(value)}{colon}{strength}")


def _strength(spec: Spec, value: Value) -> Spec:
    if not isinstance(value, int | float) or not -MAX_STRENGTH <= value <= MAX_STRENGTH:
        raise ConfigError(f"The strength {value} is out of range.", f"Use a strength from -{MAX_STRENGTH:g} to {MAX_STRENGTH:g}.")
    return spec if spec.column == BASE else replace(spec, strength=float(value))


def _style(spec: Spec, value: Value) -> Spec:
    text = str(value)
    if text == "-":
        return spec
    return replace(spec, prompt=text.replace(PLACE, spec.prompt) if PLACE in text else f"{spec.prompt}, {text}")


def _drawing_axis(name: str) -> Axis:
    field = GenerateConfig.model_fields[name]
    kinds = [kind for kind in (field.annotation, *get_args(field.annotation)) if kind is not type(None)]
    literal = next((kind for kind in kinds if get_origin(kind) is Literal), None)
    choices = tuple(str(choice) for choice in get_args(literal)) if literal else ()
    kind: Kind = "choice" if choices else "whole" if int in kinds else "number" if float in kinds else "text"
    examples = {"steps": "10, 20, 40", "guidance_scale": "2..8:2", "clip_skip": "1, 2", "guidance_stop": "0.4, 1"}

    def apply(spec: Spec, value: Value) -> Spec:
        if name == "guidance_from" and spec.column == BASE:
            return spec
        return replace(spec, drawing=parse(GenerateConfig, {**spec.drawing.model_dump(), name: value}))

    return Axis(name, field.title or name, field.description or "", examples.get(name, ", ".join(choices[:2])), kind, apply, choices)
