"""What a user changes about pictures: crops, what is left out, masks; and undo."""

from __future__ import annotations

import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from sdplay.cache import geometry_of, latent_area, load_pixels
from sdplay.data import Dataset, DatasetStore
from sdplay.data.edits import KEPT_CHANGES
from sdplay.errors import DataError

Paint = Callable[..., Path]


@pytest.fixture
def three(store: DatasetStore, paint: Paint) -> Dataset:
    return store.create([paint("a.png", size=(128, 64)), paint("b.png"), paint("c.png")])


def png(colour: str, size: tuple[int, int] = (128, 64)) -> bytes:
    written = BytesIO()
    Image.new("L", size, colour).save(written, "PNG")
    return written.getvalue()


def test_what_is_left_out_is_not_trained_on_and_can_be_taken_back(store: DatasetStore, three: Dataset) -> None:
    key = three.examples[1].key

    without = store.leave_out(three.id, [key])
    again = store.leave_out(three.id, [key], out=False)

    assert [example.source for example in without.examples] == ["a.png", "c.png"]
    assert [example.source for example in without.pictures] == ["a.png", "b.png", "c.png"]
    assert again.examples == three.examples


def test_a_crop_is_kept_and_the_whole_picture_is_no_crop(store: DatasetStore, three: Dataset) -> None:
    key = three.examples[0].key

    cropped = store.set_crop(three.id, key, [10.4, 0, 74, 64])
    whole = store.set_crop(three.id, key, [-5, -5, 500, 500])

    assert cropped.examples[0].crop == (10, 0, 74, 64)
    assert cropped.examples[0].size == (64, 64)
    assert whole.examples[0].crop is None


@pytest.mark.parametrize(
    "box", [[0, 0, 10, 64], [50, 0, 40, 64], [0, 0, 64], ["x", 0, 1, 1], [float("nan"), 0, 64, 64], [float("inf")] * 4]
)
def test_a_crop_that_leaves_nothing_gets_a_sentence(store: DatasetStore, three: Dataset, box: list) -> None:
    with pytest.raises(DataError, match="crop"):
        store.set_crop(three.id, three.examples[0].key, box)


def test_training_sees_what_is_inside_the_crop(store: DatasetStore, tmp_path: Path) -> None:
    """Left half red, right half blue, and a mask of the right half: the crop takes the right half, which is learned whole."""
    picture, mask = Image.new("RGB", (128, 64), "red"), Image.new("L", (128, 64))
    ImageDraw.Draw(picture).rectangle((64, 0, 127, 63), fill="blue")
    ImageDraw.Draw(mask).rectangle((64, 0, 127, 63), fill=255)
    picture.save(tmp_path / "a.png")
    mask.save(tmp_path / "a.mask.png")
    made = store.create([tmp_path / "a.png", tmp_path / "a.mask.png"])

    (example,) = store.set_crop(made.id, made.examples[0].key, [64, 0, 128, 64]).examples
    pixels = load_pixels(example.path, (32, 32), crop=example.crop)

    assert pixels[2].min() == 1
    assert pixels[0].max() == -1
    assert latent_area(example, (32, 32), 4).min() == 1
    assert geometry_of(example, (32, 32)) == (64, 64, 0, 0, 32, 32)


def test_latents_of_a_crop_are_not_those_of_the_whole(store: DatasetStore, three: Dataset, tiny_base: Path, tmp_path: Path) -> None:
    from sdplay.cache import encode_examples
    from sdplay.device import best_device
    from sdplay.families import family

    sd15 = family("sd15")
    parts = sd15.load(tiny_base, best_device(), source="tiny")
    cropped = store.set_crop(three.id, three.examples[0].key, [0, 0, 64, 64])

    def latents(made: Dataset):  # noqa: ANN202
        return encode_examples(made.examples, parts, sd15, size=(32, 32), folder=tmp_path / "latents", on_progress=lambda *_: None).mean

    whole, part, again = latents(three), latents(cropped), latents(three)

    assert not whole[0].equal(part[0])
    assert whole[1].equal(part[1])
    assert whole.equal(again)
    assert len(list((tmp_path / "latents").iterdir())) == 4  # three pictures, and one crop


