"""The tour: five cards at the top of the page for who is here for the first time. Dismissed once, it stays away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from sdplay.engine import Engine
from sdplay.lessons import load_lessons, start_lesson
from sdplay.ui.errors import friendly
from sdplay.ui.html import html_block
from sdplay.ui.tabs.events import quick
from sdplay.ui.tabs.learn import LearnTab
from sdplay.ui.views.text import esc

FIRST_LESSON = "what-a-lora-is"
STEPS = (
    ("dataset", "Dataset", "Bring 5 to 20 pictures of one subject or style, or press a sample. Each line of the report says what to mend."),
    ("prompts", "Prompts", "Give it a word of its own. The preview shows what training will read for each picture, token by token."),
    ("train", "Train", "Choose a preset and start. Pictures appear from step 0 on. You may close the page: it goes on."),
    ("compare", "Compare", "The base and what it learned, side by side from the same noise. A link brings the grid back."),
    ("learn", "Learn", "Six lessons of two minutes. Each ends in a button that does the thing on the embedded model."),
)  # fmt: skip


def create_tour() -> gr.HTML:
    """Where the tour is shown; empty until the page knows whether it was taken."""
    return html_block(elem_id="tour")


def wire_tour(engine: Engine, shown: gr.HTML, learn: LearnTab, tabs: gr.Tabs) -> None:
    """Its buttons: start the first lesson, go on, dismiss."""
    outputs = [learn.learned, shown, tabs]
    shown.select(friendly(step_tour), learn.learned, outputs, **quick())
    shown.apply(friendly(start_first, engine), learn.learned, outputs, **quick())


def show_tour(learned: Mapping[str, Any] | None) -> str:
    """The first card, unless it was dismissed in this browser."""
    return "" if (learned or {}).get("tour") else _welcome()


def step_tour(learned: Mapping[str, Any] | None, event: gr.EventData) -> list[Any]:
    """Card number `id`; behind the last one the tour is over."""
    number = int(event.id) if str(event.id).isdigit() else len(STEPS)
    if number >= len(STEPS):
        return [{**(learned or {}), "tour": True}, "", gr.skip()]
    return [gr.skip(), _card(number), gr.Tabs(selected=STEPS[number][0])]


def start_first(engine: Engine, learned: Mapping[str, Any] | None) -> list[Any]:
    """Train the first lesson's LoRA for the visitor and show them where it is followed."""
    lesson = load_lessons()[FIRST_LESSON]
    start_lesson(engine, lesson)
    gr.Info(lesson.action.takes, duration=6)
    return [{**(learned or {}), "tour": True}, "", gr.Tabs(selected="learn")]


def _welcome() -> str:
    return _strip(
        "<strong>New here?</strong> See a model learn a fox in about a minute, and compare it with what it was before.",
        _button("Train one for me", "apply", "first", primary=True) + _button("Show me around", "select", "0"),
    )


def _card(number: int) -> str:
    _, title, text = STEPS[number]
    onward = "Done" if number == len(STEPS) - 1 else "Next"
    told = f"<small>{number + 1} of {len(STEPS)}</small> <strong>{esc(title)}.</strong> {esc(text)}"
    return _strip(told, _button(onward, "select", str(number + 1), primary=True))


def _strip(text: str, buttons: str) -> str:
    close = '<button type="button" class="sd-close" data-action="select" data-id="end" aria-label="Close the tour">×</button>'
    return f'<aside class="sd-tour" aria-label="Tour"><p>{text}</p><span class="sd-tour-buttons">{buttons}{close}</span></aside>'


def _button(label: str, action: str, value: str, *, primary: bool = False) -> str:
    kind = "sd-button" if primary else "sd-quiet"
    return f'<button type="button" class="{kind}" data-action="{action}" data-id="{esc(value)}">{esc(label)}</button>'
