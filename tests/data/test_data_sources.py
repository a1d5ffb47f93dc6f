"""`datasets` folders, parquet, the Hub, and what people really bring."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sdplay.data import DatasetStore
from sdplay.data.arrow import is_hub_id
from sdplay.errors import DataError

Paint = Callable[..., Path]
SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the real inputs are not beside the project")


def saved_dataset(paint: Paint) -> object:
    datasets = pytest.importorskip("datasets")
    pictures = [str(paint(f"{i}.png")) for i in range(2)]
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string"), "extra": datasets.Value("int64")})
    return datasets.Dataset.from_dict({"image": pictures, "text": ["one", "two"], "extra": [1, 2]}, features=features)


def test_a_saved_datasets_folder_is_read(store: DatasetStore, paint: Paint, tmp_path: Path) -> None:
    saved_dataset(paint).save_to_disk(str(tmp_path / "saved"))

    dataset = store.create([tmp_path / "saved"])

    assert [example.caption for example in dataset.examples] == ["one", "two"]
    assert dataset.id.startswith("saved-")


def test_a_folder_of_parquet_is_read(store: DatasetStore, paint: Paint, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    from datasets.table import embed_table_storage

    made = saved_dataset(paint)
    folder = tmp_path / "parquet"
    folder.mkdir()
    embedded = made.with_format("arrow").map(embed_table_storage, batched=True)
    datasets.Dataset(embedded.data, info=made.info).to_parquet(str(folder / "train.parquet"))

    assert [example.caption for example in store.create([folder]).examples] == ["one", "two"]


def test_a_table_without_pictures_is_refused(store: DatasetStore, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict({"text": ["x"]}).to_parquet(str(tmp_path / "words.parquet"))

    with pytest.raises(DataError, match="no column of pictures, only text"):
        store.create([tmp_path / "words.parquet"])


def test_a_broken_saved_folder_is_refused(store: DatasetStore, tmp_path: Path) -> None:
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "dataset_dict.json").write_text("{")

    with pytest.raises(DataError, match="cannot be read"):
        store.create([tmp_path / "saved"])


def test_a_hub_id_is_owner_slash_name() -> None:
    assert is_hub_id("diffusers/dog-example")
    assert not any(is_hub_id(text) for text in ("dog", "/etc/passwd", "../x", "a/b/c", "a/../b", "https://x.y/z"))


def test_a_hub_data_set_that_cannot_be_reached_is_explained(store: DatasetStore, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)

    with pytest.raises(DataError, match="owner/name could not be read") as caught:
        store.create(["owner/name"])
    assert "train split" in caught.value.hint


def test_a_picture_that_does_not_come_down_is_skipped(store: DatasetStore, paint: Paint, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "prompt": datasets.Value("string")})
    cells = [{"bytes": paint("a.png").read_bytes(), "path": "a.png"}, {"bytes": None, "path": "/etc/hostname"}]
    table = datasets.Dataset.from_dict({"image": cells, "prompt": ["one", "two"]}, features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: table)

    dataset = store.create(["owner/name"])

    assert [(example.source, example.caption) for example in dataset.examples] == [("a.png", "one")]
    assert dataset.skipped[0].name == "hostname"


@pytest.mark.shared
@needs_shared
def test_a_zip_as_uploaded_to_a_hosted_trainer_is_read(store: DatasetStore) -> None:
    dataset = store.create([SHARED / "zeke.zip"])

    assert len(dataset.examples) == 6
    assert dataset.skipped == ()


@pytest.mark.shared
@needs_shared
def test_a_folder_with_a_caption_table_is_read(store: DatasetStore) -> None:
    dataset = store.create([SHARED / "monster"])

    assert len(dataset.examples) == 5
    assert all("TOK" in example.caption for example in dataset.examples)


@pytest.mark.shared
@needs_shared
def test_folders_and_zips_can_be_mixed(store: DatasetStore) -> None:
    assert len(store.create([SHARED / "dog", SHARED / "cat", SHARED / "zeke.zip"]).examples) == 16
