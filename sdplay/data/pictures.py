"""One picture as the user brought it -> the same picture as training wants it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from sdplay.data.limits import Limits
from sdplay.errors import DataError

FORMATS = ("JPEG", "PNG", "WEBP")
SMALL_PX = 64
_ORIENTATION = 0x0112
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Picture:
    """A normalised picture: 8-bit RGB, upright, no metadata, encoded as the file that `suffix` says."""

    key: str
    suffix: str
    encoded: bytes
    width: int
    height: int
    notes: tuple[str, ...]
    mask: bytes | None = None
    """Its transparency as an 8-bit grey PNG of the same size, where it has any."""


def normalise(raw: bytes, limits: Limits) -> Picture:
    """Decode, check, turn upright, make RGB, shrink to `limits.kept_side_px` and encode again without metadata.

    Raises DataError with a sentence for whatever is not one whole, still, reasonably sized JPEG, PNG or WebP.
    The size is checked before any pixel is decoded.
    """
    notes: list[str] = []
    with decoded(raw, limits) as opened:
        suffix = ".png" if opened.format in ("PNG", "WEBP") else ".jpg"
        upright = ImageOps.exif_transpose(opened)
        if opened.getexif().get(_ORIENTATION, 1) != 1:
            notes.append("Turned upright, as the camera said.")
        mask = _alpha_of(upright)
        image = _to_rgb(upright, notes)
        image = _shrink(image, limits, notes)
        if min(image.size) < SMALL_PX:
            notes.append(f"Small ({image.width} x {image.height}): it will be enlarged.")
        kept_mask = encode_mask(mask.resize(image.size)) if mask else None
        return Picture(_key(image), suffix, _encode(image, suffix), image.width, image.height, tuple(notes), kept_mask)


@contextmanager
def decoded(raw: bytes, limits: Limits) -> Iterator[Image.Image]:
    """The picture in some bytes, for the block. Raises DataError for what is not one, also from inside the block."""
    try:
        with Image.open(BytesIO(raw), formats=FORMATS) as opened:
            _check_header(opened, limits)
            opened.load()
            yield opened
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(limits) from error
    except UnidentifiedImageError as error:
        raise DataError("It is not a JPEG, PNG or WebP picture inside.", "Save it as one of these and add it again.") from error
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        log.info("picture refused", exc_info=True)
        raise DataError("It is damaged and cannot be read to its end.", "Export or download it again.") from error


def encode_mask(mask: Image.Image) -> bytes:
    """8-bit grey -> PNG."""
    buffer = BytesIO()
    mask.save(buffer, "PNG")
    return buffer.getvalue()


def _alpha_of(image: Image.Image) -> Image.Image | None:
    """Its transparency as a mask; None where it has none, or nothing else."""
    if image.mode.startswith(("I", "F")) or not image.has_transparency_data:
        return None
    alpha = image.convert("RGBA").getchannel("A")
    return alpha if alpha.getextrema() not in ((255, 255), (0, 0)) else None


def _check_header(image: Image.Image, limits: Limits) -> None:
    width, height = image.size
    if width * height > limits.megapixels * 1_000_000 or max(width, height) > limits.side_px:
        raise _too_large(limits)
    if min(width, height) < limits.smallest_side_px:
        smallest = limits.smallest_side_px
        raise DataError(f"It is only {width} x {height} pixels.", f"Bring one of at least {smallest} x {smallest}, better 512 x 512.")
    # Phones store a second, hidden picture in a JPEG ("MPO"); that is no animation.
    if image.format in ("PNG", "WEBP") and getattr(image, "n_frames", 1) > 1:
        raise DataError("It is animated.", "Save the one frame you want as a still picture.")


def _too_large(limits: Limits) -> DataError:
    return DataError(
        f"It has more than {limits.megapixels} million pixels or a side over {limits.side_px} pixels.",
        f"Shrink it; {limits.kept_side_px} pixels on the longer side are plenty.",
    )


def _to_rgb(image: Image.Image, notes: list[str]) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        import numpy as np

        image = Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        return _on_white(image.convert("RGBA"), notes)
    return _to_srgb(image, notes)


def _on_white(image: Image.Image, notes: list[str]) -> Image.Image:
    alpha = image.getchannel("A")
    lowest = alpha.getextrema()[0]
    solid = _to_srgb(image, notes)
    if lowest == 255:
        return solid
    notes.append("Transparency was filled with white.")
    return Image.composite(solid, Image.new("RGB", image.size, "white"), alpha)


def _to_srgb(image: Image.Image, notes: list[str]) -> Image.Image:
    """RGB pixels that look as intended once the colour profile is gone. An unusable profile is passed over with a note."""
    embedded = image.info.get("icc_profile")
    if embedded and image.mode in ("RGB", "RGBA", "CMYK"):
        try:
            profile = ImageCms.ImageCmsProfile(BytesIO(embedded))
            if "srgb" not in ImageCms.getProfileDescription(profile).lower():
                source = image.convert("RGB") if image.mode == "RGBA" else image
                converted = ImageCms.profileToProfile(source, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
                if converted is not None:
                    notes.append("Its colours were converted to sRGB.")
                    return converted
        except (ImageCms.PyCMSError, OSError, ValueError):
            notes.append("Its colour profile could not be used: compare the colours.")
    elif image.mode == "CMYK":
        notes.append("Converted from print colours (CMYK): compare the colours.")
    return image.convert("RGB")


def _shrink(image: Image.Image, limits: Limits, notes: list[str]) -> Image.Image:
    if max(image.size) > limits.kept_side_px:
        before = f"{image.width} x {image.height}"
        image.thumbnail((limits.kept_side_px, limits.kept_side_px), Image.Resampling.LANCZOS)
        notes.append(f"Reduced from {before} to {image.width} x {image.height}.")
    return image


def _key(image: Image.Image) -> str:
    return hashlib.blake2b(image.tobytes(), digest_size=8, salt=f"{image.width}x{image.height}".encode()).hexdigest()


def _encode(image: Image.Image, suffix: str) -> bytes:
    image.info.clear()
    buffer = BytesIO()
    if suffix == ".png":
        image.save(buffer, "PNG", compress_level=3)
    else:
        image.save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()
