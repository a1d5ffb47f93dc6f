"""Compare: base, runs and their checkpoints side by side, from the same noise."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gradio as gr

from sdplay import templates
from sdplay.columns import BASE
from sdplay.config import GenerateConfig
from sdplay.engine import MAX_CELLS, Engine
from sdplay.errors import ConfigError, RunError
from sdplay.presets import DEFAULT_TOKEN
from sdplay.ui.access import Access
from sdplay.ui.errors import friendly
from sdplay.ui.forms import Control, Form, controls_of
from sdplay.ui.html import html_block, only_news
from sdplay.ui.tabs.events import live, quick, silent
from sdplay.ui.tabs.prompts import lines_of, prompt_choices
from sdplay.ui.views import compare as views
from sdplay.ui.views.run import short_name
from sdplay.ui.views.text import count_of, message

MOST_PREFILLED = 6
MOST_LISTED = 50


@dataclass(frozen=True)
class CompareTab:
    """What other tabs need."""

    columns: gr.Dropdown
    prompts: gr.Textbox
    seeds: gr.Textbox
    base: gr.Dropdown
    form: Form
    shown: gr.Dropdown

    @property
    def prefilled(self) -> list[Control]:
        """What `prefill` fills."""
        return [self.columns, self.prompts, self.base]


def create_compare_tab(engine: Engine, access: Access, words: Sequence[Control], timer: gr.Timer) -> CompareTab:
    """Everything under "Compare". words: trigger word and class word of the page, for prompts when no run is chosen."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=300):
            columns, upload = _create_columns(engine)
            base = gr.Dropdown(
                [access.base_model], value=access.base_model, label="Base model", allow_custom_value=True, elem_id="compare-base"
            )
        with gr.Column(scale=6, min_width=300):
            fill = gr.Dropdown(
                prompt_choices(engine), value=None, label="Take prompts from a set", elem_id="compare-fill", allow_custom_value=True
            )
            prompts = gr.Textbox("", label="Prompts, one per line", lines=5, max_lines=14, elem_id="compare-prompts", interactive=True)
            seeds = gr.Textbox(
                "1, 2", label="Seeds", info="Every column starts from the same noise.", elem_id="compare-seeds", interactive=True
            )
    with gr.Row(elem_classes="sd-fields"):
        form = Form(controls_of(GenerateConfig, "basic", prefix="compare"))
    count = html_block(elem_id="compare-count")
    with gr.Row(elem_classes="sd-actions"):
        draw = gr.Button("Draw", variant="primary", elem_id="compare-draw")
        cancel = gr.Button("Cancel", elem_id="compare-cancel", interactive=False)
    shown = _create_result(engine, cancel, timer)

    inputs = [columns, prompts, seeds, base, *form.inputs]
    draw.click(friendly(start_comparison, engine, access, tuple(form.controls)), inputs, shown, **{**quick(), "trigger_mode": "once"})
    fill.input(friendly(fill_prompts, engine), [fill, columns, *words], prompts, **quick())
    upload.upload(friendly(add_upload, engine), [upload, columns], [columns, upload], **quick())
    gr.on([columns.change, prompts.change, seeds.change], count_cells, [columns, prompts, seeds], [count, draw], **live())
    return CompareTab(columns, prompts, seeds, base, form, shown)


def _create_columns(engine: Engine) -> tuple[gr.Dropdown, gr.File]:
    columns = gr.Dropdown(
        column_choices(engine), value=[], multiselect=True, allow_custom_value=True, elem_id="compare-columns", interactive=True,
        label="Columns beside the base", info="The base comes first by itself. Add :0.8 to a run to weaken it.",
    )  # fmt: skip
    upload = gr.File(label="Add an adapter file (.safetensors)", file_types=[".safetensors"], elem_id="compare-upload", height=140)
    return columns, upload


