"""What is said about a data set before training."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdplay.data import Dataset, Example, ReportLine, Skipped, report


def example(index: int, *, caption: str | None = None, size: tuple[int, int] = (512, 512)) -> Example:
    text = f"a cat {index}" if caption is None else caption
    return Example(f"{index:016x}", Path(f"{index}.png"), text, *size, f"{index}.png", ())


def dataset(*examples: Example, skipped: tuple[Skipped, ...] = ()) -> Dataset:
    return Dataset("cats-0000", "cats", Path("cats"), "2026-01-01T00:00:00+00:00", examples, skipped)


def problems(made: Dataset) -> list[ReportLine]:
    return [line for line in report(made, resolution_px=512) if line.level != "good"]


def twelve(**changes: object) -> list[Example]:
    return [example(i, **changes) for i in range(12)]


def test_a_good_data_set_has_only_good_lines() -> None:
    assert problems(dataset(*twelve())) == []


@pytest.mark.parametrize(
    ("count", "level"), [(1, "warning"), (4, "warning"), (5, "note"), (9, "note"), (10, "good"), (100, "good"), (101, "note")]
)
def test_the_count_is_judged(count: int, level: str) -> None:
    first = report(dataset(*(example(i) for i in range(count))), resolution_px=512)[0]

    assert first.level == level
    assert first.text.startswith(str(count))


def test_missing_captions_are_counted() -> None:
    (line,) = problems(dataset(*twelve(), example(12, caption="")))

    assert (line.level, line.text) == ("warning", "1 of 13 pictures without a caption.")


def test_a_set_without_captions_is_only_noted() -> None:
    (line,) = problems(dataset(*twelve(caption="")))

    assert (line.level, line.text) == ("note", "No picture has a caption.")


def test_equal_captions_are_noted() -> None:
    (line,) = problems(dataset(*twelve(caption="a cat")))

    assert line.text == "All captions are the same."


def test_captions_beyond_the_text_encoder_are_a_warning() -> None:
    (line,) = problems(dataset(*twelve(), example(12, caption="word " * 76)))

    assert line.text == "1 of 13 captions have over 75 words."


def test_pictures_smaller_than_the_resolution_are_a_warning() -> None:
    (line,) = problems(dataset(*twelve(), example(12, size=(300, 300))))

    assert (line.level, line.text) == ("warning", "1 of 13 pictures is smaller than 512 px; 12.png is 300 x 300.")


def test_oblong_pictures_lose_their_edges() -> None:
    (line,) = problems(dataset(*twelve(), example(12, size=(1024, 512))))

    assert line.text == "1 of 13 pictures is not square and will be cut to the middle; 12.png loses 50 %."


def test_what_was_left_out_is_listed_with_the_reason() -> None:
    skipped = tuple(Skipped(f"{i}.gif", "A .gif file cannot be read.") for i in range(8))

    lines = problems(dataset(*twelve(), skipped=skipped))

    assert lines[0] == ReportLine("note", "0.gif was left out.", "A .gif file cannot be read.")
    assert lines[-1].text == "3 more were left out."


def test_every_problem_comes_with_a_hint() -> None:
    made = dataset(example(0, caption=""), example(1, caption="w " * 80, size=(64, 200)), skipped=(Skipped("a", "b"),))

    assert all(line.hint for line in problems(made))
