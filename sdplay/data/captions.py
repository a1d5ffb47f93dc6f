"""Captions from tables (CSV, JSONL) and text files, and which picture each belongs to."""

from __future__ import annotations

import csv
import json
import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import PurePosixPath

from sdplay.data.examples import Skipped
from sdplay.data.files import Found, shown
from sdplay.data.limits import Limits
from sdplay.errors import DataError

CAPTION_COLUMNS = ("caption", "text", "prompt")
FILE_COLUMNS = ("file_name", "filename", "file", "image_file", "image")
_COLUMNS_HINT = "It needs a column caption (or text, prompt) and a column file_name (or file, image)."


@dataclass(frozen=True)
class Caption:
    """What a table or text file says about one picture. notes: what the user should know about how it was read."""

    text: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Matched:
    """captions: one for each picture that has any, by the picture.  skipped: tables and rows that could not be used."""

    captions: dict[Found, Caption]
    skipped: list[Skipped]


def match_captions(found: Sequence[Found], limits: Limits) -> Matched:
    """Give each picture its caption: from a table, else from a text file of the same name, else its own.

    Rows are matched by path, else by file name if only one picture has it, also when the path, the case or
    the punctuation was lost on the way.
    """
    matched = Matched({}, [])
    names = Names([item for item in found if item.kind == "picture"])
    for table in (item for item in found if item.kind == "table"):
        _match_table(table, names, limits, matched)
    for sidecar in (item for item in found if item.kind == "sidecar"):
        _match_sidecar(sidecar, names, limits, matched)
    for picture in found:
        if picture.caption:
            matched.captions.setdefault(picture, clean_caption(picture.caption, limits))
    return matched


def clean_caption(text: str, limits: Limits) -> Caption:
    """One line without control and direction characters, cut (with a note) at the limit."""
    visible = "".join(
        " " if unicodedata.category(char) in ("Cc", "Zl", "Zp") else char
        for char in text[: 4 * limits.caption_chars]
        if not _is_hidden(char)
    )
    line = " ".join(visible.split())
    if len(line) <= limits.caption_chars:
        return Caption(line)
    return Caption(line[: limits.caption_chars].rstrip(), (f"The caption was cut to {limits.caption_chars} characters.",))


def _is_hidden(char: str) -> bool:
    return char in "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff" or unicodedata.category(char) == "Cs"


class Names:
    """Finds the picture a table or text file means."""

    def __init__(self, pictures: Sequence[Found]) -> None:
        self._index: dict[tuple[str, ...], list[Found]] = defaultdict(list)
        for picture in pictures:
            for path in (picture.path, str(PurePosixPath(picture.path).with_suffix(""))):
                for key in _keys(picture.scope, path):
                    self._index[key].append(picture)

    def called(self, path: str, *, near: Found) -> list[Found]:
        """All pictures at that path as seen from the file `near`; else those with that file name, nearest first."""
        wanted = posixpath.normpath(posixpath.join(posixpath.dirname(near.path), path.replace("\\", "/").strip()))
        return next((self._index[key] for key in _keys(near.scope, wanted) if key in self._index), [])


def _keys(scope: str, path: str) -> Iterator[tuple[str, ...]]:
    plain = unicodedata.normalize("NFC", path)
    base = posixpath.basename(plain).casefold()
    yield ("path", scope, plain)
    yield ("base", scope, base)
    yield ("any", base)
    # Browsers and servers drop brackets and other signs from names on upload.
    yield ("letters", re.sub(r"\W|_", "", base) or base)


def _match_table(table: Found, names: Names, limits: Limits, matched: Matched) -> None:
    try:
        rows, notes = _read_table(table, limits)
    except DataError as error:
        matched.skipped.append(Skipped(table.name, str(error)))
        return
    lost: list[Skipped] = []
    for path, text in rows:
        pictures = names.called(path, near=table)
        if len(pictures) == 1:
            caption = clean_caption(text, limits)
            matched.captions.setdefault(pictures[0], replace(caption, notes=notes + caption.notes))
        else:
            lost.append(Skipped(shown(path), _why_unmatched(table, shown(path), len(pictures))))
    matched.skipped.extend(lost[: limits.listed])
    if len(lost) > limits.listed:
        matched.skipped.append(
            Skipped(
                f"{len(lost) - limits.listed} more rows",
                f"{table.name} names more pictures that were not found. Compare the file names.",
            )
        )