def _create_result(engine: Engine, cancel: gr.Button, timer: gr.Timer) -> gr.Dropdown:
    seen = gr.State({})
    shown = gr.Dropdown(label="Comparison", choices=[], value=None, elem_id="compare-shown", allow_custom_value=True, interactive=True)
    progress = html_block(views.no_comparison(), elem_id="compare-progress")
    grid = html_block(elem_id="compare-grid")
    downloads = html_block(elem_id="compare-downloads")
    link = gr.Textbox(label="Link to this comparison", interactive=False, buttons=["copy"], visible=False, elem_id="compare-link")
    outputs = [progress, grid, downloads, link, cancel, seen]
    gr.on([timer.tick, shown.change], friendly(watch_comparison, engine), [shown, seen], outputs, **silent())
    cancel.click(friendly(cancel_comparison, engine), shown, None, **quick())
    return shown


def column_choices(engine: Engine) -> list[tuple[str, str]]:
    """(label, column) for every run that has learned something, and for its checkpoints."""
    choices = []
    for run in engine.history.rows():
        steps = run.checkpoints
        if steps:
            choices.append((short_name(run.id), run.id))
            choices += [(f"{short_name(run.id)} at step {step}", f"{run.id}@{step}") for step in steps]
    return choices


def start_comparison(engine: Engine, access: Access, names: Sequence[str], columns: list[str], *given: Any) -> Any:  # noqa: ANN401  whatever the controls hold
    """Queue a comparison; the list opens at it."""
    prompts, seeds, base_model, *drawing = given
    values = {
        "base_model": access.base(base_model),
        "columns": [BASE, *access.columns([column for column in columns if column != BASE])],
        "prompts": lines_of(prompts),
        "seeds": parse_seeds(seeds),
        "drawing": dict(zip(names, drawing, strict=True)),
    }
    return comparison_picker(engine, engine.compare(values))


def parse_seeds(text: str) -> list[int]:
    """`1, 2` or `1 2`. Raises ConfigError."""
    parts = [part for part in re.split(r"[,;\s]+", text.strip()) if part]
    wrong = next((part for part in parts if not part.isdigit()), None)
    if wrong:
        raise ConfigError(f"The seed {wrong[:20]!r} is not a whole number.", "Write seeds like 1, 2, 3.")
    return [int(part) for part in parts]


def count_cells(columns: list[str], prompts: str, seeds: str) -> tuple[str, Any]:
    """How many pictures Draw would make, or why it cannot."""
    try:
        number_of_seeds = len(parse_seeds(seeds))
    except ConfigError as error:
        return message("error", error.message, error.hint), gr.update(interactive=False)
    lines, width = len(lines_of(prompts)), 1 + len([column for column in columns if column != BASE])
    cells = width * lines * number_of_seeds
    if not cells:
        return message("note", "Nothing to draw yet.", "Write at least one prompt and one seed."), gr.update(interactive=False)
    sizes = f"{count_of(width, 'column')} x {count_of(lines, 'prompt')} x {count_of(number_of_seeds, 'seed')}"
    if cells > MAX_CELLS:
        return message("error", f"{cells} pictures ({sizes}); {MAX_CELLS} are the most."), gr.update(interactive=False)
    return message("good", f"{count_of(cells, 'picture')}: {sizes}."), gr.update(interactive=True)


def fill_prompts(engine: Engine, name: str, columns: list[str], token: str, class_word: str) -> str:
    """A set's sample prompts in the words of the first chosen run, else of the page."""
    words = templates.Values(token=token.strip() or DEFAULT_TOKEN, class_word=class_word, style=token.strip() or DEFAULT_TOKEN)
    settings = _settings_of(engine, columns)
    if settings:
        words = templates.Values(token=str(settings["token"]), class_word=str(settings["class_word"]), style=str(settings["token"]))
    return "\n".join(templates.expand_one(prompt, words, 0) for prompt in engine.prompt_set(name).sample)


def add_upload(engine: Engine, path: str, columns: list[str]) -> tuple[list[str], None]:
    """An uploaded adapter is kept and becomes a column."""
    return [*columns, engine.add_adapter(Path(path))], None


