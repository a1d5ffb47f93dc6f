"""What can be measured on a picture: sharpness, exposure, a fingerprint of its content, frames, what its edges cut.

Everything is measured on the part that training takes, and kept by content in <data set>/measures.json.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from sdplay.data.examples import Example
from sdplay.data.faces import find_faces
from sdplay.data.shapes import Box
from sdplay.workspace import write_json

VERSION = 1
"""Part of the key: a change of what is measured makes the kept values stale."""
MEASURED_PX = 512
HASH_SIDE, THUMB_SIDE, EDGE_SIDE = 16, 8, 32
_STRONG_EDGE = 48.0
_FRAME_SPREAD = 6.0
_FRAME_STEP = 24.0
_PLAIN_STEP = 8.0
_MOST_FRAME = 0.35
_PLAIN_SHARE = 0.7
_CUT_SHARE = 0.12
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Measures:
    """sharpness: variance of the Laplacian of the grey picture (levels 0 to 255), at most 512 px on its shorter side.
    low, mean, high: 5th percentile, mean and 95th percentile of the grey levels, in [0, 1].
    fingerprint: 256-bit difference hash, as hex.  thumb: 8 x 8 RGB, as hex, row by row.
    edges: 32 x 32 bits, row by row, as hex: where the picture has strong edges.
    inner: the part inside a frame or bars of one colour, in px of the whole picture; None without a frame.
    cut: sides at which something stands out of the picture: left, top, right, bottom.
    faces: in px of the whole picture; empty when none was found or nothing can look for them.
    """

    sharpness: float
    low: float
    mean: float
    high: float
    fingerprint: str
    thumb: str
    edges: str
    inner: Box | None = None
    cut: tuple[str, ...] = ()
    faces: tuple[Box, ...] = ()


def measure(picture: Image.Image, *, mask: Image.Image | None = None) -> Measures:
    """Measure one RGB picture; boxes are in its own px. mask: of the same size, white where the picture is to be learned."""
    small = picture.convert("RGB")
    scale = max(1.0, min(small.size) / MEASURED_PX)
    if scale > 1:
        small = small.resize((round(small.width / scale), round(small.height / scale)), Image.Resampling.LANCZOS, reducing_gap=2.0)
    pixels = np.asarray(small, dtype=np.float32)
    grey = np.asarray(small.convert("L"), dtype=np.float32)
    low, high = np.percentile(grey, (5, 95))
    inner = _inside_frame(pixels)
    return Measures(
        sharpness=round(float(_laplacian(grey).var()), 1),
        low=round(float(low) / 255, 3),
        mean=round(float(grey.mean()) / 255, 3),
        high=round(float(high) / 255, 3),
        fingerprint=_difference_hash(small),
        thumb=np.asarray(small.resize((THUMB_SIDE, THUMB_SIDE), Image.Resampling.BOX)).tobytes().hex(),
        edges=_edge_map(grey),
        inner=_scaled(inner, scale, picture.size) if inner else None,
        cut=_cut_sides_of_mask(mask) if mask else _cut_sides(pixels),
        faces=tuple(_scaled(box, scale, picture.size) for box in find_faces(small)),
    )


def measure_all(folder: Path, examples: Sequence[Example], *, on_progress: Progress | None = None) -> dict[str, Measures]:
    """Measures by key; those that are in the folder's measures.json already are read, the others made and written there.

    on_progress(name, done, total) is called before each picture that is measured.
    """
    kept = _read(folder / "measures.json")
    missing = [example for example in examples if _key(example) not in kept]
    for done, example in enumerate(missing):
        if on_progress:
            on_progress(example.source, done, len(missing))
        kept[_key(example)] = _measure_example(example)
    if missing:
        write_json(folder / "measures.json", {key: asdict(value) for key, value in kept.items()})
    return {example.key: kept[_key(example)] for example in examples}


def known_measures(folder: Path, examples: Sequence[Example]) -> dict[str, Measures]:
    """Those that were measured before, by key. Takes milliseconds."""
    kept = _read(folder / "measures.json")
    return {example.key: kept[_key(example)] for example in examples if _key(example) in kept}


def _measure_example(example: Example) -> Measures:
    left, top, _, _ = example.region
    with Image.open(example.path) as opened:
        part = opened.convert("RGB").crop(example.region)
    mask = None
    if example.mask:
        with Image.open(example.mask) as opened:
            mask = opened.convert("L").crop(example.region)
    found = measure(part, mask=mask)
    inner = _moved(found.inner, left, top) if found.inner else None
    return Measures(**{**vars(found), "inner": inner, "faces": tuple(_moved(box, left, top) for box in found.faces)})


def _laplacian(grey: np.ndarray) -> np.ndarray:
    """Sum of the four neighbours minus four times the pixel, at all inner pixels."""
    return grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]


def _difference_hash(picture: Image.Image) -> str:
    """One bit per cell of a 16 x 16 grid: is the next cell to the right brighter? Krawetz 2013, "Kind of like that"."""
    grey = np.asarray(picture.convert("L").resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.BOX), dtype=np.int16)
    return np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes().hex()


def _edge_map(grey: np.ndarray) -> str:
    """In which of 32 x 32 cells the steepest step between neighbours is strong."""
    across, down = np.zeros_like(grey), np.zeros_like(grey)
    across[:, 1:] = np.abs(np.diff(grey, axis=1))
    down[1:] = np.abs(np.diff(grey, axis=0))
    steep = np.maximum(across, down) > _STRONG_EDGE
    rows = np.arange(grey.shape[0]) * EDGE_SIDE // grey.shape[0]
    columns = np.arange(grey.shape[1]) * EDGE_SIDE // grey.shape[1]
    cells = np.zeros((EDGE_SIDE, EDGE_SIDE), dtype=bool)
    found_rows, found_columns = np.nonzero(steep)
    cells[rows[found_rows], columns[found_columns]] = True
    return np.packbits(cells).tobytes().hex()


def _inside_frame(pixels: np.ndarray) -> Box | None:
    """The part inside bars of one colour along the sides; None without bars.

    A bar ends in a straight line: the first row behind it differs from it nearly everywhere. So the plain ground around a
    single thing is no bar.
    """
    top, bottom = _bar(pixels), _bar(pixels[::-1])
    turned = pixels.transpose(1, 0, 2)
    left, right = _bar(turned), _bar(turned[::-1])
    if not (top or bottom or left or right):
        return None
    return left, top, pixels.shape[1] - right, pixels.shape[0] - bottom


def _bar(pixels: np.ndarray) -> int:
    """How many rows from the top on are a bar."""
    colour = np.median(pixels[0], axis=0)
    away = np.abs(pixels - colour).max(axis=2)
    plain = away.mean(axis=1) < _FRAME_SPREAD
    count = int(np.argmin(plain)) if not plain.all() else 0
    if not 2 <= count <= _MOST_FRAME * len(pixels):
        return 0
    behind = away[count : count + 3] > _FRAME_STEP
    middle = behind[:, pixels.shape[1] // 5 : -(pixels.shape[1] // 5) or None]
    return count if middle.mean() > 0.75 else 0


def _cut_sides(pixels: np.ndarray) -> tuple[str, ...]:
    """On a plain ground: the sides that a good part of something else touches. Without a plain ground nothing is said."""
    sides = {"left": pixels[:, 0], "top": pixels[0], "right": pixels[:, -1], "bottom": pixels[-1]}
    edge = np.concatenate(list(sides.values()))
    ground = np.median(edge, axis=0)
    if (np.abs(edge - ground).max(axis=1) < _PLAIN_STEP).mean() < _PLAIN_SHARE:
        return ()
    return tuple(name for name, line in sides.items() if (np.abs(line - ground).max(axis=1) > _FRAME_STEP).mean() > _CUT_SHARE)


def _cut_sides_of_mask(mask: Image.Image) -> tuple[str, ...]:
    """The sides at which what is to be learned leaves the picture."""
    white = np.asarray(mask.convert("L")) > 127
    sides = {"left": white[:, 0], "top": white[0], "right": white[:, -1], "bottom": white[-1]}
    if all(line.mean() > _PLAIN_SHARE for line in sides.values()):
        return ()
    return tuple(name for name, line in sides.items() if line.mean() > _CUT_SHARE)


def _scaled(box: Box, scale: float, size: tuple[int, int]) -> Box:
    left, top, right, bottom = (round(value * scale) for value in box)
    return left, top, min(right, size[0]), min(bottom, size[1])


def _moved(box: Box, left: int, top: int) -> Box:
    return box[0] + left, box[1] + top, box[2] + left, box[3] + top


def _key(example: Example) -> str:
    masked = "masked" if example.mask else ""
    return f"{VERSION}:{example.key}@{','.join(map(str, example.region))}{masked}"


def _read(path: Path) -> dict[str, Measures]:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return {key: _measures(value) for key, value in stored.items() if key.startswith(f"{VERSION}:")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _measures(value: Mapping) -> Measures:
    inner = tuple(value["inner"]) if value["inner"] else None
    return Measures(**{**value, "inner": inner, "cut": tuple(value["cut"]), "faces": tuple(tuple(box) for box in value["faces"])})
