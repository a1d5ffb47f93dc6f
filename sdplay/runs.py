"""The run folder: everything about one training run that must survive a crash, a refresh or a second browser.

<id>/config.yaml      the resolved config and versions; written once
     events.jsonl     append-only, the only source of status
     lock             held by the process that trains; the system frees it if that process dies
     stop             exists when somebody asked the run to stop; sample, save: for pictures or a checkpoint now
     notes.json       what the user wrote about it, and the star; see sdplay/history.py
     samples/         <step>/<prompt>.png
     checkpoints/     <step>/
     out/             files for other programs
     log.txt          what a developer wants to read
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, BinaryIO, Literal

import yaml
from filelock import FileLock, Timeout

from sdplay import __version__
from sdplay.errors import RunError
from sdplay.events import Event, Fold, RunState, StopRequested, read_event
from sdplay.workspace import slug, write_atomically
from sdplay.yaml_text import parse_yaml

if TYPE_CHECKING:
    from sdplay.config import TrainConfig

Request = Literal["sample", "save"]
RUN_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[a-z0-9-]{1,60}")


@dataclass(frozen=True)
class Run:
    """A run folder. Reading never waits for the process that trains."""

    folder: Path

    @property
    def id(self) -> str:
        """The folder's name, which is also what a user types."""
        return self.folder.name

    @cached_property
    def manifest(self) -> dict[str, object]:
        """config.yaml: `config`, `versions`, and facts about the base model and the data set."""
        return parse_yaml((self.folder / "config.yaml").read_text(encoding="utf-8"))

    @property
    def settings(self) -> dict[str, object]:
        """The config as it was resolved, as plain values."""
        config = self.manifest.get("config")
        return config if isinstance(config, dict) else {}

    def events(self) -> Iterator[Event]:
        """Every event that was written whole and is of a known type."""
        for line in self._lines(0)[0]:
            event = read_event(line)
            if event is not None:
                yield event

    def state(self) -> RunState:
        """Folded anew from disk. A run that should be going on, but whose lock is free, was interrupted."""
        return RunFollower(self).state()

    def _lines(self, offset: int) -> tuple[list[bytes], int]:
        """The whole lines from a byte offset on, and the offset behind them."""
        try:
            with (self.folder / "events.jsonl").open("rb") as file:
                file.seek(offset)
                raw = file.read()
        except FileNotFoundError:
            return [], offset
        whole = raw[: raw.rfind(b"\n") + 1]
        return whole.splitlines(), offset + len(whole)

    def is_held(self) -> bool:
        """Some living process has this run in hand."""
        return is_held(self.folder / "lock")

    def request_stop(self) -> None:
        """Ask the process that trains to stop at the next step and keep what it has."""
        (self.folder / "stop").touch()
        RunLog(self).append(StopRequested())

    @property
    def stop_requested(self) -> bool:
        """Somebody asked."""
        return (self.folder / "stop").exists()

    def request(self, what: Request) -> None:
        """Ask the process that trains for sample pictures or a checkpoint after its next step."""
        (self.folder / what).touch()

    def take_request(self, what: Request) -> bool:
        """Whether somebody asked; the next look says no."""
        path = self.folder / what
        if not path.exists():
            return False
        path.unlink(missing_ok=True)
        return True


class RunFollower:
    """Knows a run's state by reading only what is new since it last looked. Safe to share between threads."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._offset = 0
        self._fold = Fold()
        self._guard = Lock()

    def state(self) -> RunState:
        """The run's state now."""
        state = self._read()
        if state.ended or self.run.is_held():
            return state
        state = self._read()  # it may have ended between the two looks
        return state if state.ended else replace(state, status="interrupted", phase="")

    def _read(self) -> RunState:
        with self._guard:
            lines, self._offset = self.run._lines(self._offset)
            for line in lines:
                event = read_event(line)
                if event is not None:
                    self._fold.add(event)
            return self._fold.state()


class RunLog:
    """Appends events to a run. Each line is one write, so that readers see whole lines or a torn last one."""

    def __init__(self, run: Run) -> None:
        self.path = run.folder / "events.jsonl"
        self._guard = Lock()

    def append(self, event: Event) -> None:
        """Write one event and hand it to the system; after a torn last line a new line is begun first."""
        line = event.model_dump_json().encode() + b"\n"
        with self._guard, self.path.open("ab+") as file:
            if file.tell() and not _ends_with_newline(file):
                line = b"\n" + line
            file.write(line)


def _ends_with_newline(file: BinaryIO) -> bool:
    file.seek(-1, 2)
    return file.read(1) == b"\n"


def create_run(runs_folder: Path, config: TrainConfig, *, name: str = "", facts: Mapping[str, object] | None = None) -> Run:
    """Make a run folder with its config.yaml. `name` becomes part of the id; `facts` are kept beside the config."""
    label = slug(name) or slug(f"{config.method}-{config.token or config.dataset}") or config.method
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = runs_folder / f"{stamp}-{label}"
    while True:
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:
            folder = runs_folder / f"{stamp}-{label[:48]}-{secrets.token_hex(2)}"
    manifest = {"name": name, "config": config.model_dump(mode="json"), "versions": versions(), **(facts or {})}
    write_atomically(folder / "config.yaml", yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True))
    return Run(folder)


def open_run(runs_folder: Path, run_id: str) -> Run:
    """A run by id, by the start or the end of its id, or `last`. Raises RunError if none or several fit."""
    if run_id == "last":
        newest = list_runs(runs_folder)[:1]
        if not newest:
            raise RunError("There is no run yet.", "Train one first.")
        return newest[0]
    if RUN_ID.fullmatch(run_id) and (runs_folder / run_id / "config.yaml").exists():
        return Run(runs_folder / run_id)
    fitting = [run for run in list_runs(runs_folder) if run_id and (run.id.startswith(run_id) or run.id.endswith(f"-{run_id}"))]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise RunError(f"{run_id!r} fits {len(fitting)} runs: {', '.join(run.id for run in fitting[:5])}.", "Give the whole id.")
    raise RunError(f"There is no run {run_id!r}.", "`sdplay runs` lists them.")


def list_runs(runs_folder: Path) -> list[Run]:
    """Every run, newest first."""
    if not runs_folder.is_dir():
        return []
    folders = [path for path in runs_folder.iterdir() if RUN_ID.fullmatch(path.name) and (path / "config.yaml").exists()]
    return [Run(path) for path in sorted(folders, reverse=True)]


def is_held(lock_path: Path) -> bool:
    """Whether some living process holds a lock; the system frees it when the process dies."""
    lock = FileLock(lock_path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    lock.release()
    return False


def versions() -> dict[str, str]:
    """Versions of the packages that decide a result."""
    found = {"sdplay": __version__}
    for package in ("torch", "diffusers", "peft", "transformers"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def dump_events(run: Run) -> str:
    """The event log as one JSON array, for programs."""
    return json.dumps([event.model_dump(mode="json") for event in run.events()])
