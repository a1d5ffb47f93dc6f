"""Faces in a picture, where OpenCV is installed; otherwise none are looked for and nothing is said."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sdplay.data.shapes import Box

_SMALLEST_SHARE = 0.08


def find_faces(picture: Image.Image) -> list[Box]:
    """Frontal faces of at least 8 % of the shorter side, in px. Empty without OpenCV (`pip install opencv-python-headless`)."""
    detector = _detector()
    if detector is None:
        return []
    smallest = max(20, round(_SMALLEST_SHARE * min(picture.size)))
    grey = np.asarray(picture.convert("L"))
    found = detector.detectMultiScale(grey, scaleFactor=1.1, minNeighbors=6, minSize=(smallest, smallest))
    return [(int(left), int(top), int(left + width), int(top + height)) for left, top, width, height in found]


@cache
def _detector() -> Any | None:  # noqa: ANN401  a class of OpenCV's, which may be absent
    try:
        import cv2
    except ImportError:
        return None
    path = Path(cv2.data.haarcascades) / "haarcascade_frontalface_default.xml"
    return cv2.CascadeClassifier(str(path)) if path.is_file() else None
