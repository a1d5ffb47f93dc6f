"""Data sets in the Hugging Face `datasets` formats: a saved folder, parquet files, or a data set on the Hub."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from sdplay.data.captions import CAPTION_COLUMNS
from sdplay.data.files import Found, check_size, shown
from sdplay.data.limits import Limits
from sdplay.errors import DataError

if TYPE_CHECKING:
    import datasets

_COLUMNS_HINT = "It needs a column of type Image, and may have one called caption, text or prompt."


def is_saved_folder(folder: Path) -> bool:
    """Was it written by `save_to_disk`?"""
    return (folder / "dataset_dict.json").is_file() or ((folder / "state.json").is_file() and (folder / "dataset_info.json").is_file())


def is_hub_id(text: str) -> bool:
    """Does it look like `owner/name`?"""
    return re.fullmatch(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", text) is not None


def read_saved_folder(folder: Path, *, scope: str, limits: Limits) -> list[Found]:
    """The pictures of a `save_to_disk` folder; of several splits, train, else the first."""
    import datasets

    try:
        loaded = datasets.load_from_disk(str(folder))
        table = loaded if isinstance(loaded, datasets.Dataset) else _main_split(loaded)
        return _rows(table, scope, limits, folder)
    except DataError:
        raise
    except Exception as error:  # whatever pyarrow and datasets raise on a damaged folder
        raise DataError(f"{folder.name} looks like a saved data set but cannot be read.", "Save it again with save_to_disk.") from error


def read_parquet(files: list[Path], *, scope: str, limits: Limits) -> list[Found]:
    """The pictures inside parquet files."""
    import datasets

    try:
        table = datasets.load_dataset("parquet", data_files=[str(file) for file in files], split="train", streaming=True)
        return _rows(table, scope, limits, files[0].parent)
    except DataError:
        raise
    except Exception as error:  # whatever pyarrow and datasets raise on a damaged file
        raise DataError(f"{files[0].name} cannot be read as a table of pictures.", _COLUMNS_HINT) from error


def read_hub(hub_id: str, *, scope: str, limits: Limits) -> list[Found]:
    """The first pictures of the train split of a Hub data set; no more than the limit is downloaded."""
    import datasets

    try:
        table = datasets.load_dataset(hub_id, split="train", streaming=True)
        return _rows(table, scope, limits, None)
    except DataError:
        raise
    except Exception as error:  # network, permission, layout: datasets has no common error
        raise DataError(
            f"The data set {hub_id} could not be read from the Hugging Face Hub ({type(error).__name__}).",
            "Check the name, that you may read it, and that it has a train split. There is no file or folder of that name here.",
        ) from error


def _main_split(splits: datasets.DatasetDict) -> datasets.Dataset:
    return splits["train"] if "train" in splits else next(iter(splits.values()))


def _rows(table: datasets.Dataset | datasets.IterableDataset, scope: str, limits: Limits, folder: Path | None) -> list[Found]:
    import datasets

    features = table.features or {}
    image_column = next((name for name, feature in features.items() if isinstance(feature, datasets.Image)), None)
    if image_column is None:
        raise DataError(f"The data set has no column of pictures, only {', '.join(features) or 'unnamed ones'}.", _COLUMNS_HINT)
    caption_column = next((name for wanted in CAPTION_COLUMNS for name in features if name.lower() == wanted), None)
    chosen = table.select_columns([image_column, *([caption_column] if caption_column else [])])
    rows: Iterable[dict] = chosen.cast_column(image_column, datasets.Image(decode=False))
    return list(_found(islice(rows, limits.pictures + 1), (image_column, caption_column), scope, limits, folder))


def _found(rows: Iterable[dict], columns: tuple[str, str | None], scope: str, limits: Limits, folder: Path | None) -> Iterator[Found]:
    image_column, caption_column = columns
    for index, row in enumerate(rows):
        cell = row[image_column] or {}
        name = Path(cell.get("path") or f"row {index}").name
        caption = row[caption_column] if caption_column else ""
        raw, path = cell.get("bytes"), cell.get("path") or ""
        read = lambda raw=raw, path=path: _read_cell(raw, path, folder, limits)  # noqa: E731
        yield Found(shown(name), scope, f"{index}/{name}", "picture", read, caption if isinstance(caption, str) else "")


def _read_cell(raw: bytes | None, path: str, folder: Path | None, limits: Limits) -> bytes:
    """The picture's bytes, which lie in the table, beside it in its own folder, or on the Hub; never elsewhere."""
    if raw is not None:
        check_size(len(raw), limits)
        return raw
    if folder is None and "hf://" in path:
        return _download(path, limits)
    if folder is not None and path:
        beside = (folder / path).resolve()
        if beside.is_relative_to(folder.resolve()) and beside.is_file():
            check_size(beside.stat().st_size, limits)
            return beside.read_bytes()
    raise DataError("The table only names this picture, it does not hold it.", "Save the data set with its pictures inside.")


def _download(address: str, limits: Limits) -> bytes:
    import fsspec

    try:
        with fsspec.open(address, "rb") as remote:
            content: bytes = remote.read(limits.file_mb * 2**20 + 1)
    except Exception as error:  # network and permission: the Hub's file system has no common error
        raise DataError(f"It could not be downloaded ({type(error).__name__}).", "Add it again later.") from error
    check_size(len(content), limits)
    return content
