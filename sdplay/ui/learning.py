"""Wires between the tabs that are about prompts, lessons and experiments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.context import Context

from sdplay.engine import Engine
from sdplay.errors import ConfigError
from sdplay.experiments import Material, plan_named
from sdplay.methods import CONFIGS
from sdplay.presets import DEFAULT_METHOD
from sdplay.ui.access import Access
from sdplay.ui.errors import friendly
from sdplay.ui.tabs import compare as compare_tab
from sdplay.ui.tabs import prompts as prompts_tab
from sdplay.ui.tabs.events import quick, silent
from sdplay.ui.tabs.learn import mark_finished, mark_judged, show_marks
from sdplay.ui.tabs.prompts import Words
from sdplay.ui.tabs.tour import show_tour, wire_tour

if TYPE_CHECKING:
    from sdplay.ui.app import Page


def wire_learning(engine: Engine, access: Access, page: Page) -> None:
    """A preset brings its prompts; experiments start and open; lessons are marked; the tour leads."""
    prompts, train, learn = page.prompts, page.train, page.learn
    follow = friendly(prompts_tab.follow_preset, engine)
    inputs = [train.preset, page.base, prompts.chosen, prompts.train, prompts.sample, prompts.negative]
    gr.on([train.preset.input, page.base.input], follow, inputs, [prompts.chosen, *prompts.opened], **quick())
    taken = [page.dataset.picker, page.base, *prompts.words, train.preset, *train.form.inputs]
    start = friendly(start_captions, engine, access, tuple(train.form.controls))
    prompts.captions.click(start, taken, None, **{**quick(), "trigger_mode": "once"})
    opened = [page.compare.shown, page.tabs]
    learn.panel.select(mark_finished, [learn.learned, learn.opened], [learn.learned, learn.lessons], **silent())  # before it is left
    for panel in (prompts.panel, learn.panel):
        panel.select(friendly(open_comparison, engine), None, opened, **quick())
    judged = page.compare.judged
    judged.change(friendly(mark_judged, engine), [judged, learn.learned, learn.opened], [learn.learned, learn.lessons], **silent())
    wire_tour(engine, page.tour, learn, page.tabs)
    context = Context.root_block
    assert context is not None  # we are inside build()
    context.load(show_tour, learn.learned, page.tour, **silent())
    context.load(show_marks, [learn.learned, learn.opened], learn.lessons, **silent())


def open_comparison(engine: Engine, event: gr.EventData) -> list[Any]:
    """Show an experiment's comparison."""
    return [compare_tab.comparison_picker(engine, event.id), gr.Tabs(selected="compare")]


def start_captions(
    engine: Engine, access: Access, names: Sequence[str], dataset_id: str | None, base_model: str, *given: Any  # noqa: ANN401  whatever the controls hold
) -> None:  # fmt: skip
    """The same training three times, with three ways to write captions."""
    if not dataset_id:
        raise ConfigError("No data set is open.", "Choose or make one under Dataset.")
    words, (preset, *settings) = Words(*given[:5]), given[5:]
    chosen = dict(zip(names, settings, strict=True))
    fields = CONFIGS[str(chosen.get("method", DEFAULT_METHOD))].model_fields
    material = Material(
        dataset=dataset_id,
        token=words.token,
        class_word=words.class_word,
        preset=preset,
        words=words.prompt_set(),
        base_model=access.base(base_model),
        config={name: value for name, value in chosen.items() if name in fields},
    )
    engine.experiments.start(plan_named("captions"), material)
    gr.Info("Three trainings are queued; their comparison is drawn when they have ended.", duration=6)
