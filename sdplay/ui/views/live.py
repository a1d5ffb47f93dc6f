"""RunState -> what a run shows while it goes on: phases, charts, samples by step, which checkpoint, a failure's card."""

from __future__ import annotations

from collections.abc import Sequence

from sdplay.choice import Choice, Rated
from sdplay.events import RunState, Samples
from sdplay.price import cost_of
from sdplay.ui.files import file_url
from sdplay.ui.views.chart import Line, line_chart
from sdplay.ui.views.run import MAX_POINTS, RunRow, phase_words, smooth, thinned
from sdplay.ui.views.text import duration, empty, esc, matrix, message, picture

PHASES = (("load", "Load"), ("encod", "Encode"), ("train", "Train"), ("sampl", "Sample"), ("sav", "Save"))
"""How a phase's name begins, and what it is called in the row of phases."""
HONEST = (
    "Measured on this run's sample prompts with one seed. The numbers do not know your subject by name, nor what you like: "
    "look at the pictures before you decide."
)


MEANING = (
    "Likeness: 0 as the base draws, 1 as like the training pictures as they are to each other. Prompts followed: 1 as well as the base "
    "does. Nearness: above 1 nearer to a training picture than these are to each other. Held-out loss: by its lowest. Worth: likeness "
    "x prompts followed, less over-fitting."
)


def status_card(row: RunRow) -> str:
    """State of one run, with its phases, progress, time, memory, cost, notes and failure."""
    state = row.state
    share = 100 * state.step / state.steps if state.steps else 0
    shown = "".join(f"<span>{esc(fact)}</span>" for fact in (f"step {state.step} of {state.steps}", *facts(state)))
    lines = [failure(state)] if state.status == "failed" else []
    lines += [message("note", note) for note in state.notes]
    return (
        f'<div class="sd-card sd-status sd-{esc(state.status)}"><div class="sd-head"><span class="sd-dot"></span>'
        f'<strong translate="no">{esc(row.name)}</strong><span>{esc(phase_words(state))}</span></div>{_phases(state)}'
        f'<progress max="100" value="{share:.1f}" aria-label="Steps done"></progress>'
        f'<div class="sd-facts">{shown}</div>{"".join(lines)}</div>'
    )


def facts(state: RunState) -> list[str]:
    """Pace, time left, losses, memory, cost, device: what there is."""
    told = []
    if not state.ended and state.eta_seconds is not None and state.seconds_per_step is not None:
        told.append(f"{state.seconds_per_step:.2g} s per step, {duration(state.eta_seconds)} left")
    if state.ended and state.ended_at > state.started_at > 0:
        told.append(f"took {duration(state.ended_at - state.started_at)}")
    if state.losses:
        told.append(f"loss {smooth([entry.loss for entry in state.losses[-50:]])[-1]:.4f}")
    if state.validations:
        told.append(f"held-out loss {state.validations[-1].loss:.4f}")
    if state.memory:
        told.append(f"memory {state.memory.num_bytes / 2**30:.1f} GB, at most {state.memory.peak_bytes / 2**30:.1f}")
    cost = cost_of(state.worked_seconds)
    if cost is not None and state.started_at:
        told.append(f"{cost:.2f} US$ so far" if not state.ended else f"cost {cost:.2f} US$")
    return [*told, state.device] if state.device else told


def failure(state: RunState) -> str:
    """What happened and what to do, each under its name."""
    fix = f"<dt>What to do</dt><dd>{esc(state.hint)}</dd>" if state.hint else ""
    return f'<dl class="sd-failure"><dt>What happened</dt><dd>{esc(state.message)}</dd>{fix}</dl>'


def _phases(state: RunState) -> str:
    """The run's phases in order, the present one marked."""
    if state.ended or not state.phase:
        return ""
    present = next((index for index, (start, _) in enumerate(PHASES) if state.phase.startswith(start)), 0)
    items = []
    for index, (_, title) in enumerate(PHASES):
        done = state.phase_total and index == present and state.phase_done
        count = f" {state.phase_done}/{state.phase_total}" if done else ""
        mark = ' class="sd-present" aria-current="step"' if index == present else ""
        items.append(f"<li{mark}>{title}{count}</li>")
    return f'<ol class="sd-phases" aria-label="Phases">{"".join(items)}</ol>'


