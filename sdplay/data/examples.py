"""What a data set is made of: plain values, all that the rest of the program sees of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Example:
    """One picture, ready to train on, and its caption.

    key: 16 hex digits of a hash of the normalised pixels, so the same picture has the same key in every data set.
    path: the normalised copy, 8-bit RGB, upright, without metadata; PNG, or JPEG if it came as JPEG.
    source: the name the user knows it by.  notes: what was done to it, one sentence each.
    mask: 8-bit grey PNG of the same size, white where the picture is to be learned; None if it has none.
    """

    key: str
    path: Path
    caption: str
    width: int
    height: int
    source: str
    notes: tuple[str, ...]
    mask: Path | None = None


@dataclass(frozen=True)
class Skipped:
    """Something the user brought that was not used, and why: a plain sentence that says what to do."""

    name: str
    reason: str


@dataclass(frozen=True)
class Dataset:
    """A named set of examples in its own folder. created: ISO time, UTC."""

    id: str
    name: str
    folder: Path
    created: str
    examples: tuple[Example, ...]
    skipped: tuple[Skipped, ...]