def prefill(engine: Engine, run_id: str | None) -> tuple[Any, ...]:
    """Columns, prompts and base model to compare a run with its base: half-way and at its end."""
    if not run_id:
        raise ConfigError("No run is chosen.", "Choose one from the list.")
    run = engine.run(run_id)
    state, settings = engine.state(run), run.settings
    if not state.checkpoints:
        raise RunError(f"Run {run.id} has no checkpoint yet.", "Wait for its first one.")
    half_way = [f"{run.id}@{step}" for step in state.checkpoints[: len(state.checkpoints) // 2][-1:]]
    words = templates.Values(token=str(settings["token"]), class_word=str(settings["class_word"]), style=str(settings["token"]))
    sample_prompts = settings["sample_prompts"] if isinstance(settings["sample_prompts"], list) else []
    prompts = [templates.expand_one(str(prompt), words, 0) for prompt in sample_prompts[:MOST_PREFILLED]]
    columns = gr.update(choices=column_choices(engine), value=[*half_way, run.id])
    return columns, "\n".join(prompts), str(settings["base_model"])


def comparison_picker(engine: Engine, wanted: str = "") -> Any:  # noqa: ANN401  an update of Gradio's
    """The list of comparisons as it is now, opened at `wanted` or the newest."""
    choices = []
    for comparison_id in engine.comparisons()[:MOST_LISTED]:
        try:
            choices.append((views.comparison_label(engine.comparison(comparison_id)), comparison_id))
        except RunError:
            continue
    ids = [comparison_id for _, comparison_id in choices]
    return gr.update(choices=choices, value=wanted or next(iter(ids), None))


def watch_comparison(engine: Engine, comparison_id: str | None, seen: Mapping[str, str], request: gr.Request) -> list[Any]:
    """What has changed about the shown comparison since the last look."""
    if not comparison_id:
        nothing: dict[str, Callable[[], Any]] = {
            "progress": views.no_comparison,
            "grid": str,
            "downloads": str,
            "link": _hidden,
            "cancel": _off,
        }
        return only_news(seen, dict.fromkeys(nothing, "none"), nothing)
    try:
        comparison = engine.comparison(comparison_id)
    except RunError as error:
        text = message("error", error.message, error.hint)
        lost: dict[str, Callable[[], Any]] = {"progress": lambda: text, "grid": str, "downloads": str, "link": _hidden, "cancel": _off}
        return only_news(seen, dict.fromkeys(lost, f"lost {comparison_id}"), lost)
    mark = (comparison.id, comparison.status, len(comparison.cells))
    marks = {"progress": mark, "grid": mark, "downloads": mark[:2], "link": comparison.id, "cancel": mark[:2]}
    updates = {
        "progress": lambda: views.progress_line(comparison),
        "grid": lambda: views.comparison_grid(comparison),
        "downloads": lambda: views.downloads(comparison),
        "link": lambda: gr.update(value=permalink(request, comparison.id), visible=True),
        "cancel": lambda: gr.update(interactive=not comparison.ended),
    }
    return only_news(seen, marks, updates)


def permalink(request: gr.Request, comparison_id: str) -> str:
    """The page's address, opened at a comparison."""
    page = urlsplit(request.headers.get("referer") or f"http://{request.headers.get('host', '')}/")
    return f"{page.scheme}://{page.netloc}{page.path}?compare={comparison_id}"


def cancel_comparison(engine: Engine, comparison_id: str | None) -> None:
    """Stop drawing the shown comparison."""
    if comparison_id:
        engine.cancel_comparison(comparison_id)


def _settings_of(engine: Engine, columns: Sequence[str]) -> Mapping[str, object]:
    """Settings of the first column that is a run."""
    for column in columns:
        try:
            return engine.run(column.split("@")[0].split(":")[0]).settings
        except RunError:
            continue
    return {}


def _hidden() -> Any:  # noqa: ANN401  an update of Gradio's
    return gr.update(visible=False)


def _off() -> Any:  # noqa: ANN401  an update of Gradio's
    return gr.update(interactive=False)
