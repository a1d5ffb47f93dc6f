"""Prompts: the trigger word, the templates, and exactly what training will read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from sdplay import templates
from sdplay.engine import Engine
from sdplay.errors import ConfigError, DataError, SdplayError, TemplateError
from sdplay.presets import DEFAULT_TOKEN
from sdplay.prompt_sets import PromptSet
from sdplay.ui.errors import friendly
from sdplay.ui.forms import Control
from sdplay.ui.html import html_block
from sdplay.ui.tabs.events import live, quick, silent
from sdplay.ui.views.dataset import example_choices
from sdplay.ui.views.prompt import Reading, Tokens, preview
from sdplay.ui.views.text import message

EXAMPLE_CAPTION = "red apple, white background"
MOST_TEXTS = 12
VARIABLES_HELP = (
    "One template per line. `{token}` is the trigger word, `{class}` the class word, `{caption}` the picture's caption, "
    "`{a|b}` one of several. Write `{{` for a plain brace."
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

    @property
    def words(self) -> list[Control]:
        """Everything that a run needs from here."""
        return [self.token, self.class_word, self.train, self.sample, self.negative]


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


def create_prompts_tab(engine: Engine, dataset: gr.Dropdown, base: gr.Dropdown, first: PromptSet) -> PromptsTab:
    """Everything under "Prompts", opened at the prompt set `first`."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=300):
            tab, why = _create_editor(engine, first)
            with gr.Row(elem_classes="sd-beside"):
                name = gr.Textbox("", label="Save these templates as", placeholder="my-gnome", elem_id="prompts-name", max_length=40)
                save = gr.Button("Save", elem_id="prompts-save", min_width=90)
            saved = html_block(elem_id="prompts-saved")
        with gr.Column(scale=5, min_width=300):
            tab.picture.render()
            shown = html_block(elem_id="prompts-preview")

    tab.chosen.input(friendly(open_prompt_set, engine), tab.chosen, [tab.train, tab.sample, tab.negative, why], **quick())
    tab.chosen.change(friendly(explain_prompt_set, engine), tab.chosen, why, **silent())
    save.click(friendly(save_words, engine), [name, *tab.words], [tab.chosen, saved], **quick())
    dataset.change(friendly(picture_choices, engine), dataset, tab.picture, **silent())
    inputs = [dataset, tab.picture, base, *tab.words]
    changes = [control.change for control in (tab.picture, base, tab.token, tab.class_word, tab.train, tab.sample)]
    gr.on([*changes, dataset.change], friendly(show_preview, engine), inputs, shown, **live())
    return tab


def _create_editor(engine: Engine, first: PromptSet) -> tuple[PromptsTab, gr.HTML]:
    chosen = gr.Dropdown(
        label="Prompt set",
        choices=prompt_choices(engine),
        value=first.name,
        elem_id="prompts-set",
        allow_custom_value=True,
        interactive=True,
    )
    why = html_block(message("note", first.why), elem_id="prompts-why")
    with gr.Row():
        token = gr.Textbox(
            "", label="Trigger word", placeholder="ohwx", info="A made-up word that will call what it learns.", elem_id="prompts-token"
        )
        class_word = gr.Textbox(
            "", label="Class word", placeholder="fox", info="What kind of thing it is. Empty for a style.", elem_id="prompts-class"
        )
    gr.Markdown(VARIABLES_HELP)
    train = gr.Textbox("\n".join(first.train), label="Training templates", lines=3, max_lines=10, elem_id="prompts-train", interactive=True)
    sample = gr.Textbox("\n".join(first.sample), label="Sample prompts", lines=6, max_lines=14, elem_id="prompts-sample", interactive=True)
    negative = gr.Textbox(
        first.negative,
        label="Negative prompt",
        info="What sample pictures should stay away from.",
        elem_id="prompts-negative",
        interactive=True,
    )
    picture = gr.Dropdown(label="Preview for this picture", choices=[], elem_id="prompts-picture", allow_custom_value=True, render=False)
    return PromptsTab(chosen, token, class_word, train, sample, negative, picture), why


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
    training = [read(line, templates.Values(word, words.class_word, caption, word)) for line in lines_of(words.train)]
    samples = [read(line, templates.Values(word, words.class_word, "", word)) for line in lines_of(words.sample)]
    notes = _token_notes(engine, base_model, words.token, training) + _class_notes(words.class_word, training)
    return preview(_counted(engine, base_model, training), _counted(engine, base_model, samples), notes)


def read(template: str, values: templates.Values) -> Reading:
    """A template as texts, or what is wrong with it."""
    try:
        texts = templates.expand_all(template, values)
    except TemplateError as error:
        return Reading(template, error=str(error))
    return Reading(template, texts=tuple(texts[:MOST_TEXTS]))


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
    counted = [Tokens(count.tokens, count.cut, count.limit) for count in counts]
    if len(counted) < len(texts):
        return list(readings)
    position, with_tokens = 0, []
    for reading in readings:
        end = position + len(reading.texts)
        with_tokens.append(Reading(reading.template, reading.error, reading.texts, tuple(counted[position:end])))
        position = end
    return with_tokens


def _token_notes(engine: Engine, base_model: str, token: str, training: Sequence[Reading]) -> list[str]:
    uses_token = any("{token}" in reading.template for reading in training if not reading.error)
    if not token.strip():
        return [f"There is no trigger word yet: {DEFAULT_TOKEN} will be used unless you write one."] if uses_token else []
    try:
        warning = engine.token_warning(base_model, token) if engine.has_base(base_model) else None
    except SdplayError:
        warning = None
    notes = [warning] if warning else []
    if training and not uses_token and not any(reading.error for reading in training):
        notes.append("No training template uses {token}, so the trigger word will call nothing.")
    return notes


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
