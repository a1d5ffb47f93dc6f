"""What an exported data set says about its pictures beside captions: crops, and what was left out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sdplay.data.captions import FILE_COLUMNS, Names
from sdplay.data.files import Found
from sdplay.data.limits import Limits
from sdplay.errors import DataError

CROP_COLUMN, LEFT_OUT_COLUMN = "crop", "left_out"


@dataclass(frozen=True)
class View:
    """crop: left, top, right, bottom in px, not checked yet; empty for the whole picture."""

    crop: tuple[float, ...] = ()
    left_out: bool = False


def match_views(found: Sequence[Found], pictures: Sequence[Found], limits: Limits) -> dict[Found, View]:
    """Picture -> what a .jsonl table with a column `crop` or `left_out` says about it. What cannot be read is passed over:
    the captions of the same table are what the user is told about.
    """
    names = Names(pictures)
    views: dict[Found, View] = {}
    for table in (item for item in found if item.kind == "table" and item.path.lower().endswith(".jsonl")):
        for path, view in _rows(table, limits):
            called = names.called(path, near=table)
            if len(called) == 1:
                views[called[0]] = view
    return views


def _rows(table: Found, limits: Limits) -> Iterator[tuple[str, View]]:
    try:
        text = table.read()[: limits.table_mb * 2**20].decode("utf-8-sig")
    except (DataError, UnicodeDecodeError):
        return
    for line in text.split("\n")[: limits.table_rows]:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        view = _view(row)
        file = next((row[name] for name in FILE_COLUMNS if isinstance(row.get(name), str)), None) if view else None
        if view and file:
            yield file, view


def _view(row: object) -> View | None:
    if not isinstance(row, dict) or not (CROP_COLUMN in row or LEFT_OUT_COLUMN in row):
        return None
    crop = row.get(CROP_COLUMN)
    numbers = tuple(float(value) for value in crop if isinstance(value, int | float)) if isinstance(crop, list) else ()
    return View(numbers if len(numbers) == 4 else (), row.get(LEFT_OUT_COLUMN) is True)
