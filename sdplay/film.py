"""Frames -> one GIF or MP4 file."""

from __future__ import annotations

import io
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

from PIL import Image

from sdplay.errors import ConfigError
from sdplay.workspace import write_atomically

SUFFIXES = (".gif", ".mp4")
MP4_BLOCK_PX = 2
"""H.264 stores colour for 2 x 2 px, so sides must be even; a base's sizes are."""


def check_film(path: Path) -> None:
    """Raises ConfigError when a file of that name cannot be written here."""
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"{path.name!r} is neither a GIF nor an MP4.", "Name the file like film.gif or film.mp4.")
    if path.suffix == ".mp4":
        _writer()


def write_film(path: Path, frames: Sequence[Image.Image], fps: int) -> None:
    """Write all frames, which are of one size; a GIF repeats without end. Raises ConfigError."""
    check_film(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gif":
        buffer = io.BytesIO()
        first, *others = frames
        first.save(buffer, "GIF", save_all=True, append_images=others, duration=round(1000 / fps), loop=0)
        write_atomically(path, buffer.getvalue())
    else:
        _write_mp4(path, frames, fps)


def _write_mp4(path: Path, frames: Sequence[Image.Image], fps: int) -> None:
    beside = path.with_name(f".tmp-{path.name}")
    film = _writer()(str(beside), frames[0].size, fps=fps, macro_block_size=MP4_BLOCK_PX, ffmpeg_log_level="error")
    film.send(None)
    for frame in frames:
        film.send(frame.convert("RGB").tobytes())
    film.close()
    beside.replace(path)


def _writer() -> Callable[..., Generator[None, object, None]]:
    try:
        from imageio_ffmpeg import write_frames
    except ImportError:
        raise ConfigError("MP4 files need a package that is not here.", "Run `pip install imageio-ffmpeg`, or write a .gif.") from None
    return write_frames
