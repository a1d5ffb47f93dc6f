"""RunState -> run bar, status line, loss frame, sample matrix, table of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from sdplay.events import RunState
from sdplay.ui.files import file_url
from sdplay.ui.views.text import age, count_of, duration, empty, esc, matrix, megabytes, message, picture

MAX_POINTS = 500
SMOOTHING = 0.9
SERIES = {"loss": "#a3adc2", "smoothed": "#6366f1", "held-out": "#e8833a"}
"""Series of the loss plot and their colours."""
WORDS = {
    "queued": "waiting for its turn",
    "running": "training",
    "stopping": "stopping at the next step",
    "stopped": "stopped, what it learned is kept",
    "finished": "finished",
    "failed": "failed",
    "interrupted": "interrupted, it can be resumed",
}


@dataclass(frozen=True)
class RunRow:
    """A run as the lists show it."""

    id: str
    name: str
    base: str
    dataset: str
    settings: Mapping[str, object]
    state: RunState


def run_row(run_id: str, manifest: Mapping[str, object], state: RunState) -> RunRow:
    """From a run's config.yaml and state."""
    config, facts = manifest.get("config"), manifest.get("dataset")
    settings = config if isinstance(config, dict) else {}
    dataset = facts.get("name", "") if isinstance(facts, dict) else ""
    return RunRow(run_id, short_name(run_id), str(settings.get("base_model", "")), str(dataset), settings, state)


def short_name(run_id: str) -> str:
    """A run's id without its date: what it was called."""
    return run_id.split("-", 2)[-1]


def run_bar(row: RunRow | None, waiting: int) -> str:
    """One line about the run that goes on, for every tab."""
    if row is None:
        return '<div class="sd-bar sd-idle"><span class="sd-dot"></span><span>Nothing is training.</span></div>'
    state = row.state
    done = f"step {state.step} of {state.steps}" if state.steps else ""
    more = f"{waiting} more waiting" if waiting else ""
    parts = [phase_words(state), done, _pace(state), _loss(state), more]
    facts = "".join(f"<span>{esc(part)}</span>" for part in parts if part)
    share = 100 * state.step / state.steps if state.steps else 0
    return (
        f'<div class="sd-bar sd-{esc(state.status)}"><span class="sd-dot"></span><strong>{esc(row.name)}</strong>{facts}'
        f'<progress max="100" value="{share:.1f}" aria-label="Steps done"></progress></div>'
    )


def phase_words(state: RunState) -> str:
    """What is being done just now: `sampling 3/8`, `training`, `failed`."""
    if state.status != "running" or not state.phase:
        return WORDS[state.status]
    count = f" {state.phase_done}/{state.phase_total}" if state.phase_total and state.phase_done else ""
    return f"{state.phase}{count}"


def status_card(row: RunRow) -> str:
    """State of one run, with its failure, notes and progress."""
    state = row.state
    share = 100 * state.step / state.steps if state.steps else 0
    facts = [part for part in (_pace(state), _loss(state), _held_out(state), state.device, _took(state)) if part]
    lines = [message("error", state.message, state.hint)] if state.status == "failed" else []
    lines += [message("note", note) for note in state.notes]
    shown = "".join(f"<span>{esc(fact)}</span>" for fact in (f"step {state.step} of {state.steps}", *facts))
    return (
        f'<div class="sd-card sd-status sd-{esc(state.status)}"><div class="sd-head"><span class="sd-dot"></span>'
        f"<strong>{esc(row.name)}</strong><span>{esc(phase_words(state))}</span></div>"
        f'<progress max="100" value="{share:.1f}" aria-label="Steps done"></progress>'
        f'<div class="sd-facts">{shown}</div>{"".join(lines)}</div>'
    )


def no_run() -> str:
    """Where a run would be."""
    return empty("No run yet", "Choose a data set, then press Start training. What the base draws now appears here first, as step 0.")


