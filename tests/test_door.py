"""What cannot end well is refused in a sentence before a run has a folder, and what a run will write is known before."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from sdplay import single_file
from sdplay.device import best_device
from sdplay.disk import DiskPlan, size_text
from sdplay.engine import Engine
from sdplay.errors import DataError, DeviceError, ModelError
from sdplay.families import family
from sdplay.hub import Base, find_base
from sdplay.methods import parse_train_config
from sdplay.plan import disk_needed
from tests.methods.test_contract import settings
from tests.test_train import trained, values


def nothing_was_written(engine: Engine) -> bool:
    return not engine.runs()


def test_masked_loss_without_masks_is_refused_before_there_is_a_folder(engine: Engine, tiny_base: Path, pictures: Path) -> None:
    with pytest.raises(DataError, match="no picture has a mask"):
        engine.submit(values(engine, tiny_base, pictures, masked_loss="mask"))
    assert nothing_was_written(engine)


@pytest.mark.parametrize("name", ["model.ckpt", "missing.safetensors", "empty"])
def test_a_pickled_missing_or_empty_base_is_refused_before_there_is_a_folder(
    engine: Engine, tiny_base: Path, pictures: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "model.ckpt").write_bytes(b"\x80\x04")
    (tmp_path / "empty").mkdir()

    with pytest.raises(ModelError):
        engine.submit({**values(engine, tiny_base, pictures), "base_model": str(tmp_path / name)})
    assert nothing_was_written(engine)


def test_a_class_data_set_that_is_not_there_is_refused_before_there_is_a_folder(engine: Engine, tiny_base: Path, pictures: Path) -> None:
    with pytest.raises(DataError, match="no data set"):
        engine.submit(values(engine, tiny_base, pictures, prior="dataset", prior_dataset="nothing", class_word="ball"))
    assert nothing_was_written(engine)


def test_dreambooth_asks_for_its_room_on_the_disk(engine: Engine, tiny_base: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A denoiser of n float32 weights: three checkpoints with two AdamW states each, 12 n bytes, and the result in float16."""
    count = family("sd15").load(tiny_base, best_device(), source="tiny").denoiser.num_parameters()
    config = values(engine, tiny_base, pictures, method="dreambooth", sample_prompts=[])
    needed = disk_needed(find_base(str(tiny_base)), parse_train_config(config))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=needed.total - 1))

    assert needed == DiskPlan({"whole weights": 2 * count}, 3 * 12 * count)
    with pytest.raises(DeviceError, match="The disk has"):
        engine.submit(config)
    assert nothing_was_written(engine)


@pytest.mark.parametrize("name", ["lora on all layers", "textual inversion", "pivotal", "dreambooth"])
def test_files_have_the_sizes_that_were_told_before(engine: Engine, tiny_base: Path, pictures: Path, name: str) -> None:
    """Within their headers: some kB of names."""
    config = settings(engine, tiny_base, pictures, name, sample_prompts=[])
    told = disk_needed(find_base(str(tiny_base)), parse_train_config(config))

    run = trained(engine, config)

    written = [artifact.num_bytes for artifact in run.state().artifacts]
    assert len(written) == len(told.results)
    for size, planned in zip(written, told.results.values(), strict=True):
        assert planned <= size <= planned + 40_000
    checkpoints = sum(path.stat().st_size for path in (run.folder / "checkpoints").rglob("*.safetensors"))
    assert checkpoints <= told.checkpoints + 200_000
    assert told.sentence in run.state().notes


def test_sizes_are_told_in_the_unit_that_fits() -> None:
    assert [size_text(size) for size in (200, 24_400, 3_200_000, 20_640_000_000)] == ["1 KB", "24 KB", "3.2 MB", "20.6 GB"]


def test_a_lora_on_the_true_sd15_has_the_size_that_every_trainer_writes(tmp_path: Path) -> None:
    """Rank 4 on the attention: 797,184 weights, 3.2 MB; a word of 8 vectors of 768 numbers 24.6 kB."""
    single_file.write_layout("sd15", tmp_path, single_file.layouts()["sd15"]["scheduler"])
    base = Base("sd15", tmp_path, "sd15", "")

    lora = disk_needed(base, parse_train_config({"rank": 4}))
    word = disk_needed(base, parse_train_config({"method": "textual_inversion", "token": "x", "vectors": 8}))

    assert lora.results["adapter"] == 4 * 797_184
    assert word.results["embedding"] == 4 * 8 * 768
