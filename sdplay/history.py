"""All runs at a glance, without reading their events again: fast for a thousand of them. And the trash they go to.

runs/index.json        a cache: each run's summary, by size and time of its files; may be deleted at any time
runs/<id>/notes.json   the user's own words about a run, and the star
trash/<id>/            a deleted run, with deleted.json beside its files; kept for 30 days
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from sdplay.diagnosis import run_report
from sdplay.errors import RunError
from sdplay.events import RunState, Status
from sdplay.runs import RUN_ID, Run, is_held, open_run
from sdplay.workspace import Workspace, write_json

KEPT_DAYS = 30
MOST_NOTE = 2000
FRESH_SECONDS = 0.4
"""For how long a look at the folder is believed, so that many open pages cost no more than one."""
VERSION = 1
Stamp = tuple[int, int, int]


class Notes(BaseModel):
    """notes.json."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    note: str = ""
    star: bool = False


class RunSummary(BaseModel):
    """What a list says about a run."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    id: str
    status: Status
    step: int = 0
    steps: int = 0
    loss: float | None = None
    held_out_loss: float | None = None
    method: str = ""
    base: str = ""
    dataset: str = ""
    token: str = ""
    submitted_at: float = 0.0
    worked_seconds: float = 0.0
    checkpoints: tuple[int, ...] = ()
    picture: str = ""
    """The newest sample picture, relative to the run folder."""
    num_bytes: int = 0
    note: str = ""
    star: bool = False

    @property
    def name(self) -> str:
        """The id without its date: what the run was called."""
        return self.id.split("-", 2)[-1]

    @property
    def ended(self) -> bool:
        """Nothing more will happen unless it is resumed."""
        return self.status not in ("queued", "running", "stopping")

    def matches(self, query: str) -> bool:
        """Whether every word of the query is in what a user knows about the run."""
        known = " ".join((self.id, self.note, self.method, self.base, self.dataset, self.token, self.status)).lower()
        return all(word in known for word in query.lower().split())


@dataclass(frozen=True)
class Deleted:
    """A run in the trash."""

    id: str
    deleted_at: float
    num_bytes: int


class History:
    """Summaries of all runs. Safe to share between threads and processes: what is kept can be made again."""

    def __init__(self, workspace: Workspace, state: Callable[[Run], RunState]) -> None:
        """state: how to read a run's state, best by what is new in it."""
        self._workspace = workspace
        self._state = state
        self._guard = threading.RLock()
        self._known: dict[str, tuple[Stamp, RunSummary]] | None = None
        self._rows: list[RunSummary] = []
        self._looked_at = 0.0
        self._saved = 0

    # ---- lists

    def rows(self) -> list[RunSummary]:
        """Every run, newest first, as it was at most FRESH_SECONDS ago."""
        with self._guard:
            if time.monotonic() - self._looked_at > FRESH_SECONDS:
                self._rows = self._look()
                self._looked_at = time.monotonic()
            return self._rows

    def look_again(self) -> None:
        """Believe nothing that was seen before."""
        with self._guard:
            self._looked_at = 0.0

    def search(self, query: str = "", *, starred: bool = False) -> list[RunSummary]:
        """The runs that match every word; starred ones only, if wanted."""
        return [row for row in self.rows() if row.matches(query) and (row.star or not starred)]

    def active(self) -> list[RunSummary]:
        """The runs that train or wait: first the one that trains, then the oldest."""
        return sorted((row for row in reversed(self.rows()) if not row.ended), key=lambda row: row.status == "queued")

    # ---- one run

    def settings(self, run_id: str) -> dict[str, object]:
        """A run's settings for a new one: as they were, with the steps it was continued to. Raises RunError."""
        run = self._run(run_id)
        return {**run.settings, "steps": self._state(run).steps or run.settings["steps"]}

    def differences(self, first_id: str, second_id: str) -> list[tuple[str, object, object]]:
        """(setting, first run's value, second run's) where two runs differ; None where one has no such setting. Raises RunError."""
        first, second = self.settings(first_id), self.settings(second_id)
        names = [*first, *(name for name in second if name not in first)]
        return [(name, first.get(name), second.get(name)) for name in names if first.get(name) != second.get(name)]

    def continuation(self, run_id: str, more_steps: int) -> str:
        """What `engine.continue_run` would do to the learning rate, in a sentence. Raises SdplayError."""
        from sdplay.longer import checked_total, lengthened, what_happens
        from sdplay.methods import parse_train_config

        run = self._run(run_id)
        steps = self._state(run).steps
        return what_happens(lengthened(parse_train_config(run.settings), steps), steps, checked_total(steps, more_steps))

    def report(self, run_id: str) -> str:
        """What to send in when a run went wrong: no secrets, no paths. Raises RunError."""
        run = self._run(run_id)
        return run_report(run, self._state(run))

    def _run(self, run_id: str) -> Run:
        return open_run(self._workspace.runs, run_id)

    # ---- notes

    def annotate(self, run: Run, *, note: str | None = None, star: bool | None = None) -> Notes:
        """Keep the user's words or the star; what is None stays. Raises RunError for a note that is too long."""
        if note is not None and len(note) > MOST_NOTE:
            raise RunError(f"The note has {len(note)} characters.", f"Write at most {MOST_NOTE}.")
        notes = read_notes(run)
        changes = {name: value for name, value in (("note", note), ("star", star)) if value is not None}
        changed = notes.model_copy(update=changes)
        write_json(run.folder / "notes.json", changed.model_dump())
        self.look_again()
        return changed

    # ---- the trash

    def delete(self, run: Run) -> None:
        """Move a run into the trash, from where it can be restored for KEPT_DAYS. Raises RunError while it is in somebody's hands."""
        if is_held(run.folder / "lock"):
            raise RunError(f"Run {run.id} is still going.", "Stop it first.")
        self._workspace.trash.mkdir(exist_ok=True)
        write_json(run.folder / "deleted.json", {"time": time.time(), "num_bytes": bytes_in(run.folder)})
        target = self._workspace.trash / run.id
        if target.exists():
            shutil.rmtree(target)
        run.folder.replace(target)
        self.look_again()

    def restore(self, run_id: str) -> Run:
        """Bring a run back from the trash. Raises RunError when it is not there."""
        folder = self._workspace.trash / run_id
        if not RUN_ID.fullmatch(run_id) or not folder.is_dir():
            raise RunError(f"There is no run {run_id[:60]!r} in the trash.", "It was restored or removed for good.")
        target = self._workspace.runs / run_id
        if target.exists():
            raise RunError(f"There is a run {run_id} already.", "Delete that one first.")
        self._workspace.runs.mkdir(exist_ok=True)
        folder.replace(target)
        (target / "deleted.json").unlink(missing_ok=True)
        self.look_again()
        return Run(target)

    def trash(self) -> list[Deleted]:
        """What can be restored, the last deleted first. What is older than KEPT_DAYS is removed for good."""
        found = [_deleted(path) for path in _folders(self._workspace.trash)]
        for old in (entry for entry in found if time.time() - entry.deleted_at > KEPT_DAYS * 86_400):
            shutil.rmtree(self._workspace.trash / old.id, ignore_errors=True)
        kept = [entry for entry in found if (self._workspace.trash / entry.id).is_dir()]
        return sorted(kept, key=lambda entry: entry.deleted_at, reverse=True)

    def empty_trash(self) -> int:
        """Remove everything in the trash for good. Returns how many bytes that freed."""
        freed = 0
        for entry in self.trash():
            shutil.rmtree(self._workspace.trash / entry.id)
            freed += entry.num_bytes
        return freed

    # ---- inside

    def _look(self) -> list[RunSummary]:
        known = self._read_index() if self._known is None else self._known
        seen: dict[str, tuple[Stamp, RunSummary]] = {}
        for folder in _folders(self._workspace.runs):
            stamp, old = _stamp(folder), known.get(folder.name)
            if old and old[0] == stamp and _is_settled(folder, old[1]):
                seen[folder.name] = old
            elif (folder / "config.yaml").exists():
                seen[folder.name] = stamp, summarise(Run(folder), self._state(Run(folder)))
        self._known = seen
        rows = [entry[1] for _, entry in sorted(seen.items(), reverse=True)]
        self._write_index(seen)
        return rows

    def _read_index(self) -> dict[str, tuple[Stamp, RunSummary]]:
        try:
            index = json.loads((self._workspace.runs / "index.json").read_text(encoding="utf-8"))
            entries = index["runs"].items() if index["version"] == VERSION else ()
            found = {name: (_as_stamp(entry["stamp"]), RunSummary.model_validate(entry["summary"])) for name, entry in entries}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ValidationError):
            return {}  # a cache: whatever is wrong with it, it is made anew
        self._saved = _mark(found)
        return found

    def _write_index(self, seen: Mapping[str, tuple[Stamp, RunSummary]]) -> None:
        """Keep what has ended; what is going on changes all the time."""
        ended = {name: entry for name, entry in seen.items() if entry[1].ended}
        if _mark(ended) == self._saved or not self._workspace.runs.is_dir():
            return
        entries = {name: {"stamp": stamp, "summary": summary.model_dump(mode="json")} for name, (stamp, summary) in ended.items()}
        try:
            write_json(self._workspace.runs / "index.json", {"version": VERSION, "runs": entries})
        except OSError:
            return  # a full or read-only disk: the list is still right, only slower next time
        self._saved = _mark(ended)


