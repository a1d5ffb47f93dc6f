"""What a user changes about a picture, and the way back: every change is kept, to be undone and done again.

<folder>/history.json   the newest changes, each with what it was called and what every picture was like before and after
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from sdplay.data.examples import Dataset, Example
from sdplay.data.shapes import Box
from sdplay.errors import DataError
from sdplay.workspace import write_json

KEPT_CHANGES = 40
SMALLEST_CROP_PX = 16


@dataclass(frozen=True)
class Facts:
    """What a user can change about one picture, in one piece."""

    caption: str
    crop: Box | None = None
    left_out: bool = False


@dataclass(frozen=True)
class Change:
    """One step of a user's: what it was, and the pictures it touched, by key."""

    what: str
    before: dict[str, Facts]
    after: dict[str, Facts]


@dataclass(frozen=True)
class History:
    """Changes that can be undone, newest last, and those that were undone, the next to do again last."""

    done: tuple[Change, ...] = field(default=())
    undone: tuple[Change, ...] = field(default=())

    def with_change(self, change: Change) -> History:
        """One more; what was undone before it is forgotten, and so are the oldest."""
        return History((*self.done, change)[-KEPT_CHANGES:])

    def stepped_back(self) -> tuple[Change, History]:
        """The newest change, and the history without it. Raises DataError if there is none."""
        if not self.done:
            raise DataError("There is nothing to undo.", "Changes of captions, crops and of what is left out can be undone.")
        return self.done[-1], History(self.done[:-1], (*self.undone, self.done[-1]))

    def stepped_forward(self) -> tuple[Change, History]:
        """What was undone last, and the history with it. Raises DataError if there is nothing."""
        if not self.undone:
            raise DataError("There is nothing to do again.", "Only what was undone, with no change since, can be done again.")
        return self.undone[-1], History((*self.done, self.undone[-1]), self.undone[:-1])


def facts_of(example: Example) -> Facts:
    """What the user can change about it, as it is now."""
    return Facts(example.caption, example.crop, example.left_out)


def edited(dataset: Dataset, facts: Mapping[str, Facts]) -> Dataset:
    """The data set with these facts in place. Pictures that are not named stay as they are."""
    pictures = [_with_facts(example, facts[example.key]) if example.key in facts else example for example in dataset.pictures]
    return with_pictures(dataset, pictures)


def with_pictures(dataset: Dataset, pictures: Sequence[Example]) -> Dataset:
    """The data set made of these, in this order."""
    placed = [replace(example, place=place) for place, example in enumerate(pictures)]
    used = tuple(example for example in placed if not example.left_out)
    return replace(dataset, examples=used, set_aside=tuple(example for example in placed if example.left_out))


def checked_crop(example: Example, box: Sequence[float]) -> Box | None:
    """A crop in whole px inside the picture; None when it is the whole picture.

    Raises DataError when it is not four finite numbers or leaves less than 16 px of a side.
    """
    try:
        left, top, right, bottom = (round(float(value)) for value in box)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError("A crop is four numbers: left, top, right and bottom in px.", "Give all four.") from error
    left, top, right, bottom = max(0, left), max(0, top), min(example.width, right), min(example.height, bottom)
    if right - left < SMALLEST_CROP_PX or bottom - top < SMALLEST_CROP_PX:
        hint = f"Leave at least {SMALLEST_CROP_PX} px of each side inside the picture's {example.width} x {example.height}."
        raise DataError(f"The crop is {max(0, right - left)} x {max(0, bottom - top)} px.", hint)
    whole = (left, top, right, bottom) == (0, 0, example.width, example.height)
    return None if whole else (left, top, right, bottom)


def read_history(folder: Path) -> History:
    """The changes kept in a data set's folder; none when the file is missing or not readable."""
    try:
        stored = json.loads((folder / "history.json").read_text(encoding="utf-8"))
        return History(*(tuple(_change(entry) for entry in stored[side]) for side in ("done", "undone")))
    except (OSError, ValueError, KeyError, TypeError):
        return History()


def write_history(folder: Path, history: History) -> None:
    """Keep the changes."""
    write_json(folder / "history.json", asdict(history))


def _with_facts(example: Example, facts: Facts) -> Example:
    return replace(example, caption=facts.caption, crop=facts.crop, left_out=facts.left_out)


def _change(entry: Mapping[str, dict]) -> Change:
    before, after = ({key: _facts(value) for key, value in entry[side].items()} for side in ("before", "after"))
    return Change(str(entry["what"]), before, after)


def _facts(value: Mapping[str, object]) -> Facts:
    box = value["crop"]
    crop = (int(box[0]), int(box[1]), int(box[2]), int(box[3])) if isinstance(box, list) else None
    return Facts(str(value["caption"]), crop, bool(value["left_out"]))
