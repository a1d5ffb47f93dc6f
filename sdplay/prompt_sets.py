"""Prompt sets: the templates a run trains with and the prompts that show what it learned, as one small YAML file each.

A line is a template, maybe with flags: see prompt_rows.py.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from typing_extensions import Self

from sdplay import templates
from sdplay.errors import ConfigError, SdplayError, TemplateError
from sdplay.prompt_rows import PromptRow, Use, check_row, parse_row, parse_rows
from sdplay.workspace import slug, write_atomically
from sdplay.yaml_text import parse_yaml

log = logging.getLogger(__name__)

Text = Annotated[str, Field(max_length=templates.MAX_LENGTH)]


class PromptSet(BaseModel):
    """Templates that go together. Raises ConfigError or TemplateError, never pydantic's own error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=40, title="Name", description="What the set is called in settings and on disk.")
    title: str = Field(min_length=1, max_length=80, title="Title", description="What the set is called on the page.")
    why: Text = Field(default="", title="Why", description="When to choose it.")
    train: tuple[str, ...] = Field(
        min_length=1,
        max_length=20,
        title="Training templates",
        description="Each picture is shown with one of these as its caption.",
    )
    sample: tuple[str, ...] = Field(
        min_length=1, max_length=24, title="Sample prompts", description="Drawn during training and in comparisons."
    )
    negative: Text = Field(default="", title="Negative prompt", description="What sample pictures should stay away from.")

    @field_validator("train", "sample")
    @classmethod
    def _templates_can_be_read(cls, given: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        uses: tuple[Use, ...] = ("train",) if info.field_name == "train" else ("sample", "compare")
        for number, line in enumerate(given, start=1):
            if not line.strip():
                raise TemplateError(f"Template {number} is empty.", "Write something there, or remove it.")
            try:
                check_row(parse_row(line, uses))
            except TemplateError as error:
                raise TemplateError(f"In '{line[:80]}': {error.message}", error.hint) from error
        return given

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, given: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:  # noqa: ANN401 - whatever the caller passed
        try:
            return handler(given)
        except ValidationError as error:
            raise in_a_sentence(error) from error

    @property
    def rows(self) -> list[PromptRow]:
        """The set as a table; a line that is in both lists is one row."""
        return parse_rows(self.train, self.sample)

    @property
    def caption_templates(self) -> list[str]:
        """What training shows a picture with, without flags."""
        return [row.text for row in self._lines("train")]

    @property
    def template_weights(self) -> list[float]:
        """How often each of `caption_templates` is drawn; empty when all count alike."""
        weights = [row.weight for row in self._lines("train")]
        return weights if set(weights) != {1.0} else []

    def prompts(self, use: Literal["sample", "compare"]) -> list[str]:
        """What training, or a comparison, draws; where every line is for the other, all of them."""
        rows = self._lines("sample")
        return [row.prompt for row in rows if use in row.uses] or [row.prompt for row in rows]

    def _lines(self, which: Literal["train", "sample"]) -> list[PromptRow]:
        if which == "train":
            return [parse_row(line, ("train",)) for line in self.train]
        return [parse_row(line, ("sample", "compare")) for line in self.sample]


def load_prompt_sets(folders: Sequence[Path]) -> dict[str, PromptSet]:
    """Every set in the folders' *.yaml by name; a later folder wins. Files that cannot be used are logged and left out."""
    found = {}
    for path in (path for folder in folders for path in sorted(folder.glob("*.yaml"))):
        try:
            prompt_set = read_prompt_set(path)
        except SdplayError as error:
            log.warning("Prompt set left out: %s", error)
        else:
            found[prompt_set.name] = prompt_set
    return found


def read_prompt_set(path: Path) -> PromptSet:
    """One set; its name is the file's. Raises ConfigError or TemplateError that names the file."""
    fields = read_yaml(path)
    if "name" in fields:
        raise ConfigError(f"{path.name} has a 'name'.", "Remove that line: a prompt set is called what its file is called.")
    try:
        return PromptSet(name=path.stem, **fields)
    except SdplayError as error:
        raise type(error)(f"{path.name}: {error.message}", error.hint) from error


def save_prompt_set(folder: Path, prompt_set: PromptSet) -> Path:
    """Write `folder`/<name>.yaml, the name in lower-case letters, digits and dashes. An older file is replaced.

    Raises ConfigError if nothing is left of the name.
    """
    name = slug(prompt_set.name)
    if not name:
        raise ConfigError(
            f"'{prompt_set.name}' cannot be the name of a prompt set.", "Use letters a to z and digits, such as garden-gnome."
        )
    path = folder / f"{name}.yaml"
    fields = prompt_set.model_dump(mode="json", exclude={"name"})
    write_atomically(path, yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=1000))
    return path


def parse_prompts(text: str) -> list[str]:
    """One prompt a line; blank lines and lines that begin with # are left out."""
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def prompts_from(arguments: Sequence[str]) -> list[str]:
    """Prompts as the command line gives them, in order.

    An existing .txt file stands for its lines, an existing .yaml prompt set for its sample prompts, anything else for itself.
    Raises ConfigError or TemplateError if such a file cannot be used.
    """
    return [prompt for argument in arguments for prompt in _prompts_from(argument)]


def read_yaml(path: Path) -> dict[str, Any]:
    """The settings in a small YAML file. Raises ConfigError that names the file."""
    try:
        fields = parse_yaml(_read_text(path))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" near line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path.name} is not valid YAML{where}.", "Put quotes around a text that begins with a brace.") from error
    if not isinstance(fields, dict) or not all(isinstance(key, str) for key in fields):
        raise ConfigError(f"{path.name} holds no settings.", "It needs lines such as 'title: My prompts'.")
    return fields


def in_a_sentence(error: ValidationError) -> ConfigError:
    """The first thing pydantic found, in the user's words."""
    first = error.errors()[0]
    place = ".".join(str(part + 1 if isinstance(part, int) else part) for part in first["loc"])
    limits = first.get("ctx", {})
    match first["type"]:
        case "missing":
            return ConfigError(f"'{place}' is missing.", "Add it.")
        case "extra_forbidden":
            return ConfigError(f"There is no setting '{place}'.", "Check its spelling, or remove it.")
        case "too_short":
            return ConfigError(f"'{place}' has {limits['actual_length']} entries.", f"It needs at least {limits['min_length']}.")
        case "too_long":
            return ConfigError(f"'{place}' has more than {limits['max_length']} entries.", "Remove some.")
        case "tuple_type":
            return ConfigError(f"'{place}' is not a list.", "Put one text on each line, after a dash.")
        case _:
            return ConfigError(f"'{place}' cannot be used: {first['msg']}.")


def _prompts_from(argument: str) -> list[str]:
    path = Path(argument)
    if path.suffix not in (".txt", ".yaml"):
        return [argument]
    if not path.is_file():
        raise ConfigError(f"There is no file {argument!r}.", "Give a file with one prompt on each line, or a prompt.")
    if path.suffix == ".yaml":
        return read_prompt_set(path).prompts("compare")
    prompts = parse_prompts(_read_text(path))
    if not prompts:
        raise ConfigError(f"{path.name} holds no prompts.", "Write one on each line.")
    return prompts


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name} cannot be read ({error}).", "It must be a text file in UTF-8.") from error
