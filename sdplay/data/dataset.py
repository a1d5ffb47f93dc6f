"""The data sets of a workspace: one folder each, with normalised copies of the pictures and captions by key.

<root>/<id>/dataset.json        name, created, items, skipped: what belongs to it now
<root>/<id>/captions.json       key -> caption, also of pictures that were taken out
<root>/<id>/pictures/<key>.png  or .jpg; beside it <key>.mask.png and <key>.view.jpg, which shows it, where there is a mask
<root>/.locks/<id>.lock         held while a data set is changed
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from filelock import FileLock

from sdplay.data.captions import clean_caption
from sdplay.data.examples import Dataset, Example, Skipped
from sdplay.data.intake import Intake, take_in
from sdplay.data.limits import Limits
from sdplay.data.masks import mask_path, view_path, write_mask
from sdplay.data.sources import name_of, open_sources
from sdplay.errors import DataError
from sdplay.workspace import folder_written_atomically, slug, write_atomically, write_json

log = logging.getLogger(__name__)
Progress = Callable[[str, int, int], None]


class DatasetStore:
    """Makes, changes and lists data sets under one folder. The user's own files are only ever read."""

    def __init__(self, root: Path, limits: Limits = Limits()) -> None:  # noqa: B008 (frozen)
        self._root = root
        self._limits = limits

    def create(self, sources: Sequence[str | Path], *, name: str = "", on_progress: Progress | None = None) -> Dataset:
        """A new data set from folders, files, zips, tables, saved `datasets` folders or Hub ids, mixed as they come.

        on_progress(name, done, total) is called before each picture.
        Raises DataError if no picture can be used; then nothing is left on disk.
        """
        title = _clean_name(name or name_of(sources))
        with self._new_id(title) as dataset_id, folder_written_atomically(self._root / dataset_id) as folder:
            with open_sources(sources, self._limits) as found:
                intake = take_in(found, folder / "pictures", known=(), limits=self._limits, on_progress=on_progress)
            if not intake.examples:
                raise intake.nothing_usable()
            examples = _with_masks(intake.examples, intake.masks)
            dataset = Dataset(dataset_id, title, folder, _now(), examples, tuple(intake.skipped))
            _write(dataset, {example.key: example.caption for example in dataset.examples})
        return self.open(dataset_id)

    def add(self, dataset_id: str, sources: Sequence[str | Path]) -> Dataset:
        """More pictures, or captions for those that are there. Remembered captions come back with their pictures."""
        with self._changing(dataset_id) as dataset, tempfile.TemporaryDirectory(prefix=".tmp-", dir=self._root) as staging:
            with open_sources(sources, self._limits) as found:
                intake = take_in(found, Path(staging), known=dataset.examples, limits=self._limits)
            if not intake.is_of_use():
                raise intake.nothing_usable()
            examples = list(dataset.examples)
            for example in intake.examples:
                path = dataset.folder / "pictures" / example.path.name
                write_atomically(path, example.path.read_bytes())
                examples.append(replace(example, path=path))
            captions = _merge_captions(_read_captions(dataset.folder), intake)
            arrived = {example.source for example in intake.examples}
            skipped = dict.fromkeys(item for item in (*dataset.skipped, *intake.skipped) if item.name not in arrived)
            _write(replace(dataset, examples=_with_masks(examples, intake.masks), skipped=tuple(skipped)), captions)
        return self.open(dataset_id)

    def open(self, dataset_id: str) -> Dataset:
        """Raises DataError if there is none of that id, or it cannot be read."""
        folder = self._folder(dataset_id)
        try:
            return _read(folder)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"The data set {dataset_id} cannot be read.", "Delete it and make it again from your pictures.") from error

    def list(self) -> list[Dataset]:
        """All data sets, newest first. One that cannot be read is passed over and logged."""
        readable = []
        for folder in self._root.glob("[!.]*/"):
            try:
                readable.append(self.open(folder.name))
            except DataError as error:
                log.warning("data set passed over: %s", error)
        return sorted(readable, key=lambda dataset: dataset.created, reverse=True)

    def set_captions(self, dataset_id: str, captions: Mapping[str, str]) -> Dataset:
        """Captions by key; the others stay. Raises DataError for an unknown key or a caption that is too long."""
        with self._changing(dataset_id) as dataset:
            unknown = [key for key in captions if key not in {example.key for example in dataset.examples}]
            if unknown:
                raise DataError(f"The data set has no picture {unknown[0]}.", "Reload it: the picture may have been taken out meanwhile.")
            cleaned = {key: self._checked_caption(text) for key, text in captions.items()}
            _write(dataset, {**_read_captions(dataset.folder), **cleaned})
        return self.open(dataset_id)

    def remove(self, dataset_id: str, key: str) -> Dataset:
        """Take one picture out. Its caption is remembered, for when the picture is added again."""
        with self._changing(dataset_id) as dataset:
            gone = next((example for example in dataset.examples if example.key == key), None)
            if gone is None:
                raise DataError(f"The data set has no picture {key}.", "Reload it: the picture may have been taken out already.")
            _write(replace(dataset, examples=tuple(e for e in dataset.examples if e is not gone)), _read_captions(dataset.folder))
            for path in (gone.path, mask_path(gone.path), view_path(gone.path)):
                path.unlink(missing_ok=True)
        return self.open(dataset_id)

    def delete(self, dataset_id: str) -> None:
        """Delete the data set with its copies and captions."""
        folder = self._folder(dataset_id)
        with self._locked(dataset_id):
            shutil.rmtree(folder, ignore_errors=True)

    def _checked_caption(self, text: str) -> str:
        caption = clean_caption(text, self._limits)
        if caption.notes:
            raise DataError(f"The caption {caption.text[:40]!r}... is too long.", f"Use at most {self._limits.caption_chars} characters.")
        return caption.text

    def _folder(self, dataset_id: str) -> Path:
        folder = self._root / dataset_id
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", dataset_id) or not folder.is_dir():
            raise DataError(f"There is no data set called {dataset_id[:60]!r}.", "Choose one from the list, or make a new one.")
        return folder

    @contextmanager
    def _new_id(self, title: str) -> Iterator[str]:
        """An id nobody has, locked while the block lasts."""
        while True:
            dataset_id = f"{slug(title) or 'dataset'}-{secrets.token_hex(2)}"
            with self._locked(dataset_id):
                if not (self._root / dataset_id).exists():
                    yield dataset_id
                    return

    @contextmanager
    def _changing(self, dataset_id: str) -> Iterator[Dataset]:
        """The data set as it is now, with everybody else kept from changing it while the block lasts."""
        self._folder(dataset_id)
        with self._locked(dataset_id):
            yield self.open(dataset_id)

    def _locked(self, dataset_id: str) -> FileLock:
        locks = self._root / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        return FileLock(locks / f"{dataset_id}.lock")


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