def loss_frame(state: RunState) -> pd.DataFrame:
    """step, loss, series: raw, smoothed and held-out losses, at most MAX_POINTS rows."""
    keep = _thinned(len(state.losses), MAX_POINTS * 2 // 5)
    smoothed = smooth([entry.loss for entry in state.losses])
    rows = [(state.losses[index].step, state.losses[index].loss, "loss") for index in keep]
    rows += [(state.losses[index].step, smoothed[index], "smoothed") for index in keep]
    held_out = _thinned(len(state.validations), MAX_POINTS // 5)
    rows += [(state.validations[index].step, state.validations[index].loss, "held-out") for index in held_out]
    return pd.DataFrame(rows, columns=["step", "loss", "series"])


def smooth(losses: Sequence[float], keep: float = SMOOTHING) -> list[float]:
    """Exponential moving average, corrected for its start as in Kingma and Ba 2015, sec. 3."""
    smoothed, average = [], 0.0
    for count, loss in enumerate(losses, start=1):
        average = keep * average + (1 - keep) * loss
        smoothed.append(average / (1 - keep**count))
    return smoothed


def sample_matrix(run_id: str, state: RunState) -> str:
    """Prompts x steps, from step 0, which is the base; the noise is the same in every column."""
    if not state.samples:
        waiting = "The first pictures come before the first step: what the base draws now." if not state.ended else ""
        return empty("No sample pictures yet", waiting or "This run drew none.")
    rounds = sorted(state.samples, key=lambda entry: entry.step)
    heads = ["step 0<small>the base</small>" if entry.step == 0 else f"step {entry.step}" for entry in rounds]
    rows = []
    for index, prompt in enumerate(rounds[-1].prompts):
        files = [entry.files[index] if index < len(entry.files) else "" for entry in rounds]
        rows.append(
            (esc(prompt), [_sample(run_id, file, f"{prompt}, step {entry.step}") for file, entry in zip(files, rounds, strict=True)])
        )
    return matrix("Sample pictures by prompt and step", heads, rows)


def run_table(rows: Sequence[RunRow]) -> str:
    """All runs; a click on a name chooses it."""
    if not rows:
        return empty("No runs yet", "Train one: its settings, pictures and files will be kept here.")
    heads = "".join(f'<th scope="col">{head}</th>' for head in ("Name", "State", "Steps", "Base", "Data set", "Loss", "Started"))
    body = "".join(map(_table_row, rows))
    return f'<div class="sd-scroll"><table class="sd-table"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def run_details(row: RunRow) -> str:
    """Settings and files of a run."""
    settings = row.settings
    files = "".join(
        f'<li><a href="{file_url("runs", row.id, artifact.file)}" download>{esc(artifact.file.split("/")[-1])}</a> '
        f"<span>{esc(megabytes(artifact.num_bytes))}, {esc(artifact.format)}</span></li>"
        for artifact in row.state.artifacts
    )
    values = "".join(f"<dt>{esc(key)}</dt><dd>{esc(_plain(value))}</dd>" for key, value in settings.items() if value not in ("", None))
    note = f"<p>{esc(_readers(row))}</p>" if files else "<p>No file yet: it is written when the run ends.</p>"
    return (
        f'<div class="sd-card"><h3>Files</h3><ul class="sd-files">{files}</ul>{note}'
        f'<details><summary>Settings ({count_of(len(settings), "value")})</summary><dl class="sd-settings">{values}</dl></details></div>'
    )


def _table_row(row: RunRow) -> str:
    state = row.state
    loss = f"{state.losses[-1].loss:.4f}" if state.losses else ""
    name = f'<button type="button" class="sd-link" data-action="select" data-id="{esc(row.id)}">{esc(row.name)}</button>'
    dot = f'<span class="sd-dot"></span> {esc(state.status)}'
    cells = [dot, f"{state.step}/{state.steps}", esc(row.base), esc(row.dataset), loss, esc(age(state.submitted_at))]
    return f'<tr class="sd-{esc(state.status)}"><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def _sample(run_id: str, file: str, alt: str) -> str:
    return picture(file_url("runs", run_id, file, width=320), alt, link=file_url("runs", run_id, file)) if file else ""


def _pace(state: RunState) -> str:
    if state.ended or state.eta_seconds is None or state.seconds_per_step is None:
        return ""
    return f"{state.seconds_per_step:.2g} s per step, {duration(state.eta_seconds)} left"


def _loss(state: RunState) -> str:
    return f"loss {smooth([entry.loss for entry in state.losses[-50:]])[-1]:.4f}" if state.losses else ""


def _held_out(state: RunState) -> str:
    return f"held-out loss {state.validations[-1].loss:.4f}" if state.validations else ""


def _took(state: RunState) -> str:
    return f"took {duration(state.ended_at - state.started_at)}" if state.ended_at > state.started_at > 0 else ""


def _readers(row: RunRow) -> str:
    """Which programs can do something with a run's files."""
    layout = row.state.artifacts[0].format
    if layout.startswith("full"):
        return "Works in sdplay; for other programs merge it: sdplay export RUN --merge."
    if layout == "embedding":
        return "For diffusers, A1111, ComfyUI and their relatives; the last two call the word by the file's name."
    first = "The first is for diffusers" if layout.startswith("diffusers") else "The first is for peft"
    return f"{first}, the one in kohya's layout for A1111, ComfyUI and their relatives."


def _plain(value: object) -> str:
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)


def _thinned(length: int, most: int) -> list[int]:
    """At most `most` evenly spread indices of `length`, the last always among them."""
    if length <= most:
        return list(range(length))
    return sorted({round(index * (length - 1) / (most - 1)) for index in range(most)})
