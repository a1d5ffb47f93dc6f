"""A panel that follows an experiment: its trainings, then its comparison, and the button that opens that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr

from sdplay.engine import Engine
from sdplay.errors import RunError, SdplayError
from sdplay.experiments import Experiment
from sdplay.ui.errors import friendly
from sdplay.ui.html import html_block, only_news
from sdplay.ui.tabs.events import silent
from sdplay.ui.views.learn import experiment_card

LookOf = Callable[[str], tuple[str, str]]
"""What the control beside the panel holds -> (name of the plan to follow, what to look for in its comparison)."""


def create_panel(engine: Engine, news: Any, what: gr.State, look_of: LookOf, *, elem_id: str) -> gr.HTML:  # noqa: ANN401  an event of Gradio's
    """The panel; a click on its button is the event `select` with the comparison as `id`."""
    seen = gr.State({})
    shown = html_block(elem_id=elem_id)
    gr.on([news, what.change], friendly(watch_panel, engine, look_of), [what, seen], [shown, seen], **silent())
    return shown


def watch_panel(engine: Engine, look_of: LookOf, what: str, seen: Mapping[str, str]) -> list[Any]:
    """The newest experiment of the plan, if there is news of it."""
    plan, look = look_of(what)
    experiment = newest(engine, plan)
    if experiment is None:
        return only_news(seen, {"card": "none"}, {"card": str})
    states = engine.experiments.states(experiment)
    try:
        comparison = engine.comparison(experiment.comparison) if experiment.comparison else None
    except RunError:
        comparison = None
    card = experiment_card(experiment, states, comparison, look)
    return only_news(seen, {"card": card}, {"card": lambda: card})


def newest(engine: Engine, plan: str) -> Experiment | None:
    """The newest experiment of a plan; whoever asks also makes sure that its comparison is drawn."""
    for experiment_id in engine.experiments.of(plan):
        try:
            return engine.experiments.watch(experiment_id)
        except SdplayError:
            continue
    return None
