"""Runs: everything that was trained, with its settings, pictures and files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from sdplay.engine import Engine
from sdplay.ui.errors import friendly
from sdplay.ui.html import html_block, only_news
from sdplay.ui.tabs.events import confirmed_delete, quick, silent
from sdplay.ui.tabs.train import find_run, resume_run, row_of
from sdplay.ui.views import run as views

ENDED_EARLY = ("stopped", "failed", "interrupted")


@dataclass(frozen=True)
class RunsTab:
    """What the page wires: a run that was chosen, and what to do with it."""

    picker: gr.Dropdown
    compare: gr.Button


def create_runs_tab(engine: Engine, timer: gr.Timer) -> RunsTab:
    """Everything under "Runs"."""
    seen = gr.State({})
    table = html_block(elem_id="runs-table")
    picker = gr.Dropdown(label="Run", choices=[], value=None, elem_id="runs-picker", allow_custom_value=True, interactive=True)
    with gr.Row(elem_classes="sd-actions"):
        compare = gr.Button("Compare with the base", variant="primary", elem_id="runs-compare", interactive=False)
        resume = gr.Button("Resume", elem_id="runs-resume", interactive=False)
        delete = confirmed_delete("Delete this run", "runs")
    status = html_block(elem_id="runs-status")
    with gr.Row(equal_height=False):
        with gr.Column(scale=7, min_width=300):
            pictures = html_block(elem_id="runs-samples")
        with gr.Column(scale=4, min_width=280):
            details = html_block(elem_id="runs-details")

    outputs = [table, picker, compare, resume, status, pictures, details, seen]
    gr.on([timer.tick, picker.change], friendly(watch_runs, engine), [picker, seen], outputs, **silent())
    table.select(chosen_in_table, None, picker, **silent())
    resume.click(friendly(resume_run, engine), picker, None, **quick())
    delete.click(friendly(delete_run, engine), picker, picker, **quick())
    return RunsTab(picker, compare)


def watch_runs(engine: Engine, run_id: str | None, seen: Mapping[str, str]) -> list[Any]:
    """What has changed about the list and the chosen run since the last look."""
    rows = [row_of(engine, run) for run in engine.runs()]
    chosen = find_run(engine, run_id) or (rows[0] if rows else None)
    table = views.run_table(rows)
    ids = [row.id for row in rows]
    state = chosen.state if chosen else None
    status = views.status_card(chosen) if chosen else ""
    can_resume = bool(state and state.status in ENDED_EARLY)
    ready = bool(state and state.checkpoints)
    pictures = views.sample_matrix(chosen.id, chosen.state) if chosen else ""
    details = views.run_details(chosen) if chosen else ""
    choices = [(views.short_name(value), value) for value in ids]
    marks = {"table": table, "picker": (ids, chosen and chosen.id), "compare": ready, "resume": can_resume}
    updates = {
        "table": lambda: table,
        "picker": lambda: gr.update(choices=choices, value=chosen.id if chosen else None),
        "compare": lambda: gr.update(interactive=ready),
        "resume": lambda: gr.update(interactive=can_resume),
        "status": lambda: status,
        "pictures": lambda: pictures,
        "details": lambda: details,
    }
    return only_news(seen, {**marks, "status": status, "pictures": pictures, "details": details}, updates)


def chosen_in_table(event: gr.EventData) -> str:
    """A click on a name in the table."""
    return str(event.id)


def delete_run(engine: Engine, run_id: str | None) -> Any:  # noqa: ANN401  an update of Gradio's
    """Delete the chosen run; the newest is chosen next."""
    if run_id:
        engine.delete_run(run_id)
    return gr.update(value=None)
