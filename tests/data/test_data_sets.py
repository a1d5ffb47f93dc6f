"""The store: what is kept, changed and left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from sdplay.data import DatasetStore, Limits
from sdplay.errors import DataError

Paint = Callable[..., Path]


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def left_on_disk(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_folder_becomes_a_data_set_in_natural_order(store: DatasetStore, paint: Paint) -> None:
    for name in ("10.png", "2.png", "sub/1.png"):
        folder = paint(name).parent

    dataset = store.create([folder.parent])

    assert [example.source for example in dataset.examples] == ["2.png", "10.png", "sub/1.png"]


def test_a_data_set_reads_back_as_it_was_made(store: DatasetStore, paint: Paint) -> None:
    made = store.create([paint("a.png", size=(48, 70))], name="My Gnome!")

    assert store.open(made.id) == made
    assert made.name == "My Gnome!"
    assert made.id.startswith("my-gnome-")
    assert made.examples[0].path.name == f"{made.examples[0].key}.png"


def test_the_users_files_are_never_touched(store: DatasetStore, paint: Paint) -> None:
    folder = paint("a.png").parent
    (folder / "a.txt").write_text("a cat")
    before = contents(folder)

    dataset = store.create([folder])
    store.delete(dataset.id)

    assert contents(folder) == before


def test_the_same_picture_twice_counts_once(store: DatasetStore, paint: Paint) -> None:
    dataset = store.create([paint("a.png", seed=1), paint("b.webp.png", seed=1)])

    assert len(dataset.examples) == 1
    assert dataset.skipped[0].reason.startswith("It is the same picture as a.png.")


def test_a_file_name_that_cannot_be_shown_is_still_read(store: DatasetStore, paint: Paint) -> None:
    folder = paint("a.png").parent
    try:
        (folder / "a.png").rename(folder / "\udcff\u202egnp.png")
    except OSError:
        pytest.skip("this file system takes no such name")

    assert [example.source for example in store.create([folder]).examples] == ["??gnp.png"]


def test_files_that_are_no_pictures_are_named_with_a_reason(store: DatasetStore, paint: Paint) -> None:
    folder = paint("a.png").parent
    Image.new("RGB", (64, 64)).save(folder / "b.gif")
    (folder / "c.heic").write_bytes(b"x")
    (folder / "d.jpg").write_bytes(b"x")
    (folder / "README.md").write_bytes(b"x")

    skipped = {item.name: item.reason for item in store.create([folder]).skipped}

    assert set(skipped) == {"b.gif", "c.heic", "d.jpg"}
    assert "Save it as JPEG, PNG or WebP" in skipped["c.heic"]


def test_without_a_usable_picture_nothing_is_left_on_disk(store: DatasetStore, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"x")

    with pytest.raises(DataError, match=r"broken\.jpg: It is not a JPEG"):
        store.create([broken])

    assert left_on_disk(tmp_path / "store") == []


def test_an_absent_source_is_refused(store: DatasetStore, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file or folder at"):
        store.create([tmp_path / "nowhere"])


def test_one_bad_source_among_good_ones_leaves_nothing_behind(store: DatasetStore, paint: Paint, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        store.create([paint("a.png"), tmp_path / "nowhere"])

    assert left_on_disk(tmp_path / "store") == []


def test_progress_is_told_before_each_picture(store: DatasetStore, paint: Paint) -> None:
    told: list[tuple[str, int, int]] = []

    store.create([paint("a.png"), paint("b.png")], on_progress=lambda *step: told.append(step))

    assert told == [("a.png", 0, 2), ("b.png", 1, 2)]


def test_a_picture_larger_than_the_limit_is_skipped(paint: Paint, tmp_path: Path) -> None:
    store = DatasetStore(tmp_path / "store", Limits(file_mb=1))

    dataset = store.create([paint("big.png", size=(700, 700)), paint("a.png")])  # 700 x 700 x 3 bytes of noise: 1.4 MB

    assert dataset.skipped[0].name == "big.png"
    assert "more than 1 MB" in dataset.skipped[0].reason


def test_pictures_beyond_the_limit_are_reported(paint: Paint, tmp_path: Path) -> None:
    store = DatasetStore(tmp_path / "store", Limits(pictures=2))

    dataset = store.create([paint(f"{i}.png") for i in range(5)])

    assert len(dataset.examples) == 2
    assert dataset.skipped[0].name == "2.png and all pictures after it"


def test_150_pictures_take_a_few_seconds(store: DatasetStore, paint: Paint) -> None:
    """Of CPU time: how busy the machine is otherwise does not count."""
    pictures = [paint(f"{i}.png", size=(256, 256)) for i in range(150)]
    start = time.process_time()

    dataset = store.create(pictures)

    assert len(dataset.examples) == 150
    assert time.process_time() - start < 10


def test_pictures_can_be_added(store: DatasetStore, paint: Paint) -> None:
    dataset = store.create([paint("a.png")])

    grown = store.add(dataset.id, [paint("b.png")])

    assert [example.source for example in grown.examples] == ["a.png", "b.png"]
    assert all(example.path.is_file() for example in grown.examples)


def test_adding_nothing_usable_changes_nothing(store: DatasetStore, paint: Paint, tmp_path: Path) -> None:
    dataset = store.create([paint("a.png")])
    text = tmp_path / "a.docx"
    text.write_text("x")

    with pytest.raises(DataError, match=r"No usable picture"):
        store.add(dataset.id, [text])

    assert store.open(dataset.id) == dataset


def test_a_picture_that_was_missing_is_no_longer_reported_once_it_arrives(store: DatasetStore, paint: Paint) -> None:
    first, late = paint("a.png"), paint("late/b.png")
    (first.parent / "captions.csv").write_text("file,text\nb.png,a cat\n")
    dataset = store.create([first, first.parent / "captions.csv"])
    assert [item.name for item in dataset.skipped] == ["b.png"]

    assert store.add(dataset.id, [late]).skipped == ()


def test_a_caption_table_can_be_added_later(store: DatasetStore, paint: Paint, tmp_path: Path) -> None:
    dataset = store.create([paint("a.png")])
    table = tmp_path / "captions.csv"
    table.write_text("file,text\na.png,a cat\n")

    assert store.add(dataset.id, [table]).examples[0].caption == "a cat"


def test_pictures_added_at_the_same_time_are_all_kept(store: DatasetStore, paint: Paint, tmp_path: Path) -> None:
    dataset = store.create([paint("first.png")])
    pictures = [paint(f"{i}.png") for i in range(8)]

    def add(picture: Path) -> None:
        DatasetStore(tmp_path / "store").add(dataset.id, [picture])

    threads = [threading.Thread(target=add, args=(picture,)) for picture in pictures]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(store.open(dataset.id).examples) == 9


def test_captions_can_be_set(store: DatasetStore, paint: Paint) -> None:
    dataset = store.create([paint("a.png"), paint("b.png")])
    first, second = dataset.examples

    changed = store.set_captions(dataset.id, {first.key: " a  cat "})

    assert [example.caption for example in changed.examples] == ["a cat", second.caption]


def test_a_caption_for_an_unknown_picture_is_refused(store: DatasetStore, paint: Paint) -> None:
    dataset = store.create([paint("a.png")])

    with pytest.raises(DataError, match="no picture nonsense"):
        store.set_captions(dataset.id, {"nonsense": "a cat"})


def test_a_caption_that_is_too_long_is_refused(store: DatasetStore, paint: Paint) -> None:
    dataset = store.create([paint("a.png")])

    with pytest.raises(DataError, match="too long"):
        store.set_captions(dataset.id, {dataset.examples[0].key: "x" * 1001})


def test_taking_a_picture_out_leaves_the_other_captions(store: DatasetStore, paint: Paint) -> None:
    dataset = store.create([paint("a.png"), paint("b.png")])
    first, second = dataset.examples
    store.set_captions(dataset.id, {first.key: "one", second.key: "two"})

    rest = store.remove(dataset.id, first.key)

    assert [(example.key, example.caption) for example in rest.examples] == [(second.key, "two")]
    assert not first.path.exists()


def test_a_caption_comes_back_with_its_picture(store: DatasetStore, paint: Paint) -> None:
    picture = paint("a.png")
    (picture.parent / "a.txt").write_text("as it came")
    dataset = store.create([picture.parent])
    key = dataset.examples[0].key
    store.set_captions(dataset.id, {key: "as I wrote it"})
    store.remove(dataset.id, key)

    back = store.add(dataset.id, [picture, picture.with_suffix(".txt")])

    assert [(example.key, example.caption) for example in back.examples] == [(key, "as I wrote it")]


def test_bringing_a_folder_again_does_not_undo_edits(store: DatasetStore, paint: Paint) -> None:
    picture = paint("a.png")
    (picture.parent / "a.txt").write_text("as it came")
    dataset = store.create([picture.parent])
    store.set_captions(dataset.id, {dataset.examples[0].key: "as I wrote it"})
    paint("new.png")

    grown = store.add(dataset.id, [picture.parent])

    assert [example.caption for example in grown.examples] == ["as I wrote it", ""]


def test_a_deleted_data_set_is_gone(store: DatasetStore, paint: Paint, tmp_path: Path) -> None:
    dataset = store.create([paint("a.png")])

    store.delete(dataset.id)

    assert left_on_disk(tmp_path / "store") == []
    with pytest.raises(DataError, match="no data set"):
        store.open(dataset.id)


@pytest.mark.parametrize("dataset_id", ["", ".", "..", "../brought", "/etc", ".locks", "a/b", "a\\b", "A", "nobody-0000", "x\0"])
def test_an_id_is_never_a_path(store: DatasetStore, paint: Paint, dataset_id: str) -> None:
    store.create([paint("a.png")])

    for use in (store.open, store.delete):
        with pytest.raises(DataError) as caught:
            use(dataset_id)
        assert caught.value.hint


def test_the_list_is_newest_first(store: DatasetStore, paint: Paint) -> None:
    ids = [store.create([paint("a.png")]).id for _ in range(3)]

    assert [dataset.id for dataset in store.list()] == ids[::-1]


def test_a_broken_folder_does_not_hide_the_others(store: DatasetStore, paint: Paint, caplog: pytest.LogCaptureFixture) -> None:
    good, torn = (store.create([paint("a.png")]) for _ in range(2))
    (torn.folder / "dataset.json").write_text('{"name": ')

    assert [dataset.id for dataset in store.list()] == [good.id]
    assert torn.id in caplog.text


def test_a_store_that_was_never_used_is_empty(store: DatasetStore) -> None:
    assert store.list() == []
