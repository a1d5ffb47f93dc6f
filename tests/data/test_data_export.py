"""A data set as files: what goes out comes back."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from sdplay.data import Dataset, DatasetStore
from sdplay.data.export import file_names, push_to_hub, write_folder, write_zip
from sdplay.errors import DataError

Paint = Callable[..., Path]


@pytest.fixture
def rich(store: DatasetStore, paint: Paint) -> Dataset:
    """Captions, a crop, a mask, one left out, and two files of one name."""
    made = store.create([paint("one/Fox 1.png"), paint("two/fox-1.png"), paint("c.png", size=(128, 64))])
    first, second, third = (example.key for example in made.pictures)
    store.set_captions(made.id, {first: 'a "fox", {braced}', third: "bär"})
    store.set_crop(made.id, third, [10, 0, 74, 64])
    store.leave_out(made.id, [second])
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))
    written = BytesIO()
    mask.save(written, "PNG")
    return store.set_mask(made.id, first, written.getvalue())


def facts(dataset: Dataset) -> dict[str, tuple]:
    return {e.key: (e.caption, e.crop, e.left_out, e.mask.read_bytes() if e.mask else None) for e in dataset.pictures}


def test_a_zip_brings_the_data_set_back_as_it_was(store: DatasetStore, rich: Dataset, tmp_path: Path) -> None:
    path = write_zip(rich, tmp_path / "set.zip")
    other = DatasetStore(tmp_path / "elsewhere")

    again = other.create([path])

    assert facts(again) == facts(rich)
    assert again.skipped == ()


def test_names_stay_readable_and_differ(rich: Dataset) -> None:
    assert sorted(file_names(rich.pictures).values()) == ["c.png", "fox-1-2.png", "fox-1.png"]


def test_the_zip_holds_rows_that_trainers_read(rich: Dataset, tmp_path: Path) -> None:
    with zipfile.ZipFile(write_zip(rich, tmp_path / "set.zip")) as archive:
        rows = [json.loads(line) for line in archive.read("metadata.jsonl").decode().splitlines()]

        assert {row["file_name"] for row in rows} <= set(archive.namelist())
        assert {row["file_name"]: row["text"] for row in rows}["c.png"] == "bär"


def test_datasets_reads_the_folder_for_the_hub(rich: Dataset, tmp_path: Path) -> None:
    import datasets

    folder = write_folder(rich, tmp_path / "folder")

    loaded = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))

    assert sorted(loaded["text"]) == ['a "fox", {braced}', "bär"]  # without the one left out
    assert sorted(picture.size for picture in loaded["image"]) == [(64, 64), (128, 64)]
    assert (folder / "masks" / "fox-1.png").is_file()


def test_pushing_without_a_token_gets_a_sentence(rich: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="logged in"):
        push_to_hub(tmp_path, "ada/foxes", token=None)


def test_a_hub_that_cannot_be_reached_gets_a_sentence(rich: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="did not take"):
        push_to_hub(write_folder(rich, tmp_path / "folder"), "ada/foxes", token="hf_" + "x" * 30)  # tests run with HF_HUB_OFFLINE


@pytest.mark.parametrize("row", [{"crop": [0, 0, 1, 1]}, {"crop": "all"}, {"crop": [1, 2]}, {"crop": [0, 0, None, 9]}, {"left_out": "yes"}])
def test_a_crop_that_makes_no_sense_leaves_the_picture_whole(store: DatasetStore, paint: Paint, tmp_path: Path, row: dict) -> None:
    path = paint("a.png")
    (path.parent / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png", "text": "x", **row}))

    (example,) = store.create([path.parent]).examples

    assert (example.caption, example.crop, example.left_out) == ("x", None, False)
