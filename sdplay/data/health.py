"""The whole health report of a data set: what `report` says from names and sizes, and what the pixels say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sdplay.data.examples import Dataset, Example
from sdplay.data.measures import EDGE_SIDE, HASH_SIDE, THUMB_SIDE, Measures, measure_all
from sdplay.data.report import ReportLine, report
from sdplay.data.shapes import Box, Size, bucket_sizes, crop_box, nearest, shifted, step_of

BLURRED, BLURRED_SHARE = 25.0, 0.12
"""Variance of the Laplacian below which a picture is blurred: at all, and as a share of the median of its set."""
DARK, PALE, FLAT = 0.25, 0.88, 0.04
"""Grey levels: nearly all below, nearly all above, nearly all within."""
CONTRAST = 0.6
"""Between dark and light of an ordinary photo, in [0, 1]."""
SAME_BITS, SAME_LEVELS = 24, 24.0
"""Pictures are nearly the same when so many of 256 bits, and so many of 256 levels nearly everywhere, differ at most. On average
would not do: different things on the same plain ground differ in few places.
"""
SAME_GROUND = 6.0
MARK_SHARE, MARK_CELLS, MARK_BUSY = 0.9, 8, 0.35
LEAST_FOR_PATTERNS = 5
LEAST_FOR_MARKS = 8
"""In fewer pictures the subject itself may stand at the same place of all."""
UNIT_PX = 16


@dataclass(frozen=True)
class Advice:
    """What the advice is for: the base's own size, the trigger word, and whether pictures keep their shapes."""

    resolution_px: int
    trigger: str = ""
    buckets: bool = False


def health(dataset: Dataset, measures: Mapping[str, Measures], advice: Advice) -> list[ReportLine]:
    """Everything worth knowing before training. Worst first, but the count always on top; measures may be missing."""
    first, *others = report(dataset, resolution_px=advice.resolution_px, trigger=advice.trigger, buckets=advice.buckets)
    examples = [example for example in dataset.examples if example.key in measures]
    lines = [
        *others,
        *_blurred(examples, measures),
        *_exposed(examples, measures),
        *_alike(examples, measures),
        *_framed(examples, measures),
        *_marked(examples, measures),
        *_same_ground(examples, measures),
        *_cut_off(examples, measures),
        *_faces_cut(examples, measures, advice),
        *_handled(dataset),
        *_set_aside(dataset),
    ]
    order = ("warning", "note", "good")
    return [first, *sorted(lines, key=lambda line: order.index(line.level))]


def examined(dataset: Dataset, advice: Advice) -> list[ReportLine]:
    """`health`, after a look at every picture that was not looked at yet: some 0.1 s each, once."""
    return health(dataset, measure_all(dataset.folder, dataset.pictures), advice)


def seen_box(example: Example, advice: Advice) -> Box:
    """The part of the picture, in its px, that training sees at this resolution."""
    size = seen_size(example, advice)
    return shifted(crop_box(example.size, size), *example.region[:2])


def seen_size(example: Example, advice: Advice) -> Size:
    """The (width, height) in px at which training sees it."""
    side = advice.resolution_px
    return nearest(example.size, bucket_sizes(side, step_of(side, UNIT_PX))) if advice.buckets else (side, side)


def shape_counts(examples: Sequence[Example], resolution_px: int) -> list[tuple[Size, int]]:
    """The buckets that the pictures would fall into, widest first, and how many into each."""
    advice = Advice(resolution_px, buckets=True)
    counts = Counter(seen_size(example, advice) for example in examples)
    return sorted(counts.items(), key=lambda item: -item[0][0] / item[0][1])


