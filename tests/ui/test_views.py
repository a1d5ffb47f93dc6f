"""What the page shows is made from plain data."""

from __future__ import annotations

import json

from sdplay.compare import Cell, Comparison
from sdplay.config import CompareConfig
from sdplay.data import Dataset, Skipped
from sdplay.drawing_plan import Effort
from sdplay.events import Failed, Finished, Samples, Started, Step, Submitted, Validation, fold
from sdplay.ui.views import compare, dataset, prompt, run
from sdplay.ui.views.text import age, duration, esc, megabytes

HOSTILE = "<img src=x onerror=alert(1)>\"' {{value}} ${value} `x`"


def trained(steps: int):  # noqa: ANN201
    events = [Submitted(steps=steps), Started(step=0, device="CPU")]
    events += [Step(step=step, loss=1 / step, learning_rate=1e-3, seconds=0.5) for step in range(1, steps + 1)]
    events += [Validation(step=step, loss=0.5) for step in range(25, steps + 1, 25)]
    return fold(events)


def row(state) -> run.RunRow:  # noqa: ANN001
    return run.run_row("20260101-120000-my-fox", {"config": {"base_model": "mini"}, "dataset": {"name": HOSTILE}}, state)


def test_escaped_text_has_no_sign_that_html_or_the_page_template_reads() -> None:
    assert not set('<>"{}$`') & set(esc(HOSTILE))


def test_a_long_run_is_plotted_with_at_most_500_points_and_keeps_its_last_step() -> None:
    frame = run.loss_frame(trained(5000))

    assert len(frame) <= run.MAX_POINTS
    assert frame[frame.series == "loss"].step.max() == 5000
    assert set(frame.series) == {"loss", "smoothed", "held-out"}


def test_a_run_without_steps_has_an_empty_frame_with_its_columns() -> None:
    assert list(run.loss_frame(fold([])).columns) == ["step", "loss", "series"]


def test_smoothing_a_constant_leaves_it_as_it_is() -> None:
    assert run.smooth([2.0] * 5) == [2.0] * 5 or max(abs(value - 2.0) for value in run.smooth([2.0] * 5)) < 1e-12


def test_the_run_bar_says_step_pace_and_loss() -> None:
    state = fold([Submitted(steps=100), Started(step=0, device="CPU"), Step(step=40, loss=0.25, learning_rate=1e-3, seconds=0.5)])

    bar = run.run_bar(row(state), waiting=2)

    assert "step 40 of 100" in bar
    assert "30 s left" in bar  # 60 steps at 0.5 s
    assert "loss 0.2500" in bar
    assert "2 more waiting" in bar


def test_a_failure_shows_its_cause_and_what_to_do() -> None:
    state = fold([Submitted(steps=9), Failed(message="The loss is not a number.", hint="Lower the learning rate.")])

    card = run.status_card(row(state))

    assert "The loss is not a number." in card
    assert "Lower the learning rate." in card


def test_the_sample_matrix_has_one_column_per_round_from_step_0() -> None:
    rounds = [Samples(step=step, prompts=("a <fox>",), files=(f"samples/{step:06d}/00-fox.png",)) for step in (0, 50)]

    table = run.sample_matrix("20260101-120000-my-fox", fold([*rounds, Finished(step=50)]))

    assert "step 0" in table
    assert "the base" in table
    assert "step 50" in table
    assert table.count("<img") == 2
    assert "<fox>" not in table


def test_user_made_text_is_harmless_everywhere(tmp_path) -> None:  # noqa: ANN001
    opened = Dataset("set-1", HOSTILE, tmp_path, "", (), (Skipped(HOSTILE, HOSTILE),))
    reading = prompt.Reading(HOSTILE, texts=(HOSTILE,), tokens=(prompt.Tokens((HOSTILE,), (HOSTILE,), 75),))

    shown = [
        dataset.skipped_list(opened),
        run.run_table([row(trained(2))]),
        run.run_details(row(trained(2))),
        prompt.preview([reading], [prompt.Reading(HOSTILE, error=HOSTILE)], [HOSTILE]),
        compare.gallery([_comparison(HOSTILE)] * 2, "x"),
        compare.progress_line(_comparison(HOSTILE).model_copy(update={"message": HOSTILE})),
    ]

    assert all("<img src=x" not in text and "${" not in text and "{{" not in text for text in shown)


def test_tokens_beyond_the_limit_are_marked() -> None:
    reading = prompt.Reading("x", texts=("x y",), tokens=(prompt.Tokens(("x",), ("y</w>",), 75),))

    shown = prompt.preview([reading], [], [])

    assert '<i class="sd-cut">y</i>' in shown
    assert "the last 1 are cut off" in shown


def test_the_viewer_is_given_every_place_and_no_picture_for_what_waits() -> None:
    data = json.loads(compare.viewer_value(_comparison("a fox"), None))

    assert [dim["values"] for dim in data["dims"]] == [["base", "my-fox"], ["a fox"], ["seed 1"]]
    assert list(data["cells"]) == ["0,0,0"]
    assert data["cells"]["0,0,0"]["text"].startswith("a fox")
    assert data["pairs"] == 0


def test_what_a_comparison_takes_is_said_before() -> None:
    line = compare.effort_line(Effort(pictures=12, loads=3, steps=240), 16, 0.5, {"column": 2, "prompt": 8, "seed": 1})

    assert "12 pictures: 2 columns x 8 prompts x 1 seed; of 16 places some show the same picture" in line
    assert "2:00 min" in line  # 240 steps at 0.5 s
    assert "known after the first pictures" in compare.effort_line(Effort(1, 1, 20), 1, None, {"column": 1})


def test_times_and_sizes_are_said_as_people_do() -> None:
    assert [duration(41), duration(348), duration(7380)] == ["41 s", "5:48 min", "2:03 h"]
    assert [age(0, now=30), age(0, now=7200), age(0, now=200_000)] == ["just now", "2 h ago", "2 days ago"]
    assert [megabytes(48 * 1024), megabytes(3 * 2**20)] == ["48 KB", "3.0 MB"]


def _comparison(text: str) -> Comparison:
    config = CompareConfig(columns=("base", "my-fox"), prompts=(text,))
    cells = (Cell(column=0, prompt=0, seed=1, file="cells/c00-p00-s1.png"),)
    return Comparison(id="x", created="2026-01-01T12:00", status="drawing", config=config, labels=("base", "my-fox"), cells=cells)
