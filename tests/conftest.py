"""A tiny Stable Diffusion of random weights, made once per session, and pictures to train it on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
MOST_WORKERS = 4
"""Each takes some 2 GB."""


def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`: one more than there are cores, because a test that drives a browser waits for a third of its time."""
    return min(MOST_WORKERS, (os.cpu_count() or 1) + 1)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SD 1.x's classes at tiny size."""
    from tests import tiny

    return tiny.make_sd15(tmp_path_factory.mktemp("tiny-base"))


@pytest.fixture(scope="session")
def tiny_sd2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SD 2.x's classes at tiny size, v-prediction, zero terminal SNR."""
    from tests import tiny

    return tiny.make_sd2(tmp_path_factory.mktemp("tiny-sd2"))


@pytest.fixture(scope="session")
def tiny_sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SDXL's classes at tiny size."""
    from tests import tiny

    return tiny.make_sdxl(tmp_path_factory.mktemp("tiny-sdxl"))


@pytest.fixture(scope="session")
def tiny_sd3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SD3's classes at tiny size, with T5."""
    from tests import tiny

    return tiny.make_sd3(tmp_path_factory.mktemp("tiny-sd3"), t5=True)


@pytest.fixture(scope="session")
def tiny_sd3_without_t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SD3's classes at tiny size; the folder has no T5."""
    from tests import tiny

    return tiny.make_sd3(tmp_path_factory.mktemp("tiny-sd3-without-t5"), t5=False)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with six different captioned pictures of 64 px."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, colour in enumerate(("red", "green", "blue", "orange", "purple", "teal")):
        picture = Image.new("RGB", (64, 64), "white")
        ImageDraw.Draw(picture).ellipse((8, 8 + index, 40 + index, 48), fill=colour)
        picture.save(folder / f"{colour}.png")
        (folder / f"{colour}.txt").write_text(f"a {colour} ball")
    return folder


@pytest.fixture
def engine(tmp_path: Path) -> Iterator["Engine"]:  # noqa: F821, UP037  imported late, so that light tests stay light
    """An engine over an empty workspace; its worker is gone when the test ends."""
    from sdplay.engine import Engine
    from sdplay.workspace import open_workspace

    made = Engine(open_workspace(tmp_path / "workspace"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real inputs beside the project; a test that needs them skips where they are absent."""
    if not SHARED.is_dir():
        pytest.skip("the real inputs are not here")
    return SHARED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the matrix of families, methods and layouts after its tests have run."""
    from tests import matrix

    if lines := matrix.table(terminalreporter.stats):
        terminalreporter.section("families x methods x layouts")
        terminalreporter.write_line("\n".join(lines))
