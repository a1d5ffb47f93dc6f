"""The data sets of a workspace: one folder each, with normalised copies of the pictures and captions by key.

<root>/<id>/dataset.json        name, created, items, skipped: what belongs to it now
<root>/<id>/captions.json       key -> caption, also of pictures that were taken out
<root>/<id>/history.json        what was changed about the pictures, to undo it
<root>/<id>/measures.json       what was measured on the pictures; may be deleted at any time
<root>/<id>/pictures/<key>.png  or .jpg; beside it <key>.mask.png and <key>.view.jpg, which shows it, where there is a mask
<root>/.locks/<id>.lock         held while a data set is changed
"""

from __future__ import annotations

import logging
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from filelock import FileLock

from sdplay.data.captions import clean_caption
from sdplay.data.edits import (
    Change,
    Facts,
    History,
    checked_crop,
    edited,
    facts_of,
    read_history,
    with_pictures,
    write_history,
)
from sdplay.data.examples import Dataset, Example
from sdplay.data.intake import Intake, take_in
from sdplay.data.limits import Limits
from sdplay.data.masks import mask_path, read_mask, view_path, write_mask
from sdplay.data.records import read_captions, read_dataset, write_dataset
from sdplay.data.sources import name_of, open_sources
from sdplay.errors import DataError
from sdplay.workspace import folder_written_atomically, slug, write_atomically

log = logging.getLogger(__name__)
Progress = Callable[[str, int, int], None]


class DatasetStore:
    """Makes, changes and lists data sets under one folder. The user's own files are only ever read."""

    def __init__(self, root: Path, limits: Limits = Limits()) -> None:  # noqa: B008 (frozen)
        self._root = root
        self._limits = limits

    def create(self, sources: Sequence[str | Path], *, name: str = "", on_progress: Progress | None = None) -> Dataset:
        """A new data set from folders, files, zips, their https addresses, tables, saved `datasets` folders or Hub ids, mixed.

        on_progress(name, done, total) is called before each picture, and while something is downloaded.
        Raises DataError if no picture can be used; then nothing is left on disk.
        """
        title = _clean_name(name or name_of(sources))
        with self._new_id(title) as dataset_id, folder_written_atomically(self._root / dataset_id) as folder:
            with open_sources(sources, self._limits, on_progress=on_progress) as found:
                intake = take_in(found, folder / "pictures", known=(), limits=self._limits, on_progress=on_progress)
            if not intake.examples:
                raise intake.nothing_usable()
            examples = self._with_remembered_captions(_with_masks(intake.examples, intake.masks))
            dataset = Dataset(dataset_id, title, folder, _now(), (), tuple(intake.skipped))
            dataset = with_pictures(dataset, [intake.with_view(example) for example in examples])
            write_dataset(dataset, {example.key: example.caption for example in examples})
        return self.open(dataset_id)

    def add(self, dataset_id: str, sources: Sequence[str | Path], *, on_progress: Progress | None = None) -> Dataset:
        """More pictures, or captions for those that are there. Remembered captions come back with their pictures."""
        with self._changing(dataset_id) as dataset, tempfile.TemporaryDirectory(prefix=".tmp-", dir=self._root) as staging:
            with open_sources(sources, self._limits, on_progress=on_progress) as found:
                intake = take_in(found, Path(staging), known=dataset.pictures, limits=self._limits, on_progress=on_progress)
            if not intake.is_of_use():
                raise intake.nothing_usable()
            examples = list(dataset.pictures)
            for example in intake.examples:
                path = dataset.folder / "pictures" / example.path.name
                write_atomically(path, example.path.read_bytes())
                examples.append(replace(example, path=path))
            captions = _merge_captions(read_captions(dataset.folder), intake)
            arrived = {example.source for example in intake.examples}
            skipped = dict.fromkeys(item for item in (*dataset.skipped, *intake.skipped) if item.name not in arrived)
            pictures = [intake.with_view(example) for example in _with_masks(examples, intake.masks)]
            write_dataset(with_pictures(replace(dataset, skipped=tuple(skipped)), pictures), captions)
        return self.open(dataset_id)

    def open(self, dataset_id: str) -> Dataset:
        """Raises DataError if there is none of that id, or it cannot be read."""
        folder = self._folder(dataset_id)
        try:
            return read_dataset(folder)
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

    def set_captions(self, dataset_id: str, captions: Mapping[str, str], *, what: str = "Caption") -> Dataset:
        """Captions by key; the others stay. Raises DataError for an unknown key or a caption that is too long."""
        with self._changing(dataset_id) as dataset:
            cleaned = {key: self._checked_caption(text) for key, text in captions.items()}
            known = _by_key(dataset, captions)
            self._keep(dataset, {key: replace(facts_of(known[key]), caption=text) for key, text in cleaned.items()}, what=what)
        return self.open(dataset_id)

    def set_crop(self, dataset_id: str, key: str, box: Sequence[float] | None) -> Dataset:
        """The part of a picture, in px, that training takes; None for the whole. Raises DataError."""
        with self._changing(dataset_id) as dataset:
            example = _by_key(dataset, [key])[key]
            crop = checked_crop(example, box) if box is not None else None
            self._keep(dataset, {key: replace(facts_of(example), crop=crop)}, what=f"Crop of {example.source}")
        return self.open(dataset_id)

    def leave_out(self, dataset_id: str, keys: Sequence[str], *, out: bool = True) -> Dataset:
        """Keep pictures in the data set, but not for training; or (out=False) take them back. Raises DataError."""
        with self._changing(dataset_id) as dataset:
            known = _by_key(dataset, keys)
            what = f"{'Leaving out' if out else 'Taking back'} {known[keys[0]].source if len(keys) == 1 else f'{len(keys)} pictures'}"
            self._keep(dataset, {key: replace(facts_of(known[key]), left_out=out) for key in keys}, what=what)
        return self.open(dataset_id)

    def change(self, dataset_id: str, facts: Mapping[str, Facts], *, what: str) -> Dataset:
        """Several facts about several pictures, as one step that can be undone. Raises DataError for an unknown key."""
        with self._changing(dataset_id) as dataset:
            _by_key(dataset, facts)
            cleaned = {key: replace(fact, caption=self._checked_caption(fact.caption)) for key, fact in facts.items()}
            self._keep(dataset, cleaned, what=what)
        return self.open(dataset_id)

    def history(self, dataset_id: str) -> History:
        """What can be undone and done again."""
        return read_history(self._folder(dataset_id))

    def undo(self, dataset_id: str) -> tuple[Dataset, str]:
        """Take the newest change back. Returns the data set and what the change was. Raises DataError if there is none."""
        with self._changing(dataset_id) as dataset:
            change, history = read_history(dataset.folder).stepped_back()
            _write_facts(dataset, change.before)
            write_history(dataset.folder, history)
        return self.open(dataset_id), change.what

    def redo(self, dataset_id: str) -> tuple[Dataset, str]:
        """Do again what was undone last. Returns the data set and what the change was. Raises DataError if there is none."""
        with self._changing(dataset_id) as dataset:
            change, history = read_history(dataset.folder).stepped_forward()
            _write_facts(dataset, change.after)
            write_history(dataset.folder, history)
        return self.open(dataset_id), change.what

    def set_mask(self, dataset_id: str, key: str, raw: bytes | None) -> Dataset:
        """Give a picture a mask, an image of its shape that is white where it is to be learned; None takes it away. Raises DataError."""
        with self._changing(dataset_id) as dataset:
            example = _by_key(dataset, [key])[key]
            if raw is None:
                for path in (mask_path(example.path), view_path(example.path)):
                    path.unlink(missing_ok=True)
                mask = None
            else:
                mask = write_mask(read_mask(raw, (example.width, example.height), self._limits), example.path)
            pictures = [replace(entry, mask=mask) if entry.key == key else entry for entry in dataset.pictures]
            write_dataset(with_pictures(dataset, pictures), read_captions(dataset.folder))
        return self.open(dataset_id)

    def remove(self, dataset_id: str, *keys: str) -> Dataset:
        """Take pictures out for good. Their captions are remembered, for when they are added again."""
        with self._changing(dataset_id) as dataset:
            gone = _by_key(dataset, keys)
            left = [example for example in dataset.pictures if example.key not in gone]
            write_dataset(with_pictures(dataset, left), read_captions(dataset.folder))
            for example in gone.values():
                for path in (example.path, mask_path(example.path), view_path(example.path)):
                    path.unlink(missing_ok=True)
        return self.open(dataset_id)

    def delete(self, dataset_id: str) -> None:
        """Delete the data set with its copies and captions."""
        folder = self._folder(dataset_id)
        with self._locked(dataset_id):
            shutil.rmtree(folder, ignore_errors=True)

    def _keep(self, dataset: Dataset, facts: Mapping[str, Facts], *, what: str) -> None:
        """Write what is new about the pictures, and remember how it was. Nothing new: nothing is written."""
        before = {example.key: facts_of(example) for example in dataset.pictures if example.key in facts}
        after = {key: fact for key, fact in facts.items() if fact != before[key]}
        if after:
            change = Change(what, {key: before[key] for key in after}, after)
            _write_facts(dataset, after)
            write_history(dataset.folder, read_history(dataset.folder).with_change(change))

    def _with_remembered_captions(self, examples: Sequence[Example]) -> tuple[Example, ...]:
        """A picture without a caption gets the one it has in another data set, the newest first."""
        if all(example.caption for example in examples):
            return tuple(examples)
        remembered: dict[str, str] = {}
        for dataset in reversed(self.list()):
            remembered |= {key: caption for key, caption in read_captions(dataset.folder).items() if caption}
        note = "Its caption is the one it had before."
        return tuple(
            replace(e, caption=remembered[e.key], notes=(*e.notes, note)) if not e.caption and e.key in remembered else e for e in examples
        )

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


