"""What is good about a data set, and what to do about the rest, before an hour is spent on training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sdplay.data.examples import Dataset, Example

CAPTION_WORDS = 75
"""Stable Diffusion's text encoder reads 77 tokens, two of which mark start and end; a word is at least one."""
_SQUARE_ENOUGH = 1.1
_LISTED = 5


@dataclass(frozen=True)
class ReportLine:
    """One finding: a plain sentence, and what to do about it (empty if nothing)."""

    level: Literal["good", "note", "warning"]
    text: str
    hint: str


def report(dataset: Dataset, *, resolution_px: int) -> list[ReportLine]:
    """What to know before training at this resolution: count, captions, sizes, shapes, and what was left out."""
    return [
        _count(dataset),
        *_captions(dataset.examples),
        *_sizes(dataset.examples, resolution_px),
        *_shapes(dataset.examples),
        *_left_out(dataset),
    ]


def _count(dataset: Dataset) -> ReportLine:
    count = len(dataset.examples)
    if count < 5:
        return ReportLine(
            "warning", f"{_pictures(count)}: too few to learn from.", "Bring 10 to 20 that differ in view, light and background."
        )
    if count < 10:
        return ReportLine("note", f"{_pictures(count)}: enough for a first try.", "10 to 20 varied ones make the result more flexible.")
    if count > 100:
        return ReportLine(
            "note",
            f"{_pictures(count)}: more than a subject or a style needs.",
            "Keep the best 20 to 50, or train for more steps.",
        )
    return ReportLine("good", f"{_pictures(count)}: a good number.", "")


def _captions(examples: tuple[Example, ...]) -> list[ReportLine]:
    captions = [example.caption for example in examples if example.caption]
    missing = len(examples) - len(captions)
    lines = []
    if missing and not captions:
        hint = "Describe each in one sentence, or let the training prompt stand for all."
        lines.append(ReportLine("note", "No picture has a caption.", hint))
    elif missing:
        hint = "Describe them too: pictures with and without captions teach different things."
        lines.append(ReportLine("warning", f"{missing} of {_pictures(len(examples))} without a caption.", hint))
    if len(captions) > 1 and len(set(captions)) == 1:
        hint = "Say what differs, so that only the subject or style is tied to its name."
        lines.append(ReportLine("note", "All captions are the same.", hint))
    too_long = sum(len(caption.split()) > CAPTION_WORDS for caption in captions)
    if too_long:
        hint = "The text encoder reads no further: put what matters first, or shorten it."
        lines.append(ReportLine("warning", f"{too_long} of {len(captions)} captions have over {CAPTION_WORDS} words.", hint))
    return lines or [ReportLine("good", "Every picture has a caption.", "")]


def _sizes(examples: tuple[Example, ...], resolution_px: int) -> list[ReportLine]:
    small = [example for example in examples if min(example.width, example.height) < resolution_px]
    if not small:
        return []
    least = min(small, key=lambda example: min(example.width, example.height))
    text = f"{_of(len(small), len(examples))} smaller than {resolution_px} px; {least.source} is {least.width} x {least.height}."
    return [ReportLine("warning", text, "They will be enlarged, which teaches blur: bring larger ones, or train at a lower resolution.")]


def _shapes(examples: tuple[Example, ...]) -> list[ReportLine]:
    oblong = [example for example in examples if _aspect(example) > _SQUARE_ENOUGH]
    if not oblong:
        return []
    worst = max(oblong, key=_aspect)
    lost = round(100 * (1 - 1 / _aspect(worst)))
    text = f"{_of(len(oblong), len(examples))} not square and will be cut to the middle; {worst.source} loses {lost} %."
    return [ReportLine("note", text, "Crop these yourself if the subject is not in the middle.")]


def _left_out(dataset: Dataset) -> list[ReportLine]:
    lines = [ReportLine("note", f"{skipped.name} was left out.", skipped.reason) for skipped in dataset.skipped[:_LISTED]]
    more = len(dataset.skipped) - _LISTED
    if more > 0:
        lines.append(ReportLine("note", f"{more} more were left out.", "The data set lists them with the reasons."))
    return lines


def _aspect(example: Example) -> float:
    return max(example.width, example.height) / min(example.width, example.height)


def _pictures(count: int) -> str:
    return "1 picture" if count == 1 else f"{count} pictures"


def _of(part: int, whole: int) -> str:
    return f"{part} of {_pictures(whole)} {'is' if part == 1 else 'are'}"
