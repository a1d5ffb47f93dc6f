"""The library of styles: pictures of each by the base in use; a click puts one around the first sample prompt, as a new row."""

from __future__ import annotations

from typing import Any

import gradio as gr

from sdplay.engine import Engine
from sdplay.errors import TemplateError
from sdplay.prompt_rows import PromptRow, parse_row, to_lines
from sdplay.ui.errors import friendly
from sdplay.ui.html import html_block, only_news
from sdplay.ui.pulse import Pulse
from sdplay.ui.tabs.events import quick, silent
from sdplay.ui.views.prompt_table import style_grid

PLAIN = "{token} {class}"
CLOSED = ""


def create_styles(engine: Engine, base: gr.Dropdown, sample: gr.Textbox, pulse: Pulse) -> None:
    """The accordion; its pictures are drawn when it is first opened."""
    with gr.Accordion("Styles", open=False, elem_id="prompts-styles") as opened:
        gr.Markdown("Drawn by the base you chose. Press one to add it as a sample prompt.", elem_classes="sd-why")
        query = gr.Textbox("", label="Search styles", placeholder="ink, night", elem_id="prompts-style-search", interactive=True)
        shown = html_block(elem_id="prompts-style-grid")
    seen, is_open = gr.State({}), gr.State(False)
    opened.expand(lambda: True, None, is_open, **silent())
    opened.collapse(lambda: False, None, is_open, **silent())
    gr.on(
        [pulse.news("prompts"), is_open.change, base.change, query.change],
        friendly(watch_styles, engine),
        [is_open, base, query, seen],
        [shown, seen],
        **silent(),
    )
    shown.select(friendly(add_style, engine), sample, sample, **quick())


def watch_styles(engine: Engine, is_open: bool, base_model: str, query: str, seen: dict[str, str]) -> list[Any]:
    """The grid as it is now, while it is open; what is missing is drawn."""
    if not is_open:
        return [gr.skip(), gr.skip()]
    if engine.has_base(base_model):
        engine.styles.draw_missing(base_model)
    drawn, busy = engine.styles.drawn(base_model), engine.styles.busy(base_model)
    grid = {"grid": lambda: style_grid(engine.styles.suited(base_model), drawn, base_model, busy=busy, query=query)}
    return only_news(seen, {"grid": (base_model, sorted(drawn), busy, query)}, grid)


def add_style(engine: Engine, sample: str, event: gr.EventData) -> str:
    """A row more: the style around the first sample prompt."""
    lines = [line.strip() for line in sample.splitlines() if line.strip()]
    try:
        first = parse_row(lines[0], ("sample", "compare")).prompt if lines else PLAIN
    except TemplateError:
        first = PLAIN
    style = engine.styles.styles()[event.id]
    row = parse_row(style.around(first), ("sample", "compare"))
    added = to_lines([PromptRow(row.text, row.uses, style.title, row.negative)])[1]
    return "\n".join([*lines, *added])
