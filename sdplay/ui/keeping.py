"""What was typed is kept in the browser, as it is typed, without asking the server.

Gradio gathers all inputs and all targets of a listener anew whenever it runs, half a millisecond each in a page of this size, and goes
through all listeners when it opens a page. So a few controls at a time have a listener that takes nothing, and one more, for all of them,
runs once for a burst of changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MethodType
from typing import Any

import gradio as gr
from gradio.context import Context
from gradio.events import EventListener

from sdplay.ui.forms import Control
from sdplay.ui.tabs.events import silent

FORM_KEY, FORM_SECRET = "sdplay:form:v1", "sdplay-form"
"""Where a browser keeps it. Fixed, so that it survives a restart; nothing secret is in it."""
GAP_MS = 300
"""Least time between two times that it is kept; what comes between is kept at its end, or when the page is left."""
GROUP = 10
"""Controls that share a listener."""
_SCRIPT = Path(__file__).with_name("keep.js")


def keep_form(controls: Mapping[str, Control]) -> gr.BrowserState:
    """Keep the controls' values, by these names, from now on. Returns where; when the page opens, it holds what was kept before."""
    storage = gr.BrowserState({}, storage_key=FORM_KEY, secret=FORM_SECRET)
    script = _SCRIPT.read_text(encoding="utf-8").replace("GAP_MS", str(GAP_MS))
    keeper = gr.HTML("", elem_id="keeper", elem_classes="sd-pulse", js_on_load=script, apply_default_css=False)
    every: dict[str, Any] = {**silent(), "trigger_mode": "multiple"}
    changes = [control.change for control in controls.values()]
    groups = [changes[start : start + GROUP] for start in range(0, len(changes), GROUP)]
    listening = [gr.on(group, None, None, None, js="() => window.sdplayKeep?.()", **every) for group in groups]
    collect = f"(...values) => Object.fromEntries({list(controls)!r}.map((name, index) => [name, values[index]]))"
    event = MethodType(EventListener(event_name="keep").listener, keeper)  # as Gradio binds those it knows
    event(None, list(controls.values()), storage, js=collect, **every)
    _first([handler["id"] for handler in listening])
    return storage


def _first(handlers: list[int]) -> None:
    """A page hears an event's listeners one by one, each after the answer of the one before: it is kept before anyone is asked."""
    context = Context.root_block
    assert context is not None  # we are inside build()
    fns = context.default_config.fns
    context.default_config.fns = {handler: fns[handler] for handler in handlers} | fns
