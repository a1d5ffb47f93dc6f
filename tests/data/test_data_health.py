"""What the pixels say about a data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from sdplay.data import Dataset, DatasetStore, ReportLine
from sdplay.data.fixes import fix
from sdplay.data.health import Advice, health, seen_box, shape_counts
from sdplay.data.measures import known_measures, measure, measure_all
from sdplay.errors import DataError
from sdplay.workspace import PRESETS

ADVICE = Advice(64)
SIDE = 128


def scene(seed: int, size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    """A sharp picture that differs from others everywhere: coloured boxes on a coloured ground."""
    random = np.random.default_rng(seed)
    picture = Image.new("RGB", size, tuple(random.integers(0, 256, 3).tolist()))
    drawing = ImageDraw.Draw(picture)
    for _ in range(40):
        left, top = random.integers(-20, size[0]), random.integers(-20, size[1])
        box = (left, top, left + random.integers(10, 50), top + random.integers(10, 50))
        drawing.rectangle([int(value) for value in box], fill=tuple(random.integers(0, 256, 3).tolist()))
    return picture


@pytest.fixture
def made(store: DatasetStore, tmp_path: Path) -> Callable[..., Dataset]:
    """A data set of ten good pictures, some of them replaced: made({3: picture})."""

    def made(others: dict[int, Image.Image]) -> Dataset:
        folder = tmp_path / "brought"
        folder.mkdir()
        for number in range(10):
            others.get(number, scene(number)).save(folder / f"{number}.png")
            (folder / f"{number}.txt").write_text(f"scene {number}")
        return store.create([folder])

    return made


def findings(dataset: Dataset, advice: Advice = ADVICE) -> list[ReportLine]:
    lines = health(dataset, measure_all(dataset.folder, dataset.pictures), advice)
    return [line for line in lines if line.level != "good"]


def sources(dataset: Dataset, line: ReportLine) -> list[str]:
    return [example.source for example in dataset.pictures if example.key in line.keys]


def test_good_pictures_have_no_findings(made: Callable[..., Dataset]) -> None:
    assert findings(made({})) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda: scene(3).filter(ImageFilter.GaussianBlur(6)), "out of focus"),
        (lambda: Image.fromarray(np.asarray(scene(3)) // 8), "very dark"),
        (lambda: Image.fromarray(228 + np.asarray(scene(3)) // 11), "nearly white"),
        (lambda: Image.new("RGB", (SIDE, SIDE), (90, 120, 60)), "nearly one colour"),
    ],
)
def test_a_picture_with_a_flaw_is_named_and_can_be_left_out(
    store: DatasetStore, made: Callable[..., Dataset], change: Callable[[], Image.Image], says: str
) -> None:
    dataset = made({3: change()})

    (line,) = findings(dataset)
    facts = fix(line.fix, dataset, {}, keys=line.keys, trigger="")
    mended = store.change(dataset.id, facts, what="Leave them out")

    assert says in line.text
    assert sources(dataset, line) == ["3.png"]
    assert [example.source for example in mended.set_aside] == ["3.png"]


def test_pictures_that_look_the_same_are_found_and_the_largest_is_kept(store: DatasetStore, made: Callable[..., Dataset]) -> None:
    larger = scene(2).resize((200, 200), Image.Resampling.LANCZOS)
    brighter = Image.fromarray(np.minimum(np.asarray(scene(2)).astype(int) + 6, 255).astype(np.uint8))
    dataset = made({5: larger, 7: brighter})

    (line,) = findings(dataset)
    facts = fix(line.fix, dataset, known_measures(dataset.folder, dataset.pictures), keys=line.keys, trigger="")
    mended = store.change(dataset.id, facts, what="Keep one of each")

    assert sources(dataset, line) == ["2.png", "5.png", "7.png"]
    assert [example.source for example in mended.set_aside] == ["2.png", "7.png"]
    assert [line.fix for line in findings(mended) if line.fix] == ["take_back"]


def test_bars_are_found_to_the_pixel_and_cropped_away(store: DatasetStore, made: Callable[..., Dataset]) -> None:
    letterboxed = Image.new("RGB", (SIDE, SIDE), "black")
    letterboxed.paste(scene(4, (SIDE, 88)), (0, 20))
    dataset = made({4: letterboxed})

    (line,) = findings(dataset)
    facts = fix(line.fix, dataset, known_measures(dataset.folder, dataset.pictures), keys=line.keys, trigger="")
    mended = store.change(dataset.id, facts, what="Crop them away")

    assert "bars" in line.text
    assert mended.pictures[4].crop == (0, 20, SIDE, 108)
    assert not [line for line in findings(mended) if "bars" in line.text]


def test_a_thing_on_a_plain_ground_is_not_in_a_frame() -> None:
    picture = Image.new("RGB", (SIDE, SIDE), "white")
    ImageDraw.Draw(picture).ellipse((30, 30, 98, 98), fill="red")

    assert measure(picture).inner is None
    assert measure(picture).cut == ()


def test_a_thing_that_leaves_a_plain_picture_is_cut_off() -> None:
    picture = Image.new("RGB", (SIDE, SIDE), "white")
    ImageDraw.Draw(picture).ellipse((30, 70, 98, 200), fill="red")

    assert measure(picture).cut == ("bottom",)


def test_what_a_mask_shows_at_the_border_is_cut_off() -> None:
    mask = Image.new("L", (SIDE, SIDE))
    ImageDraw.Draw(mask).rectangle((0, 30, 60, 90), fill=255)

    assert measure(scene(1), mask=mask).cut == ("left",)


def test_a_watermark_in_every_picture_is_found(made: Callable[..., Dataset]) -> None:
    def marked(number: int) -> Image.Image:
        smooth = scene(number).filter(ImageFilter.GaussianBlur(4))
        drawing = ImageDraw.Draw(smooth)
        for left in range(4, 124, 8):
            drawing.rectangle((left, 112, left + 3, 122), fill="white", outline="black")
        return smooth

    lines = findings(made({number: marked(number) for number in range(10)}))

    assert [line for line in lines if "same mark" in line.text]


def test_a_background_that_never_changes_is_told(made: Callable[..., Dataset]) -> None:
    def on_grey(number: int) -> Image.Image:
        picture = Image.new("RGB", (SIDE, SIDE), (180, 180, 180))
        shape = Image.new("L", (70, 70))
        ImageDraw.Draw(shape).ellipse((0, 0, 69, 69), fill=255)
        picture.paste(scene(number, (70, 70)), (29, 29), shape)
        return picture

    lines = findings(made({number: on_grey(number) for number in range(10)}))

    assert [line.text for line in lines] == ["The background is the same in all pictures."]


def test_an_upright_turned_photo_is_told(store: DatasetStore, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side
    scene(1, (160, 128)).save(tmp_path / "a.jpg", exif=exif)

    dataset = store.create([tmp_path / "a.jpg"])
    lines = health(dataset, {}, ADVICE)

    assert (dataset.examples[0].width, dataset.examples[0].height) == (128, 160)
    assert [line.text for line in lines if line.keys and line.level == "good"] == ["1 picture was turned upright as the camera said."]


def test_measures_are_made_once_for_a_content_and_its_crop(store: DatasetStore, made: Callable[..., Dataset]) -> None:
    dataset = made({})
    told: list[str] = []
    measure_all(dataset.folder, dataset.pictures)

    measure_all(dataset.folder, dataset.pictures, on_progress=lambda name, done, total: told.append(name))
    assert told == []

    cropped = store.set_crop(dataset.id, dataset.examples[3].key, [0, 0, 60, 60])
    measure_all(dataset.folder, cropped.pictures, on_progress=lambda name, done, total: told.append(name))
    assert told == ["3.png"]


def test_measures_that_cannot_be_read_are_made_again(made: Callable[..., Dataset]) -> None:
    dataset = made({})
    before = measure_all(dataset.folder, dataset.pictures)
    (dataset.folder / "measures.json").write_text('{"1:x": {"sharp')

    assert measure_all(dataset.folder, dataset.pictures) == before


def test_captions_with_and_without_the_trigger_word_are_told_and_mended(store: DatasetStore, made: Callable[..., Dataset]) -> None:
    dataset = made({})
    dataset = store.set_captions(dataset.id, {example.key: "a Fox-1 outside" for example in dataset.examples[:4]})

    line = next(line for line in findings(dataset, Advice(64, trigger="fox-1")) if "trigger" in line.text)
    mended = store.change(dataset.id, fix(line.fix, dataset, {}, keys=line.keys, trigger="fox-1"), what="Add it")

    assert line.text.startswith("6 of 10 captions lack the trigger word 'fox-1'")
    assert mended.examples[5].caption == "fox-1, scene 5"
    assert not [line for line in findings(mended, Advice(64, trigger="fox-1")) if "trigger" in line.text]


def test_with_buckets_the_crop_keeps_the_shape(made: Callable[..., Dataset]) -> None:
    dataset = made({0: scene(0, (256, 128))})
    wide = dataset.examples[0]

    assert seen_box(wide, Advice(64)) == (64, 0, 192, 128)
    assert seen_box(wide, Advice(64, buckets=True)) == (21, 0, 234, 128)  # 80 x 48 is the nearest shape; 128 * 80 / 48 = 213, centred
    assert sum(count for _, count in shape_counts(dataset.examples, 64)) == 10


def test_an_unknown_fix_gets_a_sentence(made: Callable[..., Dataset]) -> None:
    with pytest.raises(DataError, match="no fix"):
        fix("rm -rf", made({}), {}, keys=[], trigger="")


@pytest.mark.parametrize("sample", ["fxemoji-style", "fxemoji-fox"])
def test_the_samples_that_ship_get_no_warning_from_their_pixels(store: DatasetStore, sample: str) -> None:
    dataset = store.create([PRESETS / "samples" / sample])

    lines = findings(dataset)

    assert [line.text for line in lines if line.level == "warning"] == []


@pytest.mark.shared
@pytest.mark.parametrize("name", ["dog", "cat", "rc_car", "monster"])
def test_real_photos_are_neither_blurred_nor_alike(store: DatasetStore, shared: Path, name: str) -> None:
    dataset = store.create([shared / name])

    texts = [line.text for line in findings(dataset, Advice(512)) if line.level == "warning"]

    assert all("count" in text or "few" in text or "caption" in text for text in texts)