def charts(state: RunState, choice: Choice | None) -> str:
    """Losses, learning rate, and the scores of the samples with the chosen checkpoint marked."""
    if not state.losses:
        return ""
    keep = thinned(len(state.losses), MAX_POINTS * 2 // 5)
    smoothed = smooth([entry.loss for entry in state.losses])
    held_out = [state.validations[index] for index in thinned(len(state.validations), MAX_POINTS // 5)]
    losses = [
        Line("loss", [(state.losses[index].step, state.losses[index].loss) for index in keep], "quiet", "faint"),
        Line("smoothed", [(state.losses[index].step, smoothed[index]) for index in keep], "run"),
        Line("held-out", [(entry.step, entry.loss) for entry in held_out], "other", "dots"),
    ]
    rates = [Line("rate", [(state.losses[index].step, state.losses[index].learning_rate) for index in keep], "third")]
    return (
        f'<div class="sd-charts">{line_chart("Loss", losses, mark=choice.step if choice else None)}'
        f"{line_chart('Learning rate', rates, from_zero=True)}</div>"
    )


def advice(run_id: str, choice: Choice | None, scores: int) -> str:
    """Which checkpoint to take first, why, the scores of each, and what they cannot know."""
    if choice is None:
        if not scores:
            return ""
        return message("note", "Samples are judged, but no checkpoint was written at their steps yet.", "Save now writes one.")
    rows = "".join(_rated(entry, entry.step == choice.step) for entry in choice.rated)
    heads = "".join(
        f'<th scope="col">{head}</th>' for head in ("Step", "Likeness", "Prompts followed", "Nearness", "Held-out loss", "Worth")
    )
    lines = [
        Line("likeness", [(entry.step, entry.scores.likeness) for entry in choice.rated], "run", "dots"),
        Line("prompts followed", [(entry.step, entry.scores.agreement) for entry in choice.rated], "third", "dots"),
        Line("worth", [(entry.step, entry.worth) for entry in choice.rated], "good", "dots"),
    ]
    judge = choice.rated[-1].scores.judge
    by = "by the base itself" if judge == "base" else f"by {judge}"
    return (
        f'<div class="sd-card sd-advice"><h2>Which checkpoint? <span class="sd-pick">step {choice.step}</span></h2>'
        f"<p>{esc(choice.reason)}</p><p class='sd-why'>{esc(HONEST)}</p>"
        f"<details><summary>All scores, {esc(by)}</summary>{line_chart('Scores', lines, mark=choice.step)}"
        f'<div class="sd-scroll"><table class="sd-table"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
        f'<p class="sd-why">{esc(MEANING)}</p></details></div>'
    )


def _rated(entry: Rated, chosen: bool) -> str:
    scores = entry.scores
    cells = (f"{scores.likeness:.2f}", f"{scores.agreement:.2f}", f"{scores.nearness:.2f}", f"{entry.held_out:.2f}", f"{entry.worth:.2f}")
    head = f"{entry.step}{' ★' if chosen else ''}"
    mark = ' class="sd-best"' if chosen else ""
    return f'<tr{mark}><th scope="row">{head}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def sample_viewer(run_id: str, state: RunState, chosen: int | None = None) -> str:
    """The samples of one step at a time with a scrubber, and all of them as a matrix. The browser keeps which step is shown."""
    if not state.samples:
        waiting = "The first pictures come before the first step: what the base draws now." if not state.ended else "This run drew none."
        return empty("No sample pictures yet", waiting)
    rounds = sorted(state.samples, key=lambda entry: entry.step)
    prompts = rounds[-1].prompts
    figures = "".join(_figure(run_id, index, prompt, rounds) for index, prompt in enumerate(prompts))
    steps = " ".join(str(entry.step) for entry in rounds)
    last = len(rounds) - 1
    return (
        f'<div class="sd-viewer" data-run="{esc(run_id)}" data-steps="{steps}">'
        '<div class="sd-scrub"><button type="button" data-move="-1" aria-label="Earlier samples">‹</button>'
        f'<input type="range" min="0" max="{last}" step="1" value="{last}" aria-label="Step of the samples shown">'
        '<button type="button" data-move="1" aria-label="Later samples">›</button>'
        f'<output aria-live="off">step {rounds[-1].step}</output>'
        '<button type="button" data-newest aria-pressed="true">Newest</button></div>'
        f'<div class="sd-round">{figures}</div>'
        f"<details open><summary>All steps</summary>{_matrix(run_id, rounds, chosen)}</details></div>"
    )


def _figure(run_id: str, index: int, prompt: str, rounds: Sequence[Samples]) -> str:
    """One prompt's pictures on top of each other; only that of the chosen step is shown."""
    last = len(rounds) - 1
    pictures = []
    for place, entry in enumerate(rounds):
        if index < len(entry.files):
            url = file_url("runs", run_id, entry.files[index])
            hidden = "" if place == last else " hidden"
            pictures.append(f'<span data-place="{place}"{hidden}>{picture(url, f"{prompt}, step {entry.step}", link=url)}</span>')
    return f'<figure>{"".join(pictures)}<figcaption translate="no">{esc(prompt)}</figcaption></figure>'


def _matrix(run_id: str, rounds: Sequence[Samples], chosen: int | None) -> str:
    heads = []
    for place, entry in enumerate(rounds):
        base = "<small>the base</small>" if entry.step == 0 else "<small>★ first choice</small>" if entry.step == chosen else ""
        heads.append(f'<button type="button" class="sd-link" data-show="{place}">step {entry.step}</button>{base}')
    rows = []
    for index, prompt in enumerate(rounds[-1].prompts):
        cells = [_cell(run_id, entry, index, prompt) for entry in rounds]
        rows.append((f'<span translate="no">{esc(prompt)}</span>', cells))
    return matrix("Sample pictures by prompt and step", heads, rows)


def _cell(run_id: str, entry: Samples, index: int, prompt: str) -> str:
    if index >= len(entry.files):
        return ""
    file = entry.files[index]
    url = file_url("runs", run_id, file)
    return picture(file_url("runs", run_id, file, width=320), f"{prompt}, step {entry.step}", link=url)
