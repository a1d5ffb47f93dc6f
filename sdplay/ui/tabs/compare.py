"""Compare: base, runs and their checkpoints side by side, from the same noise; looked at in five ways."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from sdplay import png_settings, templates
from sdplay.axes import axes, parse_axes, parse_numbers
from sdplay.columns import BASE
from sdplay.comparisons import checked_config, effort_of
from sdplay.config import GenerateConfig, parse
from sdplay.engine import Engine
from sdplay.errors import ConfigError, RunError, SdplayError
from sdplay.presets import DEFAULT_TOKEN
from sdplay.ui.access import Access
from sdplay.ui.errors import friendly
from sdplay.ui.forms import Control, Form, controls_of
from sdplay.ui.html import html_block, only_news
from sdplay.ui.pulse import Pulse
from sdplay.ui.tabs.events import in_turn, live, quick, silent
from sdplay.ui.tabs.prompts import lines_of, prompt_choices
from sdplay.ui.views import compare as views
from sdplay.ui.views.prompt import strangers_line
from sdplay.ui.views.run import short_name
from sdplay.ui.views.text import message
from sdplay.viewer import script
from sdplay.votes import outcome

MOST_PREFILLED = 6
MOST_LISTED = 24
_CHIPS = Path(__file__).parent.parent.joinpath("chips.js").read_text(encoding="utf-8")
_SHOW = """
const viewer = sdplayViewer(element.querySelector('.sd-compare'), {
  send: (event, details) => trigger(event, details),
  link: location.origin + location.pathname, first: new URLSearchParams(location.search)});
const show = () => viewer.update(props.value ? JSON.parse(props.value) : null);
watch('value', show); show();
"""


@dataclass(frozen=True)
class CompareTab:
    """What other tabs need."""

    columns: gr.HTML
    adder: gr.Dropdown
    prompts: gr.Textbox
    seeds: gr.Textbox
    base: gr.Dropdown
    form: Form
    axes: dict[str, gr.Textbox]
    shown: gr.State = field(default_factory=lambda: gr.State(""))
    """The id of the comparison that is shown."""
    judged: gr.State = field(default_factory=lambda: gr.State(""))
    """The id of the comparison whose blind test has just shown a favourite."""

    @property
    def prefilled(self) -> list[Any]:
        """What `prefill` fills."""
        return [self.columns, self.prompts, self.base]

    @property
    def asked(self) -> list[Any]:
        """Everything that a comparison is asked with."""
        return [self.columns, self.prompts, self.seeds, self.base, *self.form.inputs, *self.axes.values()]


def create_compare_tab(engine: Engine, access: Access, words: Sequence[Control], pulse: Pulse) -> CompareTab:
    """Everything under "Compare". words: trigger word and class word of the page, for prompts when no run is chosen."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=300):
            columns, adder, brought = _create_columns(engine)
            base = gr.Dropdown(
                [access.base_model], value=access.base_model, label="Base model", allow_custom_value=True, elem_id="compare-base"
            )
        with gr.Column(scale=6, min_width=300):
            fill = gr.Dropdown(
                prompt_choices(engine), value=None, label="Take prompts from a set", elem_id="compare-fill", allow_custom_value=True
            )
            prompts = gr.Textbox(
                "", label="Prompts, one per line", placeholder="a fox, {token} style\na house on a hill", lines=5, max_lines=14,
                elem_id="compare-prompts", interactive=True,
            )  # fmt: skip
            seeds = gr.Textbox(
                "1, 2", label="Seeds", info="Every column starts from the same noise. Write 1, 2 or 1..8.", elem_id="compare-seeds",
                interactive=True,
            )  # fmt: skip
    with gr.Row(elem_classes="sd-fields"):
        form = Form(controls_of(GenerateConfig, "basic", prefix="compare"))
    with gr.Accordion("More axes (XYZ)", open=False, elem_id="compare-axes"), gr.Row(elem_classes="sd-fields"):
        more = {name: _axis_box(name) for name in axes()}
    tab = CompareTab(columns, adder, prompts, seeds, base, form, more)
    count = html_block(elem_id="compare-count")
    with gr.Row(elem_classes="sd-actions"):
        draw = gr.Button("Draw", variant="primary", elem_id="compare-draw")
        cancel = gr.Button("Cancel", elem_id="compare-cancel", interactive=False)
        go_on = gr.Button("Draw what is missing", elem_id="compare-continue", visible=False)
    _create_result(engine, tab, [cancel, go_on], pulse)
    draw.click(
        friendly(start_comparison, engine, access, tuple(form.controls)), tab.asked, tab.shown, **{**quick(), "trigger_mode": "once"}
    )
    fill.input(friendly(fill_prompts, engine), [fill, columns, *words], prompts, **quick())
    adder.input(friendly(add_column), [columns, adder], [columns, adder], **quick())
    filled = [*tab.asked, brought]
    brought.upload(friendly(take_file, engine, tuple(form.controls)), [brought, columns], filled, **quick())
    changes = [columns.edit, *(control.change for control in tab.asked), pulse.news("compare")]  # pictures that were drawn tell the pace
    gr.on(changes, friendly(count_cells, engine, access, tuple(form.controls)), tab.asked, [count, draw], **live())
    return tab


