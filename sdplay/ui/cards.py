"""The cards of a data set as one component: 150 of them are one value, drawn by the browser, and only what changed is drawn anew."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

_HERE = Path(__file__).parent
_REPORT_ACTIONS = """
element.addEventListener('click', event => {
  const pressed = event.target.closest('button[data-keys]');
  if (!pressed) return;
  const keys = pressed.dataset.keys.split(' ');
  if (pressed.dataset.action === 'show') document.dispatchEvent(new CustomEvent('sd-show', {detail: keys}));
  else trigger('fix', {dataset: pressed.dataset.dataset, fix: pressed.dataset.fix, keys});
});
"""


def card_grid(*, elem_id: str) -> gr.HTML:
    """Cards for the value of `views.dataset.card_values`.

    Events: edit (dataset, key, text, serial), leave (dataset, key, out, serial), crop (dataset, key, box or None), mask (dataset, key,
    png as a data address, empty to take it away). The answer to a serial has it as `done`.
    """
    template = (_HERE / "cards.html").read_text(encoding="utf-8")
    script = (_HERE / "cards.js").read_text(encoding="utf-8")
    return gr.HTML(None, html_template=template, js_on_load=script, elem_id=elem_id, apply_default_css=False)


def report_block(value: str, *, elem_id: str) -> gr.HTML:
    """The health report. Its [show] acts in the browser; its fixes are the event fix (dataset, fix, keys)."""
    return gr.HTML(value, js_on_load=_REPORT_ACTIONS, elem_id=elem_id, apply_default_css=False)
