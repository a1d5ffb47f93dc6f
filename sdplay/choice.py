"""Which checkpoint? From the scores of the sample rounds and the losses on held-out pictures, the one worth keeping, and why.

It is advice: the scores know the sample prompts and one seed, not the subject's name nor the user's taste.
"""

from __future__ import annotations

from dataclasses import dataclass

from sdplay.events import RunState, Scores

NEARNESS_ALLOWANCE = 1.5
"""How much nearer to a training picture than these are to each other samples may be: pictures of one face are near each other."""
LOSS_ALLOWANCE = 1.1
"""How far above its lowest value the held-out loss may be; a few pictures make it rough."""
AS_GOOD = 0.02
"""A later checkpoint must be better by more than this: of equals the earlier one has learned less by heart."""


@dataclass(frozen=True)
class Rated:
    """A checkpoint with its scores in one number."""

    scores: Scores
    held_out: float
    """Held-out loss / the lowest so far; 1 when nothing is held out."""

    @property
    def step(self) -> int:
        """Of the checkpoint."""
        return self.scores.step

    @property
    def worth(self) -> float:
        """Likeness, less what was lost in agreement with the prompts and by over-fitting; 0 to 1."""
        likeness, agreement = _in_bounds(self.scores.likeness), _in_bounds(self.scores.agreement)
        return likeness * agreement * self.overfit_factor

    @property
    def overfit_factor(self) -> float:
        """1 down to 0: over-fit by the held-out loss or by copying."""
        near = NEARNESS_ALLOWANCE / max(self.scores.nearness, NEARNESS_ALLOWANCE)
        return near * LOSS_ALLOWANCE / max(self.held_out, LOSS_ALLOWANCE)


@dataclass(frozen=True)
class Choice:
    """The checkpoint to take first."""

    step: int
    reason: str
    rated: tuple[Rated, ...]


def choose(state: RunState) -> Choice | None:
    """The first checkpoint that is as good as the best, with the reason in sentences; None before one is judged."""
    rated = tuple(Rated(scores, _held_out(state, scores.step)) for scores in sorted(state.scores, key=lambda entry: entry.step))
    rated = tuple(entry for entry in rated if entry.step in state.checkpoints)
    if not rated:
        return None
    best = max(entry.worth for entry in rated)
    chosen = next(entry for entry in rated if entry.worth >= best - AS_GOOD)
    return Choice(chosen.step, _reason(chosen, rated), rated)


def _reason(chosen: Rated, rated: tuple[Rated, ...]) -> str:
    scores = chosen.scores
    way = f"have come {_percent(scores.likeness)} of the way from the base to the training pictures' look"
    near = way if scores.likeness >= 0.005 else "look no more like the training pictures than the base's do,"
    text = f"At step {chosen.step} the samples {near} and follow their prompts {_percent(scores.agreement)} as well as the base's do."
    later = [entry for entry in rated if entry.step > chosen.step]
    if not later:
        return text + (" No earlier one is as good." if len(rated) > 1 else " It is the only one judged so far.")
    best = max(later, key=lambda entry: entry.worth)
    if best.worth >= chosen.worth - AS_GOOD:
        return f"{text} Later ones are no better by more than {AS_GOOD:g}, and the earlier of equals has learned less by heart."
    return f"{text} {_what_is_worse(chosen, later[-1])}"


def _what_is_worse(chosen: Rated, later: Rated) -> str:
    losses = {
        f"the prompts are followed only {_percent(later.scores.agreement)} as well": _in_bounds(chosen.scores.agreement)
        - _in_bounds(later.scores.agreement),
        f"the held-out loss is {later.held_out:.2f} times its lowest": (later.held_out - chosen.held_out) / 2,
        f"samples are {later.scores.nearness:.1f} times nearer to a training picture than these are to each other": (
            later.scores.nearness - max(chosen.scores.nearness, NEARNESS_ALLOWANCE)
        )
        / 2,
        "the likeness is lower": _in_bounds(chosen.scores.likeness) - _in_bounds(later.scores.likeness),
    }
    worst = max(losses, key=lambda text: losses[text])
    return f"By step {later.step} {worst}."


def _held_out(state: RunState, step: int) -> float:
    """The held-out loss at a step / the lowest until then or later."""
    known = [entry for entry in state.validations if entry.step <= step]
    return known[-1].loss / min(entry.loss for entry in state.validations) if known else 1.0


def _in_bounds(value: float) -> float:
    return max(0.0, min(1.0, value))


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"
