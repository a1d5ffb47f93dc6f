"""Models: the adapters at hand, mixes of them, and files in every format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from sdplay.columns import MAX_STRENGTH
from sdplay.engine import Engine
from sdplay.errors import ConfigError
from sdplay.exports import FORMATS
from sdplay.library import mixed
from sdplay.ui.access import Access
from sdplay.ui.errors import friendly
from sdplay.ui.files import file_url
from sdplay.ui.html import html_block, only_news
from sdplay.ui.pulse import Pulse
from sdplay.ui.tabs.events import live, quick, silent
from sdplay.ui.views import history as views
from sdplay.ui.views.text import esc, megabytes, message, picture

SLOTS = 4
"""Adapters that the page mixes; the command line takes more."""
MOST_SHOWN = 60
STRONGEST = min(2.0, MAX_STRENGTH)


@dataclass(frozen=True)
class LibraryTab:
    """What the page wires: the mix as a column, the base it is for, and the button that compares it."""

    column: gr.State
    base: gr.Textbox
    compare: gr.Button


def create_library_tab(engine: Engine, access: Access, pulse: Pulse) -> LibraryTab:
    """Everything under "Models"."""
    seen = gr.State({})
    with gr.Row(equal_height=False):
        with gr.Column(scale=7, min_width=300):
            query = gr.Textbox(label="Search adapters", placeholder="name, trigger, family", elem_id="library-search", interactive=True)
            grid = html_block(elem_id="library-grid", events=("mix", "remove"))
            with gr.Row(equal_height=False):
                upload = gr.File(
                    label="Add an adapter file (.safetensors)", file_types=[".safetensors"], elem_id="library-upload", height=170
                )
                with gr.Column(min_width=220):
                    repository = gr.Textbox(label="From the Hub", placeholder="owner/name", elem_id="library-repository", interactive=True)
                    fetch = gr.Button("Fetch", size="sm", elem_id="library-fetch")
        with gr.Column(scale=5, min_width=300):
            tab, slots = _create_mix(engine, access)
    chosen = [slot for slot, _ in slots]
    outputs = [grid, *chosen, seen]
    gr.on([pulse.news("models"), query.change], friendly(watch_library, engine), [query, seen], outputs, **silent())
    grid.mix(friendly(put_into_mix), chosen, chosen, **quick())  # type: ignore[attr-defined]
    grid.remove(friendly(remove_adapter, engine), None, None, **quick())  # type: ignore[attr-defined]
    upload.upload(friendly(add_file, engine), [upload, *chosen], [upload, *chosen], **quick())
    fetch.click(friendly(fetch_adapter, engine), [repository, *chosen], [repository, *chosen],
                **{**quick(), "concurrency_limit": 2, "concurrency_id": "hub"})  # fmt: skip
    return tab


Slots = Sequence[tuple[gr.Dropdown, gr.Slider]]


def _create_mix(engine: Engine, access: Access) -> tuple[LibraryTab, Slots]:
    column = gr.State("")
    gr.Markdown("## Mix")
    slots = []
    for number in range(1, SLOTS + 1):
        with gr.Row(elem_classes="sd-slot"):
            what = gr.Dropdown(
                label=f"Adapter {number}", choices=[], value=None, allow_custom_value=True, elem_id=f"library-mix-{number}", scale=3,
                min_width=160, interactive=True,
            )  # fmt: skip
            strength = gr.Slider(-STRONGEST, STRONGEST, 1.0, step=0.05, label="Strength", elem_id=f"library-strength-{number}", scale=2,
                                 min_width=130)  # fmt: skip
        slots.append((what, strength))
    told = html_block(message("note", "Choose an adapter."), elem_id="library-told")
    base = gr.Textbox(access.base_model, label="Base model", elem_id="library-base", interactive=True)
    prompt = gr.Textbox("", label="Prompt", placeholder="with the trigger words", elem_id="library-prompt", interactive=True)
    with gr.Row(elem_classes="sd-actions"):
        draw = gr.Button("Draw", variant="primary", size="sm", elem_id="library-draw")
        compare = gr.Button("Compare with the base", size="sm", elem_id="library-compare")
    drawn = html_block(elem_id="library-drawn")
    with gr.Row(elem_classes="sd-beside"):
        kind = gr.Dropdown(
            [(title, name) for name, title in FORMATS.items()], value="bundle", label="Format", elem_id="library-format", interactive=True
        )
        make = gr.Button("Make the file", size="sm", elem_id="library-make")
    pictures = gr.Checkbox(False, label="Put the training pictures into the bundle", elem_id="library-with-pictures")
    made = html_block(elem_id="library-made")

    every = [control for slot in slots for control in slot]
    gr.on([control.change for control in every], friendly(tell_mix), every, [told, column], **live())
    heavy: dict[str, Any] = {**quick(), "concurrency_limit": 1, "concurrency_id": "gpu", "show_progress": "minimal"}
    draw.click(friendly(draw_mix, engine, access), [column, base, prompt], drawn, **heavy)
    make.click(friendly(make_file, engine, access), [column, base, kind, pictures], made, **heavy)
    return LibraryTab(column, base, compare), slots


def watch_library(engine: Engine, query: str, seen: Mapping[str, str]) -> list[Any]:
    """What has changed about the library since the last look. A choice that is gone stays until it is changed."""
    every = engine.library.entries(engine.history.rows())
    shown = [entry for entry in every if entry.matches(query or "")]
    choices = [("none", ""), *((entry.title, entry.column) for entry in every if not entry.facts.problem)]
    grid = views.library_grid(shown[:MOST_SHOWN], len(every))
    marks: dict[str, object] = {"grid": grid, **{f"slot{number}": choices for number in range(SLOTS)}}
    updates: dict[str, Any] = {"grid": lambda: grid}
    updates |= {f"slot{number}": lambda: gr.update(choices=list(choices)) for number in range(SLOTS)}
    return only_news(seen, marks, updates)


def put_into_mix(event: gr.EventData, *chosen: Any) -> list[Any]:  # noqa: ANN401  what the slots hold
    """Into the first free slot, unless it is there already; so too what was pressed just before, which the slots may not show yet."""
    slots = [what or None for what in chosen]
    for column in map(str, (*event.before, event.id)):
        if column in slots:
            continue
        if None not in slots:
            raise ConfigError(f"The mix has {SLOTS} adapters already.", "Take one out first.")
        slots[slots.index(None)] = column
    return [gr.skip() if now == (before or None) else gr.update(value=now) for now, before in zip(slots, chosen, strict=True)]


def tell_mix(*given: Any) -> tuple[str, str]:  # noqa: ANN401  what the slots hold
    """The mix as a column, in words and for the other handlers."""
    parts = [(str(what or ""), float(strength or 0)) for what, strength in zip(given[::2], given[1::2], strict=True)]
    if not any(what for what, _ in parts):
        return message("note", "Choose an adapter."), ""
    try:
        column = mixed(parts)
    except ConfigError as error:
        return message("warning", error.message, error.hint), ""
    return f'<p class="sd-why">As a column: <code>{esc(column)}</code></p>', column


def draw_mix(engine: Engine, access: Access, column: str, base_model: str, prompt: str) -> str:
    """One picture with the mix, kept as the preview of a file that is alone in it."""
    access.columns([column])
    drawn = engine.draw([_needed(prompt, "prompt")], [1], {}, adapter=_needed(column, "mix"), base_model=access.base(base_model))[0]
    engine.library.keep_preview(column, drawn.path)
    return picture(file_url("pictures", "drawn", drawn.path.name), f"{prompt}, {column}")


def make_file(engine: Engine, access: Access, column: str, base_model: str, kind: Any, pictures: bool) -> str:  # noqa: ANN401  one of FORMATS
    """Write the mix in a format and link to it."""
    access.columns([column])
    path = engine.exports.make(_needed(column, "mix"), kind, base_model=access.base(base_model), with_training_pictures=pictures)
    url = file_url("exports", path.parent.name, path.name)
    return (
        f'<p><a class="sd-button" href="{esc(url)}" download>Download {esc(path.name)}</a> '
        f'<span class="sd-why">{megabytes(path.stat().st_size)}</span></p>'
    )


def add_file(engine: Engine, path: str, *chosen: Any) -> list[Any]:  # noqa: ANN401  what the slots hold
    """Keep an uploaded file and put it into the mix."""
    return [None, *_placed(engine.library.add(Path(path)), chosen)]


def fetch_adapter(engine: Engine, repository: str, *chosen: Any) -> list[Any]:  # noqa: ANN401  what the slots hold
    """Download an adapter, keep it and put it into the mix."""
    return ["", *_placed(engine.library.fetch(_needed(repository, "repository")), chosen)]


def remove_adapter(engine: Engine, event: gr.EventData) -> None:
    """Delete a file that was brought."""
    engine.library.remove(str(event.id))


def _placed(column: str, chosen: Sequence[Any]) -> list[Any]:
    free = next((index for index, what in enumerate(chosen) if not what), None)
    return [gr.update(value=column) if index == free else gr.skip() for index in range(SLOTS)]


def _needed(text: str, what: str) -> str:
    if not text.strip():
        raise ConfigError(f"There is no {what}.", "Give one first.")
    return text.strip()