def _with_masks(examples: Sequence[Example], masks: Mapping[str, bytes]) -> tuple[Example, ...]:
    """The examples with the masks that came for them, written beside them."""
    return tuple(replace(e, mask=write_mask(masks[e.key], e.path)) if e.key in masks else e for e in examples)


def _write(dataset: Dataset, captions: Mapping[str, str]) -> None:
    """captions.json first: dataset.json decides what belongs to the data set, so it comes last."""
    items = [_Item(e.key, e.path.name, e.width, e.height, e.source, list(e.notes), e.mask is not None) for e in dataset.examples]
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


def _read(folder: Path) -> Dataset:
    stored = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    captions = _read_captions(folder)
    examples = [_example(_Item(**item), folder, captions) for item in stored["items"]]
    skipped = [Skipped(**item) for item in stored["skipped"]]
    return Dataset(folder.name, stored["name"], folder, stored["created"], tuple(examples), tuple(skipped))


def _example(item: _Item, folder: Path, captions: Mapping[str, str]) -> Example:
    path = folder / "pictures" / item.file
    mask = mask_path(path) if item.mask else None
    return Example(item.key, path, captions.get(item.key, ""), item.width, item.height, item.source, tuple(item.notes), mask)


def _read_captions(folder: Path) -> dict[str, str]:
    return dict(json.loads((folder / "captions.json").read_text(encoding="utf-8")))


def _merge_captions(remembered: Mapping[str, str], intake: Intake) -> dict[str, str]:
    """A caption that was written here outlives its picture, and wins over the one the picture brings again."""
    brought = {example.key: example.caption for example in intake.examples}
    written = {key: caption for key, caption in remembered.items() if caption}
    return {**remembered, **brought, **intake.refound, **written, **intake.recaptioned}


def _clean_name(name: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in name).split())[:80] or "data set"


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")
