"""What "Tell me" chooses for typical sets, and that each choice has a reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sdplay.advice import MEMORY_GB, Advice, Facts, Place, advise, common_word
from sdplay.cli import main
from sdplay.engine import Engine
from sdplay.errors import ConfigError
from sdplay.methods import parse_train_config
from sdplay.prompt_sets import load_prompt_sets
from sdplay.workspace import PRESETS

SD15 = Place("sd15", 512, has_gpu=True, free_gb=24.0)
MINI = Place("mini", 64, has_gpu=False)
STYLE_CAPTIONS = ("a lighthouse", "an old sailor", "a bowl of oranges", "a steam train", "tulips", "a market")
FOX_CAPTIONS = ("a fox on grass", "a fox in the snow", "the fox sleeps", "a fox and a ball")


def facts(count: int = 12, short_side: int = 800, captions: tuple[str, ...] = (), oblong: int = 0, masks: int = 0) -> Facts:
    return Facts(count, short_side, captions, oblong, masks)


def about(advice: Advice, what: str) -> str:
    return next(reason.text for reason in advice.reasons if reason.about == what)


@pytest.mark.parametrize(
    ("given", "place", "kind"),
    [
        (facts(4, captions=FOX_CAPTIONS), SD15, "subject"),
        (facts(6, captions=STYLE_CAPTIONS), SD15, "style"),
        (facts(6, captions=STYLE_CAPTIONS), Place("sd15", 512, True, 24, class_word="dog"), "subject"),
        (facts(5), SD15, "subject"),
        (facts(40), SD15, "style"),
    ],
)
def test_subject_or_style_is_told_by_class_captions_or_count(given: Facts, place: Place, kind: str) -> None:
    assert advise(given, place).kind == kind


def test_the_word_in_common_is_no_colour_and_no_article() -> None:
    assert common_word(FOX_CAPTIONS) == ("fox", 1.0)
    assert common_word(("a red ball", "a red car"))[1] == 0.5
    assert common_word(("a photo of",)) == ("", 0.0)


@pytest.mark.parametrize(
    ("given", "method"),
    [(facts(2, captions=STYLE_CAPTIONS[:2]), "textual_inversion"), (facts(5), "pivotal"), (facts(12, captions=STYLE_CAPTIONS * 2), "lora")],
)
def test_the_method_follows_from_how_much_is_known(given: Facts, method: str) -> None:
    assert advise(given, SD15).values["method"] == method


def test_steps_grow_with_the_pictures_within_limits() -> None:
    steps = [advise(facts(count, captions=("a fox", "the fox")), SD15).values["steps"] for count in (4, 10, 15, 60)]

    assert steps == [400, 800, 1200, 1600]


def test_small_pictures_are_not_enlarged_and_oblong_ones_not_cut_square() -> None:
    small, large = advise(facts(short_side=400, oblong=9), SD15), advise(facts(short_side=800), SD15)

    assert (small.values["resolution"], small.values["bucketing"]) == (384, "on")
    assert "blur" in about(small, "Size")
    assert "resolution" not in large.values
    assert "bucketing" not in large.values


def test_captions_masks_and_a_class_are_used() -> None:
    tags = advise(facts(captions=("1girl, solo, hat, smile",) * 12), SD15)
    masked = advise(facts(12, captions=FOX_CAPTIONS * 3, masks=12), Place("sdxl", 1024, True, 24, class_word="fox"))

    assert tags.values["caption_shuffle"] == "on"
    assert masked.values["masked_loss"] == "mask"
    assert masked.values["prior"] == "prediction"


@pytest.mark.parametrize("family", MEMORY_GB)
def test_savings_are_turned_on_as_the_card_gets_smaller(family: str) -> None:
    needs = [needed for needed, _ in MEMORY_GB[family]]
    assert needs == sorted(needs, reverse=True)
    for needed, settings in MEMORY_GB[family]:
        advice = advise(facts(captions=FOX_CAPTIONS), Place(family, 512, True, needed + 0.01))
        assert settings.items() <= advice.values.items()
    tight = advise(facts(captions=FOX_CAPTIONS), Place(family, 512, True, 1.0))
    assert "Only 1.0 GB" in about(tight, "Memory")


@pytest.mark.parametrize("place", [SD15, MINI, Place("sdxl", 1024, False), Place("sd3", 1024, True, None), Place("sd2", 768, True, 8)])
@pytest.mark.parametrize("given", [facts(1), facts(5), facts(12, captions=STYLE_CAPTIONS), facts(4, captions=FOX_CAPTIONS), facts(300)])
def test_every_advice_is_a_config_with_prompts_and_a_reason_for_each_choice(place: Place, given: Facts) -> None:
    advice = advise(given, place)

    parse_train_config({**advice.values, "token": "ohwx", "class_word": "dog"}).check()
    assert {"Subject or style", "Method", "Steps", "Learning rate", "Size", "Captions", "Memory"} <= {r.about for r in advice.reasons}
    assert all("\n" not in reason.text and len(reason.text) < 200 for reason in advice.reasons)
    sets = load_prompt_sets([PRESETS / "prompts"])
    assert {advice.prompt_set, f"mini-{advice.prompt_set}"} <= sets.keys()


def test_no_pictures_no_advice() -> None:
    with pytest.raises(ValueError, match="no pictures"):
        Facts.of([])


@pytest.mark.parametrize(("sample", "kind"), [("fxemoji-style", "style"), ("fxemoji-fox", "subject")])
def test_the_shipped_samples_are_told_apart(engine: Engine, sample: str, kind: str) -> None:
    class_word = engine.samples()[sample].class_word

    assert engine.advise(engine.sample_dataset(sample).id, class_word=class_word).kind == kind


def test_a_base_that_is_not_here_and_not_offered_cannot_be_advised_on(engine: Engine) -> None:
    with pytest.raises(ConfigError, match="not on this computer"):
        engine.advise(engine.sample_dataset("fxemoji-fox").id, base_model="nobody/nothing")


@pytest.mark.shared
@pytest.mark.parametrize("name", ["dog", "cat", "rc_car", "monster", "zeke.zip"])
def test_photos_of_one_subject_are_taken_for_one(engine: Engine, shared: Path, name: str) -> None:
    dataset = engine.datasets.create([shared / name])

    advice = engine.advise(dataset.id, base_model="stable-diffusion-v1-5/stable-diffusion-v1-5")

    assert advice.kind == "subject"
    assert "resolution" not in advice.values, "large photos"


def test_the_command_says_it_and_training_takes_it(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny_base: Path
) -> None:
    monkeypatch.setenv("SDPLAY_HOME", str(tmp_path / "home"))

    assert main(["advise", str(pictures), "--class", "ball", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    few = ["--set", "steps=2", "--set", "warmup_steps=0", "--set", "sample_steps=1", "--set", "sample_every=0", "--set", "batch_size=1"]
    code = main(["train", "--images", str(pictures), "--preset", "auto", "--class", "ball", "--base", str(tiny_base), *few, "--json"])

    captured = capsys.readouterr()
    assert code == 0, captured.err
    assert said["kind"] == "subject"
    assert said["config"]["method"] == "lora"
    assert "Method: LoRA" in captured.err
