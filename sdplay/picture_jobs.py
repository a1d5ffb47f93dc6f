"""What goes through the pictures of a data set one by one and takes a while: captions by a model, masks by rembg.

The worker does it, so nothing else waits on a handler and the accelerator has one user. How far it is can be asked by every page.
"""

from __future__ import annotations

import importlib.util
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from typing import TYPE_CHECKING, Literal

from PIL import Image

from sdplay.data import Dataset, DatasetStore, Example
from sdplay.data.edits import Facts, facts_of
from sdplay.errors import Cancelled, DataError, ModelError, SdplayError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from sdplay.worker import Worker

LOG = logging.getLogger("sdplay")
CAPTIONERS: Mapping[str, str] = {
    "Salesforce/blip-image-captioning-base": "BLIP: one short sentence, 1 GB",
    "florence-community/Florence-2-base": "Florence-2: a detailed sentence, 0.5 GB",
}
"""The captioning models that are offered, by Hub id. Any other of these two kinds may be given."""
REMBG_HINT = "Run `pip install rembg onnxruntime`, restart sdplay and press again, or paint the mask by hand."
Status = Literal["waiting", "loading", "working", "finished", "failed", "cancelled"]


@dataclass(frozen=True)
class PictureJob:
    """How far a job is. what: what it makes.  message: what went wrong, or how it ended."""

    what: str
    status: Status
    done: int = 0
    total: int = 0
    message: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in ("finished", "failed", "cancelled")


class PictureJobs:
    """Starts, watches and cancels jobs; one at a time for each data set. Every method returns at once, from any thread."""

    def __init__(self, datasets: DatasetStore, worker: Worker) -> None:
        self._datasets, self._worker = datasets, worker
        self._jobs: dict[str, PictureJob] = {}
        self._cancelled: set[str] = set()
        self._lock = threading.Lock()

    def state(self, dataset_id: str) -> PictureJob | None:
        """The job of a data set, also when it has ended; None if there was none since the start."""
        return self._jobs.get(dataset_id)

    def cancel(self, dataset_id: str) -> None:
        """End the job after the picture it is at; what is done is kept."""
        self._cancelled.add(dataset_id)

    def write_captions(self, dataset_id: str, model: str, *, only_missing: bool) -> None:
        """Let a captioning model describe the pictures. model: a Hub id or a folder. Raises DataError."""
        chosen = [example for example in self._datasets.open(dataset_id).examples if not (only_missing and example.caption)]
        self._begin(dataset_id, PictureJob("captions", "waiting", total=len(chosen)), "Every picture has a caption already.")
        self._submit(dataset_id, lambda: self._caption(dataset_id, model, chosen))

    def find_subjects(self, dataset_id: str) -> None:
        """Let rembg tell the subject from the background, and keep that as masks where there is none. Raises DataError."""
        if importlib.util.find_spec("rembg") is None:
            raise DataError("Background removal needs the package rembg, which is not installed.", REMBG_HINT)
        chosen = [example for example in self._datasets.open(dataset_id).examples if example.mask is None]
        self._begin(dataset_id, PictureJob("masks", "waiting", total=len(chosen)), "Every picture has a mask already.")
        self._submit(dataset_id, lambda: self._cut_out(dataset_id, chosen))

    def _begin(self, dataset_id: str, job: PictureJob, nothing: str) -> None:
        if not job.total:
            raise DataError(nothing, "There is nothing to do.")
        with self._lock:
            running = self._jobs.get(dataset_id)
            if running and not running.ended:
                raise DataError(f"The {running.what} of this data set are being made already.", "Wait for them, or cancel.")
            self._jobs[dataset_id] = job
        self._cancelled.discard(dataset_id)

    def _submit(self, dataset_id: str, do: Callable[[], None]) -> None:
        outcome = self._worker.errand(do)
        outcome.add_done_callback(lambda done: self._end(dataset_id, done))

    def _end(self, dataset_id: str, outcome: Future[None]) -> None:
        job, error = self._jobs[dataset_id], outcome.exception()
        if error is None:
            job = replace(job, status="finished", message=f"{job.done} {job.what} written.")
        elif isinstance(error, Cancelled):
            job = replace(job, status="cancelled", message=f"Cancelled; {job.done} {job.what} are kept.")
        else:
            job = replace(job, status="failed", message=str(error))
        self._jobs[dataset_id] = job

    def _tell(self, dataset_id: str, status: Status, done: int) -> None:
        self._jobs[dataset_id] = replace(self._jobs[dataset_id], status=status, done=done)
        if dataset_id in self._cancelled or self._worker.closing:
            raise Cancelled("The job was cancelled.")

    def _caption(self, dataset_id: str, model: str, chosen: list[Example]) -> None:
        from sdplay.captioner import load_captioner

        self._tell(dataset_id, "loading", 0)
        describe = load_captioner(model)
        captions: dict[str, str] = {}
        try:
            for done, example in enumerate(chosen):
                self._tell(dataset_id, "working", done)
                captions[example.key] = describe(_part(example))
            self._tell(dataset_id, "working", len(chosen))
        finally:
            facts = _facts(self._datasets.open(dataset_id), captions)
            if facts:
                self._datasets.change(dataset_id, facts, what=f"Captions by {model.rsplit('/', maxsplit=1)[-1]}")

    def _cut_out(self, dataset_id: str, chosen: list[Example]) -> None:
        self._tell(dataset_id, "loading", 0)
        try:
            from rembg import new_session, remove

            session = new_session("u2net")
        except Exception as error:  # rembg downloads its weights on first use and has no common error
            LOG.info("rembg refused", exc_info=True)
            raise ModelError(f"rembg could not be started ({type(error).__name__}).", "It downloads its weights on first use.") from error
        for done, example in enumerate(chosen):
            self._tell(dataset_id, "working", done)
            with Image.open(example.path) as picture:
                mask = remove(picture.convert("RGB"), session=session, only_mask=True)
            written = BytesIO()
            mask.save(written, "PNG")
            try:
                self._datasets.set_mask(dataset_id, example.key, written.getvalue())
            except SdplayError as error:  # nothing found in this picture, or it was taken out meanwhile
                LOG.info("no mask for %s: %s", example.source, error)
        self._tell(dataset_id, "working", len(chosen))


def _part(example: Example) -> Image.Image:
    with Image.open(example.path) as picture:
        return picture.convert("RGB").crop(example.region)


def _facts(dataset: Dataset, captions: Mapping[str, str]) -> dict[str, Facts]:
    """New captions for the pictures that are still there."""
    found = {example.key: example for example in dataset.pictures}
    return {key: replace(facts_of(found[key]), caption=text[:1000]) for key, text in captions.items() if key in found}
