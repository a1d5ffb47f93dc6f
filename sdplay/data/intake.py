"""Found files -> examples in a folder, and a reason for everything that is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from sdplay.data.captions import Caption, match_captions
from sdplay.data.edits import checked_crop
from sdplay.data.examples import Example, Skipped
from sdplay.data.files import Found, why_not_a_picture
from sdplay.data.limits import Limits
from sdplay.data.masks import match_masks, read_mask
from sdplay.data.pictures import normalise
from sdplay.data.views import View, match_views
from sdplay.errors import DataError

_BRING = "Bring JPEG, PNG or WebP pictures, 10 to 20 of one subject or style: as files, a folder or a .zip."
_KEPT = "kept"


@dataclass
class Intake:
    """What came of the sources.

    examples: the new ones, written.
    refound: pictures that were there already, by key, with the captions they brought this time.
    recaptioned: captions, by key, from a table or text file that names a picture which was there already.
    masks: by key, as 8-bit grey PNG: of new pictures, and of those that were there already and are named by a mask file.
    views: what a data set that was exported said about a picture, by key: its crop, and whether it was left out.
    keys: of every picture that could be read.
    seen: how many of each ending were found, for the message when none is usable.
    """

    examples: list[Example] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    refound: dict[str, str] = field(default_factory=dict)
    recaptioned: dict[str, str] = field(default_factory=dict)
    masks: dict[str, bytes] = field(default_factory=dict)
    views: dict[str, View] = field(default_factory=dict)
    keys: dict[Found, str] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)

    def is_of_use(self) -> bool:
        """Did anything in the sources belong to the data set?"""
        return bool(self.examples or self.recaptioned or self.refound or self.masks)

    def with_view(self, example: Example) -> Example:
        """The example with the crop that came for it, if it fits."""
        view = self.views.get(example.key)
        if view is None:
            return example
        try:
            crop = checked_crop(example, view.crop) if view.crop else example.crop
        except DataError:
            crop = example.crop
        return replace(example, crop=crop, left_out=view.left_out)

    def nothing_usable(self) -> DataError:
        """What was found instead of pictures, and what to bring."""
        if not self.seen:
            return DataError("There is nothing inside.", _BRING)
        inside = ", ".join(f"{count} {ending}{'s' if count > 1 else ''}" for ending, count in self.seen.most_common(5))
        reasons = " ".join(f"{skipped.name}: {skipped.reason}" for skipped in self.skipped[:3])
        return DataError(f"No usable picture was found among: {inside}. {reasons}".strip(), _BRING)


def take_in(
    found: Sequence[Found],
    folder: Path,
    *,
    known: Sequence[Example],
    limits: Limits,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Intake:
    """Write every usable picture that is not `known` yet to `folder`, named by its key, with the caption found for it.

    on_progress(name, done, total) is called before each picture.
    """
    folder.mkdir(exist_ok=True)
    kept = {_as_found(example): example for example in known}
    matched = match_captions([*found, *kept], limits)
    intake = Intake(skipped=list(matched.skipped), seen=Counter(_ending(item.name) for item in found))
    intake.recaptioned = {example.key: matched.captions[item].text for item, example in kept.items() if item in matched.captions}
    intake.keys = {item: example.key for item, example in kept.items()}
    pictures = [item for item in found if item.kind == "picture"]
    names = {example.key: example.source for example in known}
    for done, item in enumerate(pictures):
        if len(names) >= limits.pictures:
            intake.skipped.append(_over_the_limit(item, limits))
            break
        if on_progress:
            on_progress(item.name, done, len(pictures))
        try:
            _take_one(item, matched.captions.get(item, Caption("")), folder, names, limits, intake)
        except DataError as error:
            intake.skipped.append(Skipped(item.name, str(error)))
    pictures_now = [item for item in (*found, *kept) if item in intake.keys]
    intake.views = {intake.keys[item]: view for item, view in match_views([*found, *kept], pictures_now, limits).items()}
    _take_masks([*found, *kept], {example.key: example for example in (*known, *intake.examples)}, limits, intake)
    intake.skipped.extend(_others(found, limits))
    return intake


def _take_one(item: Found, caption: Caption, folder: Path, names: dict[str, str], limits: Limits, intake: Intake) -> None:
    """names: key -> source of all that is in the data set so far; grows by this picture."""
    picture = normalise(item.read(), limits)
    intake.keys[item] = picture.key
    if picture.key in names:
        if picture.key not in {example.key for example in intake.examples}:
            intake.refound[picture.key] = caption.text
        raise DataError(f"It is the same picture as {names[picture.key]}.", "Nothing needs to be done: it counts once.")
    path = folder / f"{picture.key}{picture.suffix}"
    path.write_bytes(picture.encoded)
    names[picture.key] = item.name
    notes = picture.notes + caption.notes
    intake.examples.append(Example(picture.key, path, caption.text, picture.width, picture.height, item.name, notes))
    if picture.mask:
        intake.masks[picture.key] = picture.mask


def _take_masks(found: Sequence[Found], examples: dict[str, Example], limits: Limits, intake: Intake) -> None:
    """Masks from files; they win over transparency. examples: by key, all that are in the data set now."""
    masks, lost = match_masks(found)
    intake.skipped.extend(lost)
    for picture, mask in masks.items():
        example = examples.get(intake.keys.get(picture, ""))
        if example is None:
            continue
        try:
            intake.masks[example.key] = read_mask(mask.read(), (example.width, example.height), limits)
        except DataError as error:
            intake.skipped.append(Skipped(mask.name, str(error)))


def _as_found(example: Example) -> Found:
    return Found(example.source, _KEPT, example.source, "picture", example.path.read_bytes)


def _over_the_limit(first: Found, limits: Limits) -> Skipped:
    reason = f"A data set holds at most {limits.pictures} pictures. Take some out, or make a second data set."
    return Skipped(f"{first.name} and all pictures after it", reason)


def _others(found: Sequence[Found], limits: Limits) -> list[Skipped]:
    others = [Skipped(item.name, why_not_a_picture(item.name)) for item in found if item.kind == "other"]
    if len(others) > limits.listed:
        rest = Skipped(f"{len(others) - limits.listed} more files", "They are not pictures either. Nothing needs to be done.")
        return [*others[: limits.listed], rest]
    return others


def _ending(name: str) -> str:
    suffix = PurePosixPath(name).suffix.lower()
    return f"{suffix} file" if suffix else "plain file"