def _why_unmatched(table: Found, path: str, count: int) -> str:
    if count:
        return f"{table.name} names {path}, and {count} pictures are called that. Write the folder in front of the name."
    return f"{table.name} names {path}, which is not among the pictures. Add that picture, or take out the row."


def _match_sidecar(sidecar: Found, names: Names, limits: Limits, matched: Matched) -> None:
    name = posixpath.basename(sidecar.path)[: -len(".txt")]
    called = names.called(name, near=sidecar)
    pictures = [picture for picture in called if picture not in matched.captions]
    if not pictures:
        return
    try:
        if len({(picture.scope, posixpath.dirname(picture.path)) for picture in called}) > 1:
            raise DataError(f"{len(called)} pictures are called {name}.", "Put it beside its picture.")
        text, notes = _decode(sidecar.read())
    except DataError as error:
        matched.skipped.append(Skipped(sidecar.name, str(error)))
        return
    caption = clean_caption(text, limits)
    for picture in pictures:
        matched.captions[picture] = replace(caption, notes=notes + caption.notes)


def _read_table(table: Found, limits: Limits) -> tuple[list[tuple[str, str]], tuple[str, ...]]:
    """Rows of (file, caption), and notes for every one. Raises DataError if the table cannot be used."""
    raw = table.read()
    if len(raw) > limits.table_mb * 2**20:
        raise DataError(f"It is larger than {limits.table_mb} MB.", "Keep only the rows of these pictures.")
    text, notes = _decode(raw)
    rows = _jsonl_rows(text) if table.path.lower().endswith(".jsonl") else _csv_rows(text)
    kept: list[tuple[str, str]] = []
    for row in rows:
        if len(kept) == limits.table_rows:
            raise DataError(f"It has more than {limits.table_rows} rows.", "Keep only the rows of these pictures.")
        kept.append(row)
    return [(file, caption) for file, caption in kept if file.strip()], notes


def _decode(raw: bytes) -> tuple[str, tuple[str, ...]]:
    encoding = "utf-16" if raw.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return raw.decode(encoding), ()
    except UnicodeDecodeError:
        pass
    try:
        return raw.decode("cp1252"), ("Its caption was not in UTF-8 and was read as Windows text: check the accents.",)
    except UnicodeDecodeError as error:
        raise DataError("Its letters cannot be read.", "Save it as UTF-8 text (in a spreadsheet: CSV UTF-8).") from error


def _csv_rows(text: str) -> Iterator[tuple[str, str]]:
    header = re.split(r"[\r\n]", text, maxsplit=1)[0]
    for delimiter in ",;\t":
        columns = [name.strip(' "').lower() for name in header.split(delimiter)]
        file_column = next((columns.index(name) for name in FILE_COLUMNS if name in columns), None)
        caption_column = next((columns.index(name) for name in CAPTION_COLUMNS if name in columns), None)
        if file_column is not None and caption_column is not None:
            yield from _cells(text, delimiter, file_column, caption_column)
            return
    raise DataError(f"Its first line names the columns {header.strip()[:80]!r}.", _COLUMNS_HINT)


def _cells(text: str, delimiter: str, file_column: int, caption_column: int) -> Iterator[tuple[str, str]]:
    rows = csv.reader(StringIO(text, newline=""), delimiter=delimiter)
    try:
        next(rows)
        for row in rows:
            if len(row) > max(file_column, caption_column):
                yield row[file_column], row[caption_column]
    except csv.Error as error:
        raise DataError(f"Line {rows.line_num} cannot be read ({error}).", "Save it again from a spreadsheet as CSV UTF-8.") from error


def _jsonl_rows(text: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = {key.lower(): value for key, value in json.loads(line).items()}
        except (ValueError, AttributeError, RecursionError) as error:
            raise DataError(
                f"Line {number} is not a JSON object.", 'Each line looks like {"file_name": "1.jpg", "text": "a dog"}.'
            ) from error
        file = next((row[name] for name in FILE_COLUMNS if isinstance(row.get(name), str)), None)
        caption = next((row[name] for name in CAPTION_COLUMNS if isinstance(row.get(name), str)), None)
        if file is None or caption is None:
            raise DataError(f"Line {number} has no file name or no caption.", _COLUMNS_HINT)
        yield file, caption
