"""What is good about a data set, and what to do about the rest, before an hour is spent on training."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from sdplay.data.examples import Dataset, Example

CAPTION_WORDS = 75
"""Stable Diffusion's text encoder reads 77 tokens, two of which mark start and end; a word is at least one."""
_SQUARE_ENOUGH = 1.1
_LISTED = 5


@dataclass(frozen=True)
class ReportLine:
    """One finding: a plain sentence, and what to do about it (empty if nothing).

    keys: the pictures it is about; none when it is about all.  fix: what `fixes.fix` can do about it; empty if nothing.
    """

    level: Literal["good", "note", "warning"]
    text: str
    hint: str
    keys: tuple[str, ...] = ()
    fix: str = ""


def report(dataset: Dataset, *, resolution_px: int, trigger: str = "", buckets: bool = False) -> list[ReportLine]:
    """What to know before training at this resolution: count, captions, sizes, shapes, and what was left out.

    trigger: the word that is to call what is learned.  buckets: whether pictures keep their shapes.
    """
    return [
        _count(dataset),
        *_captions(dataset.examples),
        *_without_trigger(dataset.examples, trigger),
        *_sizes(dataset.examples, resolution_px),
        *([] if buckets else _shapes(dataset.examples)),
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
    captioned = [example for example in examples if example.caption]
    without = _keys(example for example in examples if not example.caption)
    lines = []
    if without and not captioned:
        hint = "Describe each in one sentence, or let the training prompt stand for all."
        lines.append(ReportLine("note", "No picture has a caption.", hint, without, "caption_by_name"))
    elif without:
        hint = "Describe them too: pictures with and without captions teach different things."
        text = f"{len(without)} of {_pictures(len(examples))} without a caption."
        lines.append(ReportLine("warning", text, hint, without, "caption_by_name"))
    if len(captioned) > 1 and len({example.caption for example in captioned}) == 1:
        hint = "Say what differs, so that only the subject or style is tied to its name."
        lines.append(ReportLine("note", "All captions are the same.", hint, _keys(captioned)))
    elif repeated := _repeated(captioned):
        hint = "Say what differs between them."
        lines.append(ReportLine("note", f"{len(repeated)} pictures share a caption with another.", hint, repeated))
    too_long = _keys(example for example in captioned if len(example.caption.split()) > CAPTION_WORDS)
    if too_long:
        hint = "The text encoder reads no further: put what matters first, or shorten it."
        text = f"{len(too_long)} of {len(captioned)} captions have over {CAPTION_WORDS} words."
        lines.append(ReportLine("warning", text, hint, too_long, "shorten"))
    return lines or [ReportLine("good", "Every picture has a caption.", "")]


def _repeated(examples: list[Example]) -> tuple[str, ...]:
    """Those whose caption another has too, when that is more than a stray pair."""
    counts = Counter(example.caption for example in examples)
    repeated = _keys(example for example in examples if counts[example.caption] > 1)
    return repeated if len(repeated) > 2 else ()


def _without_trigger(examples: tuple[Example, ...], trigger: str) -> list[ReportLine]:
    """Said when some captions name it and others do not: then the training prompt is not what brings it in."""
    if not trigger:
        return []
    word = re.compile(rf"(?<!\w){re.escape(trigger)}(?!\w)", re.IGNORECASE)
    captioned = [example for example in examples if example.caption]
    without = _keys(example for example in captioned if not word.search(example.caption))
    if not without or len(without) == len(captioned):
        return []
    text = f"{len(without)} of {len(captioned)} captions lack the trigger word {trigger!r} that the others have."
    return [ReportLine("warning", text, "Put it into all of them, or into none and into the training prompt.", without, "add_trigger")]


def _sizes(examples: tuple[Example, ...], resolution_px: int) -> list[ReportLine]:
    small = [example for example in examples if min(example.size) < resolution_px]
    if not small:
        return []
    least = min(small, key=lambda example: min(example.size))
    text = f"{_of(len(small), len(examples))} smaller than {resolution_px} px; {least.source} is {least.size[0]} x {least.size[1]}."
    hint = "They will be enlarged, which teaches blur: bring larger ones, or train at a lower resolution."
    return [ReportLine("warning", text, hint, _keys(small), "leave_out" if len(small) < len(examples) else "")]


def _shapes(examples: tuple[Example, ...]) -> list[ReportLine]:
    oblong = [example for example in examples if _aspect(example) > _SQUARE_ENOUGH]
    if not oblong:
        return []
    worst = max(oblong, key=_aspect)
    lost = round(100 * (1 - 1 / _aspect(worst)))
    text = f"{_of(len(oblong), len(examples))} not square and will be cut to the middle; {worst.source} loses {lost} %."
    hint = "Crop these yourself if the subject is not in the middle, or turn on Bucketing, which keeps shapes."
    return [ReportLine("note", text, hint, _keys(oblong))]


def _left_out(dataset: Dataset) -> list[ReportLine]:
    lines = [ReportLine("note", f"{skipped.name} was left out.", skipped.reason) for skipped in dataset.skipped[:_LISTED]]
    more = len(dataset.skipped) - _LISTED
    if more > 0:
        lines.append(ReportLine("note", f"{more} more were left out.", "The data set lists them with the reasons."))
    return lines


def _aspect(example: Example) -> float:
    return max(example.size) / min(example.size)


def _keys(examples: Iterable[Example]) -> tuple[str, ...]:
    return tuple(example.key for example in examples)


def _pictures(count: int) -> str:
    return "1 picture" if count == 1 else f"{count} pictures"


def _of(part: int, whole: int) -> str:
    return f"{part} of {_pictures(whole)} {'is' if part == 1 else 'are'}"
