"""Comparisons as the engine offers them: ask for one, follow it, stop it, go on with it, and judge it blind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from sdplay import votes
from sdplay.axes import axes, check_axes, spec_of
from sdplay.columns import parse_column
from sdplay.compare import (
    Comparison,
    Drawing,
    create_comparison,
    draw_comparison,
    find_sources,
    hold_comparison,
    list_comparisons,
    open_comparison,
    places,
    reopen,
    set_status,
)
from sdplay.config import CompareConfig, parse
from sdplay.drawing_plan import Effort, effort, plan
from sdplay.errors import Cancelled, ConfigError, RunError
from sdplay.worker import Worker
from sdplay.workspace import Workspace

if TYPE_CHECKING:
    from sdplay.families import Family, Parts

MAX_CELLS = 400
MOST_REMEMBERED = 20
"""Comparisons that are looked through for how fast a base draws."""


class Comparisons:
    """Every method may be called from any thread and returns at once."""

    def __init__(self, workspace: Workspace, worker: Worker) -> None:
        self._workspace = workspace
        self._folder = workspace.comparisons
        self._worker = worker
        self._pace: dict[str, float] = {}
        self._remembered = False

    def start(self, values: Mapping[str, object]) -> str:
        """Queue a comparison grid; `values` are CompareConfig's. Returns its id. Raises SdplayError; then nothing was written."""
        config = checked_config(values)
        columns = [parse_column(text, self._workspace) for text in config.columns]
        if len({column.label for column in columns}) < len(columns):
            raise ConfigError("A column is there twice.", "Take one of them away.")
        sources = find_sources(config, self._workspace)
        comparison = create_comparison(self._folder, config, [column.label for column in columns], sources)
        self._queue(comparison, hold_comparison(self._folder, comparison.id))
        return comparison.id

    def go_on(self, comparison_id: str) -> None:
        """Draw what an ended comparison has no picture of, in whichever process. Raises RunError when nothing is missing."""
        comparison = self.open(comparison_id)
        if not comparison.can_continue:
            raise RunError(
                f"The comparison {comparison.id} is {comparison.status}.", "Only one that ended with pictures missing can be continued."
            )
        lock = hold_comparison(self._folder, comparison.id)
        try:
            missing = {} if comparison.sources else {"sources": find_sources(comparison.config, self._workspace)}
            waiting = reopen(self._folder, comparison.model_copy(update=missing))
        except BaseException:
            lock.release()
            raise
        self._queue(waiting, lock)

    def cancel(self, comparison_id: str) -> None:
        """Stop drawing, whichever process draws; finished cells stay. Raises RunError."""
        (self._folder / self.open(comparison_id).id / "cancel").touch()

    def open(self, comparison_id: str) -> Comparison:
        """A comparison as it is now; one that no process draws any more is failed. Raises RunError."""
        return open_comparison(self._folder, comparison_id)

    def list(self) -> list[str]:
        """Ids of all comparisons, newest first."""
        return list_comparisons(self._folder)

    def folder(self, comparison_id: str) -> Path:
        """Where a comparison's files are. Raises RunError."""
        return self._folder / self.open(comparison_id).id

    def seconds_per_step(self, base_model: str) -> float | None:
        """How long a denoising step of one picture took here with a base last time; None when that is not known."""
        if not self._remembered:
            self._remembered = True
            self._pace = {**dict(self._measured()), **self._pace}
        return self._pace.get(base_model)

    # ---- blind test

    def begin_ballot(self, comparison_id: str, rounds: int) -> votes.Ballot:
        """Begin a blind test; an older one stays on disk. Raises RunError or ConfigError."""
        comparison = self.open(comparison_id)
        return votes.begin_ballot(self._folder / comparison.id, comparison, rounds)

    def ballot(self, comparison_id: str) -> votes.Ballot | None:
        """The latest blind test of a comparison."""
        return votes.open_ballot(self.folder(comparison_id))

    def vote(self, comparison_id: str, number: int, choice: str) -> votes.Ballot:
        """Choose left, right or tie for a pair, or take it back with an empty text. Raises RunError."""
        return votes.vote(self.folder(comparison_id), number, choice)

    def reveal(self, comparison_id: str) -> votes.Ballot:
        """End a blind test and show whose pictures they were. Raises RunError."""
        return votes.reveal(self.folder(comparison_id))

    def _measured(self) -> Iterable[tuple[str, float]]:
        """Bases and their paces, the latest last, so that it counts."""
        for comparison_id in reversed(self.list()[:MOST_REMEMBERED]):
            try:
                comparison = self.open(comparison_id)
            except RunError:
                continue
            if comparison.seconds_per_step:
                yield comparison.config.base_model, comparison.seconds_per_step

    def _queue(self, comparison: Comparison, lock: FileLock) -> None:
        outcome = self._worker.draw(comparison.config.base_model, lambda parts, family: self._draw(comparison, parts, family))
        outcome.add_done_callback(lambda done: self._end(comparison.id, lock, done))

    def _draw(self, comparison: Comparison, parts: Parts, family: Family) -> Comparison:
        folder = self._folder / comparison.id

        def cancelled() -> bool:
            return self._worker.closing or (folder / "cancel").exists()

        def paced(seconds: float) -> None:
            self._pace[comparison.config.base_model] = seconds

        return draw_comparison(comparison, Drawing(folder, parts, family, cancelled, paced))

    def _end(self, comparison_id: str, lock: FileLock, outcome: Future[Comparison]) -> None:
        error = outcome.exception()
        if error is not None:
            status = "cancelled" if isinstance(error, Cancelled) else "failed"
            set_status(self._folder, self.open(comparison_id), status, str(error))
        lock.release()


def checked_config(values: Mapping[str, object]) -> CompareConfig:
    """A config whose axes exist, the costliest to change first, and that is not too large. Raises ConfigError."""
    config = parse(CompareConfig, values)
    check_axes(config)
    config = config.model_copy(update={"axes": {name: config.axes[name] for name in axes() if name in config.axes}})
    if config.num_cells > MAX_CELLS:
        raise ConfigError(
            f"The grid has {config.num_cells} pictures; {MAX_CELLS} are the most.", "Take fewer columns, prompts, seeds or values."
        )
    return config


def effort_of(config: CompareConfig) -> Effort:
    """What drawing a config takes: places that show one and the same picture are drawn once."""
    return effort(plan(spec_of(config, cell.column, cell.prompt, cell.seed, cell.more) for cell in places(config)))
