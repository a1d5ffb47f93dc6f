"""What Gradio does with an event, set right for the whole page at once, after everything is wired."""

from __future__ import annotations

import gradio as gr
from gradio.block_function import BlockFunction

from sdplay.ui.tabs.events import newest_counts

CHOOSING = {"select", "input", "change", "expand", "star", "mix", "remove", "restore", "more"}
"""Events that come from a visitor choosing something; the others start work, or come from the page itself."""


def tune(blocks: gr.Blocks) -> None:
    """No choice is lost, no event repeats itself for ever, and no tab is copied to show nothing."""
    every_choice_counts(blocks)
    one_repeats(blocks)
    without_progress(blocks)


def every_choice_counts(blocks: gr.Blocks) -> None:
    """Take in each choice of a visitor, and answer the newest one.

    Gradio's own mode, "once", forgets what is pressed while the answer to the press before is on its way: the list then marks what was
    chosen, and the page shows something else. For what starts work, a button, that is right, and stays so.
    """
    for handler in blocks.fns.values():
        if handler.trigger_mode == "once" and handler.targets and {event for _, event in handler.targets} <= CHOOSING:
            _newest_of_many(handler)


def one_repeats(blocks: gr.Blocks) -> None:
    """Let at most one handler of an event have the mode "always_last"; the others become "multiple", and only their newest answer counts.

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
            _newest_of_many(handler)


def _newest_of_many(handler: BlockFunction) -> None:
    handler.trigger_mode = "multiple"
    handler.fn = newest_counts(handler.fn, len(handler.outputs)) if handler.fn else None


def without_progress(blocks: gr.Blocks) -> None:
    """Let handlers that show no progress report it to the page's header alone, which shows none.

    Otherwise Gradio's page sends the state of every handler that ever ran to each of its outputs, at the start and at the end of every
    handler, and copies the output and all that lies in it first: for a tab that is the tab. This took most of the page's time.
    """
    header = next(block for block in blocks.blocks.values() if isinstance(block, gr.components.Component) and block.elem_id == "header")
    for handler in blocks.fns.values():
        if handler.show_progress == "hidden" and handler.outputs:
            handler.show_progress_on = [header]
