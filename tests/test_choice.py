"""The checkpoint that is suggested is one a person would look at first, and the reason is true."""

from __future__ import annotations

from sdplay.choice import AS_GOOD, choose
from sdplay.events import Checkpoint, Event, Finished, Scores, Started, Submitted, Validation, fold


def judged(*rounds: tuple[int, float, float, float, float], checkpoints: bool = True):  # noqa: ANN201
    """(step, likeness, agreement, nearness, held-out loss) of each round."""
    events: list[Event] = [Submitted(steps=100), Started(step=0, device="CPU")]
    for step, likeness, agreement, nearness, loss in rounds:
        events += [
            Validation(step=step, loss=loss),
            Scores(step=step, judge="base", likeness=likeness, agreement=agreement, nearness=nearness),
        ]
        events += [Checkpoint(step=step)] if checkpoints else []
    return fold([*events, Finished(step=100)])


def test_a_run_that_still_gets_better_is_best_at_its_end() -> None:
    choice = choose(judged((50, 0.3, 1.0, 0.9, 0.1), (100, 0.6, 1.0, 0.9, 0.1)))

    assert choice is not None
    assert choice.step == 100
    assert "No earlier one is as good" in choice.reason


def test_of_equals_the_earlier_is_chosen() -> None:
    choice = choose(judged((50, 0.6, 1.0, 1.0, 0.1), (100, 0.6 + AS_GOOD / 2, 1.0, 1.0, 0.1)))

    assert choice is not None
    assert choice.step == 50
    assert "learned less by heart" in choice.reason


def test_a_run_that_forgets_its_prompts_is_best_before_it_does() -> None:
    choice = choose(judged((50, 0.7, 1.2, 1.0, 0.1), (100, 0.9, 0.5, 1.0, 0.1)))

    assert choice is not None
    assert choice.step == 50
    assert "By step 100 the prompts are followed only 50 % as well" in choice.reason


def test_copies_of_the_training_pictures_and_a_risen_loss_count_against_a_checkpoint() -> None:
    copied = choose(judged((50, 0.7, 1.0, 1.0, 0.1), (100, 0.8, 1.0, 3.0, 0.1)))
    over_fit = choose(judged((50, 0.7, 1.0, 1.0, 0.1), (100, 0.8, 1.0, 1.0, 0.2)))

    assert copied is not None
    assert over_fit is not None
    assert copied.step == over_fit.step == 50
    assert "nearer to a training picture" in copied.reason
    assert "2.00 times its lowest" in over_fit.reason


def test_only_what_is_on_disk_is_suggested() -> None:
    assert choose(judged((50, 0.7, 1.0, 1.0, 0.1), checkpoints=False)) is None
    assert choose(fold([])) is None


def test_a_resumed_run_forgets_scores_beyond_its_checkpoint() -> None:
    state = judged((50, 0.7, 1.0, 1.0, 0.1))
    events: list[Event] = [Submitted(steps=9), Started(step=0, device="CPU")]
    events += [Scores(step=step, judge="base", likeness=0.1, agreement=1, nearness=1) for step in (2, 4)]

    resumed = fold([*events, Checkpoint(step=2), Started(step=2, device="CPU")])

    assert [entry.step for entry in resumed.scores] == [2]
    assert len(state.scores) == 1


def test_a_run_that_came_no_nearer_is_not_said_to_have_come_a_negative_way() -> None:
    choice = choose(judged((50, -0.04, 0.7, 1.0, 0.1)))

    assert choice is not None
    assert "look no more like the training pictures than the base's do" in choice.reason
    assert "-4" not in choice.reason
