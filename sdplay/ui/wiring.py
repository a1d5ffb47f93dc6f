"""What Gradio does with an event, set right for the whole page at once, after everything is wired."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
from gradio.block_function import BlockFunction

from sdplay.ui.tabs.events import silent

CHOOSING = {"select", "input", "change", "expand", "star", "mix", "remove", "restore", "more"}
"""Events that come from a visitor choosing something; the others start work, or come from the page itself."""

MOST_INPUTS = 30
"""Handlers that take more have them gathered beforehand. It is the training form, whose handlers take some seventy."""


def tune(blocks: gr.Blocks) -> None:
    """No choice is lost, no event repeats itself for ever, and no tab is copied to show nothing."""
    every_choice_counts(blocks)
    one_repeats(blocks)
    without_progress(blocks)


def every_choice_counts(blocks: gr.Blocks) -> None:
    """Take in each choice of a visitor, one after the other, so that the page shows the last.

    Gradio's own mode, "once", forgets what is pressed while the answer to the press before is on its way: the list then marks what was
    chosen, and the page shows something else. For what starts work, a button, that is right, and stays so.
    """
    for handler in blocks.fns.values():
        if handler.trigger_mode == "once" and handler.targets and {event for _, event in handler.targets} <= CHOOSING:
            _one_after_the_other(handler)


def one_repeats(blocks: gr.Blocks) -> None:
    """Let at most one handler of an event have the mode "always_last"; the others become "multiple", one after the other.

    When such a handler ends and has missed something, Gradio 6.31 sends out the whole event again, not that handler alone. Two of them
    that overlap once then wake each other for ever.
    """
    repeating: set[tuple[int | None, str]] = set()
    for handler in blocks.fns.values():
        if handler.trigger_mode != "always_last":
            continue
        if repeating.isdisjoint(handler.targets):
            repeating |= set(handler.targets)
        else:
            _one_after_the_other(handler)


def _one_after_the_other(handler: BlockFunction) -> None:
    """Answer in the order in which was asked; side by side, the answer to the press before may come last, and stay.

    The page asks in that order (`order.js`). The limit is for the queue, which answers a request before it has done it.
    """
    handler.trigger_mode = "multiple"
    handler.concurrency_limit, handler.concurrency_id = 1, f"in-order-{handler._id}"


def without_progress(blocks: gr.Blocks) -> None:
    """Let handlers that show no progress report it to the page's header alone, which shows none.

    Otherwise Gradio's page sends the state of every handler that ever ran to each of its outputs, at the start and at the end of every
    handler, and copies the output and all that lies in it first: for a tab that is the tab. This took most of the page's time.
    """
    header = next(block for block in blocks.blocks.values() if isinstance(block, gr.components.Component) and block.elem_id == "header")
    for handler in blocks.fns.values():
        if handler.show_progress == "hidden" and handler.outputs:
            handler.show_progress_on = [header]


def gather_first(blocks: gr.Blocks) -> None:
    """Let a handler that takes a whole form take one list, which a listener before it gathers on the page. Call it inside the page.

    Once a handler was answered, Gradio 6.31 counts its inputs among the places where progress shows, and goes through all of those at
    the start and end of every later event: after a training was started, that took the page 0.1 s of each second while it watched.
    """
    for handler in list(blocks.fns.values()):
        if handler.fn is None or len(handler.inputs) <= MOST_INPUTS:
            continue
        triggers = [getattr(blocks.blocks[target], event) for target, event in handler.targets if target is not None]
        gathered = gr.JSON(visible=False)
        gr.on(triggers, None, handler.inputs, gathered, js="(...values) => [values]", **{**silent(), "trigger_mode": "multiple"})
        handler.fn = _of_a_list(handler.fn, handler.inputs)
        handler.inputs = [gathered]
        _last(blocks, handler)


def _of_a_list(function: Callable[..., Any], controls: Sequence[Any]) -> Callable[[list[Any]], Any]:
    """Reads each value as Gradio reads it for its control."""
    assert all(control.data_model is None for control in controls), "a value that is more than plain JSON has to be an input"

    def handler(values: list[Any]) -> Any:  # noqa: ANN401  whatever the function answers
        return function(*(control.preprocess(value) for control, value in zip(controls, values, strict=True)))

    handler.__name__ = getattr(function, "__name__", "handler")
    return handler


def _last(blocks: gr.Blocks, handler: BlockFunction) -> None:
    """A page hears an event's listeners one by one, each after the answer of the one before."""
    fns = blocks.default_config.fns
    fns[handler._id] = fns.pop(handler._id)
