"""Dataset: bring pictures, see what was understood, mend it. And what the base draws before it learns anything."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

import gradio as gr

from sdplay.config import GenerateConfig
from sdplay.data import Dataset
from sdplay.data.fixes import LABELS, fix
from sdplay.data.health import Advice, health, near_duplicates
from sdplay.data.measures import known_measures, measure_all
from sdplay.engine import Engine
from sdplay.errors import DataError, SdplayError
from sdplay.sample_sets import gallery_prompts
from sdplay.ui.access import Access
from sdplay.ui.cards import card_grid, report_block
from sdplay.ui.errors import friendly
from sdplay.ui.files import file_url
from sdplay.ui.forms import Control
from sdplay.ui.html import html_block
from sdplay.ui.tabs import dataset_tools
from sdplay.ui.tabs.dataset_intake import Desk, Intake, create_intake, dataset_picker
from sdplay.ui.tabs.dataset_tools import Tools, create_tools
from sdplay.ui.tabs.events import in_turn, quick, silent
from sdplay.ui.views import dataset as views
from sdplay.ui.views.text import empty, esc, message, picture

__all__ = ["DatasetTab", "create_dataset_tab", "dataset_picker", "size_of", "wire_dataset_tab"]
TRIES = (1, 2, 3, 4)
UNKNOWN_BASE_PX = 512
MASK_MB = 5
NUM_SHOWN = 7
"""Of `DatasetTab.shown`."""
NO_DATASET = empty("No data set is open", "Take a sample above, or bring 10 to 20 pictures of one subject or one style.")
LOOKING = "Looking at sharpness, duplicates and borders..."


@dataclass(frozen=True)
class DatasetTab:
    """What other tabs need: the open data set, the sample buttons, the way on. And what `wire_dataset_tab` wires."""

    picker: gr.Dropdown
    samples: gr.HTML
    idea: gr.Textbox
    onward: gr.Button
    intake: Intake
    outcome: gr.HTML
    tools: Tools
    grid: gr.HTML
    findings: gr.HTML
    skipped: gr.HTML
    links: gr.HTML
    undo: gr.Button
    redo: gr.Button

    @property
    def shown(self) -> list[Any]:
        """What shows the open data set."""
        return [self.findings, self.skipped, self.grid, self.onward, self.links, self.undo, self.redo]


def create_dataset_tab(engine: Engine, access: Access, base: gr.Dropdown) -> DatasetTab:
    """Everything under "Dataset"."""
    idea = _create_idea_strip(engine, access, base)
    gr.Markdown("## Start with pictures\nA sample that is ready to train, or your own.")
    samples = html_block(views.sample_cards(engine.samples()), elem_id="samples")
    intake = create_intake(local=access.local)
    outcome = html_block(elem_id="intake-outcome")
    picker = gr.Dropdown(label="Data set", choices=[], value=None, elem_id="dataset-picker", allow_custom_value=True, interactive=True)
    tools = create_tools(local=access.local)
    with gr.Row(equal_height=False, elem_id="dataset-open"):
        with gr.Column(scale=7, min_width=320, elem_id="dataset-pictures"):
            with gr.Row(elem_classes="sd-actions"):
                undo = gr.Button("Undo", size="sm", interactive=False, elem_id="dataset-undo", min_width=80)
                redo = gr.Button("Redo", size="sm", interactive=False, elem_id="dataset-redo", min_width=80)
            grid = card_grid(elem_id="dataset-grid")
        with gr.Column(scale=4, min_width=280, elem_id="dataset-health"):
            findings = report_block(NO_DATASET, elem_id="dataset-report")
            onward = gr.Button("Continue to training", variant="primary", elem_id="dataset-onward", interactive=False)
            skipped = html_block(elem_id="dataset-skipped")
            links = html_block(elem_id="dataset-links")
    return DatasetTab(picker, samples, idea, onward, intake, outcome, tools, grid, findings, skipped, links, undo, redo)


def wire_dataset_tab(engine: Engine, access: Access, tab: DatasetTab, base: gr.Dropdown, *, token: gr.Textbox, bucketing: Control) -> None:
    """The events of the tab, which also listen to the trigger word and to whether training keeps the pictures' shapes."""
    asked: list[Control] = [base, token, bucketing]
    inputs, shown = [tab.picker, *asked], tab.shown
    show, look = friendly(show_dataset, engine), friendly(examine, engine)
    opened = [tab.picker.change(show, inputs, shown, **silent())]
    opened += [control.change(show, inputs, shown, **silent()) for control in asked]
    intake, emptied = tab.intake, [tab.picker, *tab.intake.brought]
    heavy: dict[str, Any] = {"api_visibility": "private", "concurrency_limit": 2, "concurrency_id": "intake"}
    heavy["show_progress_on"] = intake.brought[0]
    desk = Desk(engine, access)
    intake.make.click(friendly(desk.make_dataset), [*intake.brought, intake.name], [*emptied, intake.name, tab.outcome], **heavy)
    grown = intake.add.click(friendly(desk.add_pictures), emptied, [*emptied, tab.outcome], **heavy)
    changed = [grown, *tab.tools.wire(engine, access, tab.picker, token)]
    opened += [event.success(show, inputs, shown, **quick()) for event in changed]
    opened += _wire_edits(engine, tab, asked)
    for event in opened:
        event.then(look, inputs, [tab.findings, tab.grid], **quick())
    tab.tools.delete.click(friendly(delete_dataset, engine), [tab.picker], [tab.picker], **quick())
    _wire_jobs(engine, access, tab, inputs)


