"""Scores tell like from unlike, right from wrong and copies from drawings, and change nothing about the run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from sdplay.device import best_device
from sdplay.engine import Engine
from sdplay.events import Samples
from sdplay.eyes import LOOK, BaseEye, clip_and_dino, look
from sdplay.families import family
from sdplay.judging import Judge
from sdplay.seen import Seen


def ball(colour: str, side: int = 32, *, at: int = 6) -> Image.Image:
    picture = Image.new("RGB", (side, side), "white")
    ImageDraw.Draw(picture).ellipse((at, at, at + side // 2, at + side // 2), fill=colour)
    return picture


def pixels(*pictures: Image.Image) -> Tensor:
    flat = [torch.tensor(list(picture.getdata()), dtype=torch.float32).view(picture.height, picture.width, 3) for picture in pictures]
    return torch.stack(flat).permute(0, 3, 1, 2) / 127.5 - 1


def test_pictures_of_the_same_colours_look_alike_wherever_the_thing_is() -> None:
    rows = torch.nn.functional.normalize(look(pixels(ball("red"), ball("red", at=10), ball("blue"))), dim=1)

    assert rows[0] @ rows[1] > 0.95
    assert rows[0] @ rows[2] < 0.5


class Plain:
    """An eye for tests that sees mean colours and takes the red share for how well a text fits."""

    name = "plain"

    def see(self, pixels: Tensor, texts: Sequence[str] = ()) -> Seen:
        colours = (pixels.mean(dim=(2, 3)) + 1) / 2
        unit = torch.nn.functional.normalize(colours, dim=1)
        return Seen({"colour": unit}, colours, colours[:, 0] if texts else torch.zeros(0))


def judge_of(tmp_path: Path, training: Tensor) -> Judge:
    return Judge(Plain(), tmp_path, training, "sks")


def drawn(tmp_path: Path, step: int, *colours: str) -> Samples:
    files = []
    for index, colour in enumerate(colours):
        file = tmp_path / f"samples/{step:06d}/{index:02d}-a.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), colour).save(file)
        files.append(str(file.relative_to(tmp_path)))
    return Samples(step=step, prompts=tuple("a sks ball" for _ in colours), files=tuple(files))


def test_likeness_is_nought_as_the_base_draws_and_one_as_the_training_pictures_are(tmp_path: Path) -> None:
    training = pixels(*(Image.new("RGB", (8, 8), colour) for colour in ("red", "red")))
    judge = judge_of(tmp_path, training)
    drawn(tmp_path, 0, "blue", "blue")

    same, there = judge.scores(drawn(tmp_path, 10, "blue", "blue")), judge.scores(drawn(tmp_path, 20, "red", "red"))

    assert same is not None
    assert there is not None
    assert same["likeness"] == pytest.approx(0)
    assert there["likeness"] == pytest.approx(1, abs=1e-3)


class ColoursAlone(Plain):
    """Sees colours and edges as the base's eye does, and nothing else."""

    def see(self, pixels: Tensor, texts: Sequence[str] = ()) -> Seen:
        seen = super().see(pixels, texts)
        return Seen({LOOK: torch.nn.functional.normalize(look(pixels), dim=1)}, seen.places, seen.fits)


def test_a_style_is_how_its_pictures_look_together(tmp_path: Path) -> None:
    """One of them has little in common with another: in pairs, red and blue balls are no more like these than gray ones."""

    def balls(step: int, *colours: str) -> Samples:
        samples = drawn(tmp_path, step, *colours)
        for file, colour in zip(samples.files, colours, strict=True):
            ball(colour).save(tmp_path / file)
        return samples

    judge = Judge(ColoursAlone(), tmp_path, pixels(ball("red"), ball("red"), ball("blue"), ball("blue")), "sks")
    balls(0, "gray", "gray")

    whole, half, none = map(judge.scores, (balls(1, "red", "blue"), balls(2, "red", "red"), balls(3, "lime", "gray")))

    assert whole is not None
    assert half is not None
    assert none is not None
    assert whole["likeness"] == pytest.approx(1, abs=1e-3)
    assert 0.5 < half["likeness"] < 0.9
    assert none["likeness"] < 0.1


def test_the_first_round_has_no_scores_and_neither_has_one_without_it(tmp_path: Path) -> None:
    judge = judge_of(tmp_path, pixels(ball("red", 8, at=1), ball("blue", 8, at=1)))

    assert judge.scores(drawn(tmp_path, 10, "red")) is None
    assert judge.scores(drawn(tmp_path, 0, "red")) is None


