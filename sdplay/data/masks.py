"""Masks: which part of a picture is to be learned. White is learned, black is not.

A mask comes as the picture's own transparency, or as a file: `fox.mask.png` or `fox-masklabel.png` beside `fox.jpg`,
or `masks/fox.png` in a folder beside it. A file wins over transparency.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageOps

from sdplay.data.captions import Names
from sdplay.data.examples import Skipped
from sdplay.data.files import Found, mask_target
from sdplay.data.limits import Limits
from sdplay.data.pictures import decoded, encode_mask
from sdplay.errors import DataError
from sdplay.workspace import write_atomically

SHOWN_SIDE_PX = 640
_TINT = (220, 30, 60)
_HINT = "Name it like its picture: fox.mask.png, fox-masklabel.png or masks/fox.png for fox.jpg."


def match_masks(found: Sequence[Found]) -> tuple[dict[Found, Found], list[Skipped]]:
    """Picture -> its mask file, and the mask files that belong to no picture or to several."""
    names = Names([item for item in found if item.kind == "picture"])
    matched: dict[Found, Found] = {}
    lost = []
    for mask in (item for item in found if item.kind == "mask"):
        pictures = names.called(mask_target(mask.path), near=mask)
        if len(pictures) == 1:
            matched[pictures[0]] = mask
        else:
            why = "belongs to no picture here" if not pictures else f"could belong to {len(pictures)} pictures"
            lost.append(Skipped(mask.name, f"This mask {why}. {_HINT}"))
    return matched, lost


def read_mask(raw: bytes, size: tuple[int, int], limits: Limits) -> bytes:
    """A mask file as an 8-bit grey PNG of the picture's (width, height). Transparent places count as black.

    Raises DataError for what is no picture, has another shape than the picture, or is black all over.
    """
    with decoded(raw, limits) as opened:
        upright = ImageOps.exif_transpose(opened).convert("RGBA")
    black = Image.new("RGBA", upright.size, "black")
    grey = Image.alpha_composite(black, upright).convert("L")
    if abs(grey.width * size[1] - grey.height * size[0]) > 0.02 * grey.width * size[1]:
        raise DataError(
            f"The mask is {grey.width} x {grey.height}, another shape than its picture.", "Paint it on the picture as you bring it."
        )
    if grey.getextrema()[1] == 0:
        raise DataError("The mask is black all over, so nothing would be learned.", "Paint white what is to be learned.")
    return encode_mask(grey.resize(size, Image.Resampling.BILINEAR))


def picture_with_mask(picture: Image.Image, mask: Image.Image) -> Image.Image:
    """The picture as a person sees what is learned: the rest is dark and red. At most 640 px."""
    shown, weight = picture.convert("RGB"), mask.convert("L")
    shown.thumbnail((SHOWN_SIDE_PX, SHOWN_SIDE_PX))
    red = Image.blend(ImageOps.grayscale(shown).convert("RGB"), Image.new("RGB", shown.size, _TINT), 0.55)
    return Image.composite(shown, red, weight.resize(shown.size))


def write_mask(mask: bytes, picture_path: Path) -> Path:
    """Write the mask and the view of it beside the picture. Returns the mask's path."""
    path, view = mask_path(picture_path), BytesIO()
    with Image.open(picture_path) as picture, Image.open(BytesIO(mask)) as opened:
        picture_with_mask(picture, opened).save(view, "JPEG", quality=85)
    write_atomically(path, mask)
    write_atomically(view_path(picture_path), view.getvalue())
    return path


def mask_path(picture_path: Path) -> Path:
    """Where the mask of a picture of a data set is."""
    return picture_path.with_name(f"{picture_path.stem}.mask.png")


def view_path(picture_path: Path) -> Path:
    """Where the picture that shows its mask is."""
    return picture_path.with_name(f"{picture_path.stem}.view.jpg")
