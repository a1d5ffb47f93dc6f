"""Where things are on disk, and how they are written so that a crash never leaves half a file."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_data_path

PRESETS = Path(__file__).resolve().parent.parent / "presets"
"""What ships with sdplay: training presets, prompt sets, sample data, the embedded base model."""


@dataclass(frozen=True)
class Workspace:
    """A user's folder: data sets, runs, comparisons, saved prompt sets, caches."""

    root: Path

    @property
    def datasets(self) -> Path:
        """One folder per data set."""
        return self.root / "datasets"

    @property
    def runs(self) -> Path:
        """One folder per training run."""
        return self.root / "runs"

    @property
    def comparisons(self) -> Path:
        """One folder per comparison grid."""
        return self.root / "comparisons"

    @property
    def pictures(self) -> Path:
        """Pictures drawn outside a run or a comparison."""
        return self.root / "pictures"

    @property
    def prompts(self) -> Path:
        """Prompt sets the user saved."""
        return self.root / "prompts"

    @property
    def wildcards(self) -> Path:
        """Text files that the user's templates call as `__name__`."""
        return self.root / "wildcards"

    @property
    def experiments(self) -> Path:
        """One folder per experiment."""
        return self.root / "experiments"

    @property
    def adapters(self) -> Path:
        """Adapter files the user brought."""
        return self.root / "adapters"

    @property
    def trash(self) -> Path:
        """Deleted runs, which can be restored for some days."""
        return self.root / "trash"

    @property
    def exports(self) -> Path:
        """Files made for other programs, to be downloaded; may be deleted at any time."""
        return self.root / "exports"

    @property
    def cache(self) -> Path:
        """Latents and text embeddings by content; may be deleted at any time."""
        return self.root / "cache"


def open_workspace(root: Path | None = None) -> Workspace:
    """The workspace at `root`, else at $SDPLAY_HOME, else in the user's data folder. Makes the folder."""
    chosen = root or Path(os.environ.get("SDPLAY_HOME") or user_data_path("sdplay", appauthor=False))
    workspace = Workspace(chosen.expanduser().resolve())
    workspace.root.mkdir(parents=True, exist_ok=True)
    return workspace


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a whole file or nothing: beside it, fsynced, renamed. The parent folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = content.encode() if isinstance(content, str) else content
    handle, beside = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        Path(beside).chmod(0o644)
        Path(beside).replace(path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def folder_written_atomically(path: Path) -> Iterator[Path]:
    """Fill the yielded folder; it becomes `path` when the block ends, and is gone if the block raises.

    Every file is fsynced before the rename. An older `path` is replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=".tmp-", dir=path.parent))
    try:
        yield beside
        for file in beside.rglob("*"):
            if file.is_file():
                _sync_file(file)
        sync_folder(beside)
        if path.exists():
            shutil.rmtree(path)
        Path(beside).replace(path)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    sync_folder(path.parent)


def write_json(path: Path, value: object) -> None:
    """`write_atomically` of indented JSON."""
    write_atomically(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def sync_folder(path: Path) -> None:
    """Make renames inside `path` durable, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def slug(text: str, *, limit: int = 40) -> str:
    """A name that is safe in a path and readable: lower-case letters, digits and dashes, at most `limit` long; maybe empty."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:limit].rstrip("-")


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