def test_copies_are_nearer_than_the_training_pictures_are_to_each_other(tmp_path: Path) -> None:
    judge = judge_of(tmp_path, pixels(Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")))
    drawn(tmp_path, 0, "gray", "gray")

    copies, others = judge.scores(drawn(tmp_path, 10, "red", "#0000fe")), judge.scores(drawn(tmp_path, 20, "lime", "lime"))

    assert copies is not None
    assert others is not None
    assert copies["nearness"] > 2 > 1.1 > others["nearness"]


@pytest.mark.parametrize("base", ["tiny_base", "tiny_sdxl", "tiny_sd3"])
def test_every_family_can_judge_and_its_weights_and_random_numbers_stay(base: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(base)
    chosen = family({"tiny_base": "sd15", "tiny_sdxl": "sdxl", "tiny_sd3": "sd3"}[base])
    parts = chosen.load(folder, best_device(), source="tiny")
    before = {name: weight.clone() for name, weight in parts.denoiser.state_dict().items()}
    random = torch.get_rng_state()
    eye = BaseEye(parts, chosen, chosen.objective(parts))

    seen = eye.see(pixels(ball("red"), ball("blue")), ["a red ball", "a blue ball"])

    assert seen.fits.shape == (2,)
    assert torch.isfinite(seen.fits).all()
    assert all(torch.allclose(rows.norm(dim=1), torch.ones(2), atol=1e-4) for rows in seen.views.values())
    assert torch.equal(seen.fits, eye.see(pixels(ball("red"), ball("blue")), ["a red ball", "a blue ball"]).fits)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(weight, before[name]) for name, weight in parts.denoiser.state_dict().items())


def test_the_judge_changes_no_loss(engine: Engine, tiny_base: Path, pictures: Path) -> None:
    dataset = engine.datasets.create([pictures])
    values = {
        "dataset": dataset.id, "base_model": str(tiny_base), "token": "sks", "steps": 4, "warmup_steps": 1, "batch_size": 2, "rank": 2,
        "sample_prompts": ["a {token} dog", "a dog"], "sample_every": 2, "sample_steps": 1, "checkpoint_every": 2,
    }  # fmt: skip
    runs = [engine.submit({**values, "judge": judge}) for judge in ("base", "off")]

    judged, plain = (engine.wait(run_id) for run_id in runs)

    assert [step.loss for step in judged.losses] == [step.loss for step in plain.losses]
    assert [entry.step for entry in judged.scores] == [2, 4]
    assert plain.scores == ()


@pytest.mark.parametrize(("count", "is_told"), [(3, True), (4, False)])
def test_a_run_on_few_pictures_is_told_that_likeness_says_little(
    engine: Engine, tiny_base: Path, tmp_path: Path, count: int, is_told: bool
) -> None:
    (tmp_path / "few").mkdir()
    for index, colour in enumerate(("red", "blue", "green", "brown")[:count]):
        ball(colour, 64).save(tmp_path / "few" / f"{index}.png")
    dataset = engine.datasets.create([tmp_path / "few"])
    values = {
        "dataset": dataset.id, "base_model": str(tiny_base), "token": "sks", "steps": 1, "warmup_steps": 0, "batch_size": 1, "rank": 2,
        "sample_prompts": ["a {token} ball"], "sample_every": 1, "sample_steps": 1, "validation_share": 0.0, "judge": "base",
    }  # fmt: skip

    state = engine.wait(engine.submit(values))

    assert any(f"Likeness is told from {count} pictures" in note for note in state.notes) == is_told


def test_clip_and_dino_are_not_downloaded_unasked() -> None:
    assert clip_and_dino(best_device(), download=False, sources=("nobody/clip", "nobody/dino")) is None


def test_clip_and_dino_judge_where_they_are(tmp_path: Path) -> None:
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig, Dinov2Config, Dinov2Model

    from tests.tiny import clip_config, clip_tokenizer

    tokenizer = clip_tokenizer()
    text = CLIPTextConfig(**clip_config(tokenizer).to_dict())
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=224, patch_size=56
    )
    CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=16)).save_pretrained(tmp_path / "clip")
    tokenizer.save_pretrained(tmp_path / "clip")
    Dinov2Model(Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=224, patch_size=56)).save_pretrained(
        tmp_path / "dino"
    )

    eye = clip_and_dino(best_device(), download=False, sources=(str(tmp_path / "clip"), str(tmp_path / "dino")))
    assert eye is not None
    seen = eye.see(pixels(ball("red"), ball("blue")), ["a red ball", "a blue ball"])

    assert seen.places.shape == (2, 16)
    assert torch.isfinite(seen.fits).all()