def near_duplicates(examples: Sequence[Example], measures: Mapping[str, Measures]) -> list[list[Example]]:
    """Groups of pictures that look the same, each with the largest first."""
    if len(examples) < 2:
        return []
    bits = np.stack([_bits(measures[example.key].fingerprint, HASH_SIDE) for example in examples]).reshape(len(examples), -1)
    thumbs = np.stack([_thumb(measures[example.key]) for example in examples]).reshape(len(examples), -1)
    signs = bits.astype(np.float32) * 2 - 1
    differing = (signs.shape[1] - signs @ signs.T) / 2
    groups: list[set[int]] = []
    for one, other in zip(*np.nonzero(np.triu(differing <= SAME_BITS, 1)), strict=True):
        if np.percentile(np.abs(thumbs[one] - thumbs[other]), 95) <= SAME_LEVELS:
            touching = [group for group in groups if group & {one, other}]
            groups = [group for group in groups if group not in touching] + [set().union({one, other}, *touching)]
    by_area = [sorted((examples[index] for index in group), key=lambda e: (-e.size[0] * e.size[1], e.place)) for group in groups]
    return sorted(by_area, key=lambda group: group[0].place)


def _blurred(examples: Sequence[Example], measures: Mapping[str, Measures]) -> list[ReportLine]:
    if not examples:
        return []
    sharpness = {example.key: _sharpness(measures[example.key]) for example in examples}
    least = max(BLURRED, BLURRED_SHARE * float(np.median(list(sharpness.values()))))
    soft = [example for example in examples if sharpness[example.key] < least and not _is_flat(measures[example.key])]
    return _line("warning", soft, "out of focus or enlarged", "What is blurred is learned as blur: bring sharper ones.", "leave_out")


def _exposed(examples: Sequence[Example], measures: Mapping[str, Measures]) -> list[ReportLine]:
    flat = [example for example in examples if _is_flat(measures[example.key])]
    dark = [example for example in examples if measures[example.key].high < DARK and example not in flat]
    pale = [example for example in examples if measures[example.key].low > PALE and example not in flat]
    return [
        *_line("warning", flat, "nearly one colour", "There is little to learn from them.", "leave_out"),
        *_line("warning", dark, "very dark", "Brighten them, or leave them out.", "leave_out"),
        *_line("warning", pale, "nearly white", "They may be overexposed.", "leave_out"),
    ]


def _alike(examples: Sequence[Example], measures: Mapping[str, Measures]) -> list[ReportLine]:
    groups = near_duplicates(examples, measures)
    if not groups:
        return []
    keys = tuple(example.key for group in groups for example in group)
    first = groups[0]
    text = f"{len(keys)} pictures are nearly the same as another, such as {first[0].source} and {first[1].source}."
    return [ReportLine("warning", text, "Each counts again and is learned too well: keep the largest of them.", keys, "one_of_each")]


def _framed(examples: Sequence[Example], measures: Mapping[str, Measures]) -> list[ReportLine]:
    framed = [example for example in examples if measures[example.key].inner]
    return _line("warning", framed, "inside bars or a frame of one colour", "Frames are learned too: crop them away.", "crop_frames")


