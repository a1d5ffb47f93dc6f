"""Columns x prompts x seeds, and whatever else changes -> a grid that can be kept, linked, judged and handed on.

comparisons/<id>/comparison.json   what was asked, and how far it is; rebuilt into the page by its link
                 cells/*.png       every picture, with its settings inside
                 votes.jsonl       what was chosen in the blind test
                 grid.png          one labelled picture
                 index.html        the same as one self-contained page
                 cancel            there while somebody wants it to stop
"""

from __future__ import annotations

import itertools
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from sdplay.axes import Spec, spec_of
from sdplay.columns import parse_column
from sdplay.config import CompareConfig
from sdplay.drawing_plan import Load, plan
from sdplay.errors import Cancelled, RunError, SdplayError
from sdplay.runs import is_held
from sdplay.workspace import Workspace, write_json

if TYPE_CHECKING:
    from PIL import Image

    from sdplay.families import Family, Parts
    from sdplay.formats import AdapterFile

LOG = logging.getLogger("sdplay")
COMPARISON_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{8}")
ENDED_EARLY = "The program that drew it ended before it was finished."
LOCK_SECONDS = 2.0
Source = tuple[tuple[str, float], ...]
"""Adapter files of a column with their strengths."""


class Cell(BaseModel):
    """One place of the grid. `file` is relative to the comparison's folder; without one, `error` says why, or it waits."""

    model_config = ConfigDict(frozen=True)
    column: int
    prompt: int
    seed: int
    more: tuple[int, ...] = ()
    """Which value of each axis, in the config's order."""
    file: str = ""
    error: str = ""

    @property
    def place(self) -> tuple[int, ...]:
        """Where it is."""
        return (self.column, self.prompt, self.seed, *self.more)


class Comparison(BaseModel):
    """comparison.json."""

    model_config = ConfigDict(frozen=True)
    id: str
    created: str
    status: Literal["waiting", "drawing", "finished", "cancelled", "failed"]
    config: CompareConfig
    labels: tuple[str, ...]
    cells: tuple[Cell, ...] = ()
    """Drawn or failed, as they came."""
    message: str = ""
    sources: dict[str, Source] = {}
    """The files behind each column, found when it was asked for: a run that goes on does not change a comparison."""
    seconds_per_step: float = 0.0
    """Measured: seconds of a picture's denoising step."""

    @property
    def ended(self) -> bool:
        """Nothing more will be drawn, unless somebody continues it."""
        return self.status in ("finished", "cancelled", "failed")

    @property
    def drawn(self) -> tuple[Cell, ...]:
        """Cells with a picture."""
        return tuple(cell for cell in self.cells if cell.file)

    @property
    def can_continue(self) -> bool:
        """Ended with places that have no picture."""
        return self.ended and len(self.drawn) < self.config.num_cells

    def file_of(self, column: int, prompt: int, seed: int, *more: int) -> str:
        """The picture in a place, or an empty text."""
        return next((cell.file for cell in self.cells if cell.place == (column, prompt, seed, *more)), "")

    def spec(self, cell: Cell) -> Spec:
        """What its picture depends on."""
        return spec_of(self.config, cell.column, cell.prompt, cell.seed, cell.more)


@dataclass(frozen=True)
class Drawing:
    """What drawing a comparison needs, loaded. paced hears the seconds per step before they are written, so that who reads knows."""

    folder: Path
    parts: Parts
    family: Family
    cancelled: Callable[[], bool]
    paced: Callable[[float], None]


def places(config: CompareConfig) -> Iterator[Cell]:
    """Every place of the grid, columns outermost, seeds innermost."""
    counts = [range(len(values)) for values in config.axes.values()]
    for column, *more, prompt, seed in itertools.product(range(len(config.columns)), *counts, range(len(config.prompts)), config.seeds):
        yield Cell(column=column, prompt=prompt, seed=seed, more=tuple(more))


def find_sources(config: CompareConfig, workspace: Workspace) -> dict[str, Source]:
    """The files behind every column, at every checkpoint asked for. Raises RunError, AdapterError or ConfigError."""
    texts = dict.fromkeys(spec_of(config, cell.column, cell.prompt, cell.seed, cell.more).column for cell in places(config))
    return {text: tuple((str(path), strength) for path, strength in parse_column(text, workspace).adapters) for text in texts}


