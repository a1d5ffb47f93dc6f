"""What a run does while it goes on and what can be done with it: the right half of Train."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr

from sdplay.choice import choose
from sdplay.engine import Engine
from sdplay.errors import ConfigError, SdplayError
from sdplay.runs import Run
from sdplay.ui.errors import friendly
from sdplay.ui.html import beat, html_block, only_news
from sdplay.ui.pulse import Pulse
from sdplay.ui.scrubber import sample_block
from sdplay.ui.tabs.events import quick, silent
from sdplay.ui.views import live as views
from sdplay.ui.views.run import RunRow, no_run, run_row, short_name
from sdplay.ui.views.text import message

ENDED_EARLY = ("stopped", "failed", "interrupted")
MORE_STEPS = 100


@dataclass(frozen=True)
class Watch:
    """What other places need of the watched run."""

    run: gr.Dropdown
    compare: gr.Button
    clone: gr.Button


@dataclass(frozen=True)
class _Buttons:
    sample: gr.Button
    save: gr.Button
    first: gr.Button
    stop: gr.Button
    resume: gr.Button
    compare: gr.Button
    clone: gr.Button
    more: gr.Number
    go_on: gr.Button


def create_watch(engine: Engine, pulse: Pulse) -> Watch:
    """The chosen run: its state, its buttons, its samples and curves."""
    seen = gr.State({})
    run = gr.Dropdown(label="Run", choices=[], value=None, elem_id="train-run", allow_custom_value=True, interactive=True)
    status = html_block(no_run(), elem_id="train-status")
    buttons = _create_buttons()
    onward = html_block(elem_id="train-onward")
    report = gr.Textbox(
        label="Report to send in: no secrets, no paths", lines=6, max_lines=12, interactive=False, visible=False, buttons=["copy"],
        elem_id="train-report",
    )  # fmt: skip
    advice = html_block(elem_id="train-advice")
    samples = sample_block(elem_id="train-samples")
    charts = html_block(elem_id="train-charts")

    acting = [buttons.sample, buttons.save, buttons.first, buttons.stop, buttons.resume, buttons.compare, buttons.clone, buttons.go_on]
    outputs = [status, *acting, onward, report, advice, samples, charts, seen]
    gr.on([pulse.news("train"), run.change, buttons.more.change], friendly(watch, engine), [run, buttons.more, seen], outputs, **silent())
    buttons.sample.click(friendly(ask, engine, "sample"), run, None, **quick())
    buttons.save.click(friendly(ask, engine, "save"), run, None, **quick())
    buttons.first.click(friendly(train_next, engine), run, None, **quick())
    buttons.stop.click(friendly(stop_run, engine), run, None, **quick())
    buttons.resume.click(friendly(resume_run, engine), run, None, **quick())
    buttons.go_on.click(friendly(continue_run, engine), [run, buttons.more], None, **quick())
    return Watch(run, buttons.compare, buttons.clone)


def _create_buttons() -> _Buttons:
    def button(label: str, name: str, variant: Any = "secondary") -> gr.Button:  # noqa: ANN401  Gradio's words for it
        return gr.Button(label, variant=variant, size="sm", min_width=90, elem_id=f"train-{name}", interactive=False)

    with gr.Row(elem_classes="sd-actions sd-run-actions"):
        sample = button("Sample now", "sample-now")
        save = button("Save now", "save-now")
        first = button("Train this next", "first")
        stop = button("Stop and keep", "stop", "stop")
        resume = button("Resume", "resume")
        clone = button("Clone settings", "clone")
        compare = button("Compare with the base", "compare", "primary")
    with gr.Row(elem_classes="sd-actions sd-beside"):
        more = gr.Number(MORE_STEPS, label="More steps", precision=0, minimum=1, min_width=110, elem_id="train-more", interactive=True)
        go_on = button("Continue longer", "continue")
    return _Buttons(sample, save, first, stop, resume, compare, clone, more, go_on)


def watch(engine: Engine, run_id: str | None, more: float | None, seen: Mapping[str, str]) -> list[Any]:
    """What has changed about the chosen run since the last look; every button's state follows from the run's."""
    row = find_run(engine, run_id)
    if row is None:
        return only_news(seen, dict.fromkeys(_nothing(), "none"), _nothing())
    state, goes = row.state, row.state.status in ("queued", "running")
    choice = choose(state)
    chosen = choice.step if choice else None
    status = views.status_card(row)
    can = {
        "sample": goes and bool(row.settings.get("sample_prompts")),
        "save": goes,
        "first": state.status == "queued" and len(engine.history.active()) > 1,
        "stop": goes,
        "resume": state.status in ENDED_EARLY,
        "compare": bool(state.checkpoints),
        "clone": True,
        "go_on": state.ended and bool(state.checkpoints),
    }
    failed = state.status == "failed"
    marks: dict[str, object] = {
        "status": (status, beat()),
        **{name: (row.id, able, beat()) for name, able in can.items()},
        "onward": (row.id, can["go_on"], more, state.steps, beat()),
        "report": (row.id, failed, state.ended_at),
        "advice": (row.id, choice, len(state.scores)),
        "samples": (row.id, [entry.step for entry in state.samples], chosen, state.ended),
        "charts": (row.id, len(state.losses), len(state.validations), chosen),
    }
    updates = {
        "status": lambda: status,
        **{name: _able(able) for name, able in can.items()},
        "onward": lambda: onward_note(engine, row.id, more) if can["go_on"] else "",
        "report": lambda: gr.update(value=engine.history.report(row.id) if failed else "", visible=failed),
        "advice": lambda: views.advice(row.id, choice, len(state.scores)),
        "samples": lambda: views.sample_viewer(row.id, state, chosen),
        "charts": lambda: views.charts(state, choice),
    }
    return only_news(seen, marks, updates)


def onward_note(engine: Engine, run_id: str, more: float | None) -> str:
    """What going on would do to the learning rate."""
    try:
        return message("note", engine.history.continuation(run_id, _whole(more)))
    except SdplayError as error:
        return message("warning", error.message, error.hint)


def run_picker(engine: Engine, wanted: str = "") -> Any:  # noqa: ANN401  an update of Gradio's
    """The list of runs as it is now, opened at `wanted`, else at the one that trains, else at the newest."""
    engine.history.look_again()
    ids = [row.id for row in engine.history.rows()]
    active = engine.history.active()
    value = wanted if wanted in ids else active[0].id if active else next(iter(ids), None)
    return gr.update(choices=[(short_name(run_id), run_id) for run_id in ids], value=value)


def find_run(engine: Engine, run_id: str | None) -> RunRow | None:
    """The run's row, or None when there is no such run."""
    if not run_id:
        return None
    try:
        run = engine.run(run_id)
    except SdplayError:
        return None
    return row_of(engine, run)


