"""What a data set is made of: plain values, all that the rest of the program sees of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sdplay.data.shapes import Box, Size


@dataclass(frozen=True)
class Example:
    """One picture, ready to train on, and its caption.

    key: 16 hex digits of a hash of the normalised pixels, so the same picture has the same key in every data set.
    path: the normalised copy, 8-bit RGB, upright, without metadata; PNG, or JPEG if it came as JPEG.
    source: the name the user knows it by.  notes: what was done to it, one sentence each.
    mask: 8-bit grey PNG of the same size, white where the picture is to be learned; None if it has none.
    crop: the part of the picture that training takes in place of the whole; None for the whole.
    place: where it stands in the data set, from 0.  left_out: it stays in the data set, but is not trained on.
    """

    key: str
    path: Path
    caption: str
    width: int
    height: int
    source: str
    notes: tuple[str, ...]
    mask: Path | None = None
    crop: Box | None = None
    place: int = 0
    left_out: bool = False

    @property
    def region(self) -> Box:
        """The part that training takes, before it is cut to the shape of a training size."""
        return self.crop or (0, 0, self.width, self.height)

    @property
    def size(self) -> Size:
        """Width and height of that part."""
        left, top, right, bottom = self.region
        return right - left, bottom - top


@dataclass(frozen=True)
class Skipped:
    """Something the user brought that was not used, and why: a plain sentence that says what to do."""

    name: str
    reason: str


@dataclass(frozen=True)
class Dataset:
    """A named set of examples in its own folder. created: ISO time, UTC.

    examples: what is trained on.  set_aside: what the user left out; it can be taken back.
    revision: grows with every change, microseconds since 1970; of two readings the one with the greater is the newer.
    """

    id: str
    name: str
    folder: Path
    created: str
    examples: tuple[Example, ...]
    skipped: tuple[Skipped, ...]
    set_aside: tuple[Example, ...] = ()
    revision: int = field(default=0, compare=False)

    @property
    def pictures(self) -> tuple[Example, ...]:
        """Every picture, also those set aside, in the order they were brought."""
        return tuple(sorted((*self.examples, *self.set_aside), key=lambda example: example.place))
