"""A config model's fields as controls, and the controls' values as a config's values. Nothing is named twice."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin

import gradio as gr
from pydantic.fields import FieldInfo

from sdplay.config import Config, Level

Control: TypeAlias = gr.Dropdown | gr.Number | gr.Radio | gr.Textbox | gr.HTML


@dataclass(frozen=True)
class Form:
    """Controls by field name, in the model's order."""

    controls: dict[str, Control]

    @property
    def inputs(self) -> list[Control]:
        """The controls, as an event's inputs or outputs."""
        return list(self.controls.values())

    def values(self, given: Sequence[object]) -> dict[str, object]:
        """What the controls hold, by field name, as it was typed."""
        return dict(zip(self.controls, given, strict=True))


def fields_of(model: type[Config], level: Level) -> dict[str, FieldInfo]:
    """Fields of one level, in the model's order."""
    return {name: field for name, field in model.model_fields.items() if _extra(field).get("level") == level}


def explain(field: FieldInfo) -> str:
    """What it does, what is typical, what can go wrong: one line under the control."""
    extra = _extra(field)
    typical = f" Typical: {extra['typical']}." if extra.get("typical") else ""
    risk = f" Risk: {extra['risk']}" if extra.get("risk") else ""
    return f"{field.description or ''}{typical}{risk}"


def control(name: str, field: FieldInfo, *, prefix: str) -> Control:
    """The control that fits a field's type."""
    common: dict[str, Any] = {"label": field.title or name, "info": explain(field), "elem_id": f"{prefix}-{name}", "interactive": True}
    kind = _kind(field)
    if get_origin(kind) is Literal:
        return gr.Dropdown(choices=list(get_args(kind)), value=field.default, **common)
    if kind in (int, float):
        return gr.Number(value=field.default, step=_step(field, kind), **common)
    return gr.Textbox(value=field.default or "", **common)


def controls_of(model: type[Config], level: Level, *, prefix: str) -> dict[str, Control]:
    """Make the controls of one level where the caller's layout is."""
    return {name: control(name, field, prefix=prefix) for name, field in fields_of(model, level).items()}


def controls_of_any(models: Sequence[type[Config]], level: Level, *, prefix: str) -> dict[str, Control]:
    """The controls of one level of several models; what they have in common is there once."""
    merged: dict[str, FieldInfo] = {}
    for model in models:
        merged |= {name: field for name, field in fields_of(model, level).items() if name not in merged}
    return {name: control(name, field, prefix=prefix) for name, field in merged.items()}


def defaults(form: Form, model: type[Config], changes: Mapping[str, object]) -> list[object]:
    """Values for the controls: the model's defaults, then `changes`."""
    return [changes.get(name, model.model_fields[name].default) for name in form.controls]


def _extra(field: FieldInfo) -> Mapping[str, Any]:
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}


def _kind(field: FieldInfo) -> object:
    """The field's type without `| None`."""
    annotation = field.annotation
    if get_origin(annotation) in (Union, types.UnionType):
        return next(part for part in get_args(annotation) if part is not type(None))
    return annotation


def _step(field: FieldInfo, kind: object) -> float:
    """How far the arrow keys go: a tenth of a fraction's size, else 1 or the field's grid."""
    if kind is int:
        return next((rule.multiple_of for rule in field.metadata if hasattr(rule, "multiple_of")), 1)
    default = abs(field.default or 1.0)
    return float(f"1e{len(str(int(default))) - 1}") if default >= 10 else (0.5 if default >= 1 else default / 10)
