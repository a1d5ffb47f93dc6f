"""What ships with sdplay to begin with: small licensed data sets with the settings that suit them, and a gallery of prompts."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, model_validator
from typing_extensions import Self

from sdplay.errors import ConfigError
from sdplay.prompt_sets import in_a_sentence, read_yaml
from sdplay.workspace import PRESETS, slug
from sdplay.yaml_text import parse_yaml

log = logging.getLogger(__name__)

GALLERY = PRESETS / "gallery"
"""Pictures the embedded base drew, made by `python -m sdplay.mini.sheets`."""


class Sample(BaseModel):
    """A folder of pictures with captions in metadata.jsonl, and what to train it with. Raises ConfigError."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1, description="The folder's name.")
    title: str = Field(min_length=1)
    kind: Literal["subject", "style"]
    why: str
    token: str = Field(min_length=1, description="The trigger token to teach.")
    class_word: str = Field(default="", description="What kind of thing the subject is; empty for a style.")
    prompt_set: str = Field(min_length=1, description="Name of the prompt set to train and sample with.")
    training_preset: str = Field(min_length=1, description="Name of the training preset.")
    source: str = Field(min_length=1, description="Who made the pictures, and where they are.")
    licence: str = Field(min_length=1, description="SPDX name of the pictures' licence.")
    folder: Path

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, given: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:  # noqa: ANN401 - whatever the caller passed
        try:
            return handler(given)
        except ValidationError as error:
            raise in_a_sentence(error) from error


def load_samples(folder: Path) -> dict[str, Sample]:
    """Every sample data set in `folder` by id, from <id>/sample.yaml. Those that cannot be used are logged and left out."""
    found = {}
    for path in sorted(folder.glob("*/sample.yaml")):
        try:
            found[path.parent.name] = Sample(**{**read_yaml(path), "id": path.parent.name, "folder": path.parent})
        except ConfigError as error:
            log.warning("Sample data set %s left out: %s", path.parent.name, error)
    return found


def gallery_prompts() -> list[str]:
    """Prompts that show what the embedded base draws, in order."""
    return [str(prompt) for prompt in parse_yaml((GALLERY / "prompts.yaml").read_text(encoding="utf-8"))]


def gallery_path(prompt: str) -> Path:
    """Where the picture of a gallery's prompt is."""
    return GALLERY / f"{slug(prompt)}.png"
