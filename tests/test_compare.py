"""Comparisons: same noise in every column, kept whole, rebuilt from their id."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from PIL import Image

from sdplay.columns import parse_column
from sdplay.compare import Comparison, open_comparison
from sdplay.engine import Engine
from sdplay.errors import AdapterError, ConfigError, RunError
from sdplay.grid_files import settings_json
from sdplay.runs import Run, is_held
from tests.test_train import pixels, trained, values


@pytest.fixture
def run(engine: Engine, tiny_base: Path, pictures: Path) -> Run:
    return trained(engine, values(engine, tiny_base, pictures, sample_prompts=[]))


def finished(engine: Engine, comparison_id: str) -> Comparison:
    """Wait until it has ended and is in nobody's hands: its worker writes the end first and gives the lock back after that."""
    lock = engine.comparison_folder(comparison_id) / "lock"
    while not (comparison := engine.comparison(comparison_id)).ended or is_held(lock):
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
    assert not re.findall(r"https?://|//[a-z]+\\.", page.replace(str(tiny_base), "")), "the page needs nothing from elsewhere"


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

    assert "<script>alert" not in (engine.comparison_folder(comparison.id) / "index.html").read_text()


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


def test_axes_multiply_the_grid_and_what_they_do_not_change_is_drawn_once(engine: Engine, run: Run, tiny_base: Path) -> None:
    wanted = asked(tiny_base, ["base", run.id], seeds=[1], axes={"strength": [0.5, 1], "steps": [2, 3]})
    comparison = finished(engine, engine.compare(wanted))

    assert comparison.status == "finished"
    assert len(comparison.drawn) == comparison.config.num_cells == 2 * 2 * 2 * 2
    assert comparison.file_of(0, 0, 1, 0, 0) == comparison.file_of(0, 0, 1, 1, 0), "the base has no strength"
    assert len({cell.file for cell in comparison.drawn}) == 2 * 2 + 2 * 2 * 2
    with Image.open(engine.comparison_folder(comparison.id) / comparison.file_of(1, 0, 1, 0, 1)) as picture:
        settings = json.loads(picture.info["sdplay"])
    assert (settings["adapter_strength"], settings["steps"]) == (0.5, 3)


def test_a_strength_of_the_axis_is_the_strength_of_the_column(engine: Engine, run: Run, tiny_base: Path) -> None:
    by_axis = finished(engine, engine.compare(asked(tiny_base, [run.id], axes={"strength": [0.5]})))
    by_column = finished(engine, engine.compare(asked(tiny_base, [f"{run.id}:0.5"])))

    first = engine.comparison_folder(by_axis.id) / by_axis.file_of(0, 0, 1, 0)
    assert (pixels(first) == pixels(engine.comparison_folder(by_column.id) / by_column.file_of(0, 0, 1))).all()


def test_checkpoints_are_an_axis(engine: Engine, run: Run, tiny_base: Path) -> None:
    by_axis = finished(engine, engine.compare(asked(tiny_base, ["base", run.id], axes={"checkpoint": [2, 6]})))
    by_column = finished(engine, engine.compare(asked(tiny_base, [f"{run.id}@2"])))

    first = engine.comparison_folder(by_axis.id) / by_axis.file_of(1, 0, 1, 0)
    assert (pixels(first) == pixels(engine.comparison_folder(by_column.id) / by_column.file_of(0, 0, 1))).all()
    with pytest.raises(RunError, match="no checkpoint at step 3"):
        engine.compare(asked(tiny_base, [run.id], axes={"checkpoint": [3]}))


def test_a_picture_that_cannot_be_drawn_says_why_and_spoils_no_other(engine: Engine, run: Run, tiny_base: Path) -> None:
    broken = engine.workspace.adapters / "gone.safetensors"
    broken.parent.mkdir()
    broken.write_bytes((run.folder / "checkpoints" / "2" / "adapter.safetensors").read_bytes()[:-9])
    comparison = finished(engine, engine.compare(asked(tiny_base, ["base", "gone.safetensors", run.id])))

    failed = [cell for cell in comparison.cells if cell.error]
    assert comparison.status == "finished"
    assert {cell.column for cell in failed} == {1}
    assert all("gone" in cell.error for cell in failed)
    assert len(comparison.drawn) == 8
    assert comparison.can_continue
    assert "4 of 12" in comparison.message


def test_a_cancelled_comparison_goes_on_after_a_restart_and_is_what_it_would_have_been(engine: Engine, run: Run, tiny_base: Path) -> None:
    wanted = asked(tiny_base, ["base", run.id], seeds=list(range(12)), drawing={"steps": 30})
    whole = finished(engine, engine.compare(wanted))
    cut = engine.compare(wanted)
    while not engine.comparison(cut).cells:
        time.sleep(0.02)
    engine.cancel_comparison(cut)
    kept = {cell.file for cell in finished(engine, cut).drawn}

    restarted = Engine(engine.workspace)
    restarted.grids.go_on(cut)
    comparison = finished(restarted, cut)
    restarted.close()

    assert 0 < len(kept) < whole.config.num_cells
    assert comparison.status == "finished"
    assert {cell.place for cell in comparison.drawn} == {cell.place for cell in whole.drawn}
    for cell in whole.drawn:
        assert (pixels(engine.comparison_folder(whole.id) / cell.file) == pixels(engine.comparison_folder(cut) / cell.file)).all()


def test_what_is_complete_cannot_be_continued(engine: Engine, tiny_base: Path) -> None:
    comparison = finished(engine, engine.compare(asked(tiny_base, ["base"])))

    with pytest.raises(RunError, match="is finished"):
        engine.grids.go_on(comparison.id)


def test_the_pace_of_a_base_is_remembered(engine: Engine, tiny_base: Path) -> None:
    assert engine.grids.seconds_per_step(str(tiny_base)) is None

    comparison_id = engine.compare(asked(tiny_base, ["base"]))
    while not engine.comparison(comparison_id).cells:
        time.sleep(0.001)
    assert 0 < (engine.grids.seconds_per_step(str(tiny_base)) or 0) < 5, "the page asks as soon as it sees a picture"
    finished(engine, comparison_id)

    assert 0 < (engine.grids.seconds_per_step(str(tiny_base)) or 0) < 5
    assert Engine(engine.workspace).grids.seconds_per_step(str(tiny_base)) == engine.grids.seconds_per_step(str(tiny_base))


def test_a_handed_on_list_of_settings_names_no_folder_of_this_computer(engine: Engine, run: Run, tiny_base: Path) -> None:
    path = run.folder / "checkpoints" / "2" / "adapter.safetensors"
    comparison = finished(engine, engine.compare(asked(tiny_base, ["base", str(path)])))

    listed = json.loads(settings_json(comparison))

    assert [cell["seed"] for cell in listed["cells"]] == [1, 2] * 4
    assert str(run.folder) not in json.dumps(listed)
