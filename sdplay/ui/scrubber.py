"""The samples of a run as one component, whose scrubber lives in the browser."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

_SCRIPT = Path(__file__).with_name("scrubber.js")


def sample_block(*, elem_id: str) -> gr.HTML:
    """Holds `views.live.sample_viewer`. Which step is shown is the browser's; a new value keeps it."""
    return gr.HTML("", elem_id=elem_id, js_on_load=_SCRIPT.read_text(encoding="utf-8"), apply_default_css=False)