def _wire_edits(engine: Engine, tab: DatasetTab, asked: list[Control]) -> list[Any]:
    """What changes the open data set. Returns the events after which pictures may have to be looked at."""
    inputs, answered = [tab.picker, *asked], gr.State("")
    outputs = [*tab.shown, answered]
    every = in_turn()
    looked_at = [
        tab.grid.crop(friendly(set_crop, engine), asked, outputs, **every),
        tab.grid.mask(friendly(set_mask, engine), asked, outputs, **every),
        tab.findings.fix(friendly(apply_fix, engine), asked, outputs, **every),
        tab.undo.click(friendly(undo_change, engine), inputs, outputs, **every),
        tab.redo.click(friendly(redo_change, engine), inputs, outputs, **every),
    ]
    edited = [
        tab.grid.edit(friendly(edit_caption, engine), asked, outputs, **every),
        tab.grid.leave(friendly(leave_out, engine), asked, outputs, **every),
    ]
    settle = friendly(settle_answer, engine)
    for event in [*looked_at, *edited]:
        event.success(settle, [answered, *inputs], tab.shown, **every)
    return looked_at


def _wire_jobs(engine: Engine, access: Access, tab: DatasetTab, inputs: list[Any]) -> None:
    """Captioning and masking are watched by a timer that runs only while there is something to watch."""
    tools, timer = tab.tools, gr.Timer(1, active=False)
    watched = [tools.job, tools.cancel, timer]
    watch = friendly(watch_job, engine)
    started = [
        tools.write.click(
            friendly(dataset_tools.start_captions, engine, access), [tab.picker, tools.model, tools.only_missing], None, **quick()
        ),
        tools.masks.click(friendly(dataset_tools.start_masks, engine), tab.picker, None, **quick()),
    ]
    for event in started:
        event.success(lambda: gr.update(active=True), None, timer, **silent())
    tab.picker.change(watch, tab.picker, watched, **silent())
    show = friendly(show_after_job, engine)
    timer.tick(watch, tab.picker, watched, **silent()).then(show, inputs, tab.shown, **silent())


