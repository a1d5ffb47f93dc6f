"""Comparisons: same noise in every column, kept whole, rebuilt from their id."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from PIL import Image

from sdplay.columns import parse_column
from sdplay.compare import Comparison, open_comparison
from sdplay.engine import Engine
from sdplay.errors import AdapterError, ConfigError, RunError
from sdplay.runs import Run
from tests.test_train import pixels, trained, values


@pytest.fixture
def run(engine: Engine, tiny_base: Path, pictures: Path) -> Run:
    return trained(engine, values(engine, tiny_base, pictures, sample_prompts=[]))


def finished(engine: Engine, comparison_id: str) -> Comparison:
    while not (comparison := engine.comparison(comparison_id)).ended:
        time.sleep(0.05)
    return comparison


def asked(base: Path, columns: list[str], **changes: object) -> dict[str, object]:
    return {
        "base_model": str(base),
        "columns": columns,
        "prompts": ["dog", "a red ball"],
        "seeds": [1, 2],
        "drawing": {"steps": 2},
        **changes,
    }


def test_a_grid_has_every_cell_and_its_files(engine: Engine, run: Run, tiny_base: Path) -> None:
    comparison = finished(engine, engine.compare(asked(tiny_base, ["base", f"{run.id}@2", run.id, f"{run.id}:0.5"])))
    folder = engine.comparison_folder(comparison.id)

    assert comparison.status == "finished"
    assert len(comparison.cells) == 4 * 2 * 2
    assert all((folder / cell.file).is_file() for cell in comparison.cells)
    assert Image.open(folder / "grid.png").width > 4 * 128
    page = (folder / "index.html").read_text()
    assert page.count("data:image/png;base64") == 16
    assert "http" not in page.split("<table>")[1]


def test_every_column_starts_from_the_same_noise(engine: Engine, run: Run, tiny_base: Path) -> None:
    comparison = finished(engine, engine.compare(asked(tiny_base, ["base", f"{run.id}:0"])))
    folder = engine.comparison_folder(comparison.id)

    for prompt, seed in ((0, 1), (0, 2), (1, 1), (1, 2)):
        assert (pixels(folder / comparison.file_of(0, prompt, seed)) == pixels(folder / comparison.file_of(1, prompt, seed))).all()
    assert (pixels(folder / comparison.file_of(0, 0, 1)) != pixels(folder / comparison.file_of(0, 0, 2))).any()


def test_a_cell_knows_its_settings(engine: Engine, run: Run, tiny_base: Path) -> None:
    comparison = finished(engine, engine.compare(asked(tiny_base, [run.id])))
    with Image.open(engine.comparison_folder(comparison.id) / comparison.file_of(0, 1, 2)) as picture:
        settings = json.loads(picture.info["sdplay"])

        assert (settings["prompt"], settings["seed"], settings["adapter"]) == ("a red ball", 2, run.id)
        assert "Steps: 2" in picture.info["parameters"]


def test_prompts_are_escaped_in_the_page(engine: Engine, tiny_base: Path) -> None:
    comparison = finished(engine, engine.compare(asked(tiny_base, ["base"], prompts=["<script>alert(1)</script>"], seeds=[1])))

    assert "<script" not in (engine.comparison_folder(comparison.id) / "index.html").read_text()


def test_cancelling_keeps_the_finished_cells(engine: Engine, tiny_base: Path) -> None:
    comparison_id = engine.compare(asked(tiny_base, ["base"], seeds=list(range(16)), drawing={"steps": 60}))
    while not engine.comparison(comparison_id).cells:
        time.sleep(0.02)

    engine.cancel_comparison(comparison_id)

    comparison = finished(engine, comparison_id)
    assert comparison.status == "cancelled"
    assert 0 < len(comparison.cells) < comparison.config.num_cells


def test_a_grid_whose_program_died_is_failed_and_says_so(engine: Engine, tiny_base: Path) -> None:
    comparison = finished(engine, engine.compare(asked(tiny_base, ["base"])))
    path = engine.comparison_folder(comparison.id) / "comparison.json"
    path.write_text(path.read_text().replace('"finished"', '"drawing"'))

    assert engine.comparison(comparison.id).status == "failed"
    assert "ended before" in engine.comparison(comparison.id).message


@pytest.mark.parametrize(
    ("columns", "error", "says"),
    [
        (["nothing"], RunError, "no run"),
        (["base", "base"], ConfigError, "twice"),
        (["missing.safetensors"], AdapterError, "no file"),
        (["base:nan"], RunError, "no run"),
        ([], ConfigError, "Columns"),
    ],
)
def test_a_bad_grid_is_refused_and_writes_nothing(
    engine: Engine, tiny_base: Path, columns: list[str], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        engine.compare(asked(tiny_base, columns))

    assert engine.comparisons() == []


def test_a_step_without_checkpoint_names_the_ones_there_are(engine: Engine, run: Run) -> None:
    with pytest.raises(RunError, match="2, 4, 6"):
        parse_column(f"{run.id}@3", engine.workspace)


def test_a_strength_out_of_range_is_refused(engine: Engine, run: Run) -> None:
    with pytest.raises(ConfigError, match="out of range"):
        parse_column(f"{run.id}:40", engine.workspace)


@pytest.mark.parametrize("comparison_id", ["", "..", "../runs", "20260101-000000-0000000g", "20260101-000000-00000000"])
def test_a_wrong_link_is_a_sentence(tmp_path: Path, comparison_id: str) -> None:
    with pytest.raises(RunError, match="no comparison"):
        open_comparison(tmp_path, comparison_id)


def test_a_comparison_that_fails_says_why(engine: Engine, tmp_path: Path) -> None:
    comparison = finished(engine, engine.compare(asked(tmp_path / "nowhere", ["base"])))

    assert comparison.status == "failed"
    assert "no base model" in comparison.message