def _create_columns(engine: Engine) -> tuple[gr.HTML, gr.Dropdown, gr.File]:
    gr.HTML('<span class="sd-label">Columns</span>', apply_default_css=False)
    columns = gr.HTML(
        "[]", elem_id="compare-columns", html_template='<ul class="sd-columns" tabindex="-1" aria-label="Columns"></ul>', js_on_load=_CHIPS,
        apply_default_css=False,
    )  # fmt: skip
    adder = gr.Dropdown(
        column_choices(engine), value=None, allow_custom_value=True, elem_id="compare-add", interactive=True, label="Add a column",
        info="A run, a checkpoint, a file; RUN:0.8+FILE:0.5 mixes.",
    )  # fmt: skip
    brought = gr.File(
        label="Drop an adapter, or a picture to get its settings",
        file_types=[".safetensors", ".png"], elem_id="compare-upload", height=170,
    )  # fmt: skip
    return columns, adder, brought


def _axis_box(name: str) -> gr.Textbox:
    found = axes()[name]
    return gr.Textbox("", label=found.title, info=found.what, placeholder=found.example, elem_id=f"compare-axis-{name}", interactive=True)


def _create_result(engine: Engine, tab: CompareTab, buttons: Sequence[gr.Button], pulse: Pulse) -> None:
    seen = gr.State({})
    progress = html_block(views.no_comparison(), elem_id="compare-progress")
    frame = '<div class="sd-compare" hidden></div>'
    viewer = gr.HTML("", elem_id="compare-grid", html_template=frame, js_on_load=script() + _SHOW, apply_default_css=False)
    downloads = html_block(elem_id="compare-downloads")
    made = html_block(elem_id="compare-gallery")
    cancel, go_on = buttons
    outputs = [progress, viewer, downloads, cancel, go_on, made, seen]
    gr.on([pulse.news("compare"), tab.shown.change], friendly(watch_comparison, engine), [tab.shown, seen], outputs, **silent())
    cancel.click(friendly(cancel_comparison, engine), tab.shown, None, **quick())
    go_on.click(friendly(continue_comparison, engine), tab.shown, None, **quick())
    made.select(_chosen, None, tab.shown, **quick())
    viewer.ballot(friendly(begin_ballot, engine), None, viewer, **quick())
    viewer.vote(friendly(vote, engine), None, None, **in_turn())
    viewer.reveal(friendly(reveal, engine), None, [viewer, tab.judged], **quick())
    viewer.send(friendly(send_to_form, engine, tuple(tab.form.controls)), None, tab.asked, **quick())


def column_choices(engine: Engine) -> list[tuple[str, str]]:
    """(label, column) for every run that has learned something, for its checkpoints, and for the files that were brought."""
    choices = []
    for run in engine.history.rows():
        steps = run.checkpoints
        if steps:
            choices.append((short_name(run.id), run.id))
            choices += [(f"{short_name(run.id)} at step {step}", f"{run.id}@{step}") for step in steps]
    files = sorted(engine.workspace.adapters.glob("*.safetensors"))
    return choices + [(path.name, path.name) for path in files]


def chips(columns: Sequence[str]) -> str:
    """The value that shows columns as chips beside the base."""
    return json.dumps([column for column in columns if column != BASE])


def columns_of(text: str | None) -> list[str]:
    """The chips' value as a list, the base left out."""
    try:
        listed = json.loads(text or "[]")
    except ValueError:
        return []
    return [str(column) for column in listed if column != BASE] if isinstance(listed, list) else []


def add_column(columns: str, wanted: str | None) -> tuple[Any, None]:
    """One more chip; the field is empty again."""
    listed = columns_of(columns)
    if not wanted or not wanted.strip():
        return gr.skip(), None
    if wanted.strip() in (*listed, BASE):
        raise ConfigError(f"The column {wanted.strip()} is there already.", "Choose another, or change its strength.")
    return chips([*listed, wanted.strip()]), None


def asked_values(names: Sequence[str], columns: str, *given: Any) -> dict[str, Any]:  # noqa: ANN401  whatever the controls hold
    """What the controls hold, as CompareConfig's values. Raises ConfigError."""
    prompts, seeds, base_model, *rest = given
    return {
        "base_model": base_model,
        "columns": [BASE, *columns_of(columns)],
        "prompts": lines_of(prompts),
        "seeds": parse_seeds(seeds),
        "drawing": dict(zip(names, rest[: len(names)], strict=True)),
        "axes": parse_axes(dict(zip(axes(), rest[len(names) :], strict=True))),
    }


