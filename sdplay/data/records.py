"""A data set on disk: how its files are written and read.

dataset.json is the last word on what belongs to the data set; captions.json also remembers pictures that are gone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sdplay.data.examples import Dataset, Example, Skipped
from sdplay.data.masks import mask_path
from sdplay.workspace import write_json


@dataclass(frozen=True)
class _Item:
    """An example as dataset.json keeps it."""

    key: str
    file: str
    width: int
    height: int
    source: str
    notes: list[str]
    mask: bool = False
    crop: list[int] | None = None
    left_out: bool = False


def write_dataset(dataset: Dataset, captions: Mapping[str, str]) -> None:
    """captions.json first: dataset.json decides what belongs to the data set, so it comes last."""
    items = [_item(example) for example in dataset.pictures]
    write_json(dataset.folder / "captions.json", dict(captions))
    write_json(
        dataset.folder / "dataset.json",
        {
            "name": dataset.name,
            "created": dataset.created,
            "items": [vars(item) for item in items],
            "skipped": [vars(skipped) for skipped in dataset.skipped],
        },
    )


def read_dataset(folder: Path) -> Dataset:
    """Raises OSError, ValueError, KeyError or TypeError for what was not written by `write_dataset`."""
    revision = (folder / "dataset.json").stat().st_mtime_ns // 1000  # before reading: what is changed meanwhile must not look new
    stored = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    captions = read_captions(folder)
    pictures = [_example(_Item(**item), place, folder, captions) for place, item in enumerate(stored["items"])]
    used = tuple(example for example in pictures if not example.left_out)
    set_aside = tuple(example for example in pictures if example.left_out)
    skipped = tuple(Skipped(**item) for item in stored["skipped"])
    return Dataset(folder.name, stored["name"], folder, stored["created"], used, skipped, set_aside, revision)


def read_captions(folder: Path) -> dict[str, str]:
    """Key -> caption, also of pictures that were taken out."""
    return dict(json.loads((folder / "captions.json").read_text(encoding="utf-8")))


def _item(example: Example) -> _Item:
    crop = list(example.crop) if example.crop else None
    has_mask = example.mask is not None
    size = (example.width, example.height)
    return _Item(example.key, example.path.name, *size, example.source, list(example.notes), has_mask, crop, example.left_out)


def _example(item: _Item, place: int, folder: Path, captions: Mapping[str, str]) -> Example:
    path = folder / "pictures" / item.file
    crop = (item.crop[0], item.crop[1], item.crop[2], item.crop[3]) if item.crop else None
    mask = mask_path(path) if item.mask else None
    return Example(
        item.key, path, captions.get(item.key, ""), item.width, item.height, item.source, tuple(item.notes),
        mask, crop, place, item.left_out,
    )  # fmt: skip
