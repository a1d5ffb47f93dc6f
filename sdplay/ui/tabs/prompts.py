"""Prompts: the trigger word, the templates, and exactly what training will read."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import gradio as gr

from sdplay import templates
from sdplay.engine import Engine
from sdplay.errors import ConfigError, DataError, SdplayError, TemplateError
from sdplay.presets import DEFAULT_TOKEN, training_preset
from sdplay.prompt_files import FORMATS, export_text, import_file
from sdplay.prompt_rows import PromptRow, parse_row, parse_rows, to_lines
from sdplay.prompt_sets import PromptSet
from sdplay.ui.errors import friendly
from sdplay.ui.forms import Control
from sdplay.ui.html import html_block
from sdplay.ui.pulse import Pulse
from sdplay.ui.tabs import styles as styles_panel
from sdplay.ui.tabs.events import in_turn, live, quick, silent
from sdplay.ui.tabs.experiment import create_panel
from sdplay.ui.views.dataset import example_choices
from sdplay.ui.views.prompt import Names, Reading, Tokens, preview, trigger_card
from sdplay.ui.views.prompt_table import TABLE_JS, rows_of, table, table_problem
from sdplay.ui.views.text import message
from sdplay.workspace import slug

EXAMPLE_CAPTION = "red apple, white background"
MOST_TEXTS = 12
VIEWS = ("Table", "Text")
VARIABLES_HELP = (
    "`{token}` is the trigger word, `{class}` the class word, `{caption}` the picture's caption, `{a|b}` one of several, "
    "`__light__` a line of the wildcard file light.txt. Write `{{` for a plain brace."
)
TEXT_HELP = (
    "One template per line. Flags: `--n` its negative, `--weight` how often training draws it, `--name`, `--only sample` or `compare`."
)


@dataclass(frozen=True)
class PromptsTab:
    """The controls; `words` are what a run is told, in the order of `prompt_values`."""

    chosen: gr.Dropdown
    token: gr.Textbox
    class_word: gr.Textbox
    train: gr.Textbox
    sample: gr.Textbox
    negative: gr.Textbox
    picture: gr.Dropdown
    why: gr.HTML
    captions: gr.Button
    """Starts the experiment with three caption styles."""
    panel: gr.HTML
    """Follows that experiment; its button opens the comparison."""

    @property
    def words(self) -> list[Control]:
        """Everything that a run needs from here."""
        return [self.token, self.class_word, self.train, self.sample, self.negative]

    @property
    def opened(self) -> list[gr.Dropdown | gr.Textbox | gr.HTML]:
        """What `open_prompt_set` fills."""
        return [self.train, self.sample, self.negative, self.why]


@dataclass(frozen=True)
class Words:
    """What the controls of this tab hold."""

    token: str
    class_word: str
    train: str
    sample: str
    negative: str = ""

    def prompt_set(self, name: str = "page") -> PromptSet:
        """As a prompt set. Raises ConfigError or TemplateError."""
        return PromptSet(
            name=name, title=name, train=tuple(lines_of(self.train)), sample=tuple(lines_of(self.sample)), negative=self.negative
        )


def create_prompts_tab(engine: Engine, dataset: gr.Dropdown, base: gr.Dropdown, first: PromptSet, pulse: Pulse) -> PromptsTab:
    """Everything under "Prompts", opened at the prompt set `first`."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=300):
            chosen = gr.Dropdown(
                label="Prompt set", choices=prompt_choices(engine), value=first.name, elem_id="prompts-set", allow_custom_value=True,
                interactive=True,
            )  # fmt: skip
            why = html_block(message("note", first.why), elem_id="prompts-why")
        with gr.Column(scale=5, min_width=300):
            token, class_word = _create_names(engine, base)
    train, sample, negative = _create_editor(engine, first)
    with gr.Row(equal_height=False):
        with gr.Column(scale=6, min_width=300):
            picture = gr.Dropdown(label="Preview for this picture", choices=[], elem_id="prompts-picture", allow_custom_value=True)
            shown = html_block(elem_id="prompts-preview")
        with gr.Column(scale=4, min_width=300):
            styles_panel.create_styles(engine, base, sample, pulse)
            _create_files(engine, chosen, [token, class_word, train, sample, negative])
            captions = gr.Button("Train three caption styles and compare", elem_id="prompts-captions")
            gr.Markdown("The same pictures, steps and noise; bare word, template, detailed captions.", elem_classes="sd-why")
            panel = create_panel(engine, pulse.news("prompts"), gr.State("captions"), lambda plan: (plan, ""), elem_id="prompts-experiment")
    tab = PromptsTab(chosen, token, class_word, train, sample, negative, picture, why, captions, panel)
    chosen.input(friendly(open_prompt_set, engine), chosen, tab.opened, **quick())
    chosen.change(friendly(explain_prompt_set, engine), chosen, why, **silent())
    dataset.change(friendly(picture_choices, engine), dataset, picture, **silent())
    inputs = [dataset, picture, base, *tab.words]
    changes = [control.change for control in (picture, base, token, class_word, train, sample)]
    gr.on([*changes, dataset.change], friendly(show_preview, engine), inputs, shown, **live())
    return tab