def test_every_change_can_be_undone_and_done_again(store: DatasetStore, three: Dataset) -> None:
    first, second, third = (example.key for example in three.examples)
    store.set_captions(three.id, {first: "one"})
    store.set_crop(three.id, second, [0, 0, 32, 32])
    done = store.leave_out(three.id, [third])

    for _ in range(3):
        undone, _what = store.undo(three.id)
    for _ in range(3):
        redone, what = store.redo(three.id)

    assert undone.pictures == three.pictures
    assert redone.pictures == done.pictures
    assert what == "Leaving out c.png"
    with pytest.raises(DataError, match="nothing to do again"):
        store.redo(three.id)


def test_a_change_after_undo_forgets_what_was_undone(store: DatasetStore, three: Dataset) -> None:
    key = three.examples[0].key
    store.set_captions(three.id, {key: "one"})
    store.undo(three.id)

    store.set_captions(three.id, {key: "two"})

    with pytest.raises(DataError, match="nothing to do again"):
        store.redo(three.id)
    assert store.undo(three.id)[0].examples[0].caption == ""
    with pytest.raises(DataError, match="nothing to undo"):
        store.undo(three.id)


def test_setting_what_is_there_already_is_no_change(store: DatasetStore, three: Dataset) -> None:
    store.set_captions(three.id, {three.examples[0].key: ""})

    assert store.history(three.id).done == ()


def test_the_history_does_not_grow_for_ever(store: DatasetStore, three: Dataset) -> None:
    for number in range(KEPT_CHANGES + 5):
        store.set_captions(three.id, {three.examples[0].key: f"caption {number}"})

    assert len(store.history(three.id).done) == KEPT_CHANGES


def test_undo_passes_over_a_picture_that_is_gone(store: DatasetStore, three: Dataset) -> None:
    key = three.examples[0].key
    store.set_captions(three.id, {key: "one", three.examples[1].key: "two"})
    store.remove(three.id, key)

    undone, _ = store.undo(three.id)

    assert [example.caption for example in undone.pictures] == ["", ""]


def test_a_torn_history_costs_only_the_history(store: DatasetStore, three: Dataset) -> None:
    store.set_captions(three.id, {three.examples[0].key: "one"})
    (three.folder / "history.json").write_text('{"done": [{"what"')

    assert store.open(three.id).examples[0].caption == "one"
    assert store.history(three.id).done == ()


def test_a_painted_mask_is_kept_in_the_pictures_size_and_can_be_taken_away(store: DatasetStore, three: Dataset) -> None:
    key = three.examples[0].key

    painted = store.set_mask(three.id, key, png("white", (64, 32))).examples[0]
    assert painted.mask is not None
    with Image.open(painted.mask) as mask:
        assert mask.size == (128, 64)

    assert store.set_mask(three.id, key, None).examples[0].mask is None
    assert not painted.mask.exists()


@pytest.mark.parametrize(("raw", "says"), [(png("black"), "black all over"), (png("white", (64, 64)), "another shape"), (b"no", "not a")])
def test_a_mask_that_is_none_gets_a_sentence(store: DatasetStore, three: Dataset, raw: bytes, says: str) -> None:
    with pytest.raises(DataError, match=says):
        store.set_mask(three.id, three.examples[0].key, raw)

    assert store.open(three.id).examples[0].mask is None


def test_pictures_brought_again_in_a_new_set_keep_their_captions(store: DatasetStore, paint: Paint) -> None:
    path = paint("a.png")
    made = store.create([path])
    store.set_captions(made.id, {made.examples[0].key: "a red ball"})

    again = store.create([path.rename(path.with_name("other.png"))])

    assert again.examples[0].caption == "a red ball"
    assert "had before" in again.examples[0].notes[0]


def test_every_change_makes_the_data_set_newer(store: DatasetStore, three: Dataset) -> None:
    key = three.examples[0].key
    seen = [three.revision]

    for change in (
        lambda: store.leave_out(three.id, [key]),
        lambda: store.set_captions(three.id, {key: "a toy"}),
        lambda: store.undo(three.id)[0],
    ):
        time.sleep(0.02)  # file systems tell changes some milliseconds apart
        seen.append(change().revision)

    assert seen == sorted(set(seen))
    assert store.open(three.id).revision == seen[-1]
