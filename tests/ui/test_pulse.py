"""What a page asks for, and when: nothing at rest, and no handler that wakes another for ever."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import gradio as gr
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from sdplay.engine import Engine
from sdplay.events import Submitted
from sdplay.runs import RunLog
from sdplay.ui import app, pulse, wiring
from tests.test_history import finished_run

CHOICES = [("learn-list", "select"), ("train-preset", "input"), ("prompts-set", "input"), ("runs-table", "star"), ("gallery", "select")]
COMMANDS = [("train-start", "click"), ("compare-draw", "click"), ("tour", "apply")]


def test_the_fingerprint_changes_with_a_run_a_file_and_a_forecast_and_with_nothing_else(engine: Engine) -> None:
    told = [pulse.fingerprint(engine)]
    run = finished_run(engine.workspace.runs, "first")
    told.append(pulse.fingerprint(engine))
    RunLog(run).append(Submitted(steps=3))
    told.append(pulse.fingerprint(engine))
    engine.workspace.adapters.mkdir(parents=True, exist_ok=True)
    (engine.workspace.adapters / "brought.safetensors").write_bytes(b"")
    told.append(pulse.fingerprint(engine))
    engine.forecasts.changes += 1
    told.append(pulse.fingerprint(engine))

    assert len(set(told)) == len(told)
    assert pulse.fingerprint(engine) == told[-1]


@pytest.mark.parametrize(("allowed", "status"), [(True, 200), (False, 401)])
def test_the_answer_is_for_visitors_and_short(engine: Engine, allowed: bool, status: int) -> None:
    server = FastAPI()
    pulse.add_pulse_route(server, engine, lambda request: allowed)

    answer = TestClient(server).get(pulse.ROUTE)

    assert answer.status_code == status
    assert not allowed or re.fullmatch("[0-9a-f]{16}", answer.text)


def test_at_most_one_handler_of_an_event_repeats_itself(engine: Engine) -> None:
    """Two of them that overlap would send the event out again for ever: Gradio repeats events, not handlers."""
    page = app.build(engine)

    repeating = Counter(target for handler in page.fns.values() if handler.trigger_mode == "always_last" for target in handler.targets)

    assert repeating
    assert max(repeating.values()) == 1


def test_no_choice_is_forgotten_while_the_one_before_is_answered(engine: Engine) -> None:
    """Gradio's mode "once" drops what is pressed meanwhile: a lesson marked as open whose text never comes."""
    page = app.build(engine)
    ids = {block._id: block.elem_id for block in page.blocks.values()}

    modes = {(ids.get(target), event): handler.trigger_mode for handler in page.fns.values() for target, event in handler.targets}

    assert {modes[one] for one in CHOICES} <= {"multiple", "always_last"}
    assert {modes[one] for one in COMMANDS} == {"once"}


def test_what_counts_each_time_is_answered_in_the_order_in_which_it_was_pressed(engine: Engine) -> None:
    """Side by side, the answer to the press before may come last, and stay: 2 times of 8 on two cores with three more to do."""
    page = app.build(engine)

    queued = [handler for handler in page.fns.values() if handler.trigger_mode == "multiple" and handler.fn and handler.queue]

    assert len(queued) > len(CHOICES)
    assert {handler.concurrency_limit for handler in queued} == {1}


def test_handlers_that_show_no_progress_report_it_to_no_part_of_a_tab(engine: Engine) -> None:
    """Gradio's page copies each place where progress could show, and all that lies in it, at every event."""
    page = app.build(engine)

    hidden = [handler for handler in page.fns.values() if handler.show_progress == "hidden" and handler.outputs]
    places = {place.elem_id for handler in hidden for place in handler.show_progress_on or handler.outputs}

    assert hidden
    assert places == {"header"}


def test_progress_that_is_shown_is_shown_in_one_place(engine: Engine) -> None:
    """A place that ever showed some is gone through at every event from then on: seventy of them took more than all else."""
    page = app.build(engine)

    shown = [handler for handler in page.fns.values() if handler.show_progress != "hidden" and handler.outputs]

    assert shown
    assert {len(handler.show_progress_on or handler.outputs) for handler in shown} == {1}


def test_the_training_forms_handlers_take_one_list_that_was_gathered_before(engine: Engine) -> None:
    page = app.build(engine)
    start_id = next(block._id for block in page.blocks.values() if block.elem_id == "train-start")

    gathering, start = (handler for handler in page.fns.values() if (start_id, "click") in handler.targets)

    assert gathering.fn is None
    assert start.inputs == gathering.outputs
    assert max(len(handler.inputs) for handler in page.fns.values() if handler.fn) <= wiring.MOST_INPUTS < len(gathering.inputs)


def test_a_gathered_form_is_read_as_gradio_reads_its_controls() -> None:
    heard: list[tuple[object, ...]] = []
    with gr.Blocks() as page:
        controls = [gr.Number(precision=0) for _ in range(wiring.MOST_INPUTS)] + [gr.Radio([("Quick try", "quick")])]
        gr.Button("Start").click(lambda *given: heard.append(given), controls, None)
        wiring.gather_first(page)
    handler = list(page.fns.values())[-1]
    assert handler.fn is not None

    handler.fn([3.0] * wiring.MOST_INPUTS + ["quick"])

    assert heard == [(3,) * wiring.MOST_INPUTS + ("quick",)]
    with pytest.raises(gr.Error, match="not in the list of choices"):
        handler.fn([3.0] * wiring.MOST_INPUTS + ["slow"])


def test_every_part_of_the_page_has_a_tab_and_an_event_in_the_script(engine: Engine) -> None:
    page = app.build(engine)
    ids = {block.elem_id for block in page.blocks.values()}
    events = {name for handler in page.fns.values() for _, name in handler.targets}

    assert {tab for tab in pulse.TABS.values() if tab} <= ids
    assert set(pulse.TABS) <= events


def test_nothing_on_the_page_asks_by_a_timer_while_it_is_at_rest() -> None:
    sources = {path.name: path.read_text() for path in Path(app.__file__).parent.rglob("*.py")}

    assert [name for name, text in sources.items() if "gr.Timer(" in text.replace("gr.Timer(1, active=False)", "")] == []