def row_of(engine: Engine, run: Run) -> RunRow:
    """A run with its state."""
    return run_row(run.id, _manifest(run.folder), engine.state(run))


@lru_cache(maxsize=512)
def _manifest(folder: Path) -> Mapping[str, object]:
    """config.yaml, which is written once; reading it on every tick would be slow."""
    return Run(folder).manifest


def ask(engine: Engine, what: Any, run_id: str | None) -> None:  # noqa: ANN401  sample or save
    """Ask the chosen run for pictures or a checkpoint."""
    engine.ask_for(chosen_run(run_id), what)
    gr.Info("The samples come after the next step." if what == "sample" else "The checkpoint comes after the next step.", duration=4)


def stop_run(engine: Engine, run_id: str | None) -> None:
    """Ask the chosen run to stop."""
    engine.stop(chosen_run(run_id))


def train_next(engine: Engine, run_id: str | None) -> None:
    """Put the chosen run before the others that wait."""
    engine.train_next(chosen_run(run_id))
    gr.Info("It trains as soon as the running one has ended.", duration=4)


def resume_run(engine: Engine, run_id: str | None) -> None:
    """Let the chosen run go on from its newest checkpoint."""
    engine.resume(chosen_run(run_id))


def continue_run(engine: Engine, run_id: str | None, more: float | None) -> None:
    """Let the chosen run go on for more steps than it was made for."""
    engine.continue_run(chosen_run(run_id), _whole(more))


def chosen_run(run_id: str | None) -> str:
    """The id. Raises ConfigError when none is chosen."""
    if not run_id:
        raise ConfigError("No run is chosen.", "Choose one from the list.")
    return run_id


def _whole(more: float | None) -> int:
    if more is None or more != int(more):
        raise ConfigError("More steps is not a whole number.", "Give one above 0.")
    return int(more)


def _able(able: bool) -> Any:  # noqa: ANN401  makes an update of Gradio's
    return lambda: gr.update(interactive=able)


def _nothing() -> dict[str, Any]:
    off = {name: _able(False) for name in ("sample", "save", "first", "stop", "resume", "compare", "clone", "go_on")}
    empty = dict.fromkeys(("advice", "samples", "charts"), str)
    return {"status": no_run, **off, "onward": str, "report": lambda: gr.update(value="", visible=False), **empty}