def start_comparison(engine: Engine, access: Access, names: Sequence[str], columns: str, *given: Any) -> str:  # noqa: ANN401  as above
    """Queue a comparison; its id is what is shown."""
    values = asked_values(names, columns, *given)
    values |= {"base_model": access.base(values["base_model"]), "columns": [BASE, *access.columns(values["columns"][1:])]}
    return engine.compare(values)


def parse_seeds(text: str) -> list[int]:
    """`1, 2`, `1 2` or `1..4`. Raises ConfigError."""
    return [int(number) for number in parse_numbers(text, "Seeds", whole=True)]


def count_cells(engine: Engine, access: Access, names: Sequence[str], columns: str, *given: Any) -> tuple[str, Any]:  # noqa: ANN401  as above
    """How many pictures Draw would make and how long it takes, or why it cannot."""
    try:
        values = asked_values(names, columns, *given)
        if not values["prompts"] or not values["seeds"]:
            return message("note", "Nothing to draw yet.", "Write at least one prompt and one seed."), gr.update(interactive=False)
        config = checked_config(values)
    except SdplayError as error:
        return message("error", error.message, error.hint), gr.update(interactive=False)
    sizes = {"column": len(config.columns), "prompt": len(config.prompts), "seed": len(config.seeds)}
    sizes |= {axes()[name].title.lower().removesuffix("s"): len(values) for name, values in config.axes.items()}
    told = views.effort_line(effort_of(config), config.num_cells, engine.grids.seconds_per_step(config.base_model), sizes)
    if access.may_name(config.base_model):
        told += strangers_line(config.base_model, engine.known_words.strangers(config.base_model, config.columns, config.prompts))
    return told, gr.update(interactive=True)


def fill_prompts(engine: Engine, name: str, columns: str, token: str, class_word: str) -> str:
    """A set's sample prompts in the words of the first chosen run, else of the page."""
    words = templates.Values(token=token.strip() or DEFAULT_TOKEN, class_word=class_word, style=token.strip() or DEFAULT_TOKEN)
    settings = _settings_of(engine, columns_of(columns))
    if settings:
        words = templates.Values(token=str(settings["token"]), class_word=str(settings["class_word"]), style=str(settings["token"]))
    return "\n".join(templates.expand_one(prompt, words, 0) for prompt in engine.prompts_of(name))


def take_file(engine: Engine, names: Sequence[str], path: str, columns: str) -> list[Any]:
    """A brought adapter is kept and becomes a column; a brought picture gives its settings back."""
    if Path(path).suffix.lower() != ".png":
        added = chips([*columns_of(columns), engine.add_adapter(Path(path))])
        return [added, *[gr.skip()] * (3 + len(names) + len(axes())), None]
    settings = png_settings.read(Path(path))
    if settings is None:
        raise ConfigError("This picture says nothing about how it was drawn.", "Drop a PNG as sdplay or A1111 wrote it, not a copy.")
    gr.Info("The picture's settings are in the form.", duration=4)
    return [*fill_form(names, settings), None]


def fill_form(names: Sequence[str], settings: Mapping[str, Any]) -> list[Any]:
    """Updates of every control from a picture's settings; what is missing or cannot be used stays as it is, and is named."""
    column, prompt, seed = settings.get("column"), settings.get("prompt"), settings.get("seed")
    columns = [] if column == BASE or not isinstance(column, str) else [column]
    base = settings.get("base_model") if isinstance(column, str) else None  # other programs have other names for it
    drawing, unusable = [], []
    for name in names:
        try:
            usable = parse(GenerateConfig, {name: settings[name]}) if name in settings else None
        except ConfigError:
            usable = None
            unusable.append(f"{name} {str(settings[name])[:40]}")
        drawing.append(gr.skip() if usable is None else getattr(usable, name))
    if unusable:
        gr.Warning(f"Left as it was: {', '.join(unusable)}.")
    strength = settings.get("adapter_strength", 1)
    more = [f"{strength:g}" if name == "strength" and isinstance(strength, int | float) and strength != 1 else "" for name in axes()]
    return [
        chips(columns) if isinstance(column, str) else gr.skip(),
        prompt.replace("\n", " ")[:1000] if isinstance(prompt, str) else gr.skip(),
        str(seed) if isinstance(seed, int) else gr.skip(),
        base if isinstance(base, str) else gr.skip(),
        *drawing,
        *more,
    ]


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
    return chips([*half_way, run.id]), "\n".join(prompts), str(settings["base_model"])


