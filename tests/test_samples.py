from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sdplay.mini import data
from sdplay.mini.samples import FOX_SCENES, PICTURE_PX, STYLE_SCENES, Scene, compose
from sdplay.prompt_sets import load_prompt_sets
from sdplay.sample_sets import Sample, load_samples
from sdplay.workspace import PRESETS

SAMPLES = load_samples(PRESETS / "samples")
BY_ID = pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)


def captions(sample: Sample) -> dict[str, str]:
    lines = (sample.folder / "metadata.jsonl").read_text().splitlines()
    return {row["file_name"]: row["text"] for row in map(json.loads, lines)}


def test_a_style_and_a_subject_are_shipped() -> None:
    assert {name: (sample.kind, sample.token, sample.class_word) for name, sample in SAMPLES.items()} == {
        "fxemoji-fox": ("subject", "sksfox", "fox"),
        "fxemoji-style": ("style", "fxemoji", ""),
    }


@BY_ID
def test_every_picture_has_one_caption_of_its_own(sample: Sample) -> None:
    pictures = {path.name for path in sample.folder.glob("*.png")}
    texts = captions(sample)

    assert set(texts) == pictures
    assert len(set(texts.values())) == len(pictures) == {"style": 16, "subject": 8}[sample.kind]


@BY_ID
def test_pictures_are_small_squares(sample: Sample) -> None:
    paths = list(sample.folder.glob("*.png"))

    assert sum(path.stat().st_size for path in paths) < 400_000
    for path in paths:
        with Image.open(path) as picture:
            assert (picture.size, picture.mode) == ((PICTURE_PX, PICTURE_PX), "RGB")


@BY_ID
def test_the_licence_names_the_author_and_the_changes(sample: Sample) -> None:
    text = (sample.folder / "LICENSE.txt").read_text()

    assert sample.licence == "Apache-2.0"
    for part in ("Mozilla", "https://github.com/mozilla/fxemoji", "Apache License, Version 2.0", "What was changed"):
        assert part in text


@BY_ID
def test_the_prompt_set_of_a_sample_is_shipped(sample: Sample) -> None:
    assert sample.prompt_set in load_prompt_sets([PRESETS / "prompts"])


def test_style_captions_say_subjects_the_base_model_knows() -> None:
    known = {data.words(name) for name in data.trained_names()}

    assert {scene.subject for scene in STYLE_SCENES} <= known


def test_the_style_is_judged_on_subjects_the_base_model_knows_and_the_samples_lack() -> None:
    asked = {prompt.split(",")[0] for prompt in load_prompt_sets([PRESETS / "prompts"])["mini-style"].sample}

    assert asked <= {data.words(name) for name in data.trained_names()}
    assert not asked & {scene.subject for scene in STYLE_SCENES}


def test_backgrounds_asked_of_the_character_are_partly_new() -> None:
    asked = " ".join(load_prompt_sets([PRESETS / "prompts"])["mini-subject"].sample)
    shown = {scene.background for scene in FOX_SCENES}

    assert len({name for name in data.BACKGROUNDS if f"{name} background" in asked} - shown) >= 2


def test_a_composed_picture_has_its_background_in_the_corners() -> None:
    square = np.zeros((64, 64, 4), np.uint8)
    square[16:48, 16:48] = (255, 0, 0, 255)

    picture = np.asarray(compose(Scene("square", "square", "blue", size=0.5, tilt=5), square))

    assert tuple(picture[0, 0]) == tuple(picture[-1, -1]) == data.BACKGROUNDS["blue"]
    assert tuple(picture[PICTURE_PX // 2, PICTURE_PX // 2]) == (255, 0, 0)


def test_a_sample_with_a_misspelt_setting_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "sample.yaml").write_text("title: Mine\nkind: statue\n")

    with caplog.at_level(logging.WARNING):
        assert load_samples(tmp_path) == {}

    assert "mine left out" in caplog.text
    assert "'kind' cannot be used" in caplog.text
