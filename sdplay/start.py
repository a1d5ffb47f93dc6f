"""The picture that drawing may begin with, and the mask of what is drawn anew in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from sdplay.errors import ConfigError

MAX_PIXELS = 50_000_000


@dataclass(frozen=True)
class StartPicture:
    """RGB picture; mask of the same size in 0 and 255 (255: drawn anew), or None for all of it; strength in 0 to 1."""

    picture: Image.Image
    strength: float
    mask: Image.Image | None = None

    def done_steps(self, steps: int) -> int:
        """How many of the denoising steps are done; with none the picture comes back as it is."""
        return int(steps * self.strength)

    def fitted(self, width: int, height: int) -> StartPicture:
        """The same at another size: scaled to cover it, what sticks out is cut evenly."""
        if self.picture.size == (width, height):
            return self
        picture = ImageOps.fit(self.picture, (width, height), Image.Resampling.LANCZOS)
        mask = ImageOps.fit(self.mask, (width, height), Image.Resampling.NEAREST) if self.mask else None
        return StartPicture(picture, self.strength, mask)

    def kept(self, drawn: Image.Image) -> Image.Image:
        """The drawn picture with everything outside the mask as it was, to the pixel."""
        return Image.composite(drawn, self.picture, self.mask) if self.mask else drawn


def open_start(image: str, mask: str, strength: float) -> StartPicture | None:
    """Read the files; None when there is no image. Raises ConfigError when one cannot be read or they do not fit each other."""
    if not image:
        return None
    picture = _opened(image, "start picture")
    if not mask:
        return StartPicture(_on_white(picture), strength)
    painted = _opened(mask, "mask")
    if painted.size != picture.size:
        raise ConfigError(
            f"The mask has {_size(painted)} px and the start picture {_size(picture)} px.", "Paint the mask on the picture itself."
        )
    binary = painted_part(painted)
    if binary.getbbox() is None:
        raise ConfigError("The mask is black: nothing would be drawn.", "Paint white what is to be drawn anew, or give no mask.")
    return StartPicture(_on_white(picture), strength, binary)


def painted_part(mask: Image.Image) -> Image.Image:
    """0 and 255, cut in the middle of the brightness; what is transparent counts as black."""
    return _on(mask, "black").convert("L").point([0] * 128 + [255] * 128)


def size_like(picture: Image.Image, *, side: int, multiple: int) -> tuple[int, int]:
    """Width and height in the picture's proportions with about the area of a square of `side`, in whole multiples."""
    ratio = (picture.width / picture.height) ** 0.5
    return max(1, round(side * ratio / multiple)) * multiple, max(1, round(side / ratio / multiple)) * multiple


def _opened(path: str, what: str) -> Image.Image:
    try:
        with Image.open(Path(path).expanduser()) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise ConfigError(f"The {what} has {_size(opened)} px.", "Make it smaller.")
            opened.load()
            return ImageOps.exif_transpose(opened)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise ConfigError(f"The {what} {Path(path).name[:80]!r} cannot be read.", "Give a PNG, JPEG or WebP file.") from None


def _on_white(picture: Image.Image) -> Image.Image:
    return _on(picture, "white")


def _on(picture: Image.Image, colour: str) -> Image.Image:
    """RGB; what is transparent takes the colour."""
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layer = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, colour), layer).convert("RGB")


def _size(picture: Image.Image) -> str:
    return f"{picture.width} x {picture.height}"
