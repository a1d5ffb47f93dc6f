"""Runs: everything that was trained, with notes and stars, settings, pictures and files; nothing is deleted at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from sdplay.choice import choose
from sdplay.engine import Engine
from sdplay.errors import ConfigError
from sdplay.estimate import ESTIMATE, OUTCOME, read_estimate
from sdplay.history import MOST_NOTE
from sdplay.ui.access import Access
from sdplay.ui.errors import friendly
from sdplay.ui.html import beat, html_block, only_news
from sdplay.ui.pulse import Pulse
from sdplay.ui.scrubber import sample_block
from sdplay.ui.tabs.events import quick, silent
from sdplay.ui.tabs.live import ENDED_EARLY, chosen_run, find_run, resume_run
from sdplay.ui.views import history as views
from sdplay.ui.views.estimate import outcome_table
from sdplay.ui.views.live import advice, sample_viewer, status_card
from sdplay.ui.views.run import run_details, short_name
from sdplay.ui.views.text import megabytes, message

PAGE = 40
"""Runs that are listed at once."""


@dataclass(frozen=True)
class RunsTab:
    """What the page wires: a run that was chosen, and what to do with it."""

    picker: gr.Dropdown
    compare: gr.Button
    clone: gr.Button
    open: gr.Button


def create_runs_tab(engine: Engine, access: Access, pulse: Pulse) -> RunsTab:
    """Everything under "History"."""
    seen, limit = gr.State({}), gr.State(PAGE)
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=300):
            with gr.Row(elem_classes="sd-beside"):
                query = gr.Textbox(
                    label="Search runs", placeholder="name, note, data set, method", elem_id="runs-search", interactive=True, scale=3
                )
                starred = gr.Checkbox(False, label="Starred only", elem_id="runs-starred", min_width=120)
            disk = html_block(elem_id="runs-disk")
            table = html_block(elem_id="runs-table", events=("star", "more"))
            undo = gr.Button("Undo delete", visible=False, elem_id="runs-undo", size="sm")
            with gr.Accordion("Trash", open=False, elem_id="runs-trash-box"):
                trash = html_block(elem_id="runs-trash", events=("restore",))
                purge = gr.Button("Empty the trash", variant="stop", size="sm", elem_id="runs-purge")
        with gr.Column(scale=7, min_width=300):
            picker = gr.Dropdown(label="Run", choices=[], value=None, elem_id="runs-picker", allow_custom_value=True, interactive=True)
            tab = _create_chosen(engine, access, picker, pulse)

    outputs = [disk, table, trash, picker, seen]
    watched = [picker, query, starred, limit, seen]
    gr.on(
        [pulse.news("history"), picker.change, query.change, starred.change, limit.change],
        friendly(watch_runs, engine),
        watched,
        outputs,
        **silent(),
    )
    table.select(named, None, picker, **silent())
    table.star(friendly(toggle_star, engine), None, None, **quick())  # type: ignore[attr-defined]
    table.more(lambda count: count + PAGE, limit, limit, **silent())  # type: ignore[attr-defined]
    trash.restore(friendly(restore, engine), None, picker, **quick())  # type: ignore[attr-defined]
    purge.click(friendly(purge_trash, engine), None, None, **quick())
    deleted = gr.State("")
    tab.delete.click(friendly(delete_run, engine), picker, [picker, deleted, undo], **quick())
    undo.click(friendly(undo_delete, engine), deleted, [picker, undo], **quick())
    return RunsTab(picker, tab.compare, tab.clone, tab.open)


@dataclass(frozen=True)
class _Chosen:
    compare: gr.Button
    clone: gr.Button
    open: gr.Button
    delete: gr.Button


def _create_chosen(engine: Engine, access: Access, picker: gr.Dropdown, pulse: Pulse) -> _Chosen:
    """The chosen run: what can be done with it, notes, samples, files, card, Hub."""
    seen = gr.State({})
    with gr.Row(elem_classes="sd-actions sd-run-actions"):
        compare = gr.Button("Compare with the base", variant="primary", size="sm", elem_id="runs-compare", interactive=False)
        shown = gr.Button("Watch in Train", size="sm", elem_id="runs-open", interactive=False)
        resume = gr.Button("Resume", size="sm", elem_id="runs-resume", interactive=False)
        clone = gr.Button("Clone settings", size="sm", elem_id="runs-clone", interactive=False)
        delete = gr.Button("Delete", variant="stop", size="sm", elem_id="runs-delete", interactive=False)
    status = html_block(elem_id="runs-status")
    note = gr.Textbox(
        "", label="Note", placeholder="What is special about it?", lines=1, max_lines=6, max_length=MOST_NOTE, elem_id="runs-note",
        interactive=True,
    )  # fmt: skip
    best = html_block(elem_id="runs-advice")
    pictures = sample_block(elem_id="runs-samples")
    details = html_block(elem_id="runs-details")
    with gr.Accordion("What differs from another run", open=False, elem_id="runs-diff-box"):
        other = gr.Dropdown(label="The other run", choices=[], value=None, elem_id="runs-other", allow_custom_value=True, interactive=True)
        diff = html_block(elem_id="runs-diff")
    _create_publishing(engine, access, picker)
    outputs = [compare, shown, resume, clone, delete, status, best, pictures, details, other, note, seen]
    gr.on([pulse.news("history"), picker.change], friendly(watch_chosen, engine), [picker, seen], outputs, **silent())
    gr.on([picker.change, other.change], friendly(show_differences, engine), [picker, other], diff, **silent())
    gr.on([note.blur, note.submit], friendly(keep_note, engine), [picker, note], None, **quick())
    resume.click(friendly(resume_run, engine), picker, None, **quick())
    return _Chosen(compare, clone, shown, delete)


def _create_publishing(engine: Engine, access: Access, picker: gr.Dropdown) -> None:
    with gr.Accordion("Model card and Hub", open=False, elem_id="runs-publish-box") as box:
        card = gr.Code("", language="markdown", label="README.md", interactive=False, elem_id="runs-card", max_lines=16)
        with gr.Row():
            repository = gr.Textbox(
                "", label="Repository on the Hub", placeholder="owner/name", elem_id="runs-repository", interactive=True
            )  # fmt: skip
            secret = "Sent to the Hub only and not kept." + (" Empty: what `hf auth login` left." if access.local else "")
            token = gr.Textbox("", label="Token that may write", type="password", info=secret, elem_id="runs-token", interactive=True)
        with gr.Row():
            private = gr.Checkbox(True, label="Private", elem_id="runs-private")
            note = "They become part of the repository."
            pictures = gr.Checkbox(False, label="Show the training pictures", info=note, elem_id="runs-with-pictures")
        push = gr.Button("Push to the Hub", elem_id="runs-push", size="sm")
        pushed = html_block(elem_id="runs-pushed")
    gr.on([box.expand, picker.change], friendly(show_card, engine), picker, card, **silent())
    push.click(
        friendly(push_run, engine, access), [picker, repository, token, private, pictures], pushed,
        **{**quick(), "concurrency_limit": 2, "concurrency_id": "hub"},
    )  # fmt: skip


def watch_runs(engine: Engine, run_id: str | None, query: str, starred: bool, limit: int, seen: Mapping[str, str]) -> list[Any]:
    """What has changed about the list since the last look."""
    every = engine.history.rows()
    rows = engine.history.search(query or "", starred=starred)
    shown, trash = rows[:limit], engine.history.trash()
    ids = [row.id for row in every]
    chosen = run_id if run_id in ids else next(iter(ids), None)
    listed = [(row.id, row.status, row.step, row.star, row.note, row.picture, row.num_bytes) for row in shown]
    choices = [(short_name(value), value) for value in ids]
    updates = {
        "disk": lambda: views.disk_line(every, trash),
        "table": lambda: views.run_list(shown, len(rows) or len(every), chosen or ""),
        "trash": lambda: views.trash_list(trash),
        # A choice made meanwhile stays.
        "picker": lambda: gr.update(choices=choices) if run_id == chosen else gr.update(choices=choices, value=chosen),
    }
    marks = {"disk": (sum(row.num_bytes for row in every), len(every), trash), "table": (listed, len(rows), chosen), "trash": trash}
    return only_news(seen, {**marks, "picker": (ids, chosen)}, updates)


def watch_chosen(engine: Engine, run_id: str | None, seen: Mapping[str, str]) -> list[Any]:
    """What has changed about the chosen run since the last look."""
    row = find_run(engine, run_id)
    summary = next((entry for entry in engine.history.rows() if entry.id == run_id), None)
    choice = choose(row.state) if row else None
    chosen = choice.step if choice else None
    status = status_card(row) if row else ""
    ready, early = bool(row and row.state.checkpoints), bool(row and row.state.status in ENDED_EARLY)
    took = _took(engine, row.id) if row and row.state.ended else ""
    others = [entry.id for entry in engine.history.rows() if entry.id != run_id]
    able = {"compare": ready, "open": bool(row), "resume": early, "clone": bool(row), "delete": bool(row and row.state.ended)}
    marks: dict[str, object] = {
        **{name: (can, beat()) for name, can in able.items()},
        "status": (status, beat()),
        "best": (run_id, choice),
        "pictures": (run_id, [entry.step for entry in row.state.samples], chosen, row.state.ended) if row else None,
        "details": (run_id, row.state.artifacts, took) if row else None,
        "other": (run_id, others),
        "note": run_id,
    }
    updates: dict[str, Any] = {
        **{name: _able(can) for name, can in able.items()},
        "status": lambda: status,
        "best": lambda: advice(row.id, choice, len(row.state.scores)) if row else "",
        "pictures": lambda: sample_viewer(row.id, row.state, chosen) if row else "",
        "details": lambda: run_details(row, took) if row else "",
        "other": lambda: gr.update(choices=[(short_name(value), value) for value in others], value=None),
        "note": lambda: gr.update(value=summary.note if summary else ""),
    }
    return only_news(seen, marks, updates)


def _took(engine: Engine, run_id: str) -> str:
    """What a run took, beside its estimate."""
    folder = engine.run(run_id).folder
    return outcome_table(read_estimate(folder / ESTIMATE), read_estimate(folder / OUTCOME))


def named(event: gr.EventData) -> str:
    """A click on a name in the list."""
    return str(event.id)


def toggle_star(engine: Engine, event: gr.EventData) -> None:
    """Star a run, or take its star away."""
    run = engine.run(str(event.id))
    starred = any(row.id == run.id and row.star for row in engine.history.rows())
    engine.history.annotate(run, star=not starred)


def keep_note(engine: Engine, run_id: str | None, note: str) -> None:
    """Keep what was typed about the chosen run."""
    if run_id:
        engine.history.annotate(engine.run(run_id), note=note.strip())


def show_differences(engine: Engine, run_id: str | None, other: str | None) -> str:
    """The settings in which two runs differ."""
    if not run_id or not other:
        return ""
    return views.difference_table(engine.history.differences(run_id, other), short_name(run_id), short_name(other))


def show_card(engine: Engine, run_id: str | None) -> str:
    """The chosen run's README.md."""
    return engine.exports.card(run_id) if run_id and find_run(engine, run_id) else ""


