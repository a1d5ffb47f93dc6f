from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sdplay.data import DatasetStore


@pytest.fixture
def store(tmp_path: Path) -> DatasetStore:
    return DatasetStore(tmp_path / "store")


@pytest.fixture
def paint(tmp_path: Path) -> Callable[..., Path]:
    """Make a picture that differs from every other: paint("a.png", size=(64, 64), seed=1)."""
    made = 0

    def paint(name: str, *, size: tuple[int, int] = (64, 64), mode: str = "RGB", seed: int | None = None) -> Path:
        nonlocal made
        made += 1
        pixels = np.random.default_rng(made if seed is None else seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        path = tmp_path / "brought" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).convert(mode).save(path)
        return path

    return paint
