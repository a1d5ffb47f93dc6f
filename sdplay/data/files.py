"""One file that was found, not read yet, and what its name says it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from sdplay.data.limits import Limits
from sdplay.errors import DataError

Kind = Literal["picture", "mask", "table", "sidecar", "quiet", "junk", "other"]

PICTURES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp"})
_MASK_ENDINGS = (".mask", "-masklabel")
TABLES = frozenset({".csv", ".tsv", ".jsonl"})
ARCHIVES = frozenset({".zip", ".rar", ".7z", ".tar", ".gz", ".tgz", ".bz2", ".xz"})
_QUIET_TEXT = {".md", ".rst", ".html", ".htm", ".json", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".log", ".py", ".xml"}
_QUIET = frozenset({*_QUIET_TEXT, ".pdf", ".doc", ".docx", ".rtf", ".db", ".lnk", ".url"})
_QUIET_NAMES = frozenset({"readme", "license", "licence", "copying", "notice", "authors", "changelog"})
_JUNK_NAMES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini"})


@dataclass(frozen=True)
class Found:
    """A file, a zip entry or a row of a table of pictures.

    name: what the user calls it.  scope: which source it came in; separate files share one scope.
    path: where it lies in that scope, with "/"; used to match names, never to write.
    kind: what it is for.
    read: brings its bytes; raises DataError with a sentence if that cannot or may not be done.
    caption: the one it brought along, else empty.
    """

    name: str
    scope: str
    path: str
    kind: Kind
    read: Callable[[], bytes]
    caption: str = ""


def kind_of(path: str) -> Kind:
    """What a file is for, by its name: a picture, captions, something to pass over silently, or something to mention."""
    parts = PurePosixPath(path).parts
    name = PurePosixPath(path).name.lower()
    suffix = PurePosixPath(name).suffix
    if "__MACOSX" in parts or name in _JUNK_NAMES or any(part.startswith(".") and part not in (".", "..") for part in parts):
        return "junk"
    if suffix in PICTURES:
        return "mask" if mask_target(path) else "picture"
    if suffix in TABLES:
        return "table"
    if suffix == ".txt":
        return "sidecar"
    return "quiet" if suffix in _QUIET or name in _QUIET_NAMES else "other"


def mask_target(path: str) -> str:
    """The name, without ending, of the picture that a mask is for, as seen from the mask's folder; "" if it is no mask."""
    file = PurePosixPath(path)
    for ending in _MASK_ENDINGS:
        if file.stem.lower().endswith(ending) and len(file.stem) > len(ending):
            return file.stem[: -len(ending)]
    return f"../{file.stem}" if file.parent.name.lower() == "masks" else ""


def why_not_a_picture(name: str) -> str:
    """The sentence for a file of kind "other"."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in ARCHIVES:
        return "Only a .zip is opened, and none inside another. Unpack it, or add it as one .zip."
    what = f"A {suffix} file" if suffix else "A file without an ending"
    return f"{what} cannot be read as a picture. Save it as JPEG, PNG or WebP and add it again."


def in_natural_order(found: Sequence[Found]) -> list[Found]:
    """Sorted as a person would: 2.jpg before 10.jpg."""
    return sorted(found, key=lambda item: [(part.isdecimal(), part.zfill(20)) for part in re.split(r"(\d+)", item.name.casefold())])


def on_disk(file: Path, *, name: str, scope: str, path: str, limits: Limits) -> Found:
    """A file of the user's, which is only ever read."""
    return Found(shown(name), scope, path, kind_of(path), lambda: _read_file(file, limits))


def shown(name: str) -> str:
    """A name as it may be shown and stored: without control, direction or undecodable characters, and of bearable length."""
    plain = "".join(char if char.isprintable() else "?" for char in name[:200])
    return plain if len(name) <= 200 else plain + "..."


def check_size(size_bytes: int, limits: Limits) -> None:
    """Raises DataError if one file is larger than the limit."""
    if size_bytes > limits.file_mb * 2**20:
        raise DataError(f"It is {size_bytes / 2**20:.0f} MB, more than {limits.file_mb} MB.", "Make it smaller and add it again.")


def _read_file(file: Path, limits: Limits) -> bytes:
    try:
        check_size(file.stat().st_size, limits)
        with file.open("rb") as opened:
            return opened.read(limits.file_mb * 2**20)
    except OSError as error:
        raise DataError(f"It cannot be read ({error.strerror}).", "Check that it still exists and that you may open it.") from error