def comparison_picker(engine: Engine, wanted: str = "") -> str:
    """Which comparison is shown first: `wanted`, else the newest."""
    return wanted or next(iter(engine.comparisons()), "")


def watch_comparison(engine: Engine, comparison_id: str | None, seen: Mapping[str, str]) -> list[Any]:
    """What has changed about the shown comparison and the list of all since the last look."""
    ids = tuple(engine.comparisons()[:MOST_LISTED])
    try:
        comparison = engine.comparison(comparison_id) if comparison_id else None
    except RunError as error:
        text = message("error", error.message, error.hint)
        return _nothing(seen, f"lost {comparison_id}", text, lambda: views.gallery(_readable(engine, ids), ""), ids)
    if comparison is None:
        return _nothing(seen, "none", views.no_comparison(), str, ids)
    ballot = engine.grids.ballot(comparison.id)
    mark = (comparison.id, comparison.status, len(comparison.cells))
    judged = (ballot.salt, len(ballot.votes), ballot.revealed) if ballot else None
    marks = {"progress": (mark, comparison.message), "viewer": (mark, judged), "downloads": mark, "cancel": mark[:2], "go_on": mark}
    updates: dict[str, Callable[[], Any]] = {
        "progress": lambda: views.progress_line(comparison),
        "viewer": lambda: views.viewer_value(comparison, ballot),
        "downloads": lambda: views.downloads(comparison),
        "cancel": lambda: gr.update(interactive=not comparison.ended),
        "go_on": lambda: gr.update(visible=comparison.can_continue),
        "gallery": lambda: views.gallery(_readable(engine, ids), comparison.id),
    }
    return only_news(seen, {**marks, "gallery": (ids, comparison.id, comparison.ended)}, updates)


def _nothing(seen: Mapping[str, str], mark: str, text: str, gallery: Callable[[], str], ids: tuple[str, ...]) -> list[Any]:
    updates: dict[str, Callable[[], Any]] = {
        "progress": lambda: text,
        "viewer": str,
        "downloads": str,
        "cancel": lambda: gr.update(interactive=False),
        "go_on": lambda: gr.update(visible=False),
        "gallery": gallery,
    }
    return only_news(seen, {**dict.fromkeys(updates, mark), "gallery": (mark, ids)}, updates)


def _readable(engine: Engine, ids: Sequence[str]) -> list[Any]:
    found = []
    for comparison_id in ids:
        try:
            found.append(engine.comparison(comparison_id))
        except RunError:
            continue
    return found


def cancel_comparison(engine: Engine, comparison_id: str | None) -> None:
    """Stop drawing the shown comparison."""
    if comparison_id:
        engine.cancel_comparison(comparison_id)


def continue_comparison(engine: Engine, comparison_id: str | None) -> None:
    """Draw what the shown comparison has no picture of."""
    if comparison_id:
        engine.grids.go_on(comparison_id)


def begin_ballot(engine: Engine, event: gr.EventData) -> str:
    """A new blind test, shown at once."""
    ballot = engine.grids.begin_ballot(str(event.id), int(event.rounds))
    return views.viewer_value(engine.comparison(str(event.id)), ballot)


def vote(engine: Engine, event: gr.EventData) -> None:
    """Write a choice down."""
    engine.grids.vote(str(event.id), int(event.number), str(event.choice))


def reveal(engine: Engine, event: gr.EventData) -> list[Any]:
    """The result of a blind test; and the comparison's id, if the choices have a favourite."""
    ballot, comparison = engine.grids.reveal(str(event.id)), engine.comparison(str(event.id))
    judged = comparison.id if outcome(ballot, comparison.labels).has_favourite else gr.skip()
    return [views.viewer_value(comparison, ballot), judged]


def send_to_form(engine: Engine, names: Sequence[str], event: gr.EventData) -> list[Any]:
    """The form as it would draw one cell alone. Raises RunError for a place that is not there."""
    comparison = engine.comparison(str(event.id))
    config = comparison.config
    column, prompt, *more, seed = (int(index) for index in str(event.place).split(","))
    place = (column, prompt, config.seeds[seed], *more)
    cell = next((cell for cell in comparison.cells if cell.place == place), None)
    if cell is None:
        raise RunError("There is no picture in this place yet.", "Choose another.")
    path = engine.comparison_folder(comparison.id) / cell.file
    settings = {**(png_settings.read(path) or {}), "column": comparison.spec(cell).column}
    gr.Info("The picture's settings are in the form.", duration=4)
    return fill_form(names, settings)


def _chosen(event: gr.EventData) -> str:
    return str(event.id)


def _settings_of(engine: Engine, columns: Sequence[str]) -> Mapping[str, object]:
    """Settings of the first column that is a run."""
    for column in columns:
        try:
            return engine.run(column.split("@")[0].split(":")[0]).settings
        except RunError:
            continue
    return {}
