"""Frames between pictures, and AnimateDiff."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import MotionAdapter
from PIL import Image

from sdplay import sample
from sdplay.animate import Film, frames_between, slerp
from sdplay.cli import main
from sdplay.config import AnimateConfig, GenerateConfig, parse
from sdplay.device import best_device
from sdplay.engine import Engine
from sdplay.errors import ConfigError, ModelError
from sdplay.families import family
from sdplay.formats import AdapterFile, read_adapter
from tests.families.test_contract import CASES
from tests.test_train import pixels, trained, values

FAST = {"steps": 2}


@pytest.fixture
def motion(tmp_path: Path) -> Path:
    """A motion adapter of the tiny base's shape, with random weights."""
    torch.manual_seed(6)
    adapter = MotionAdapter(
        block_out_channels=(16, 32), motion_layers_per_block=1, motion_num_attention_heads=2, motion_norm_num_groups=8,
        motion_max_seq_length=8, use_motion_mid_block=False, motion_mid_block_layers_per_block=1,
    )  # fmt: skip
    with torch.no_grad():
        for name, parameter in adapter.named_parameters():
            if "proj_out" in name:  # zero at the start of its training
                parameter.normal_(std=0.5)
    adapter.save_pretrained(tmp_path / "motion")
    return tmp_path / "motion"


def frames_of(path: Path) -> list[np.ndarray]:
    with Image.open(path) as film:
        count = getattr(film, "n_frames", 1)
        frames = []
        for index in range(count):
            film.seek(index)
            frames.append(np.asarray(film.convert("RGB")).astype(int))
    return frames


def test_noise_keeps_its_length_on_the_way() -> None:
    first, second = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))

    middle = slerp(first, second, 0.5)

    assert middle.norm().item() == pytest.approx(first.norm().item(), rel=0.05)
    assert torch.equal(slerp(first, second, 0.0), first)
    assert torch.allclose(slerp(first, first, 0.3), first, atol=1e-6)


def film_of(name: str, folder: Path, adapters: Sequence[tuple[AdapterFile, float]] = (), **asked: object) -> Film:
    config = parse(AnimateConfig, {"frames": 2, "drawing": GenerateConfig(**FAST), **asked})
    return Film(config, adapters, family(name).load(folder, best_device(), source="tiny"), family(name))


def drawn_by(film: Film, prompt: str, seed: int, strength: float = 1.0) -> np.ndarray:
    with sample.using(film.parts, film.strength(strength)):
        return np.asarray(next(sample.draw(film.parts, film.family, [sample.Shot(prompt, seed)], film.config.drawing)))


@pytest.mark.parametrize("name", CASES)
def test_a_film_goes_from_one_picture_to_the_other(name: str, request: pytest.FixtureRequest) -> None:
    family_name, fixture = CASES[name]
    film = film_of(family_name, request.getfixturevalue(fixture), prompts=["a dog", "a red ball"], seeds=[1, 2])

    first, between, last = map(np.asarray, frames_between(film))

    assert abs(first.astype(int) - drawn_by(film, "a dog", 1)).max() <= 1
    assert abs(last.astype(int) - drawn_by(film, "a red ball", 2)).max() <= 1
    assert all((between != end).any() for end in (first, last))


def test_an_adapter_grows_with_its_strength(engine: Engine, tiny_base: Path, pictures: Path) -> None:
    run = trained(engine, values(engine, tiny_base, pictures, steps=3, learning_rate=5e-2))
    adapter = read_adapter(run.folder / run.state().artifacts[0].file)
    film = film_of("sd15", tiny_base, [(adapter, 1.0)], prompts=["a red ball"], strengths=[0, 1])

    first, between, last = map(np.asarray, frames_between(film))

    assert (first == drawn_by(film, "a red ball", 1, strength=0)).all()
    assert abs(between.astype(int) - drawn_by(film, "a red ball", 1, strength=0.5)).max() <= 1
    assert abs(last.astype(int) - drawn_by(film, "a red ball", 1)).max() <= 1
    assert (first != last).any()


