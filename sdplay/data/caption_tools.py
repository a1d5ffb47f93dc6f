"""Changing many captions at once: replace, put in front or behind, name after the file, fill a template.

Each function takes pictures and returns the captions that change, by key. Nothing is written here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from sdplay.data.examples import Example
from sdplay.errors import DataError

Captions = dict[str, str]
REGEX_SECONDS = 0.5
NAME, CAPTION, NUMBER = "{name}", "{caption}", "{number}"
_CAMERA_NAME = re.compile(r"^(img|dsc[nf]?|pxl|mvi|dcim|photo|image|picture|screenshot|untitled|whatsapp|frame)?[\W\d_]*$", re.IGNORECASE)


def replaced(examples: Sequence[Example], find: str, by: str) -> Captions:
    """Every occurrence of a text, with the case as written, replaced. Raises DataError when there is nothing to find."""
    if not find:
        raise DataError("There is nothing to find.", "Write the words to replace.")
    return _changed(examples, lambda example: example.caption.replace(find, by))


def replaced_by_pattern(examples: Sequence[Example], pattern: str, by: str) -> Captions:
    r"""Every match of a regular expression replaced; `by` may use \1 or \g<name>.

    Raises DataError for a pattern or replacement that cannot be read, or that takes too long: some patterns take for ever.
    """
    import regex

    if not pattern:
        raise DataError("There is nothing to find.", "Write a pattern, such as photo|picture.")
    try:
        compiled = regex.compile(pattern)
        return _changed(examples, lambda example: compiled.sub(by, example.caption, timeout=REGEX_SECONDS))
    except regex.error as error:
        raise DataError(
            f"The pattern {pattern[:60]!r} cannot be read: {error}.", "Put a \\ before signs that mean themselves, as in \\(."
        ) from error
    except TimeoutError as error:
        hint = "Repeats inside repeats, as in (a+)+, take for ever: write it without."
        raise DataError(f"The pattern {pattern[:60]!r} takes too long.", hint) from error
    except (IndexError, KeyError, RecursionError, MemoryError) as error:
        raise DataError(f"The replacement {by[:60]!r} does not fit the pattern.", "\\1 stands for the first pair of brackets.") from error


def put_in_front(examples: Sequence[Example], text: str) -> Captions:
    """The text, a comma, the caption; a caption that begins with the text already stays."""
    wanted = _wanted(text)
    return _changed(examples, lambda e: e.caption if _begins(e.caption, wanted) else _joined(wanted, e.caption))


def put_behind(examples: Sequence[Example], text: str) -> Captions:
    """The caption, a comma, the text; a caption that ends with the text already stays."""
    wanted = _wanted(text)
    return _changed(examples, lambda e: e.caption if e.caption.lower().endswith(wanted.lower()) else _joined(e.caption, wanted))


def with_trigger(examples: Sequence[Example], trigger: str) -> Captions:
    """The trigger word in front of every caption that does not name it anywhere."""
    if not trigger.strip():
        raise DataError("There is no trigger word.", "Write it into the field, for example sks-fox; it is the one under Prompts.")
    word = re.compile(rf"(?<!\w){re.escape(trigger.strip())}(?!\w)", re.IGNORECASE)
    return _changed(examples, lambda e: e.caption if word.search(e.caption) else _joined(trigger.strip(), e.caption))


def named_after_files(examples: Sequence[Example]) -> Captions:
    """The words of the file's name, for pictures without a caption; names that only count or come from a camera say nothing.

    Raises DataError when no name says anything.
    """
    captions = {example.key: words_of(example.source) for example in examples if not example.caption}
    named = {key: text for key, text in captions.items() if text}
    if captions and not named:
        raise DataError("The file names are only numbers.", "Write a template under Captions, or describe the pictures one by one.")
    return named


def filled(examples: Sequence[Example], template: str) -> Captions:
    """A template for every picture: {name} is the words of its file name, {caption} what it has now, {number} its place from 1.

    Raises DataError for another name in braces.
    """
    unknown = [name for name in re.findall(r"\{[^{}]*\}", template) if name not in (NAME, CAPTION, NUMBER)]
    if unknown:
        raise DataError(f"{unknown[0][:40]} means nothing here.", f"Use {NAME}, {CAPTION} or {NUMBER}.")
    if not template.strip():
        raise DataError("The template is empty.", f"Write one, for example: a photo of {NAME}.")
    return _changed(examples, lambda example: _fill(template, example))


def shortened(examples: Sequence[Example], words: int) -> Captions:
    """The first words of every caption that has more."""
    return _changed(examples, lambda e: " ".join(e.caption.split()[:words]).rstrip(" ,;"))


def words_of(source: str) -> str:
    """What a file name says: `red_apple-02.png` is "red apple", `IMG_2041.jpg` nothing."""
    stem = PurePosixPath(source).stem
    if _CAMERA_NAME.match(stem):
        return ""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", re.sub(r"[\W_]+", " ", stem))
    return " ".join(word for word in spaced.split() if not word.isdigit() and not re.fullmatch(r"[0-9a-f]{8,}", word)).lower()


def _fill(template: str, example: Example) -> str:
    values = {NAME: words_of(example.source), CAPTION: example.caption, NUMBER: str(example.place + 1)}
    text = re.sub(r"\{[^{}]*\}", lambda found: values[found.group()], template)
    return " ".join(text.split()).strip(" ,")


def _changed(examples: Sequence[Example], rewrite: Callable[[Example], str]) -> Captions:
    rewritten = {example.key: " ".join(rewrite(example).split()) for example in examples}
    return {example.key: rewritten[example.key] for example in examples if rewritten[example.key] != example.caption}


def _wanted(text: str) -> str:
    wanted = text.strip().strip(",").strip()
    if not wanted:
        raise DataError("There is nothing to add.", "Write the words to add to every caption.")
    return wanted


def _begins(caption: str, text: str) -> bool:
    return re.match(rf"{re.escape(text)}(?!\w)", caption, re.IGNORECASE) is not None


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)
