"""Learn: six lessons of two minutes, each with a button that really does it; and the tour for who is here for the first time.

What was finished is remembered in the browser.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from sdplay.engine import Engine
from sdplay.lessons import Lesson, load_lessons, start_lesson
from sdplay.ui.errors import friendly
from sdplay.ui.html import html_block
from sdplay.ui.pulse import Pulse
from sdplay.ui.tabs.events import quick
from sdplay.ui.tabs.experiment import create_panel, newest
from sdplay.ui.views import learn as views

LEARNED_KEY, LEARNED_SECRET = "sdplay:learned:v1", "sdplay-learned"
"""Where a browser keeps which lessons are finished and whether the tour was taken. Nothing secret is in it."""


@dataclass(frozen=True)
class LearnTab:
    """What the page wires: the memory, the list to mark, the panel whose button opens a comparison."""

    learned: gr.BrowserState
    lessons: gr.HTML
    opened: gr.State
    panel: gr.HTML


def create_memory() -> gr.BrowserState:
    """Outside of all tabs: what lies in a tab that was not opened yet neither reads nor writes what the browser keeps."""
    return gr.BrowserState({}, storage_key=LEARNED_KEY, secret=LEARNED_SECRET)


def create_learn_tab(engine: Engine, pulse: Pulse, learned: gr.BrowserState) -> LearnTab:
    """Everything under "Learn"."""
    lessons = load_lessons()
    first = next(iter(lessons.values()))
    opened = gr.State(first.id)
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=280):
            shown = html_block(views.lesson_list(list(lessons.values()), (), first.id), elem_id="learn-list")
        with gr.Column(scale=7, min_width=300):
            head = html_block(views.lesson_head(first, engine.samples()[first.action.sample]), elem_id="learn-head")
            text = gr.Markdown(first.text, elem_id="learn-text")
            with gr.Row(elem_classes="sd-actions"):
                start = gr.Button(first.action.label, variant="primary", elem_id="learn-start")
            takes = gr.Markdown(first.action.takes, elem_classes="sd-why", elem_id="learn-takes")
            panel = create_panel(engine, pulse.news("learn"), opened, _look_of, elem_id="learn-panel")
    shown.select(friendly(open_lesson, engine), learned, [opened, shown, head, text, start, takes], **quick())
    start.click(friendly(start_opened, engine), opened, None, **{**quick(), "trigger_mode": "once"})
    return LearnTab(learned, shown, opened, panel)


def open_lesson(engine: Engine, learned: Mapping[str, Any] | None, event: gr.EventData) -> list[Any]:
    """Show a lesson."""
    lessons = load_lessons()
    lesson = lessons[event.id]
    return [
        lesson.id,
        _list(learned, lesson.id),
        views.lesson_head(lesson, engine.samples()[lesson.action.sample]),
        lesson.text,
        gr.update(value=lesson.action.label),
        lesson.action.takes,
    ]


def start_opened(engine: Engine, lesson_id: str) -> None:
    """Do what the lesson's button says."""
    lesson = load_lessons()[lesson_id]
    start_lesson(engine, lesson)
    gr.Info(lesson.action.takes, duration=6)


def mark_finished(learned: Mapping[str, Any] | None, lesson_id: str) -> tuple[dict[str, Any], str]:
    """A lesson is finished when its comparison was opened."""
    now = _with(learned, "lessons", lesson_id)
    return now, _list(now, lesson_id)


def mark_judged(engine: Engine, comparison_id: str, learned: Mapping[str, Any] | None, lesson_id: str) -> tuple[Any, Any]:
    """A lesson's blind test is won when its comparison was judged without names and the choices have a favourite."""
    for lesson in load_lessons().values():
        experiment = newest(engine, lesson.action.experiment)
        if comparison_id and experiment is not None and experiment.comparison == comparison_id:
            now = _with(_with(learned, "lessons", lesson.id), "judged", lesson.id)
            return now, _list(now, lesson_id)
    return gr.skip(), gr.skip()


def show_marks(learned: Mapping[str, Any] | None, lesson_id: str) -> str:
    """The list with the ticks that this browser has earned."""
    return _list(learned, lesson_id)


def marked(learned: Mapping[str, Any] | None, mark: str) -> list[str]:
    """Ids of the lessons with a mark: `lessons` for finished ones, `judged` for those whose blind test was won."""
    return [str(lesson_id) for lesson_id in (learned or {}).get(mark, [])]


def _with(learned: Mapping[str, Any] | None, mark: str, lesson_id: str) -> dict[str, Any]:
    return {**(learned or {}), mark: [known for known in load_lessons() if known in {*marked(learned, mark), lesson_id}]}


def _list(learned: Mapping[str, Any] | None, lesson_id: str) -> str:
    lessons = list(load_lessons().values())
    return views.lesson_list(lessons, marked(learned, "lessons"), lesson_id, judged=marked(learned, "judged"))


def _look_of(lesson_id: str) -> tuple[str, str]:
    lesson: Lesson = load_lessons()[lesson_id]
    return lesson.action.experiment, lesson.action.look