def _create_names(engine: Engine, base: gr.Dropdown) -> tuple[gr.Textbox, gr.Textbox]:
    with gr.Row():
        token = gr.Textbox(
            "", label="Trigger word", placeholder="ohwx", info="A made-up word that will call what it learns.", elem_id="prompts-token"
        )
        class_word = gr.Textbox(
            "", label="Class word", placeholder="fox", info="What kind of thing it is. Empty for a style.", elem_id="prompts-class"
        )
    judged = html_block(elem_id="prompts-trigger")
    gr.on([token.change, base.change], friendly(judge_trigger, engine), [base, token], judged, **live())
    judged.select(_picked, None, token, **silent())
    return token, class_word


def _create_editor(engine: Engine, first: PromptSet) -> tuple[gr.Textbox, gr.Textbox, gr.Textbox]:
    """The table and the two texts, which hold the same."""
    train_text, sample_text = "\n".join(first.train), "\n".join(first.sample)
    with gr.Row(elem_classes="sd-beside"):
        gr.Markdown(VARIABLES_HELP, elem_id="prompts-help")
        view = gr.Radio(list(VIEWS), value=VIEWS[0], show_label=False, label="Edit as", elem_id="prompts-view", container=False)
    seen = gr.Textbox(_mark(train_text, sample_text), visible="hidden", label="What the table was last told", elem_id="prompts-seen")
    shown = gr.HTML(show_rows(train_text, sample_text), elem_id="prompts-table", js_on_load=TABLE_JS, apply_default_css=False)
    help_text = gr.Markdown(TEXT_HELP, visible=False)
    train = gr.Textbox(
        train_text, label="Training templates", lines=3, max_lines=10, elem_id="prompts-train", interactive=True, visible="hidden"
    )
    sample = gr.Textbox(
        sample_text, label="Sample prompts", lines=6, max_lines=14, elem_id="prompts-sample", interactive=True, visible="hidden"
    )
    negative = gr.Textbox(
        first.negative, label="Negative prompt of all", info="What sample pictures should stay away from.", elem_id="prompts-negative",
        interactive=True,
    )  # fmt: skip
    view.change(show_view, view, [shown, help_text, train, sample], **silent())
    gr.on([train.change, sample.change], refresh_table, [train, sample, seen], [shown, seen], **live())
    shown.edit(friendly(edit_rows), None, [train, sample, seen], **in_turn())
    return train, sample, negative


def _create_files(engine: Engine, chosen: gr.Dropdown, words: list[gr.Textbox]) -> None:
    with gr.Row(elem_classes="sd-beside"):
        name = gr.Textbox("", label="Save these templates as", placeholder="my-gnome", elem_id="prompts-name", max_length=40)
        save = gr.Button("Save", elem_id="prompts-save", min_width=90)
    saved = html_block(elem_id="prompts-saved")
    with gr.Accordion("Import and export", open=False, elem_id="prompts-files"):
        export = gr.Button("Export these templates", elem_id="prompts-export")
        files = gr.File(label="As YAML, JSON and CSV", file_count="multiple", interactive=False, visible=False, elem_id="prompts-exported")
        given = gr.File(label="A prompt set (.yaml, .json, .csv)", file_types=[".yaml", ".yml", ".json", ".csv"], height=110,
                        elem_id="prompts-import")  # fmt: skip
    export.click(friendly(export_words), [chosen, *words], files, **quick())
    save.click(friendly(save_words, engine), [name, *words], [chosen, saved], **quick())
    given.upload(friendly(import_words, engine), given, [chosen, *words[2:], saved, given], **quick())


def judge_trigger(engine: Engine, base_model: str, token: str) -> str:
    """What the word is made of for the base; nothing while the base is not on this disk."""
    try:
        return trigger_card(engine.judge_trigger(base_model, token), token) if engine.has_base(base_model) else ""
    except SdplayError:
        return ""