def create_comparison(folder: Path, config: CompareConfig, labels: Sequence[str], sources: dict[str, Source]) -> Comparison:
    """Write a waiting comparison into `folder`/<id>."""
    now = datetime.now()
    comparison = Comparison(
        id=f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(4)}",
        created=now.isoformat(timespec="seconds"),
        status="waiting",
        config=config,
        labels=tuple(labels),
        sources=sources,
    )
    _write(folder / comparison.id, comparison)
    return comparison


def hold_comparison(folder: Path, comparison_id: str) -> FileLock:
    """Take a comparison in hand; while the lock is held, readers believe that it is being drawn. Raises RunError when another has it."""
    lock = FileLock(folder / comparison_id / "lock", thread_local=False)
    try:
        lock.acquire(timeout=LOCK_SECONDS)
    except Timeout:
        raise RunError(f"The comparison {comparison_id} is being drawn already.", "Wait until it has ended, or cancel it.") from None
    (folder / comparison_id / "cancel").unlink(missing_ok=True)
    return lock


def open_comparison(folder: Path, comparison_id: str) -> Comparison:
    """Read a comparison. One that is not finished and in nobody's hands is failed. Raises RunError when there is none with that id."""
    comparison = _read(folder, comparison_id)
    if comparison.ended or is_held(folder / comparison_id / "lock"):
        return comparison
    comparison = _read(folder, comparison_id)  # it may have ended between the two looks
    if comparison.ended:
        return comparison
    return comparison.model_copy(update={"status": "failed", "message": ENDED_EARLY})


def _read(folder: Path, comparison_id: str) -> Comparison:
    path = folder / comparison_id / "comparison.json"
    if not COMPARISON_ID.fullmatch(comparison_id) or not path.is_file():
        raise RunError(f"There is no comparison {comparison_id[:60]!r}.", "Its link is wrong, or it was deleted.")
    try:
        return Comparison.model_validate_json(path.read_bytes())
    except ValidationError:
        raise RunError(f"The comparison {comparison_id} cannot be read.", "Draw it again.") from None


def list_comparisons(folder: Path) -> list[str]:
    """Ids, newest first."""
    if not folder.is_dir():
        return []
    return sorted((path.name for path in folder.iterdir() if (path / "comparison.json").is_file()), reverse=True)


def set_status(folder: Path, comparison: Comparison, status: str, message: str = "") -> Comparison:
    """Write a new status."""
    changed = comparison.model_copy(update={"status": status, "message": message})
    _write(folder / comparison.id, changed)
    return changed


def reopen(folder: Path, comparison: Comparison) -> Comparison:
    """Let an ended comparison wait for what it has no picture of; what failed will be tried again."""
    waiting = comparison.model_copy(update={"status": "waiting", "message": "", "cells": comparison.drawn})
    _write(folder / comparison.id, waiting)
    return waiting


def draw_comparison(comparison: Comparison, drawing: Drawing) -> Comparison:
    """Draw every place that has no picture yet, in the cheapest order; every column starts from the same noise.

    A picture that cannot be drawn says why and keeps nothing else from being drawn. Raises Cancelled; finished cells stay.
    """
    from sdplay.grid_files import write_grid

    easel = _Easel(comparison, drawing)
    try:
        for load in plan(easel.waiting):
            easel.draw_load(load)
    finally:
        if easel.comparison.drawn:
            write_grid(drawing.folder, easel.comparison)
    return easel.finish()


def settings_of(comparison: Comparison, cell: Cell) -> dict[str, object]:
    """What a cell's PNG says about itself."""
    spec, label = comparison.spec(cell), comparison.labels[cell.column]
    named = spec.column if "/" not in spec.column and "\\" not in spec.column else label  # a picture tells nobody where files are
    return {
        **spec.drawing.model_dump(),
        "prompt": spec.prompt,
        "seed": spec.seed,
        "base_model": comparison.config.base_model,
        "adapter": (label if spec.column == comparison.config.columns[cell.column] else named)
        + (f" x {spec.strength:g}" if spec.strength != 1 else ""),
        "adapter_strength": spec.strength,
        "column": named,
        "comparison": comparison.id,
    }