def _create_idea_strip(engine: Engine, access: Access, base: gr.Dropdown) -> gr.Textbox:
    with gr.Column(elem_id="idea-strip"):
        gr.Markdown(
            "## What the embedded base draws\nPress a picture to draw it anew, or write a prompt of your own. Then teach it something."
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


def draw_idea(engine: Engine, access: Access, prompt: str, base_model: str) -> str:
    """A few pictures of the base alone."""
    if not prompt.strip():
        raise DataError("There is no prompt.", "Write what to draw, for example: red apple.")
    drawn = engine.draw([prompt], TRIES, GenerateConfig().model_dump(), base_model=access.base(base_model))
    images = "".join(f"<figure>{_own(shot.path.name, f'{prompt}, seed {shot.seed}')}</figure>" for shot in drawn)
    told = f"{base_model} draws “{prompt}”, seeds 1 to {len(drawn)}"
    return f'<div class="sd-strip sd-drawn">{images}</div><p class="sd-caption">{esc(told)}</p>'


def show_dataset(engine: Engine, dataset_id: str | None, base_model: str, token: str, bucketing: str) -> tuple[Any, ...]:
    """Report, skipped files, cards, whether one can go on, and what can be undone. Only what is known already: it is quick."""
    try:
        opened = engine.dataset(dataset_id) if dataset_id else None
    except DataError as error:
        return message("error", error.message, error.hint), *_nothing()
    if opened is None:
        return NO_DATASET, *_nothing()
    return _shown(engine, opened, _advice(engine, base_model, token, bucketing))


def examine(engine: Engine, dataset_id: str | None, base_model: str, token: str, bucketing: str) -> tuple[Any, ...]:
    """Look at the pictures that were not looked at yet; the whole report, and marks on pictures that look alike."""
    if not dataset_id:
        return gr.skip(), gr.skip()
    opened = engine.dataset(dataset_id)
    if len(known_measures(opened.folder, opened.pictures)) == len(opened.pictures):
        return gr.skip(), gr.skip()
    measure_all(opened.folder, opened.pictures)
    opened = engine.dataset(dataset_id)  # looking took a while: it may have been changed meanwhile
    report, _, cards, *_ = _shown(engine, opened, _advice(engine, base_model, token, bucketing))
    return report, cards


def edit_caption(engine: Engine, base_model: str, token: str, bucketing: str, event: gr.EventData) -> tuple[Any, ...]:
    """Keep a caption; the cards say that it has arrived, and leave alone what is being typed."""
    opened = engine.datasets.set_captions(event.dataset, {event.key: event.text})
    return *_shown(engine, opened, _advice(engine, base_model, token, bucketing), done=event.serial), opened.id


def leave_out(engine: Engine, base_model: str, token: str, bucketing: str, event: gr.EventData) -> tuple[Any, ...]:
    """Leave one picture out, or take it back; its card shows that already."""
    opened = engine.datasets.leave_out(event.dataset, [event.key], out=bool(event.out))
    return *_shown(engine, opened, _advice(engine, base_model, token, bucketing), done=event.serial), opened.id


def set_crop(engine: Engine, base_model: str, token: str, bucketing: str, event: gr.EventData) -> tuple[Any, ...]:
    """Take a part of a picture in place of the whole."""
    opened = engine.datasets.set_crop(event.dataset, event.key, event.box)
    return *_shown(engine, opened, _advice(engine, base_model, token, bucketing)), opened.id


def set_mask(engine: Engine, base_model: str, token: str, bucketing: str, event: gr.EventData) -> tuple[Any, ...]:
    """Keep a painted mask, or take it away."""
    opened = engine.datasets.set_mask(event.dataset, event.key, _png(event.png) if event.png else None)
    return *_shown(engine, opened, _advice(engine, base_model, token, bucketing)), opened.id


def apply_fix(engine: Engine, base_model: str, token: str, bucketing: str, event: gr.EventData) -> tuple[Any, ...]:
    """Do what a line of the report offers."""
    opened = engine.dataset(event.dataset)
    facts = fix(event.fix, opened, known_measures(opened.folder, opened.pictures), keys=event.keys, trigger=token)
    opened = engine.datasets.change(opened.id, facts, what=LABELS[event.fix])
    return *_shown(engine, opened, _advice(engine, base_model, token, bucketing)), opened.id


def undo_change(engine: Engine, dataset_id: str | None, base_model: str, token: str, bucketing: str) -> tuple[Any, ...]:
    """Take the newest change back."""
    opened, what = engine.datasets.undo(dataset_tools.opened_dataset(engine, dataset_id).id)
    gr.Info(f"Undone: {what}", duration=3)
    return *_shown(engine, opened, _advice(engine, base_model, token, bucketing)), opened.id


def redo_change(engine: Engine, dataset_id: str | None, base_model: str, token: str, bucketing: str) -> tuple[Any, ...]:
    """Do again what was undone last."""
    opened, what = engine.datasets.redo(dataset_tools.opened_dataset(engine, dataset_id).id)
    gr.Info(f"Done again: {what}", duration=3)
    return *_shown(engine, opened, _advice(engine, base_model, token, bucketing)), opened.id


def settle_answer(engine: Engine, answered: str, dataset_id: str | None, base_model: str, token: str, bucketing: str) -> tuple[Any, ...]:
    """Where another data set was opened while a change was on its way, the change's answer has taken its place: show the open one."""
    if answered == dataset_id:
        return tuple(gr.skip() for _ in range(NUM_SHOWN))
    return show_dataset(engine, dataset_id, base_model, token, bucketing)


def watch_job(engine: Engine, dataset_id: str | None) -> tuple[Any, ...]:
    """How far captioning or masking is, and whether to go on asking."""
    job = engine.picture_jobs.state(dataset_id) if dataset_id else None
    running = job is not None and not job.ended
    return views.job_line(job), gr.update(visible=running), gr.update(active=running)


def show_after_job(engine: Engine, dataset_id: str | None, base_model: str, token: str, bucketing: str) -> tuple[Any, ...]:
    """The cards anew once a job has ended; until then they stay."""
    job = engine.picture_jobs.state(dataset_id) if dataset_id else None
    if job is not None and not job.ended:
        return tuple(gr.skip() for _ in range(NUM_SHOWN))
    return show_dataset(engine, dataset_id, base_model, token, bucketing)


def delete_dataset(engine: Engine, dataset_id: str | None) -> Any:  # noqa: ANN401  an update of Gradio's
    """Delete it and open the newest of the others."""
    if not dataset_id:
        raise DataError("No data set is open.", "There is nothing to delete.")
    engine.datasets.delete(dataset_id)
    return dataset_picker(engine, "")


def size_of(engine: Engine, base_model: str) -> int:
    """Side in px that a base was made for; a guess while it is not on this disk."""
    try:
        return engine.base_size(base_model) if engine.has_base(base_model) else UNKNOWN_BASE_PX
    except SdplayError:
        return UNKNOWN_BASE_PX


def _advice(engine: Engine, base_model: str, token: str, bucketing: str) -> Advice:
    return Advice(size_of(engine, base_model), trigger=(token or "").strip(), buckets=bucketing == "on")


def _shown(engine: Engine, opened: Dataset, advice: Advice, *, done: int = -1) -> tuple[Any, ...]:
    """What shows the data set. done: the number that the browser gave to the change this answers."""
    measures = known_measures(opened.folder, opened.pictures)
    used = [example for example in opened.examples if example.key in measures]
    alike = {example.key for group in near_duplicates(used, measures) for example in group}
    cards, can_go_on = {**views.card_values(opened, advice, alike), "done": done}, gr.update(interactive=bool(opened.examples))
    history = _history(engine, opened)
    return _findings(opened, advice), views.skipped_list(opened), cards, can_go_on, views.download_links(opened), *history


def _findings(opened: Dataset, advice: Advice) -> str:
    measures = known_measures(opened.folder, opened.pictures)
    looking = message("note", LOOKING) if len(measures) < len(opened.pictures) else ""
    return views.report_list(opened, health(opened, measures, advice), advice) + looking


def _history(engine: Engine, opened: Dataset) -> tuple[Any, Any]:
    history = engine.datasets.history(opened.id)
    return gr.update(interactive=bool(history.done)), gr.update(interactive=bool(history.undone))


def _nothing() -> tuple[Any, ...]:
    """What stands where a data set would be shown, after the report."""
    off = gr.update(interactive=False)
    return "", views.card_values(None, Advice(UNKNOWN_BASE_PX)), off, "", off, off


def _png(address: str) -> bytes:
    """The bytes in a data address that the page made. Raises DataError."""
    head, _, body = str(address).partition(",")
    if not head.startswith("data:image/png;base64") or len(body) > MASK_MB * 2**20:
        raise DataError("The mask is not a picture from this page.", "Paint it again.")
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error as error:
        raise DataError("The mask did not arrive whole.", "Press Save again.") from error


def _own(name: str, alt: str) -> str:
    return picture(file_url("pictures", "drawn", name), alt, link=file_url("pictures", "drawn", name))