def _picked(event: gr.EventData) -> str:
    return str(event.id)


def show_rows(train: str, sample: str) -> str:
    """The table of what the texts hold, or what is wrong with them."""
    try:
        return table(parse_rows(lines_of(train), lines_of(sample)))
    except TemplateError as error:
        return table_problem(error)


def show_view(view: str) -> list[Any]:
    """Table or texts; the other one stays on the page unseen, so that it goes on being kept up to date."""
    as_text = view == "Text"
    return [gr.update(visible="hidden" if as_text else True), gr.update(visible=as_text)] + [
        gr.update(visible=True if as_text else "hidden") for _ in range(2)
    ]


def refresh_table(train: str, sample: str, seen: str) -> tuple[Any, Any]:
    """The table anew, unless it is where the texts came from.

    `seen` comes from the browser, with the texts: in a session's state it would be that of an edit that the browser has not heard of yet,
    and the table would go back behind what was done in it.
    """
    mark = _mark(train, sample)
    return (gr.skip(), gr.skip()) if mark == seen else (show_rows(train, sample), mark)


def edit_rows(event: gr.EventData) -> tuple[str, str, str]:
    """What the table holds now, as the two texts."""
    train, sample = ("\n".join(lines) for lines in to_lines(rows_of(event.rows)))
    return train, sample, _mark(train, sample)


def _mark(train: str, sample: str) -> str:
    return sha256(f"{train}\0{sample}".encode()).hexdigest()[:16]


def export_words(chosen: str, *typed: str) -> Any:  # noqa: ANN401  an update of Gradio's
    """Write the templates of the page in every format, to be downloaded."""
    prompt_set = Words(*typed).prompt_set(slug(chosen or "") or "page")
    folder, paths = Path(tempfile.mkdtemp(prefix="sdplay-")), []
    for kind in FORMATS:
        paths.append(folder / f"{prompt_set.name}.{kind}")
        paths[-1].write_text(export_text(prompt_set, kind), encoding="utf-8")
    return gr.update(value=[str(path) for path in paths], visible=True)


def import_words(engine: Engine, path: str) -> tuple[Any, ...]:
    """A set from a file: kept, and opened."""
    made = import_file(Path(path))
    kept = engine.save_prompt_set(made)
    chosen = gr.update(choices=prompt_choices(engine), value=kept.stem)
    return chosen, "\n".join(made.train), "\n".join(made.sample), made.negative, message("good", f"Imported as {kept.stem}."), None


def follow_preset(engine: Engine, preset: str | None, base_model: str, chosen: str, *typed: str) -> list[Any]:
    """The prompt set that goes with a preset on a base, unless the templates were edited. typed: train, sample, negative."""
    wanted = training_preset(preset).prompt_set_for(base_model) if preset else chosen
    known = engine.prompt_sets()
    if wanted == chosen or wanted not in known or (chosen in known and not _holds(known[chosen], *typed)):
        return [gr.skip()] * 5
    return [wanted, *open_prompt_set(engine, wanted)]


def _holds(prompt_set: PromptSet, train: str, sample: str, negative: str) -> bool:
    return (prompt_set.train, prompt_set.sample, prompt_set.negative) == (tuple(lines_of(train)), tuple(lines_of(sample)), negative)


def open_prompt_set(engine: Engine, name: str) -> tuple[str, str, str, str]:
    """Fill the editor from a prompt set."""
    found = engine.prompt_set(name)
    return "\n".join(found.train), "\n".join(found.sample), found.negative, message("note", found.why)


def explain_prompt_set(engine: Engine, name: str) -> str:
    """When to choose it."""
    known = engine.prompt_sets().get(name)
    return message("note", known.why) if known and known.why else ""


def save_words(engine: Engine, name: str, *typed: str) -> tuple[Any, str]:
    """Keep the templates under a name; mistakes are said beside the button."""
    try:
        if not name.strip():
            raise ConfigError("The templates have no name yet.", "Write one beside the button.")
        path = engine.save_prompt_set(Words(*typed).prompt_set(name.strip()))
    except SdplayError as error:
        return gr.skip(), message("error", error.message, error.hint)
    return gr.update(choices=prompt_choices(engine), value=path.stem), message("good", f"Saved as {path.stem}.")


