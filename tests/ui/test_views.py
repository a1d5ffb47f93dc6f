"""What the page shows is made from plain data."""

from __future__ import annotations

import json
import re

from sdplay.compare import Cell, Comparison
from sdplay.config import CompareConfig
from sdplay.data import Dataset, Skipped
from sdplay.drawing_plan import Effort
from sdplay.events import Checkpoint, Failed, Finished, Samples, Started, Step, Stopped, Submitted, Validation, fold
from sdplay.history import RunSummary
from sdplay.library import Adapter, AdapterFacts
from sdplay.ui.views import chart, compare, dataset, history, live, prompt, run
from sdplay.ui.views.text import age, duration, esc, megabytes

HOSTILE = "<img src=x onerror=alert(1)>\"' {{value}} ${value} `x`"


def trained(steps: int):  # noqa: ANN201
    events = [Submitted(steps=steps), Started(step=0, device="CPU")]
    events += [Step(step=step, loss=1 / step, learning_rate=1e-3, seconds=0.5) for step in range(1, steps + 1)]
    events += [Validation(step=step, loss=0.5) for step in range(25, steps + 1, 25)]
    return fold(events)


def row(state) -> run.RunRow:  # noqa: ANN001
    return run.run_row("20260101-120000-my-fox", {"config": {"base_model": "mini"}, "dataset": {"name": HOSTILE}}, state)


def hostile_samples():  # noqa: ANN201
    return fold([Samples(step=0, prompts=(HOSTILE,), files=("samples/000000/00-a.png",))])


def hostile_summary() -> RunSummary:
    return RunSummary(id="20260101-120000-a", status="finished", note=HOSTILE, dataset=HOSTILE, base=HOSTILE, method=HOSTILE)


def hostile_adapter() -> Adapter:
    return Adapter(column=HOSTILE, title=HOSTILE, origin="hub", facts=AdapterFacts(source=HOSTILE, trigger=HOSTILE, problem=HOSTILE))


def test_escaped_text_has_no_sign_that_html_or_the_page_template_reads() -> None:
    assert not set('<>"{}$`') & set(esc(HOSTILE))


def test_a_long_run_is_plotted_with_at_most_500_points_and_keeps_its_last_step() -> None:
    shown = live.charts(trained(5000), None)

    assert sum(path.count("L") for path in re.findall(r'<g [^>]*><path d="([^"]*)"', shown)) <= run.MAX_POINTS + 200  # and the rates
    assert "loss 0.0002 at step 5000" in shown  # 1 / 5000
    assert "held-out 0.5 at step 5000" in shown


def test_a_run_without_steps_has_no_chart() -> None:
    assert live.charts(fold([]), None) == ""


def test_smoothing_a_constant_leaves_it_as_it_is() -> None:
    assert run.smooth([2.0] * 5) == [2.0] * 5 or max(abs(value - 2.0) for value in run.smooth([2.0] * 5)) < 1e-12


def test_the_run_bar_says_step_pace_and_loss() -> None:
    state = fold([Submitted(steps=100), Started(step=0, device="CPU"), Step(step=40, loss=0.25, learning_rate=1e-3, seconds=0.5)])

    bar = run.run_bar(row(state), waiting=2)

    assert "step 40 of 100" in bar
    assert "30 s left" in bar  # 60 steps at 0.5 s
    assert "loss 0.2500" in bar
    assert "2 more waiting" in bar


def test_a_run_that_was_stopped_before_its_first_step_does_not_claim_to_have_kept_anything() -> None:
    at_once = fold([Submitted(steps=100), Started(step=0, device="CPU"), Stopped(step=0)])
    later = fold([Submitted(steps=100), Started(step=0, device="CPU"), Checkpoint(step=7), Stopped(step=7)])

    assert run.STOPPED_AT_ONCE in run.run_bar(row(at_once), waiting=0)
    assert run.WORDS["stopped"] in run.run_bar(row(later), waiting=0)
    assert "anything to keep" in run.run_details(row(at_once))


def test_a_failure_shows_its_cause_and_what_to_do() -> None:
    state = fold([Submitted(steps=9), Failed(message="The loss is not a number.", hint="Lower the learning rate.")])

    card = live.status_card(row(state))

    assert "The loss is not a number." in card
    assert "Lower the learning rate." in card


def test_the_sample_matrix_has_one_column_per_round_from_step_0() -> None:
    rounds = [Samples(step=step, prompts=("a <fox>",), files=(f"samples/{step:06d}/00-fox.png",)) for step in (0, 50)]

    table = live.sample_viewer("20260101-120000-my-fox", fold([*rounds, Finished(step=50)]))

    assert "step 0" in table
    assert "the base" in table
    assert "step 50" in table
    assert table.count("<img") == 4  # both, in the strip and in the matrix
    assert "<fox>" not in table


def test_user_made_text_is_harmless_everywhere(tmp_path) -> None:  # noqa: ANN001
    opened = Dataset("set-1", HOSTILE, tmp_path, "", (), (Skipped(HOSTILE, HOSTILE),))
    reading = prompt.Reading(HOSTILE, texts=(HOSTILE,), tokens=(prompt.Tokens((HOSTILE,), (HOSTILE,), 75),))

    shown = [
        dataset.skipped_list(opened),
        live.status_card(row(trained(2))),
        live.sample_viewer(HOSTILE, hostile_samples()),
        history.run_list([hostile_summary()], 1, ""),
        history.library_grid([hostile_adapter()], 1),
        history.difference_table([(HOSTILE, HOSTILE, None)], HOSTILE, HOSTILE),
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


def test_ticks_are_round_and_inside() -> None:
    assert chart.ticks(0, 1) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert chart.ticks(0.013, 0.049) == [0.02, 0.03, 0.04]
    assert chart.ticks(3, 3) == [3]


def test_a_chart_reads_out_the_last_value_of_every_line() -> None:
    shown = chart.line_chart("Loss", [chart.Line("loss", [(1, 0.5), (2, 0.25)]), chart.Line("empty", [])], mark=2)

    assert 'aria-label="Loss: loss 0.25 at step 2"' in shown
    assert shown.count("<g ") == 1
    assert "sd-chosen" in shown


def test_one_wild_step_does_not_flatten_the_chart() -> None:
    points = [(float(step), 0.1) for step in range(100)] + [(100.0, 50.0)]

    shown = chart.line_chart("Loss", [chart.Line("loss", points, kind="faint")])

    assert max(map(float, re.findall(r'text-anchor="end">([^<]*)<', shown))) < 1


def test_costs_are_said_where_the_price_is_known(monkeypatch) -> None:  # noqa: ANN001
    state = fold([Submitted(steps=4, time=0), Started(step=0, device="T4", time=1000), Finished(step=4, time=1900)])  # a quarter of an hour

    assert "US&#36;" not in live.status_card(row(state))
    monkeypatch.setenv("SDPLAY_PRICE_PER_HOUR", "0.4")

    assert "cost 0.10 US&#36;" in live.status_card(row(state))
