"""Dataset: bring pictures, see what was understood, mend captions. And what the base draws before it learns anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from sdplay.data import report
from sdplay.drawing import GenerateConfig
from sdplay.engine import Engine
from sdplay.errors import DataError, SdplayError
from sdplay.sample_sets import gallery_prompts
from sdplay.ui.access import Access
from sdplay.ui.errors import friendly
from sdplay.ui.files import file_url
from sdplay.ui.html import html_block
from sdplay.ui.tabs.events import confirmed_delete, quick, silent
from sdplay.ui.views import dataset as views
from sdplay.ui.views.text import count_of, empty, esc, message, picture

UPLOADS = ["image", ".zip", ".txt", ".csv", ".jsonl"]
TRIES = (1, 2, 3, 4)
UNKNOWN_BASE_PX = 512
NO_DATASET = empty("No data set is open", "Take a sample above, or bring 10 to 20 pictures of one subject or one style.")


@dataclass(frozen=True)
class DatasetTab:
    """What other tabs need: the open data set, the sample buttons, the way on."""

    picker: gr.Dropdown
    samples: gr.HTML
    idea: gr.Textbox
    onward: gr.Button


def create_dataset_tab(engine: Engine, access: Access, base: gr.Dropdown) -> DatasetTab:
    """Everything under "Dataset"."""
    idea = _create_idea_strip(engine, access, base)
    gr.Markdown("### Start with pictures\nA sample that is ready to train, or your own.")
    samples = html_block(views.sample_cards(engine.samples()), elem_id="samples")
    files, source, name, make, add = _create_intake(local=access.local)
    outcome = html_block(elem_id="intake-outcome")
    picker = gr.Dropdown(label="Data set", choices=[], value=None, elem_id="dataset-picker", allow_custom_value=True, interactive=True)
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=280):
            findings = html_block(NO_DATASET, elem_id="dataset-report")
        with gr.Column(scale=4, min_width=280):
            skipped = html_block(elem_id="dataset-skipped")
    grid = html_block(elem_id="dataset-grid")
    with gr.Row(elem_classes="sd-actions"):
        onward = gr.Button("Continue to training", variant="primary", elem_id="dataset-onward", interactive=False)
        delete = confirmed_delete("Delete this data set", "dataset")

    show = friendly(show_dataset, engine)
    shown = [findings, skipped, grid, onward]
    picker.change(show, [picker, base], shown, **silent())
    base.change(show, [picker, base], shown, **silent())
    heavy: dict[str, Any] = {"api_visibility": "private", "concurrency_limit": 2, "concurrency_id": "intake"}
    make.click(friendly(make_dataset, engine, access), [files, source, name], [picker, files, source, name, outcome], **heavy)
    add.click(friendly(add_pictures, engine, access), [picker, files, source], [picker, files, source, outcome], **heavy).success(
        show, [picker, base], shown, **quick()
    )
    grid.edit(friendly(edit_caption, engine), [base], [findings], **quick())
    grid.delete(friendly(take_out, engine), [base], [*shown, picker], **quick())
    delete.click(friendly(delete_dataset, engine), [picker], [picker], **quick())
    return DatasetTab(picker, samples, idea, onward)


def _create_idea_strip(engine: Engine, access: Access, base: gr.Dropdown) -> gr.Textbox:
    with gr.Column(elem_id="idea-strip"):
        gr.Markdown(
            "### What the embedded base draws\nPress a picture to draw it anew, or write a prompt of your own. Then teach it something."
        )
        shown = html_block(views.gallery(gallery_prompts()), elem_id="gallery")
        with gr.Row(equal_height=True):
            idea = gr.Textbox("", placeholder="red apple", show_label=False, label="Prompt", elem_id="idea", scale=6, container=False)
            draw = gr.Button("Draw", elem_id="idea-draw", scale=1, min_width=90)
        drawn = html_block(elem_id="idea-pictures")
    working: dict[str, Any] = {"api_visibility": "private", "concurrency_limit": 1, "concurrency_id": "gpu"}
    handler = friendly(draw_idea, engine, access)
    gr.on([draw.click, idea.submit], handler, [idea, base], drawn, **working)
    shown.select(_prompt_of, None, idea, **silent()).then(handler, [idea, base], drawn, **working)
    return idea


def _prompt_of(event: gr.EventData) -> str:
    return str(event.id)


def _create_intake(*, local: bool) -> tuple[gr.File, gr.Textbox, gr.Textbox, gr.Button, gr.Button]:
    with gr.Column():
        files = gr.File(
            label="Pictures, a zip, or captions (txt, csv, jsonl)",
            file_count="multiple",
            file_types=UPLOADS,
            elem_id="dataset-files",
            height=170,
        )
        with gr.Row():
            where = "Folder on this computer, or Hub data set" if local else "Hub data set"
            hint = "/home/me/pictures or owner/name" if local else "owner/name"
            source = gr.Textbox("", label=where, placeholder=hint, elem_id="dataset-source")
            name = gr.Textbox("", label="Name", placeholder="garden gnome", elem_id="dataset-name", max_length=80)
    with gr.Row(elem_classes="sd-actions"):
        make = gr.Button("Make a data set", variant="primary", elem_id="dataset-make")
        add = gr.Button("Add to the open data set", elem_id="dataset-add")
    return files, source, name, make, add


def draw_idea(engine: Engine, access: Access, prompt: str, base_model: str) -> str:
    """A few pictures of the base alone."""
    if not prompt.strip():
        raise DataError("There is no prompt.", "Write what to draw, for example: red apple.")
    drawn = engine.draw([prompt], TRIES, GenerateConfig().model_dump(), base_model=access.base(base_model))
    images = "".join(f"<figure>{_own(shot.path.name, f'{prompt}, seed {shot.seed}')}</figure>" for shot in drawn)
    told = f"{base_model} draws “{prompt}”, seeds 1 to {len(drawn)}"
    return f'<div class="sd-strip sd-drawn">{images}</div><p class="sd-caption">{esc(told)}</p>'


def make_dataset(
    engine: Engine, access: Access, files: list[str] | None, source: str, name: str, progress: gr.Progress = gr.Progress()  # noqa: B008  Gradio looks for it here
) -> tuple[Any, ...]:  # fmt: skip
    """A new data set from uploads and a source; the form is emptied."""
    sources = _sources(access, files, source)
    made = engine.datasets.create(sources, name=name.strip(), on_progress=lambda file, done, total: progress((done, total), desc=file))
    text = message("good", f"Made “{made.name}” from {count_of(len(made.examples), 'picture')}.", "Your own files stay as they are.")
    return dataset_picker(engine, made.id), None, "", "", text


def add_pictures(
    engine: Engine, access: Access, dataset_id: str | None, files: list[str] | None, source: str
) -> tuple[Any, ...]:  # fmt: skip
    """More pictures or captions for the open data set."""
    if not dataset_id:
        raise DataError("No data set is open.", "Press Make a data set.")
    grown = engine.datasets.add(dataset_id, _sources(access, files, source))
    text = message("good", f"“{grown.name}” has {count_of(len(grown.examples), 'picture')} now.")
    return dataset_picker(engine, grown.id), None, "", text


def show_dataset(engine: Engine, dataset_id: str | None, base_model: str) -> tuple[Any, ...]:
    """Report, skipped files, cards, and whether one can go on."""
    try:
        opened = engine.dataset(dataset_id) if dataset_id else None
    except DataError as error:
        return message("error", error.message, error.hint), "", "", gr.update(interactive=False)
    if opened is None:
        return NO_DATASET, "", "", gr.update(interactive=False)
    findings = views.report_list(report(opened, resolution_px=size_of(engine, base_model)))
    return findings, views.skipped_list(opened), views.card_grid(opened), gr.update(interactive=bool(opened.examples))


def edit_caption(engine: Engine, base_model: str, event: gr.EventData) -> str:
    """Keep a caption; the cards stay as they are, so that typing goes on."""
    opened = engine.datasets.set_captions(event.dataset, {event.key: event.text})
    return views.report_list(report(opened, resolution_px=size_of(engine, base_model)))


def take_out(engine: Engine, base_model: str, event: gr.EventData) -> tuple[Any, ...]:
    """Take one picture out."""
    engine.datasets.remove(event.dataset, event.key)
    return (*show_dataset(engine, event.dataset, base_model), dataset_picker(engine, event.dataset))


def delete_dataset(engine: Engine, dataset_id: str | None) -> Any:  # noqa: ANN401  an update of Gradio's
    """Delete it and open the newest of the others."""
    if not dataset_id:
        raise DataError("No data set is open.", "There is nothing to delete.")
    engine.datasets.delete(dataset_id)
    return dataset_picker(engine, "")


def dataset_picker(engine: Engine, wanted: str) -> Any:  # noqa: ANN401  an update of Gradio's
    """The list of data sets as it is now, opened at `wanted` or the newest."""
    choices = views.dataset_choices(engine.datasets.list())
    ids = [dataset_id for _, dataset_id in choices]
    return gr.update(choices=choices, value=wanted if wanted in ids else next(iter(ids), None))


def size_of(engine: Engine, base_model: str) -> int:
    """Side in px that a base was made for; a guess while it is not on this disk."""
    try:
        return engine.base_size(base_model) if engine.has_base(base_model) else UNKNOWN_BASE_PX
    except SdplayError:
        return UNKNOWN_BASE_PX


def _sources(access: Access, files: list[str] | None, source: str) -> list[str]:
    sources = [*(files or []), *access.sources([source.strip()] if source.strip() else [])]
    if not sources:
        raise DataError("There is nothing to take in yet.", "Drop pictures or a zip into the field, or give a folder or a Hub data set.")
    return sources


def _own(name: str, alt: str) -> str:
    return picture(file_url("pictures", "drawn", name), alt, link=file_url("pictures", "drawn", name))
