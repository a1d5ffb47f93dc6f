"""Pages over long runs and many runs answer at once, and buttons follow from the run's state."""

from __future__ import annotations

import time
from typing import Any

from sdplay.engine import Engine
from sdplay.events import Failed, Submitted
from sdplay.runs import RunLog
from sdplay.ui.tabs import live, runs
from tests.test_history import copies, finished_run

BUTTONS = ("sample", "save", "first", "stop", "resume", "compare", "clone", "go_on")


def able(updates: list[Any]) -> dict[str, bool]:
    return {name: update["interactive"] for name, update in zip(BUTTONS, updates[1:9], strict=True)}


def test_a_run_of_5000_steps_is_shown_within_a_second_and_then_only_what_is_new(engine: Engine) -> None:
    run = finished_run(engine.workspace.runs, "long", steps=5000)
    again = Engine(engine.workspace)  # has read nothing yet

    started = time.thread_time()
    updates = live.watch(again, run.id, 100, {})
    first = time.thread_time() - started  # its own computing alone: what else is running beside the tests does not count

    assert first < 1
    assert "step 5000 of 5000" in updates[0]
    started = time.thread_time()
    live.watch(again, run.id, 100, updates[-1])
    assert time.thread_time() - started < min(0.2, first / 3)
    again.close()


def test_a_page_over_a_thousand_runs_ticks_within_half_a_second_and_sends_only_news(engine: Engine) -> None:
    copies(finished_run(engine.workspace.runs, "first"), 999)
    updates = runs.watch_runs(engine, None, "", False, runs.PAGE, {})
    engine.history.look_again()

    started = time.perf_counter()
    again = runs.watch_runs(engine, None, "", False, runs.PAGE, updates[-1])

    assert time.perf_counter() - started < 0.5
    assert updates[1].count("<li") == runs.PAGE
    assert "Show more of 1000" in updates[1]
    assert all("value" not in update for update in again if isinstance(update, dict))


def test_buttons_follow_from_the_runs_state(engine: Engine) -> None:
    run = finished_run(engine.workspace.runs, "done")
    finished = able(live.watch(engine, run.id, 100, {}))

    RunLog(run).append(Submitted(steps=9))
    RunLog(run).append(Failed(message="No memory.", hint="Buy some."))
    updates = live.watch(engine, run.id, 100, {})

    assert {name for name, can in finished.items() if can} == {"compare", "clone", "go_on"}
    assert able(updates)["resume"]
    report = updates[10]
    assert report["visible"]
    assert "No memory. Buy some." in report["value"]


def test_no_run_means_no_button(engine: Engine) -> None:
    assert not any(able(live.watch(engine, None, 100, {})).values())


def test_more_steps_that_are_no_number_get_a_sentence(engine: Engine) -> None:
    run = finished_run(engine.workspace.runs, "done")

    assert "not a whole number" in live.onward_note(engine, run.id, None)
    assert "more steps are none" in live.onward_note(engine, run.id, 0)
    assert "comes down again" in live.onward_note(engine, run.id, 5)