def push_run(engine: Engine, access: Access, run_id: str | None, *given: Any) -> str:  # noqa: ANN401  what the controls hold
    """Upload the chosen run with its card and samples. given: repository, token, private, with training pictures."""
    repository, token, private, pictures = given
    if not access.local and not token.strip():
        raise ConfigError("There is no token.", "Give a token of yours that may write; this server's own is not used.")
    address = engine.exports.push(
        chosen_run(run_id), repository.strip(), token=token.strip(), private=private, with_training_pictures=pictures
    )  # fmt: skip
    return message("good", f"It is at {address}")


def delete_run(engine: Engine, run_id: str | None) -> list[Any]:
    """Move the chosen run into the trash; the newest is chosen next."""
    gone = engine.delete_run(chosen_run(run_id))
    return [gr.update(value=None), gone, gr.update(value=f"Undo: bring {short_name(gone)} back", visible=True)]


def undo_delete(engine: Engine, run_id: str) -> list[Any]:
    """Bring back what was just deleted."""
    return [engine.history.restore(run_id).id, gr.update(visible=False)]


def restore(engine: Engine, event: gr.EventData) -> str:
    """Bring a run back from the trash and choose it."""
    return engine.history.restore(str(event.id)).id


def purge_trash(engine: Engine) -> None:
    """Remove for good what is in the trash, and say how much that frees."""
    gr.Info(f"{megabytes(engine.history.empty_trash())} are free again.", duration=5)


def _able(able: bool) -> Any:  # noqa: ANN401  makes an update of Gradio's
    return lambda: gr.update(interactive=able)
