"""Files, memory and time of a run that was not started are found out beside the page."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sdplay.engine import Engine
from sdplay.errors import RunError
from sdplay.estimate import Estimate
from sdplay.forecasts import Forecast
from sdplay.ui.views.estimate import forecast_card, outcome_table
from tests.test_estimate import values_for


def wait_for(engine: Engine, key: str, ready: Callable[[Forecast], bool], seconds: float = 120) -> Forecast:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = engine.forecasts.look(key)
        if found and ready(found):
            return found
        time.sleep(0.05)
    pytest.fail(f"no answer: {engine.forecasts.look(key)}")


def test_a_run_is_planned_and_measured_without_waiting_and_nothing_is_left_behind(engine: Engine, pictures: Path, tiny_base: Path) -> None:
    values = values_for(engine, pictures, tiny_base)

    started = time.monotonic()
    key = engine.forecasts.ask(values)
    asked_seconds = time.monotonic() - started
    planned = wait_for(engine, key, lambda found: not found.doing)
    assert engine.forecasts.measure(values) == key
    with pytest.raises(RunError, match="being measured"):
        engine.forecasts.measure(values)
    measured = wait_for(engine, key, lambda found: not found.doing)

    assert asked_seconds < 1
    assert planned.plan is not None
    assert planned.estimate is None
    assert measured.plan == planned.plan
    assert measured.estimate is not None
    assert engine.runs() == []
    card = forecast_card(measured)
    assert "Writes" in card
    assert "It fits" in card
    assert "Time" in card


def test_what_cannot_be_found_out_is_a_sentence(engine: Engine, pictures: Path) -> None:
    values = values_for(engine, pictures, Path("owner/not-here-at-all"))

    found = wait_for(engine, engine.forecasts.ask(values), lambda found: bool(found.message))

    assert "is not on this computer yet" in forecast_card(found)
    assert engine.forecasts.look("never asked") is None


def test_an_estimate_stands_beside_the_outcome() -> None:
    before, after = Estimate(60, 10**9, 5 * 10**6, "t4-small", 0.01), Estimate(66, 11 * 10**8, 6 * 10**6)

    table = outcome_table(before, after)

    assert outcome_table(before, None) == ""
    assert "<td>1:00 min</td><td>1:06 min</td>" in table
    assert "<td>5.0 MB</td><td>6.0 MB</td>" in table
    assert "Price" not in table  # the outcome does not say what it cost
    assert "Estimate" not in outcome_table(None, after)


def test_a_run_that_does_not_fit_says_so() -> None:
    plan = pytest.importorskip("sdplay.plan").MemoryPlan(
        "base", 512, 4, "bfloat16", {"unet": 2 * 10**9}, trained=10**7, gradients=10**7, optimizer=2 * 10**7, activations=10**9,
        step=2 * 10**9, reserve=0,
    )  # fmt: skip

    card = forecast_card(Forecast(about="", plan=plan, free_bytes=10**9, device="a card"))

    assert "sd-error" in card
    assert "It does not fit: 1.0 GB are free." in card
