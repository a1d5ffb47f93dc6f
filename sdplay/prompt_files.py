"""Prompt sets as files to hand on: YAML and JSON hold everything, CSV one row a line for a spreadsheet.

CSV columns: text, name, negative, use (train, sample, compare, joined by +), weight. Above them, lines `# key: value` hold the rest.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from sdplay.errors import ConfigError, SdplayError
from sdplay.prompt_rows import USES, PromptRow, parse_row, to_lines
from sdplay.prompt_sets import PromptSet
from sdplay.workspace import slug
from sdplay.yaml_text import parse_yaml

Format = Literal["yaml", "json", "csv"]
FORMATS: tuple[Format, ...] = get_args(Format)
MAX_BYTES = 256 * 1024
COLUMNS = ("text", "name", "negative", "use", "weight")
_HEAD = ("title", "why", "negative")


def export_text(prompt_set: PromptSet, kind: Format) -> str:
    """The whole set as a file's text; `import_file` makes the same set of it."""
    fields = prompt_set.model_dump(mode="json", exclude={"name"})
    if kind == "yaml":
        return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=1000)
    if kind == "json":
        return json.dumps(fields, indent=1, ensure_ascii=False) + "\n"
    written = io.StringIO()
    for key in _HEAD:
        if fields[key]:
            written.write(f"# {key}: {' '.join(str(fields[key]).split())}\n")
    table = csv.writer(written, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows((row.text, row.name, row.negative, "+".join(row.uses), f"{row.weight:g}") for row in prompt_set.rows)
    return written.getvalue()


def import_file(path: Path, *, name: str = "") -> PromptSet:
    """A set from a .yaml, .json or .csv file, called `name` or what the file is called. Raises ConfigError or TemplateError."""
    readers: dict[str, Callable[[str], Mapping[str, Any]]] = {
        ".yaml": _read_yaml, ".yml": _read_yaml, ".json": _read_json, ".csv": _read_csv,
    }  # fmt: skip
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ConfigError(f"{path.name} is no prompt set.", "Give a .yaml, .json or .csv file.")
    try:
        fields = dict(reader(_text_of(path)))
        fields.pop("name", None)
        called = name or slug(path.stem) or "imported"
        return PromptSet.model_validate({"title": called, **fields, "name": called})
    except SdplayError as error:
        raise type(error)(f"{path.name}: {error.message}", error.hint) from error


def _text_of(path: Path) -> str:
    if path.stat().st_size > MAX_BYTES:
        raise ConfigError("The file is too large for a prompt set.", f"At most {MAX_BYTES // 1024} KB are read.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError("The file is no text in UTF-8.", "Save it as UTF-8.") from None


def _read_yaml(text: str) -> Mapping[str, Any]:
    try:
        return _mapping(parse_yaml(text))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" near line {mark.line + 1}" if mark else ""
        raise ConfigError(f"It is not valid YAML{where}.", "Put quotes around a text that begins with a brace.") from error


def _read_json(text: str) -> Mapping[str, Any]:
    try:
        return _mapping(json.loads(text))
    except ValueError as error:
        raise ConfigError(f"It is not valid JSON: {error}.", "Export a set to see what it looks like.") from error


def _mapping(given: object) -> Mapping[str, Any]:
    if not isinstance(given, dict) or not all(isinstance(key, str) for key in given):
        raise ConfigError("It holds no settings.", "It needs title, train and sample.")
    return given


def _read_csv(text: str) -> Mapping[str, Any]:
    lines = text.splitlines()
    heads = [line[1:].partition(":") for line in lines if line.startswith("#")]
    fields = {key.strip(): value.strip().rstrip(",") for key, _, value in heads if key.strip() in _HEAD}
    reader = csv.DictReader(line for line in lines if not line.startswith("#") and line.strip(" ,;\t"))
    if "text" not in (reader.fieldnames or ()):
        raise ConfigError("Its first row names no column 'text'.", f"The columns are {', '.join(COLUMNS)}.")
    rows = [_row({key: (value or "").strip() for key, value in entry.items() if key in COLUMNS}) for entry in reader]
    train, sample = to_lines([row for row in rows if row.text])
    return {**fields, "train": train, "sample": sample}


def _row(entry: Mapping[str, str]) -> PromptRow:
    """A row of the table; a text may bring flags of its own."""
    named = [part.strip() for part in (entry.get("use") or "sample+compare").replace(";", "+").split("+") if part.strip()]
    wrong = next((use for use in named if use not in USES), None)
    if wrong:
        raise ConfigError(f"The use {wrong[:20]!r} does not exist.", f"Write {', '.join(USES)}, joined by +.")
    uses = tuple(use for use in USES if use in named)
    flags = {"n": entry.get("negative"), "weight": entry.get("weight"), "name": entry.get("name")}
    line = " ".join([entry.get("text", ""), *(f"--{flag} {value}" for flag, value in flags.items() if value)])
    return parse_row(line, uses)
