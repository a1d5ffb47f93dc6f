"""Wildcards: `__animal__` in a template stands for the lines of animal.txt, as alternatives.

Files are looked for in the folders given, the later ones first, so that a user's own win over the shipped ones. What a run is
told has the lines in it already: a file that changes later changes no run.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sdplay.errors import TemplateError
from sdplay.templates import MAX_COMBINATIONS

MAX_DEPTH = 4
MAX_FILE_BYTES = 64 * 1024
_CALL = re.compile(r"__([^\s{}|]+?)__")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*(?:_[A-Za-z0-9-]+)*(?:/[A-Za-z0-9][A-Za-z0-9_-]*)*")


def load_wildcards(folders: Sequence[Path]) -> dict[str, tuple[str, ...]]:
    """The lines of every file by name; `plants/tree` is plants/tree.txt. Blank lines and those that begin with # are left out.

    A file that leads out of its folder, is too large, or is no text in UTF-8, is left out.
    """
    found: dict[str, tuple[str, ...]] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*.txt")):
            name = path.relative_to(folder).with_suffix("").as_posix()
            if _NAME.fullmatch(name) and (lines := _lines(path, folder)):
                found[name] = lines
    return found


def resolve(template: str, wildcards: Mapping[str, Sequence[str]]) -> str:
    """The template with every `__name__` replaced by `{its|lines}`. Lines may call other files, MAX_DEPTH deep.

    Raises TemplateError for a name that does not exist, cannot be one, or has more lines than a template may have combinations.
    """
    return _resolve(template, wildcards, depth=0)


def spelt_out(values: Mapping[str, object], resolved: Callable[[str], str]) -> dict[str, object]:
    """A training config's values with its templates resolved: a run does not change when a file does."""
    spelt = dict(values)
    for key in ("caption_templates", "sample_prompts"):
        given = values.get(key)
        if isinstance(given, Sequence) and not isinstance(given, str):
            spelt[key] = [resolved(text) if isinstance(text, str) else text for text in given]
    return spelt


def called(template: str) -> list[str]:
    """The names that a template calls, in order, without doubles."""
    return list(dict.fromkeys(_CALL.findall(template)))


def _resolve(template: str, wildcards: Mapping[str, Sequence[str]], *, depth: int) -> str:
    if depth > MAX_DEPTH and _CALL.search(template):
        raise TemplateError(f"The wildcards call each other more than {MAX_DEPTH} deep.", "One of them probably calls itself.")
    return _CALL.sub(lambda match: _alternatives(match.group(1), wildcards, depth=depth), template)


def _alternatives(name: str, wildcards: Mapping[str, Sequence[str]], *, depth: int) -> str:
    lines = wildcards.get(name) if _NAME.fullmatch(name) else None
    if lines is None:
        raise _unknown(name, wildcards)
    if len(lines) > MAX_COMBINATIONS:
        raise TemplateError(
            f"The wildcard __{name}__ has {len(lines)} lines; {MAX_COMBINATIONS} are the most.", "Split its file in two, or shorten it."
        )
    texts = [_resolve(line, wildcards, depth=depth + 1) for line in lines]
    if len(texts) == 1:
        return texts[0]
    first = " " if texts[0].startswith("{") else ""  # {{ would be a plain brace
    return "{" + first + "|".join(texts) + "}"


def _unknown(name: str, wildcards: Mapping[str, Sequence[str]]) -> TemplateError:
    if not _NAME.fullmatch(name):
        return TemplateError(
            f"'{name[:60]}' cannot be the name of a wildcard.", "Use letters, digits and dashes, and / for a folder: __plants/tree__."
        )
    near = difflib.get_close_matches(name, wildcards, n=1)
    known = ", ".join(f"__{known}__" for known in list(wildcards)[:12])
    hint = (
        f"Did you mean __{near[0]}__?" if near else f"There are {known or 'none yet'}; your own go into the workspace's wildcards folder."
    )
    return TemplateError(f"There is no wildcard __{name}__.", hint)


def _lines(path: Path, folder: Path) -> tuple[str, ...]:
    try:
        if not path.resolve().is_relative_to(folder.resolve()) or path.stat().st_size > MAX_FILE_BYTES:
            return ()
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return ()
    lines = (line.strip() for line in text.splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))