def test_the_command_line_animates(tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setenv("SDPLAY_HOME", str(tmp_path / "home"))
    out = tmp_path / "film.gif"

    code = main(
        ["animate", "--prompts", "a dog", "--seeds", "1,2", "--frames", "2", "--steps", "2", "--base", str(tiny_base), "-o", str(out)]
    )

    assert (code, capsys.readouterr().out.strip()) == (0, str(out))
    with Image.open(out) as film:
        assert (film.n_frames, film.info["duration"]) == (3, 125 // 10 * 10)  # GIFs count in hundredths of a second


def test_an_mp4_is_written_or_the_missing_package_named(engine: Engine, tiny_base: Path, tmp_path: Path) -> None:
    asked = {"prompts": ["a dog"], "seeds": [1, 2], "frames": 4, "base_model": str(tiny_base), "drawing": FAST}
    path = tmp_path / "film.mp4"
    if importlib.util.find_spec("imageio_ffmpeg") is None:
        with pytest.raises(ConfigError, match="pip install imageio-ffmpeg"):
            engine.animate(asked, [path])
        return

    engine.animate(asked, [path])

    from imageio_ffmpeg import read_frames

    facts, *frames = read_frames(str(path))
    assert (facts["size"], facts["fps"], len(frames)) == ((32, 32), 8.0, 5)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "at least two prompts"),
        ({"prompts": ["a", "b"], "seeds": [1, 2, 3]}, "not equally many"),
        ({"motion": "folder", "seeds": [1, 2]}, "one prompt with one seed"),
        ({"frames": 1, "seeds": [1, 2]}, "Frames"),
    ],
)
def test_a_film_nobody_can_mean_gets_a_sentence(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse(AnimateConfig, {"prompts": ["a"], **changes})


def test_another_ending_than_gif_and_mp4_is_refused_before_anything_is_drawn(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="neither a GIF nor an MP4"):
        engine.animate({"prompts": ["a", "b"]}, [tmp_path / "film.avi"])


# ---- AnimateDiff


def test_a_motion_adapter_moves_a_prompt_and_leaves_the_base_as_it_was(
    engine: Engine, tiny_base: Path, motion: Path, pictures: Path, tmp_path: Path
) -> None:
    run = trained(engine, values(engine, tiny_base, pictures, steps=3, learning_rate=5e-2))
    asked = {"prompts": ["a red ball"], "motion": str(motion), "frames": 4, "base_model": str(tiny_base), "drawing": FAST}
    before = pixels(engine.draw(["a red ball"], [1], FAST, base_model=str(tiny_base))[0].path)

    frames = frames_of(engine.animate(asked, [tmp_path / "base.gif"])[0])
    again = frames_of(engine.animate(asked, [tmp_path / "again.gif"])[0])
    adapted = frames_of(engine.animate({**asked, "adapter": run.id}, [tmp_path / "run.gif"])[0])
    from_base = {**asked, "adapter": run.id, "drawing": {**FAST, "guidance_from": "base"}}
    away = frames_of(engine.animate(from_base, [tmp_path / "away.gif"])[0])
    unguided = [
        frames_of(engine.animate({**asked, "drawing": {**FAST, **drawing}}, [tmp_path / "unguided.gif"])[0])
        for drawing in ({"guidance_stop": 0}, {"guidance_scale": 1})
    ]

    assert len(frames) == len(adapted) == 4
    assert all((one == two).all() for one, two in zip(frames, again, strict=True)), "the same seed moves the same way"
    assert any((one != two).any() for one, two in zip(frames, adapted, strict=True)), "the adapter is on the moving base"
    assert any((one != two).any() for one, two in zip(adapted, away, strict=True)), "and guidance may go away from the base without it"
    assert all((one == two).all() for one, two in zip(*unguided, strict=True)), "or end before it began"
    assert any((one != two).any() for one, two in zip(frames, unguided[0], strict=True))
    assert (pixels(engine.draw(["a red ball"], [1], FAST, base_model=str(tiny_base))[0].path) == before).all()


def test_what_a_motion_adapter_cannot_do_gets_a_sentence(
    engine: Engine, tiny_base: Path, tiny_sdxl: Path, motion: Path, tmp_path: Path
) -> None:
    asked = {"prompts": ["a"], "motion": str(motion), "frames": 4, "base_model": str(tiny_base), "drawing": FAST}

    with pytest.raises(ConfigError, match=r"Stable Diffusion 1.x"):
        engine.animate({**asked, "base_model": str(tiny_sdxl)}, [tmp_path / "film.gif"])
    with pytest.raises(ConfigError, match="at most 8 frames"):
        engine.animate({**asked, "frames": 9}, [tmp_path / "film.gif"])
    with pytest.raises(ModelError, match="cannot be read"):
        engine.animate({**asked, "motion": str(tmp_path)}, [tmp_path / "film.gif"])
    with pytest.raises(ConfigError, match="does not fit this base"):
        engine.animate({**asked, "base_model": "mini"}, [tmp_path / "film.gif"])
