"""How handlers are wired, and buttons that ask before they delete."""

from __future__ import annotations

from typing import Any

import gradio as gr


def quick() -> dict[str, Any]:
    """For what a visitor does: as many at once as they like, no spinner, not part of the public API.

    It goes through the queue, because Gradio shows an error's text only for events of the queue.
    """
    return {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}


def in_turn() -> dict[str, Any]:
    """`quick`, for edits: all of them, one after the other. Side by side, the answer to the one before may come last, and stay."""
    return {**quick(), "concurrency_limit": 1, "trigger_mode": "multiple"}


def silent() -> dict[str, Any]:
    """For what the page does by itself and what never fails: past the queue."""
    return {"queue": False, "show_progress": "hidden", "api_visibility": "private"}


def live() -> dict[str, Any]:
    """`silent`, for typing: only the last of a burst counts."""
    return {**silent(), "trigger_mode": "always_last"}


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
