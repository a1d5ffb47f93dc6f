"""A run as lists and the run bar show it; its settings and files. views/live.py shows it while it goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sdplay.events import RunState
from sdplay.ui.files import file_url
from sdplay.ui.views.text import count_of, duration, empty, esc, megabytes

MAX_POINTS = 500
SMOOTHING = 0.9
WORDS = {
    "queued": "waiting for its turn",
    "running": "training",
    "stopping": "stopping at the next step",
    "stopped": "stopped, what it learned is kept",
    "finished": "finished",
    "failed": "failed",
    "interrupted": "interrupted, it can be resumed",
}
STOPPED_AT_ONCE = "stopped before it had learned anything"


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
        f'<div class="sd-bar sd-{esc(state.status)}"><span class="sd-dot"></span><strong translate="no">{esc(row.name)}</strong>{facts}'
        f'<progress max="100" value="{share:.1f}" aria-label="Steps done"></progress></div>'
    )


def phase_words(state: RunState) -> str:
    """What is being done just now: `sampling 3/8`, `training`, `failed`."""
    if state.status == "stopped" and not state.checkpoints:
        return STOPPED_AT_ONCE
    if state.status != "running" or not state.phase:
        return WORDS[state.status]
    count = f" {state.phase_done}/{state.phase_total}" if state.phase_total and state.phase_done else ""
    return f"{state.phase}{count}"


def no_run() -> str:
    """Where a run would be."""
    return empty("No run yet", "Choose a data set, then press Start training. What the base draws now appears here first, as step 0.")


def smooth(losses: Sequence[float], keep: float = SMOOTHING) -> list[float]:
    """Exponential moving average, corrected for its start as in Kingma and Ba 2015, sec. 3."""
    smoothed, average = [], 0.0
    for count, loss in enumerate(losses, start=1):
        average = keep * average + (1 - keep) * loss
        smoothed.append(average / (1 - keep**count))
    return smoothed


def run_details(row: RunRow, took: str = "") -> str:
    """Settings and files of a run. took: HTML about what it took."""
    settings = row.settings
    files = "".join(
        f'<li><a href="{file_url("runs", row.id, artifact.file)}?v={artifact.sha256[:8]}" download>{esc(artifact.file.split("/")[-1])}</a> '
        f"<span>{esc(megabytes(artifact.num_bytes))}, {esc(artifact.format)}</span></li>"
        for artifact in row.state.artifacts
    )
    values = "".join(f"<dt>{esc(key)}</dt><dd>{esc(_plain(value))}</dd>" for key, value in settings.items() if value not in ("", None))
    none = "It ended before there was anything to keep." if row.state.ended else "No file yet: it is written when the run ends."
    note = f"<p>{esc(_readers(row) if files else none)}</p>"
    return (
        f'<div class="sd-card"><h2>Files</h2><ul class="sd-files">{files}</ul>{note}{took}'
        f"<details><summary>Settings ({count_of(len(settings), 'value')})</summary>"
        f'<dl class="sd-settings" translate="no">{values}</dl></details></div>'
    )


def _pace(state: RunState) -> str:
    if state.ended or state.eta_seconds is None or state.seconds_per_step is None:
        return ""
    return f"{state.seconds_per_step:.2g} s per step, {duration(state.eta_seconds)} left"


def _loss(state: RunState) -> str:
    return f"loss {smooth([entry.loss for entry in state.losses[-50:]])[-1]:.4f}" if state.losses else ""


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


def thinned(length: int, most: int) -> list[int]:
    """At most `most` evenly spread indices of `length`, the last always among them."""
    if length <= most:
        return list(range(length))
    return sorted({round(index * (length - 1) / (most - 1)) for index in range(most)})