def _with_masks(examples: Sequence[Example], masks: Mapping[str, bytes]) -> tuple[Example, ...]:
    """The examples with the masks that came for them, written beside them."""
    return tuple(replace(e, mask=write_mask(masks[e.key], e.path)) if e.key in masks else e for e in examples)


def _merge_captions(remembered: Mapping[str, str], intake: Intake) -> dict[str, str]:
    """A caption that was written here outlives its picture, and wins over the one the picture brings again."""
    brought = {example.key: example.caption for example in intake.examples}
    written = {key: caption for key, caption in remembered.items() if caption}
    return {**remembered, **brought, **intake.refound, **written, **intake.recaptioned}


def _by_key(dataset: Dataset, keys: Iterable[str]) -> dict[str, Example]:
    """The pictures with these keys. Raises DataError for a key that is not there."""
    known = {example.key: example for example in dataset.pictures}
    unknown = [key for key in keys if key not in known]
    if unknown:
        raise DataError(f"The data set has no picture {unknown[0]}.", "Reload it: the picture may have been taken out meanwhile.")
    return {key: known[key] for key in keys}


def _write_facts(dataset: Dataset, facts: Mapping[str, Facts]) -> None:
    """Facts of pictures that are gone are passed over, but for their captions."""
    captions = {key: fact.caption for key, fact in facts.items()}
    write_dataset(edited(dataset, facts), {**read_captions(dataset.folder), **captions})


def _clean_name(name: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in name).split())[:80] or "data set"


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")
