"""Lessons and what a browser remembers of them."""

from __future__ import annotations

from pathlib import Path

from sdplay.engine import Engine
from sdplay.experiments import plan_named
from sdplay.ui.tabs.learn import mark_finished, mark_judged, marked
from sdplay.ui.views.learn import experiment_card
from tests.test_experiments import drawn, material


def test_a_lesson_once_finished_stays_so_and_other_facts_are_kept() -> None:
    once, _ = mark_finished({"tour": True}, "captions")
    twice, shown = mark_finished(once, "captions")

    assert twice == once == {"tour": True, "lessons": ["captions"]}
    assert "1 of 6 finished" in shown


def test_a_blind_test_that_was_won_is_marked_at_its_own_lesson(engine: Engine, pictures: Path, tiny_base: Path) -> None:
    plan = plan_named("captions").model_copy(update={"drawing": {"steps": 1}})
    ended = engine.experiments.wait(engine.experiments.start(plan, material(engine, pictures, tiny_base)).id)
    drawn(engine, ended.comparison)

    now, shown = mark_judged(engine, ended.comparison, {"lessons": ["what-a-lora-is"]}, "reading-a-comparison")
    other, _ = mark_judged(engine, "another-comparison", {}, "captions")

    assert marked(now, "judged") == ["captions"]
    assert marked(now, "lessons") == ["what-a-lora-is", "captions"]
    assert shown.count("Blind test won") == 1
    assert "value" not in other, "an update that changes nothing"
    card = experiment_card(ended, engine.experiments.states(ended), engine.comparison(ended.comparison))
    assert f'href="?compare={ended.comparison}&amp;view=blind"' in card
