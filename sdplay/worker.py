"""The one thread that owns the accelerator.

Training runs wait in a queue; drawings go first, and slip in between two steps of a training run that uses the same base.
The base model is loaded once and kept until another is asked for.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from filelock import FileLock, Timeout

from sdplay import hub
from sdplay.config import FrozenWeights, PriorConfig
from sdplay.data import DatasetStore
from sdplay.errors import Cancelled, RunError, SdplayError
from sdplay.estimate import peak_bytes, reset_peak, taken_seconds, write_outcome
from sdplay.events import Failed, Note, Phase, Submitted
from sdplay.longer import lengthened
from sdplay.methods import parse_train_config
from sdplay.runs import Run, RunLog

if TYPE_CHECKING:
    from sdplay.device import Device
    from sdplay.families import Family, Parts

LOG = logging.getLogger("sdplay")
MAX_WAITING_RUNS = 20
LOCK_SECONDS = 2.0
RUN_DISK_BYTES = 200 * 2**20
Result = TypeVar("Result")


@dataclass
class _Drawing(Generic[Result]):
    """Something to draw that waits for the thread."""

    base_model: str
    do: Callable[[Parts, Family], Result]
    outcome: Future[Result]
    weights: FrozenWeights = "auto"

    def serve(self, parts: Parts, family: Family) -> None:
        self.outcome.set_result(self.do(parts, family))


@dataclass
class _Errand(Generic[Result]):
    """Work that needs the thread, but no base model."""

    do: Callable[[], Result]
    outcome: Future[Result]

    def serve(self) -> None:
        try:
            self.outcome.set_result(self.do())
        except Exception as error:  # whoever asked gets it, whatever it is
            self.outcome.set_exception(_explained(error))


@dataclass
class _Loaded:
    base: hub.Base
    parts: Parts
    family: Family
    device: Device


class Worker:
    """Takes work from any thread; does it in its own, which starts with the first work."""

    def __init__(self, datasets: DatasetStore, cache_folder: Path) -> None:
        self.closing = False
        self._datasets = datasets
        self._cache_folder = cache_folder
        self._runs: deque[Run] = deque()
        self._drawings: deque[_Drawing] = deque()
        self._errands: deque[_Errand] = deque()
        self._locks: dict[str, FileLock] = {}
        self._wakeup = threading.Condition()
        self._thread: threading.Thread | None = None
        self._loaded: _Loaded | None = None

    def require_room(self) -> None:
        """Raise RunError when too many runs wait already."""
        if len(self._runs) >= MAX_WAITING_RUNS:
            raise RunError(f"{MAX_WAITING_RUNS} runs are waiting already.", "Wait until one has ended, or stop one.")

    def train(self, run: Run, steps: int) -> None:
        """Queue a run. Its lock is held from now until it ends. Raises RunError when another process has it."""
        lock = FileLock(run.folder / "lock", thread_local=False)
        try:
            lock.acquire(timeout=LOCK_SECONDS)
        except Timeout:
            raise RunError(f"Run {run.id} is in another program's hands.", "Wait until that has ended.") from None
        for request in ("stop", "sample", "save"):
            (run.folder / request).unlink(missing_ok=True)
        RunLog(run).append(Submitted(steps=steps))
        with self._wakeup:
            self._locks[run.id] = lock
            self._runs.append(run)
        self._wake()

    def put_first(self, run_id: str) -> None:
        """Of the runs that wait, train this one first. Raises RunError for one that does not wait."""
        with self._wakeup:
            run = next((run for run in self._runs if run.id == run_id), None)
            if run is None:
                raise RunError(f"Run {run_id} does not wait for its turn.", "Only a waiting run can be put first.")
            self._runs.remove(run)
            self._runs.appendleft(run)

    def draw(self, base_model: str, do: Callable[[Parts, Family], Result], *, weights: FrozenWeights = "auto") -> Future[Result]:
        """Queue a drawing. Its outcome is `do`'s result or an SdplayError.

        weights: `auto` takes the base as a run that uses it keeps it; else it waits for a base that is kept so.
        """
        drawing = _Drawing(base_model, do, Future(), weights)
        with self._wakeup:
            self._drawings.append(drawing)
        self._wake()
        return drawing.outcome

    def errand(self, do: Callable[[], Result]) -> Future[Result]:
        """Queue other work for the accelerator; it is done before the next training run. Its outcome is the result or an SdplayError."""
        errand = _Errand(do, Future())
        with self._wakeup:
            self._errands.append(errand)
        self._wake()
        return errand.outcome

    def close(self) -> None:
        """End the thread; a training run is asked to stop and keeps a checkpoint, what waits is not begun."""
        with self._wakeup:
            self.closing = True
            self._wakeup.notify_all()
        if self._thread and self._thread is not threading.current_thread():
            self._thread.join()
        for outcome in [waiting.outcome for waiting in self._drawings] + [waiting.outcome for waiting in self._errands]:
            outcome.set_exception(Cancelled("sdplay is closing."))
        for lock in self._locks.values():
            lock.release()

    def _wake(self) -> None:
        with self._wakeup:
            self._wakeup.notify_all()
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._serve, name="sdplay-worker", daemon=True)
                self._thread.start()

    def _serve(self) -> None:
        from sdplay.families import import_libraries

        import_libraries()
        from sdplay.device import prepare_thread
        from sdplay.quiet import quiet_libraries

        quiet_libraries()
        prepare_thread()
        while True:
            with self._wakeup:
                self._wakeup.wait_for(lambda: self.closing or self._drawings or self._errands or self._runs)
                if self.closing:
                    return
                drawing = self._drawings.popleft() if self._drawings else None
                errand = self._errands.popleft() if self._errands and not drawing else None
                run = None if drawing or errand else self._runs.popleft()
            if drawing:
                self._serve_drawing(drawing)
            elif errand:
                errand.serve()
            elif run:
                self._serve_run(run)

    def _serve_drawing(self, drawing: _Drawing, loaded: _Loaded | None = None) -> None:
        from sdplay.device import explained_memory_errors

        try:
            loaded = loaded or self._load(drawing.base_model, drawing.weights)
            with explained_memory_errors("drawing"):
                drawing.serve(loaded.parts, loaded.family)
        except Exception as error:  # whoever asked gets it, whatever it is
            drawing.outcome.set_exception(_explained(error))

    def _serve_drawings_between_steps(self, base_model: str) -> bool:
        """Draw what waits for the base that is in use, as the run keeps it; other bases wait until the run has ended."""
        served = False
        while drawing := self._next_drawing(base_model):
            self._serve_drawing(drawing, self._loaded)
            served = True
        return served

    def _next_drawing(self, base_model: str) -> _Drawing | None:
        kept = self._loaded.device.weights if self._loaded else "auto"
        with self._wakeup:
            for drawing in self._drawings:
                if drawing.base_model == base_model and drawing.weights in ("auto", kept):
                    self._drawings.remove(drawing)
                    return drawing
        return None

    def _serve_run(self, run: Run) -> None:
        """Train; whatever happens ends as an event, and the lock is given back."""
        log = RunLog(run)
        try:
            with _log_file(run.folder / "log.txt"):
                try:
                    self._train(run, log)
                except Exception as error:  # becomes the run's failure, which the page shows
                    explained = _explained(error)
                    if explained is not error:
                        self._loaded = None  # what it left on the base is unknown: load it afresh
                    log.append(Failed(message=explained.message, hint=explained.hint))
        finally:
            self._locks.pop(run.id).release()

    def _train(self, run: Run, log: RunLog) -> None:
        from sdplay import train
        from sdplay.device import explained_memory_errors, require_disk
        from sdplay.job import Hooks, Job
        from sdplay.methods import method

        config = lengthened(parse_train_config(run.settings), run.state().steps)
        class_dataset = config.prior_dataset if isinstance(config, PriorConfig) and config.prior == "dataset" else ""
        require_disk(run.folder, RUN_DISK_BYTES)
        log.append(Phase(name="loading the base model"))
        loaded = self._load(
            config.base_model, config.frozen_weights, lambda what, done, total: log.append(Phase(name=what, done=done, total=total))
        )
        job = Job(
            run=run,
            config=config,
            examples=self._datasets.open(config.dataset).examples,
            parts=loaded.parts,
            family=loaded.family,
            method=method(config.method),
            device=loaded.device,
            cache_folder=self._cache_folder,
            class_examples=self._datasets.open(class_dataset).examples if class_dataset else (),
        )
        hooks = Hooks(
            emit=log.append,
            stop_requested=lambda: self.closing or run.stop_requested,
            between_steps=lambda: self._serve_drawings_between_steps(config.base_model),
            requested=run.take_request,
        )
        reset_peak(loaded.device.kind)
        with explained_memory_errors("training"):
            train.train(job, hooks)
        seconds = taken_seconds(list(run.events()))
        if seconds and (outcome := write_outcome(run.folder, seconds, peak_bytes(loaded.device.kind))):
            log.append(Note(text=outcome))

    def _load(self, source: str, weights: FrozenWeights = "auto", on_progress: hub.Progress | None = None) -> _Loaded:
        """The base with its frozen weights kept in `weights`: the one in memory if it is that, else read now."""
        from sdplay.device import best_device, keeping
        from sdplay.families import family

        device = keeping(best_device(), weights)
        if self._loaded is None or (self._loaded.base.source, self._loaded.device.weights) != (source, device.weights):
            base = hub.find_base(source, on_progress=on_progress)
            self._loaded = None
            chosen = family(base.family)
            parts = chosen.load(base.folder, device, source=source, checkpoint=base.checkpoint)
            self._loaded = _Loaded(base, parts, chosen, device)
        return self._loaded


def _explained(error: Exception) -> SdplayError:
    """What a user is told; the traceback goes to the log."""
    if isinstance(error, SdplayError):
        return error
    LOG.error("%s", "".join(traceback.format_exception(error)))
    return SdplayError(
        f"Something went wrong inside sdplay: {type(error).__name__}: {str(error)[:300]}",
        "The log has the full report (log.txt of the run); please send it in.",
    )


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    LOG.addHandler(handler)
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        handler.close()
