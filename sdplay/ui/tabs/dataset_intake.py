"""Dataset, intake: files, folders, zips, the clipboard, the camera, addresses, Hub ids -> a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from sdplay.data.dataset import Progress
from sdplay.engine import Engine
from sdplay.errors import DataError
from sdplay.ui.access import Access
from sdplay.ui.tabs.events import silent
from sdplay.ui.views import dataset as views
from sdplay.ui.views.text import count_of, message

UPLOADS = ["image", ".zip", ".txt", ".csv", ".jsonl"]
Shots = list[tuple[str, str | None]]


@dataclass(frozen=True)
class Intake:
    """What a visitor brings, and the two buttons that take it in."""

    files: gr.File
    shots: gr.Gallery
    source: gr.Textbox
    name: gr.Textbox
    make: gr.Button
    add: gr.Button

    @property
    def brought(self) -> list[Any]:
        """The controls that say what to take in; emptied afterwards."""
        return [self.files, self.shots, self.source]


def create_intake(*, local: bool) -> Intake:
    """Everything that brings pictures. local: the visitor's own computer, whose folders and any address may be named."""
    with gr.Column():
        files = gr.File(
            label="Pictures, a zip, or captions (txt, csv, jsonl): drop them, or paste pictures with Ctrl+V",
            file_count="multiple",
            file_types=UPLOADS,
            elem_id="dataset-files",
            height=170,
        )
        with gr.Row():
            where = "Folder on this computer, address of a zip, or Hub data set" if local else "Hub data set"
            hint = "/home/me/pictures, https://... or owner/name" if local else "owner/name"
            source = gr.Textbox("", label=where, placeholder=hint, elem_id="dataset-source")
            name = gr.Textbox("", label="Name", placeholder="garden gnome", elem_id="dataset-name", max_length=80)
    with gr.Accordion("Take pictures with the camera, or paste them", open=False, elem_id="dataset-camera"):
        shots = gr.Gallery(
            sources=["webcam", "clipboard"], type="filepath", format="png", interactive=True, columns=6, height=260,
            show_label=False, label="Photos from the camera or the clipboard", elem_id="dataset-shots", file_types=["image"],
        )  # fmt: skip
    with gr.Row(elem_classes="sd-actions"):
        make = gr.Button("Make a data set", variant="primary", elem_id="dataset-make")
        add = gr.Button("Add to the open data set", elem_id="dataset-add")
        folder = gr.UploadButton("Choose a folder", file_count="directory", elem_id="dataset-folder")
    folder.upload(lambda new, old: [*(old or []), *(new or [])], [folder, files], files, **silent())
    return Intake(files, shots, source, name, make, add)


@dataclass(frozen=True)
class Desk:
    """Takes in what a visitor brings, as far as this visitor may name it."""

    engine: Engine
    access: Access

    def make_dataset(
        self, files: list[str] | None, shots: Shots | None, source: str, name: str, progress: gr.Progress = gr.Progress()  # noqa: B008  Gradio looks for it here
    ) -> tuple[Any, ...]:  # fmt: skip
        """A new data set from uploads and a source; the form is emptied."""
        sources = self._sources(files, shots, source)
        made = self.engine.datasets.create(sources, name=name.strip(), on_progress=_teller(progress))
        text = message("good", f"Made “{made.name}” from {count_of(len(made.pictures), 'picture')}.", "Your own files stay as they are.")
        return dataset_picker(self.engine, made.id), None, None, "", "", text

    def add_pictures(
        self, dataset_id: str | None, files: list[str] | None, shots: Shots | None, source: str, progress: gr.Progress = gr.Progress()  # noqa: B008  Gradio looks for it here
    ) -> tuple[Any, ...]:  # fmt: skip
        """More pictures or captions for the open data set."""
        if not dataset_id:
            raise DataError("No data set is open.", "Press Make a data set.")
        grown = self.engine.datasets.add(dataset_id, self._sources(files, shots, source), on_progress=_teller(progress))
        text = message("good", f"“{grown.name}” has {count_of(len(grown.pictures), 'picture')} now.")
        return dataset_picker(self.engine, grown.id), None, None, "", text

    def _sources(self, files: Sequence[str] | None, shots: Shots | None, source: str) -> list[str]:
        named = self.access.sources([source.strip()] if source.strip() else [])
        sources = [*(files or []), *(path for path, _ in shots or []), *named]
        if not sources:
            raise DataError(
                "There is nothing to take in yet.", "Drop pictures or a zip into the field, or give a folder or a Hub data set."
            )
        return sources


def dataset_picker(engine: Engine, wanted: str) -> Any:  # noqa: ANN401  an update of Gradio's
    """The list of data sets as it is now, opened at `wanted` or the newest."""
    choices = views.dataset_choices(engine.datasets.list())
    ids = [dataset_id for _, dataset_id in choices]
    return gr.update(choices=choices, value=wanted if wanted in ids else next(iter(ids), None))


def _teller(progress: gr.Progress) -> Progress:
    return lambda what, done, total: progress((done, total or None), desc=what)