class _Easel:
    """A comparison while it is drawn: every picture is on disk before the next one begins."""

    def __init__(self, comparison: Comparison, drawing: Drawing) -> None:
        self.comparison = comparison
        self.waiting: dict[Spec, list[Cell]] = {}
        self._drawing = drawing
        self._read: dict[str, AdapterFile] = {}
        self._seconds, self._steps = 0.0, 0
        there = {cell.place for cell in comparison.cells}
        drawn = {comparison.spec(cell): cell.file for cell in comparison.drawn}
        for cell in places(comparison.config):
            spec = comparison.spec(cell)
            if cell.place not in there and spec in drawn:
                self._add([cell], file=drawn[spec])
            elif cell.place not in there:
                self.waiting.setdefault(spec, []).append(cell)

    def draw_load(self, load: Load) -> None:
        """Everything that is drawn with one set of adapters. What keeps it off the base keeps only these pictures from being drawn."""
        from sdplay import sample

        specs = [spec for batch in load.batches for spec in batch.specs]
        try:
            with sample.using(self._drawing.parts, self._adapters(load), [batch.drawing for batch in load.batches]):
                for batch in load.batches:
                    self._draw(list(batch.specs))
        except Cancelled:
            raise
        except Exception as error:  # the cells say why
            self._fail([spec for spec in specs if spec in self.waiting], error)

    def finish(self) -> Comparison:
        """The last word about it, written."""
        failed = [cell for cell in self.comparison.cells if cell.error]
        reasons = " ".join(dict.fromkeys(cell.error for cell in failed))
        some = f"{len(failed)} of {self.comparison.config.num_cells} pictures could not be drawn. {reasons}" if failed else ""
        status = "finished" if self.comparison.drawn or not failed else "failed"
        self._update(status=status, message=some if status == "finished" else reasons)
        return self.comparison

    def _adapters(self, load: Load) -> list[tuple[AdapterFile, float]]:
        from sdplay.formats import read_adapter

        wanted = self.comparison.sources.get(load.column, ())
        self._read = {path: self._read.get(path) or read_adapter(Path(path)) for path, _ in wanted}
        return [(self._read[path], strength * load.strength) for path, strength in wanted]

    def _draw(self, specs: list[Spec]) -> None:
        """Pictures of one batch. When one of several cannot be drawn, those that are left are tried one by one."""
        from sdplay import sample
        from sdplay.device import explained_memory_errors

        drawing = self._drawing
        failure: Exception | None = None
        try:
            with explained_memory_errors("drawing"):
                shots = [sample.Shot(spec.prompt, spec.seed) for spec in specs]
                since = time.monotonic()
                pictures = sample.draw(drawing.parts, drawing.family, shots, specs[0].drawing, onlooker=sample.Onlooker(drawing.cancelled))
                for spec, picture in zip(specs, pictures, strict=True):
                    self._seconds += time.monotonic() - since
                    self._keep(spec, picture)
                    since = time.monotonic()
        except Cancelled:
            raise
        except Exception as error:  # the cell says why
            failure = error
        if failure is None:
            return
        left = [spec for spec in specs if spec in self.waiting]  # outside the except block, which would hold the tensors
        if len(left) < 2:
            self._fail(left, failure)
            return
        for spec in left:
            self._draw([spec])

    def _keep(self, spec: Spec, picture: Image.Image) -> None:
        from sdplay import sample

        cells = self.waiting.pop(spec)
        first = cells[0]
        more = "".join(f"-{index}" for index in first.more)
        file = f"cells/c{first.column:02d}-p{first.prompt:02d}-s{first.seed}{more}.png"
        sample.write_png(self._drawing.folder / file, picture, settings_of(self.comparison, first))
        self._steps += spec.drawing.steps
        self._add(cells, file=file)
        pace = self._seconds / self._steps
        self._drawing.paced(pace)
        self._update(status="drawing", seconds_per_step=pace)

    def _fail(self, specs: Sequence[Spec], error: Exception) -> None:
        """Write the reason into the places. The traceback goes to the log."""
        reason = str(error) if isinstance(error, SdplayError) else f"{type(error).__name__}: {str(error)[:300]}"
        if not isinstance(error, SdplayError):
            LOG.exception("a picture could not be drawn", exc_info=error)
        for spec in specs:
            self._add(self.waiting.pop(spec), error=reason)
        self._update(status="drawing")

    def _add(self, cells: Sequence[Cell], *, file: str = "", error: str = "") -> None:
        settled = tuple(cell.model_copy(update={"file": file, "error": error}) for cell in cells)
        self.comparison = self.comparison.model_copy(update={"cells": (*self.comparison.cells, *settled)})

    def _update(self, **changes: object) -> None:
        self.comparison = self.comparison.model_copy(update=changes)
        _write(self._drawing.folder, self.comparison)


def _write(folder: Path, comparison: Comparison) -> None:
    write_json(folder / "comparison.json", comparison.model_dump(mode="json"))
