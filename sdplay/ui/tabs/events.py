"""How handlers are wired, and buttons that ask before they delete."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import gradio as gr
from gradio.context import LocalContext


def quick() -> dict[str, Any]:
    """For what a visitor does: as many at once as they like, no spinner, not part of the public API.

    It goes through the queue, because Gradio shows an error's text only for events of the queue.
    """
    return {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}


def in_turn() -> dict[str, Any]:
    """`quick`, for edits that each hold the whole: all of them, one after the other. Side by side, an older answer may come last."""
    return {**quick(), "concurrency_limit": 1, "trigger_mode": "multiple"}


def silent() -> dict[str, Any]:
    """For what the page does by itself and what never fails: past the queue."""
    return {"queue": False, "show_progress": "hidden", "api_visibility": "private"}


def live() -> dict[str, Any]:
    """`silent`, for typing: only the last of a burst counts."""
    return {**silent(), "trigger_mode": "always_last"}


def newest_counts(handler: Callable[..., Any], num_outputs: int) -> Callable[..., Any]:
    """A handler whose answer is dropped when the same visitor has asked again meanwhile."""
    turns, newest = itertools.count(), dict[str | None, int]()

    @functools.wraps(handler)
    def answer(*given: Any, **named: Any) -> Any:  # noqa: ANN401  whatever the handler takes and gives
        request = LocalContext.request.get(None)
        visitor = request.session_hash if request else None
        turn = newest[visitor] = next(turns)
        try:
            told = handler(*given, **named)
        finally:
            is_newest = newest.get(visitor) == turn
            if is_newest:
                del newest[visitor]
        return told if is_newest else [gr.skip()] * num_outputs if num_outputs != 1 else gr.skip()

    return answer


def confirmed_delete(label: str, prefix: str) -> gr.Button:
    """A delete button that asks first. Returns the button that means it."""
    first = gr.Button(label, variant="secondary", elem_id=f"{prefix}-delete")
    sure = gr.Button("Really delete", variant="stop", visible=False, elem_id=f"{prefix}-delete-sure")
    keep = gr.Button("Keep", visible=False, elem_id=f"{prefix}-delete-keep")
    shown = [first, sure, keep]
    first.click(lambda: _visible(False, True, True), None, shown, **silent())
    gr.on([sure.click, keep.click], lambda: _visible(True, False, False), None, shown, **silent())
    return sure


def _visible(*flags: bool) -> list[Any]:
    return [gr.update(visible=flag) for flag in flags]