def picture_choices(engine: Engine, dataset_id: str | None) -> Any:  # noqa: ANN401  an update of Gradio's
    """The open data set's pictures."""
    try:
        choices = example_choices(engine.dataset(dataset_id)) if dataset_id else []
    except DataError:
        choices = []
    return gr.update(choices=choices, value=choices[0][1] if choices else None)


def prompt_choices(engine: Engine) -> list[tuple[str, str]]:
    """(title, name) of every prompt set."""
    return [(found.title, name) for name, found in engine.prompt_sets().items()]


def show_preview(engine: Engine, dataset_id: str | None, key: str | None, base_model: str, *typed: str) -> str:
    """What training reads for one picture, and what samples ask for; half-typed templates are explained."""
    caption = _caption(engine, dataset_id, key)
    words = Words(*typed)
    word = words.token.strip() or DEFAULT_TOKEN
    training = [read(engine, line, templates.Values(word, words.class_word, caption, word)) for line in lines_of(words.train)]
    samples = [read(engine, line, templates.Values(word, words.class_word, "", word)) for line in lines_of(words.sample)]
    notes = _token_notes(words.token, training) + _class_notes(words.class_word, training)
    names = _names(engine, base_model, word, words.class_word)
    return preview(_shared(_counted(engine, base_model, training)), _counted(engine, base_model, samples), notes, names)


def read(engine: Engine, line: str, values: templates.Values) -> Reading:
    """A line's template as texts, or what is wrong with it."""
    shown = line
    try:
        row = _row(line)
        shown = row.text
        texts = templates.expand_all(engine.resolve(row.text), values)
    except TemplateError as error:
        return Reading(shown, error=str(error))
    return Reading(row.text, texts=tuple(texts[:MOST_TEXTS]), total=len(texts), share=row.weight)


def _row(line: str) -> PromptRow:
    """A line of either list; what it may be used for is checked where it is saved."""
    return parse_row(line, ("train", "sample", "compare"))


def _shared(training: list[Reading]) -> list[Reading]:
    """Each with its share of the training: by its weight where any has one, else by how many texts it makes."""
    alike = all(reading.share in (0.0, 1.0) for reading in training)
    sizes = [0.0 if reading.error else float(reading.total) if alike else reading.share for reading in training]
    return [replace(reading, share=size / max(sum(sizes), 1e-9)) for reading, size in zip(training, sizes, strict=True)]


def _names(engine: Engine, base_model: str, token: str, class_word: str) -> Names:
    """The trigger and the class word as the base reads them."""
    try:
        counts = engine.count_tokens(base_model, [token, class_word]) if engine.has_base(base_model) else []
    except SdplayError:
        counts = []
    return Names(*(count.tokens for count in counts))


def lines_of(text: str) -> list[str]:
    """Lines that hold something."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def _counted(engine: Engine, base_model: str, readings: Sequence[Reading]) -> list[Reading]:
    """With the tokens of every text, where the base's tokenizer is on this disk."""
    texts = [text for reading in readings for text in reading.texts]
    try:
        counts = iter(engine.count_tokens(base_model, texts) if texts and engine.has_base(base_model) else [])
    except SdplayError:
        return list(readings)
    counted = [Tokens(count.tokens, count.cut, count.limit, count.ends) for count in counts]
    if len(counted) < len(texts):
        return list(readings)
    position, with_tokens = 0, []
    for reading in readings:
        end = position + len(reading.texts)
        with_tokens.append(replace(reading, tokens=tuple(counted[position:end])))
        position = end
    return with_tokens


def _token_notes(token: str, training: Sequence[Reading]) -> list[str]:
    uses_token = any("{token}" in reading.template for reading in training if not reading.error)
    if not token.strip():
        return [f"There is no trigger word yet: {DEFAULT_TOKEN} will be used unless you write one."] if uses_token else []
    if training and not uses_token and not any(reading.error for reading in training):
        return ["No training template uses {token}, so the trigger word will call nothing."]
    return []


def _class_notes(class_word: str, training: Sequence[Reading]) -> list[str]:
    uses_class = any("{class}" in reading.template for reading in training)
    return (
        ["The templates use {class}: write what kind of thing it is, such as fox or vase."] if uses_class and not class_word.strip() else []
    )


def _caption(engine: Engine, dataset_id: str | None, key: str | None) -> str:
    try:
        examples = engine.dataset(dataset_id).examples if dataset_id else ()
    except DataError:
        examples = ()
    return next((example.caption for example in examples if example.key == key), "" if examples else EXAMPLE_CAPTION)
