"""What a setting is, and how values are checked at the door: one sentence per mistake."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from sdplay.errors import ConfigError
from sdplay.yaml_text import parse_yaml

Level = Literal["basic", "expert", "hidden"]
ConfigT = TypeVar("ConfigT", bound="Config")

Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=1000)]
Template = Annotated[str, StringConstraints(strip_whitespace=True, max_length=4000)]
"""A prompt template; wildcards are spelt out in it."""


def setting(
    default: Any,  # noqa: ANN401  a field's default has the field's type
    title: str,
    what: str,
    *,
    level: Level = "expert",
    typical: str = "",
    risk: str = "",
    **bounds: Any,  # noqa: ANN401  ge, le, gt, lt, max_length: pydantic's own
) -> Any:  # noqa: ANN401  pydantic's Field does the same
    """A config field with everything a form needs to explain it."""
    return Field(default, title=title, description=what, json_schema_extra={"level": level, "typical": typical, "risk": risk}, **bounds)


class Config(BaseModel):
    """What every config has in common."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


def parse(config_class: type[ConfigT], values: Mapping[str, object]) -> ConfigT:
    """Check values at the door. Raises ConfigError with one sentence per mistake."""
    try:
        return config_class.model_validate(dict(values))
    except ValidationError as error:
        sentences = [_sentence(config_class, dict(problem)) for problem in error.errors(include_url=False, include_context=True)]
        raise ConfigError(" ".join(sentences), "Correct the value and try again.") from None


def parse_assignment(text: str) -> tuple[str, object]:
    """`key=value` from the command line; the value is read as YAML, so 1e-4, true, null and [a, b] mean what they say."""
    import yaml

    key, separator, raw = text.partition("=")
    if not separator or not key.strip():
        raise ConfigError(f"--set {text!r} is not key=value.", "Write it like --set steps=300.")
    try:
        value = parse_yaml(raw)
    except yaml.YAMLError:
        value = raw
    return key.strip(), _as_number(value)


def _as_number(value: object) -> object:
    """YAML 1.1 reads 1e-4 as text."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _sentence(config_class: type[Config], problem: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    field = config_class.model_fields.get(str(problem["loc"][0])) if problem["loc"] else None
    title = f"{field.title} ({key})" if field and field.title else key
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, config_class.model_fields, n=1)
        return f"There is no setting {key!r}." + (f" Did you mean {near[0]!r}?" if near else "")
    if problem["type"] == "missing":
        return f"{title} is missing."
    reason = problem["msg"][0].lower() + problem["msg"][1:]
    return f"{title}: {reason.removeprefix('value error, ')}, but it is {_short(problem['input'])}."


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
