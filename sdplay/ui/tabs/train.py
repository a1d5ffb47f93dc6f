"""Train: choose how, and start. What goes on is in live.py."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from sdplay.advice import Advice
from sdplay.bases import load_bases
from sdplay.engine import Engine
from sdplay.errors import ConfigError, DataError, SdplayError
from sdplay.hub import MINI
from sdplay.methods import CONFIGS, TITLES
from sdplay.presets import AUTO, DEFAULT_METHOD, DEFAULT_TOKEN, adapted, compose_training, load_training_presets, training_preset
from sdplay.ui.access import Access
from sdplay.ui.errors import friendly
from sdplay.ui.forms import Control, Form, controls_of_any, explain
from sdplay.ui.html import html_block
from sdplay.ui.pulse import Pulse
from sdplay.ui.tabs.before import create_before, wire_before
from sdplay.ui.tabs.events import live, quick, silent
from sdplay.ui.tabs.live import Watch, create_watch, run_picker
from sdplay.ui.tabs.prompts import PromptsTab, Words
from sdplay.ui.views.text import count_of, esc, message

FIRST_PRESET = "quick"


@dataclass(frozen=True)
class TrainTab:
    """What other tabs need."""

    preset: gr.Radio
    name: gr.Textbox
    form: Form
    watch: Watch

    @property
    def run(self) -> gr.Dropdown:
        """The run that is watched."""
        return self.watch.run

    @property
    def compare(self) -> gr.Button:
        """Compares it with its base."""
        return self.watch.compare

    @property
    def settings(self) -> list[Control]:
        """Preset and settings, as a preset fills them."""
        return [self.preset, *self.form.inputs]


def create_train_tab(
    engine: Engine, access: Access, dataset: gr.Dropdown, prompts: PromptsTab, base: gr.Dropdown, pulse: Pulse
) -> TrainTab:
    """Everything under "Train"."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=300):
            preset, name, start, form = _create_form(base, prompts, dataset, engine)
            before = create_before()
        with gr.Column(scale=7, min_width=300):
            watch = create_watch(engine, pulse)

    inputs = [dataset, base, *prompts.words, preset, name, *form.inputs]
    start.click(friendly(start_run, engine, access, tuple(form.controls)), inputs, watch.run, **{**quick(), "trigger_mode": "once"})
    settings = [dataset, base, *prompts.words, preset, *form.inputs]
    wire_before(engine, before, functools.partial(training_values, access, tuple(form.controls)), settings, pulse)
    return TrainTab(preset, name, form, watch)


def _create_form(
    base: gr.Dropdown, prompts: PromptsTab, dataset: gr.Dropdown, engine: Engine
) -> tuple[gr.Radio, gr.Textbox, gr.Button, Form]:
    """Preset, name, start, settings. A preset is enough to start with, so the button comes before the settings."""
    presets = load_training_presets()
    choices = [(preset.title, name) for name, preset in presets.items()]
    choices.insert(1, (training_preset(AUTO).title, AUTO))
    summary = html_block(elem_id="train-summary")
    preset = gr.Radio(choices, value=FIRST_PRESET, label="Preset", elem_id="train-preset")
    why = html_block(preset_note(FIRST_PRESET, base.value), elem_id="train-why")
    start = gr.Button("Start training", variant="primary", size="lg", elem_id="train-start")
    base.render()
    name = gr.Textbox("", label="Name of the run", placeholder="gnome, first try", elem_id="train-name", max_length=40)
    field = CONFIGS[DEFAULT_METHOD].model_fields["method"]
    titles = [(title, key) for key, title in TITLES.items()]
    method = gr.Dropdown(titles, value=DEFAULT_METHOD, label=field.title, info=field.description, elem_id="train-method", interactive=True)
    with gr.Row(elem_classes="sd-fields"):
        basic = controls_of_any(list(CONFIGS.values()), "basic", prefix="train")
    with gr.Accordion("Expert", open=False, elem_id="train-expert"), gr.Row(elem_classes="sd-fields"):
        expert = controls_of_any(list(CONFIGS.values()), "expert", prefix="train")
    form = Form({"method": method, **basic, **expert})
    rate = html_block(elem_id="train-rate")

    names = tuple(form.controls)
    first = presets[FIRST_PRESET].config
    shown = CONFIGS[str(first["method"])].model_fields
    for name_of, control in form.controls.items():
        control.visible = True if name_of in shown else "hidden"
        control.value = first.get(name_of, shown[name_of].default) if name_of in shown else control.value
    looked_at: list[Control] = [preset, dataset, base, prompts.class_word]
    preset.input(friendly(choose_preset, engine, names), looked_at, form.inputs, **quick())
    method.input(friendly(apply_method, names), [preset, method], form.inputs, **quick())
    method.change(friendly(show_fields, names), method, form.inputs, **silent())
    gr.on([preset.change, base.change], friendly(preset_note_for, engine), looked_at, why, **silent())
    rates = [form.controls[key] for key in ("method", "kind", "learning_rate", "alpha", "rank")]
    gr.on([control.change for control in rates], effective_rate, rates, rate, **live())
    facts: list[Control] = [dataset, prompts.token, prompts.class_word, prompts.train]
    gr.on([control.change for control in facts], friendly(summarise, engine), facts, summary, **live())
    return preset, name, start, form


def apply_preset(names: Sequence[str], preset: str) -> list[object]:
    """Values for the form: a preset's, and the defaults for what it leaves open."""
    return _values(names, training_preset(preset).config)