def summarise(run: Run, state: RunState) -> RunSummary:
    """A run's line in a list."""
    settings, facts, notes = run.settings, run.manifest.get("dataset"), read_notes(run)
    rounds = [entry for entry in state.samples if entry.files]
    return RunSummary(
        id=run.id,
        status=state.status,
        step=state.step,
        steps=state.steps,
        loss=state.losses[-1].loss if state.losses else None,
        held_out_loss=state.validations[-1].loss if state.validations else None,
        method=str(settings.get("method", "")),
        base=str(settings.get("base_model", "")),
        dataset=str(facts.get("name", "")) if isinstance(facts, dict) else "",
        token=str(settings.get("token", "")),
        submitted_at=state.submitted_at,
        worked_seconds=state.worked_seconds if state.ended_at else 0.0,
        checkpoints=state.checkpoints,
        picture=max(rounds, key=lambda entry: entry.step).files[0] if rounds else "",
        num_bytes=bytes_in(run.folder),
        note=notes.note,
        star=notes.star,
    )


def read_notes(run: Run) -> Notes:
    """The user's words about a run; none when the file is missing or spoilt."""
    try:
        return Notes.model_validate_json((run.folder / "notes.json").read_bytes())
    except (OSError, ValidationError):
        return Notes()


def bytes_in(folder: Path) -> int:
    """Bytes of all files in a folder, those below it included; what vanishes meanwhile counts nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(place) / name).lstat().st_size
            except OSError:
                continue
    return total


def _folders(parent: Path) -> list[Path]:
    """Run folders, in any order."""
    try:
        with os.scandir(parent) as entries:
            return [Path(entry.path) for entry in entries if RUN_ID.fullmatch(entry.name) and entry.is_dir()]
    except OSError:
        return []


def _is_settled(folder: Path, row: RunSummary) -> bool:
    """Whether nothing but its files can change a summary: an interrupted run may be taken up by another process."""
    return row.ended and (row.status != "interrupted" or not is_held(folder / "lock"))


def _stamp(folder: Path) -> Stamp:
    """Changes whenever what a summary is made of changes."""
    size = times = noted = 0
    try:
        found = (folder / "events.jsonl").stat()
        size, times = found.st_size, found.st_mtime_ns
        noted = (folder / "notes.json").stat().st_mtime_ns
    except OSError:
        pass
    return size, times, noted


def _as_stamp(value: list[int]) -> Stamp:
    size, times, noted = value
    return size, times, noted


def _mark(entries: Mapping[str, tuple[Stamp, RunSummary]]) -> int:
    return hash(tuple((name, stamp) for name, (stamp, _) in sorted(entries.items())))


def _deleted(folder: Path) -> Deleted:
    try:
        facts = json.loads((folder / "deleted.json").read_text())
        return Deleted(folder.name, float(facts["time"]), int(facts["num_bytes"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Deleted(folder.name, folder.stat().st_mtime, bytes_in(folder))
