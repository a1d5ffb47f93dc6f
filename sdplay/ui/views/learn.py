"""Lessons, experiments and the first-run tour, as HTML."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sdplay.compare import Comparison
from sdplay.events import RunState
from sdplay.experiments import Experiment
from sdplay.lessons import Lesson
from sdplay.sample_sets import Sample
from sdplay.ui.files import file_url
from sdplay.ui.views.text import count_of, duration, esc, message, picture

SHOWN = 8


def lesson_list(lessons: Sequence[Lesson], done: Collection[str], opened: str, *, judged: Collection[str] = ()) -> str:
    """A button for each; finished ones have a tick, and those whose blind test was won say so."""
    items = "".join(_item(lesson, lesson.id in done, lesson.id == opened, judged=lesson.id in judged) for lesson in lessons)
    told = f"{len([lesson for lesson in lessons if lesson.id in done])} of {len(lessons)} finished"
    return f'<nav class="sd-lessons" aria-label="Lessons"><p class="sd-why">{told}</p>{items}</nav>'


def lesson_head(lesson: Lesson, sample: Sample) -> str:
    """Title, length, and the pictures that its last button learns from."""
    strip = "".join(
        picture(file_url("samples", sample.id, path.name, width=160), "") for path in sorted(sample.folder.glob("*.png"))[:SHOWN]
    )
    return (
        f'<div class="sd-lesson-head"><h2>{lesson.place}. {esc(lesson.title)}</h2>'
        f'<p class="sd-why">{lesson.minutes} minutes. {esc(lesson.what)}</p><div class="sd-strip">{strip}</div></div>'
    )


def experiment_card(experiment: Experiment, states: Sequence[RunState | None], comparison: Comparison | None, look: str = "") -> str:
    """Each training with how far it is, then the comparison and what to look for."""
    pairs = zip(experiment.plan.variants, states, strict=True)
    rows = "".join(_training(variant.name, state) for variant, state in pairs)
    return (
        f'<div class="sd-card sd-experiment"><h2>{esc(experiment.plan.title)}</h2>'
        f'<ol class="sd-trainings">{rows}{_comparison(experiment, comparison)}</ol>{_end(experiment, comparison, look)}</div>'
    )


def is_seen(comparison: Comparison | None) -> bool:
    """Whether there is a whole comparison to look at."""
    return comparison is not None and comparison.status == "finished"


def _item(lesson: Lesson, done: bool, opened: bool, *, judged: bool) -> str:
    kind = " ".join(filter(None, ("sd-lesson", "sd-done" if done else "", "sd-chosen" if opened else "")))
    current = ' aria-current="true"' if opened else ""
    mark = '<span class="sd-tick" aria-label="finished">✓</span>' if done else f'<span class="sd-tick">{lesson.place}</span>'
    won = '<small class="sd-won">Blind test won: you had a favourite beyond chance</small>' if judged else ""
    return (
        f'<button type="button" class="{kind}" data-action="select" data-id="{esc(lesson.id)}"{current}>{mark}'
        f"<span><strong>{esc(lesson.title)}</strong><small>{esc(lesson.what)}</small>{won}</span></button>"
    )


def _training(name: str, state: RunState | None) -> str:
    if state is None:
        return f'<li class="sd-failed"><span class="sd-dot"></span> {esc(name)} <small>was deleted</small></li>'
    how_far = f"{state.step} of {state.steps} steps" if not state.ended else state.status
    if state.status == "failed":
        how_far = state.message
    if state.status == "running" and not state.step:
        how_far = state.phase or "starting"
    took = f", {duration(state.ended_at - state.started_at)}" if state.ended_at > state.started_at > 0 else ""
    share = 100 * state.step / max(1, state.steps)
    bar = f'<progress max="100" value="{share:.0f}" aria-label="{esc(name)}"></progress>' if state.status == "running" else ""
    return f'<li class="sd-{esc(state.status)}"><span class="sd-dot"></span> {esc(name)} <small>{esc(how_far)}{took}</small>{bar}</li>'


def _comparison(experiment: Experiment, comparison: Comparison | None) -> str:
    if comparison is None:
        text = "nothing to compare" if experiment.message else "when all are trained"
        return f'<li class="sd-waiting"><span class="sd-dot"></span> Comparison <small>{text}</small></li>'
    done = f"{len(comparison.cells)} of {count_of(comparison.config.num_cells, 'picture')}"
    bar = ""
    if comparison.status == "drawing":
        share = 100 * len(comparison.cells) / comparison.config.num_cells
        bar = f'<progress max="100" value="{share:.0f}" aria-label="Comparison"></progress>'
    return f'<li class="sd-{esc(comparison.status)}"><span class="sd-dot"></span> Comparison <small>{done}</small>{bar}</li>'


def _end(experiment: Experiment, comparison: Comparison | None, look: str) -> str:
    if experiment.message:
        return message("error", experiment.message)
    if comparison is None:
        return ""
    hint = f"<p><strong>What to look for.</strong> {esc(look)}</p>" if look else ""
    button = (
        f'<button type="button" class="sd-button" data-action="select" data-id="{esc(comparison.id)}">Open the comparison</button>'
    )  # fmt: skip
    blind = (
        f' <a class="sd-quiet" href="?compare={esc(comparison.id)}&amp;view=blind">Take its blind test</a>' if is_seen(comparison) else ""
    )
    return hint + button + blind