def _marked(examples: Sequence[Example], measures: Mapping[str, Measures]) -> list[ReportLine]:
    """A watermark: strong edges at the same places of the border in nearly all pictures, which are not busy there."""
    if len(examples) < LEAST_FOR_MARKS:
        return []
    edges = np.stack([_bits(measures[example.key].edges, EDGE_SIDE) for example in examples])
    border = np.ones((EDGE_SIDE, EDGE_SIDE), dtype=bool)
    border[EDGE_SIDE // 5 : -(EDGE_SIDE // 5), EDGE_SIDE // 5 : -(EDGE_SIDE // 5)] = False
    shared = edges.mean(axis=0) >= MARK_SHARE
    if (shared & border).sum() < MARK_CELLS or edges[:, border].mean() > MARK_BUSY:
        return []
    keys = tuple(example.key for example, own in zip(examples, edges, strict=True) if (own & shared & border).sum() >= MARK_CELLS)
    text = f"{_count_of(keys)} seem to have the same mark near the border: a watermark, a date or a logo."
    return [ReportLine("warning", text, "It would be learned before anything else: crop it away, or mask it.", keys)]


def _same_ground(examples: Sequence[Example], measures: Mapping[str, Measures]) -> list[ReportLine]:
    if len(examples) < LEAST_FOR_PATTERNS:
        return []
    ring = np.ones((THUMB_SIDE, THUMB_SIDE), dtype=bool)
    ring[1:-1, 1:-1] = False
    grounds = np.stack([_thumb(measures[example.key])[ring] for example in examples])
    if np.abs(grounds - np.median(grounds, axis=0)).mean() > SAME_GROUND:
        return []
    masked = all(example.mask for example in examples)
    hint = "Turn on Masked loss, so that only what the masks show is learned." if masked else (
        "The model would learn it as part of the subject: bring some with other backgrounds, name it in the captions, or mask it."
    )  # fmt: skip
    return [ReportLine("note", "The background is the same in all pictures.", hint, tuple(example.key for example in examples))]


def _cut_off(examples: Sequence[Example], measures: Mapping[str, Measures]) -> list[ReportLine]:
    cut = [example for example in examples if measures[example.key].cut]
    if len(cut) * 2 > len(examples) > 2:  # then that is how these pictures are made
        return []
    return _line("note", cut, "cut off at the border", "What is cut off is drawn cut off: show the whole subject in most pictures.", "")


def _faces_cut(examples: Sequence[Example], measures: Mapping[str, Measures], advice: Advice) -> list[ReportLine]:
    cut = [example for example in examples if any(not _inside(face, seen_box(example, advice)) for face in measures[example.key].faces)]
    text = "cut through a face by the crop that training makes"
    return _line("warning", cut, text, "Crop them yourself, or turn on Bucketing, which keeps shapes.", "")


def _handled(dataset: Dataset) -> list[ReportLine]:
    """What was done to pictures as they were taken in, and needs nothing more."""
    lines = []
    for begins, text in (("Transparency", "had transparency, now white"), ("Turned", "turned upright as the camera said")):
        done = tuple(example.key for example in dataset.examples if any(note.startswith(begins) for note in example.notes))
        if done:
            verb = "was" if len(done) == 1 and begins == "Turned" else "were" if begins == "Turned" else ""
            hint = "Where it was is kept as a mask." if begins == "Transparency" else ""
            lines.append(ReportLine("good", f"{_count_of(done)} {verb} {text}.".replace("  ", " "), hint, done))
    return lines


def _set_aside(dataset: Dataset) -> list[ReportLine]:
    keys = tuple(example.key for example in dataset.set_aside)
    if not keys:
        return []
    text = f"{_count_of(keys)} {'is' if len(keys) == 1 else 'are'} left out by you."
    return [ReportLine("note", text, "Training does not see what is left out.", keys, "take_back")]


def _line(level: str, examples: Sequence[Example], what: str, hint: str, fix: str) -> list[ReportLine]:
    if not examples:
        return []
    keys = tuple(example.key for example in examples)
    named = examples[0].source if len(examples) == 1 else f"{len(examples)} pictures, such as {examples[0].source},"
    text = f"{named} {'is' if len(examples) == 1 else 'are'} {what}."
    return [ReportLine("warning" if level == "warning" else "note", text, hint, keys, fix)]


def _sharpness(found: Measures) -> float:
    """As it would be at ordinary contrast: the variance of the Laplacian grows with the square of the contrast."""
    return found.sharpness * (CONTRAST / max(found.high - found.low, FLAT)) ** 2


def _is_flat(found: Measures) -> bool:
    return found.high - found.low < FLAT and found.sharpness < BLURRED


def _inside(box: Box, outer: Box) -> bool:
    return box[0] >= outer[0] and box[1] >= outer[1] and box[2] <= outer[2] and box[3] <= outer[3]


def _bits(text: str, side: int) -> np.ndarray:
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), dtype=np.uint8)).reshape(side, side).astype(bool)


def _thumb(found: Measures) -> np.ndarray:
    """(8, 8, 3) levels."""
    return np.frombuffer(bytes.fromhex(found.thumb), dtype=np.uint8).reshape(THUMB_SIDE, THUMB_SIDE, 3).astype(np.float32)


def _count_of(keys: Sequence[str]) -> str:
    return "1 picture" if len(keys) == 1 else f"{len(keys)} pictures"
