"""A small picture inside an adapter file, which model browsers show: ModelSpec's thumbnail."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

SIDE_PX = 256
QUALITY = 80


def thumbnail(picture: Path) -> dict[str, str]:
    """The metadata that hold a picture of our own as a JPEG of at most 256 px; nothing when it is gone."""
    if not picture.is_file():
        return {}
    with Image.open(picture, formats=["PNG"]) as opened:
        small = opened.convert("RGB")
    small.thumbnail((SIDE_PX, SIDE_PX))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=QUALITY)
    return {"modelspec.thumbnail": f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"}
