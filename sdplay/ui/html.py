"""The page's own HTML blocks, and updates that are sent only when there is news."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import gradio as gr

_ACTIONS = """
let pressed = [];
element.addEventListener('click', event => {
  const chosen = event.target.closest('button[data-action]');
  if (!chosen) return;
  const {action, id} = chosen.dataset, now = Date.now();
  pressed = pressed.filter(press => press.action === action && now - press.at < 1000);
  trigger(action, {...chosen.dataset, before: pressed.map(press => press.id)});
  pressed.push({action, id, at: now});
});
element.addEventListener('change', event => {
  const typed = event.target.closest('textarea[data-action]');
  if (typed) trigger(typed.dataset.action, {...typed.dataset, text: typed.value});
});
"""


def html_block(value: str = "", *, elem_id: str, visible: bool = True, events: Sequence[str] = ()) -> gr.HTML:
    """HTML from a view. A click on `<button data-action="select" data-id="x">` becomes the event `select` with `id`,
    and with `before`: the ids pressed in the second before, whose answers may not be there yet.

    events: names of actions that Gradio does not know by itself; it looks for them, quoted, in the script.
    """
    script = f"const ownEvents = {list(events)!r};{_ACTIONS}"
    return gr.HTML(value, elem_id=elem_id, visible=visible, js_on_load=script, apply_default_css=False)


def beat(seconds: int = 4) -> int:
    """Part of a mark that changes now and then: when two answers cross on a slow machine, what was lost is sent again."""
    return int(time.monotonic() / seconds)


def only_news(seen: Mapping[str, str], marks: Mapping[str, object], updates: Mapping[str, Callable[[], Any]]) -> list[Any]:
    """Updates whose mark differs from the one seen last, the others skipped; the marks, for next time, come last."""
    now = {name: sha256(repr(mark).encode()).hexdigest()[:16] for name, mark in marks.items()}
    changed = [update() if seen.get(name) != now[name] else gr.skip() for name, update in updates.items()]
    return [*changed, now if now != dict(seen) else gr.skip()]