def choose_preset(
    engine: Engine, names: Sequence[str], preset: str, dataset_id: str | None, base_model: str | None, class_word: str
) -> list[object]:
    """The same for the preset that was chosen; "Tell me" looks at the pictures first."""
    if preset != AUTO:
        return apply_preset(names, preset)
    return _values(names, dict(_advice(engine, dataset_id, base_model, class_word).values))


def preset_note_for(engine: Engine, preset: str | None, dataset_id: str | None, base_model: str | None, class_word: str) -> str:
    """When to choose a preset and what it takes; of "Tell me", why each thing was chosen."""
    if preset != AUTO:
        return preset_note(preset, base_model)
    try:
        reasons = _advice(engine, dataset_id, base_model, class_word).reasons
    except SdplayError as error:
        return message("warning", error.message, error.hint)
    lines = "".join(f"<dt>{esc(reason.about)}</dt><dd>{esc(reason.text)}</dd>" for reason in reasons)
    return f'<dl class="sd-settings sd-advice">{lines}</dl>'


def _advice(engine: Engine, dataset_id: str | None, base_model: str | None, class_word: str) -> Advice:
    if not dataset_id:
        raise ConfigError("No data set is open, so there is nothing to look at.", "Choose or make one under Dataset.")
    return engine.advise(dataset_id, base_model=base_model or MINI, class_word=class_word.strip())


def apply_method(names: Sequence[str], preset: str | None, method: str) -> list[object]:
    """Values for the form when another method is chosen: the preset's as far as they hold for it, and its defaults."""
    return _values(names, adapted(training_preset(preset or FIRST_PRESET).config, method))


def show_fields(names: Sequence[str], method: str) -> list[object]:
    """The method's own settings are there, with what it says of them; the others' are not."""
    fields = CONFIGS[method].model_fields
    return [gr.update(visible=True, info=explain(fields[name])) if name in fields else gr.update(visible="hidden") for name in names]


def _values(names: Sequence[str], config: Mapping[str, Any]) -> list[object]:
    fields = CONFIGS[config.get("method", DEFAULT_METHOD)].model_fields
    return [config.get(name, fields[name].default) if name in fields else gr.skip() for name in names]


def preset_note(preset: str | None, base_model: str | None) -> str:
    """When to choose a preset, what it takes, whether it was made for the chosen base, and what that base takes."""
    found = load_training_presets().get(preset or "")
    if not found:
        return ""
    note = f'<p class="sd-why">{esc(found.why)} <em>{esc(found.needs)}</em></p>'
    if found.base_models and base_model not in found.base_models:
        note += message("warning", f"Tuned for {', '.join(found.base_models)}.", "On another base, start from Stable Diffusion 1.5.")
    if not found.base_models and base_model == MINI:
        note += message("warning", "Not tuned for the embedded model.", "Choose another preset, or another base model below.")
    offered = load_bases().get(base_model or "")
    return note + (f'<p class="sd-why">{esc(offered.facts)}</p>' if offered else "")


def effective_rate(method: str, kind: str, learning_rate: float | None, alpha: float | None, rank: float | None) -> str:
    """learning rate x alpha / rank, which can be compared between ranks; nothing where there is no rank."""
    if not learning_rate or not alpha or not rank or "rank" not in CONFIGS[method].model_fields:
        return ""
    divisor, words = (rank**0.5, "root of rank") if kind == "rslora" else (rank, "rank")
    rate = learning_rate * alpha / divisor
    return f'<p class="sd-why">Effective learning rate: <strong>{rate:.3g}</strong> (learning rate x alpha / {words})</p>'


def summarise(engine: Engine, dataset_id: str | None, token: str, class_word: str, train: str) -> str:
    """What will be learned from, under which word."""
    if not dataset_id:
        return message("warning", "No data set is open.", "Choose or make one under Dataset.")
    try:
        opened = engine.dataset(dataset_id)
    except DataError as error:
        return message("error", error.message, error.hint)
    word = " ".join(filter(None, (token.strip() or DEFAULT_TOKEN, class_word.strip())))
    templates = count_of(len([line for line in train.splitlines() if line.strip()]), "template")
    return message("good", f"{opened.name}: {count_of(len(opened.examples), 'picture')}, called by “{word}”, {templates}.")


def start_run(
    engine: Engine, access: Access, names: Sequence[str], dataset_id: str | None, base_model: str, *given: Any  # noqa: ANN401  whatever the controls hold
) -> Any:  # noqa: ANN401  an update of Gradio's  # fmt: skip
    """Queue a run with the page's words and settings; the run's list opens at it."""
    words, (preset, name, *settings) = given[:5], given[5:]
    values = training_values(access, names, dataset_id, base_model, *words, preset, *settings)
    run_id = engine.submit(values, name=name)
    gr.Info("Training is queued. You may close this page: it goes on.", duration=5)
    return run_picker(engine, run_id)


def training_values(access: Access, names: Sequence[str], dataset_id: str | None, base_model: str, *given: Any) -> dict[str, object]:  # noqa: ANN401
    """A training config's values from what the page holds. given: five words, the preset, the settings in the order of `names`."""
    words, (preset, *settings) = Words(*given[:5]), given[5:]
    chosen = dict(zip(names, settings, strict=True))
    changes = {
        **{name: value for name, value in chosen.items() if name in CONFIGS[str(chosen["method"])].model_fields},
        "dataset": dataset_id or "",
        "base_model": access.base(base_model),
        "token": words.token,
        "class_word": words.class_word,
    }
    return dict(compose_training(training_preset(preset), words.prompt_set(), changes))
