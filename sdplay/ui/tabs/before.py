"""Before start: what the run will write, whether it fits, and what it takes, measured at a press. Never in the handler's own thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from sdplay.engine import Engine
from sdplay.ui.errors import friendly
from sdplay.ui.forms import Control
from sdplay.ui.html import beat, html_block, only_news
from sdplay.ui.pulse import Pulse
from sdplay.ui.tabs.events import quick, silent
from sdplay.ui.views.estimate import forecast_card

Values = Callable[..., dict[str, object]]
"""What the controls hold, as the engine takes it."""


@dataclass(frozen=True)
class Before:
    """The block's controls."""

    box: gr.Accordion
    shown: gr.HTML
    again: gr.Button
    measure: gr.Button


def create_before() -> Before:
    """Closed at first: a glance costs some seconds of computing."""
    with gr.Accordion("Before start: files, memory, time, price", open=False, elem_id="train-before-box") as box:
        shown = html_block(forecast_card(None), elem_id="train-before")
        with gr.Row(elem_classes="sd-actions"):
            again = gr.Button("Files and memory", size="sm", elem_id="train-plan")
            measure = gr.Button("Measure on this device", size="sm", elem_id="train-measure")
    return Before(box, shown, again, measure)


def wire_before(engine: Engine, before: Before, values: Values, inputs: Sequence[Control], pulse: Pulse) -> None:
    """inputs: the controls that `values` takes."""
    asked, seen = gr.State(""), gr.State({})
    gr.on([before.box.expand, before.again.click], friendly(ask, engine, values), [asked, *inputs], asked, **quick())
    before.measure.click(friendly(ask_measure, engine, values), inputs, asked, **{**quick(), "trigger_mode": "once"})
    outputs = [before.shown, before.measure, seen]
    gr.on([pulse.news("train"), asked.change], friendly(look, engine), [asked, seen], outputs, **silent())


def ask(engine: Engine, values: Values, asked: str, *given: Any) -> str:  # noqa: ANN401  whatever the controls hold
    """Files and memory, of the settings as they are now."""
    return engine.forecasts.ask(values(*given), instead_of=asked)


def ask_measure(engine: Engine, values: Values, *given: Any) -> str:  # noqa: ANN401  whatever the controls hold
    """Time and price, by a few steps."""
    return engine.forecasts.measure(values(*given))


def look(engine: Engine, asked: str, seen: Mapping[str, str]) -> list[Any]:
    """What has changed since the last look."""
    forecast = engine.forecasts.look(asked)
    measuring = bool(forecast and forecast.doing == "measuring")
    updates: dict[str, Callable[[], Any]] = {
        "shown": lambda: forecast_card(forecast),
        "measure": lambda: gr.update(interactive=not measuring, value="Measuring …" if measuring else "Measure on this device"),
    }
    return only_news(seen, {"shown": (asked, forecast, beat()), "measure": (measuring, beat())}, updates)
