"""Previews: close to what comes, changing nothing of it, and only where it takes long."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

from sdplay import preview
from sdplay.asked import Watch
from sdplay.config import GenerateConfig, Scheduler
from sdplay.device import best_device
from sdplay.engine import Engine
from sdplay.errors import ConfigError
from sdplay.families import Parts, family
from sdplay.hub import find_base
from sdplay.pipelines import decode_latents
from sdplay.sample import Onlooker, Shot, draw
from sdplay.ui.access import Access
from sdplay.ui.tabs.draw import MOST_ADAPTERS, Drawings, draw_asked
from tests.families.test_contract import CASES

PROMPTS = ("red apple, noto style", "cat face, noto style, blue background", "house, noto style, pink background", "key, noto style")
Guesses = list[torch.Tensor]


@pytest.fixture(scope="module")
def mini() -> Parts:
    """The embedded base."""
    return family("sd15").load(find_base("mini").folder, best_device(), source="mini")


def drawn_and_guessed(parts: Parts, name: str, config: GenerateConfig, prompts: tuple[str, ...]) -> tuple[list[Image.Image], Guesses]:
    """Pictures, and the clean latents that were expected after each step."""
    guesses: Guesses = []
    shots = [Shot(prompt, 1) for prompt in prompts]
    onlooker = Onlooker(after_step=lambda step, steps, latents: guesses.append(latents))
    return list(draw(parts, family(name), shots, config, onlooker=onlooker)), guesses


def error(one: Image.Image, other: Image.Image) -> float:
    """Root of the mean squared difference, of 255."""
    difference = np.asarray(one, np.float32) - np.asarray(other.resize(one.size, Image.Resampling.BOX), np.float32)
    return float(np.sqrt(np.square(difference).mean()))


def test_a_preview_is_nearer_to_its_picture_than_to_any_other(mini: Parts) -> None:
    """Halfway through, and it gets nearer: in the end a sixth of the range of colours away at most."""
    pictures, guesses = drawn_and_guessed(mini, "sd15", GenerateConfig(steps=20), PROMPTS)
    colours = preview.latent_colours(mini, family("sd15"))
    halfway, late = (preview.small_pictures(guesses[step], colours) for step in (9, 18))

    assert {shown.size for shown in halfway} == {(16, 16)}
    for place, shown in enumerate(halfway):
        errors = [error(shown, picture) for picture in pictures]
        assert min(errors) == errors[place]
        assert error(late[place], pictures[place]) < min(errors[place], 255 / 6)


@pytest.mark.parametrize("name", CASES)
def test_every_scheduler_tells_what_it_expects_and_draws_the_same(name: str, request: pytest.FixtureRequest) -> None:
    """What is expected after the last step is the picture; with and without being asked, it is the same to the bit."""
    kind, fixture = CASES[name][:2]
    parts = family(kind).load(request.getfixturevalue(fixture), best_device(), source="tiny")
    steps = {}
    for scheduler in get_args(Scheduler):
        config = GenerateConfig(steps=6, scheduler=scheduler, guidance_scale=1.0)
        try:
            alone = list(draw(parts, family(kind), [Shot("a ball", 1)], config))
        except ConfigError:
            continue  # not for this base
        pictures, guesses = drawn_and_guessed(parts, kind, config, ("a ball",))

        assert (np.asarray(pictures[0]) == np.asarray(alone[0])).all(), scheduler
        with torch.no_grad():
            last = decode_latents(parts, guesses[-1])[0]
        assert np.abs(last.permute(1, 2, 0).numpy() * 255 - np.asarray(pictures[0])).mean() < 4, scheduler
        steps[scheduler] = len(guesses)
    assert min(steps.values()) >= 6
    assert len(steps) >= 4


def test_what_comes_at_once_has_no_preview(engine: Engine, tiny_base: Path) -> None:
    watch = Watch()
    engine.draw_pictures({"prompts": ["a ball"], "seeds": [1], "base_model": str(tiny_base), "drawing": {"steps": 4}}, watch=watch)

    assert len(watch.drawn) == 1
    assert watch.coming.pictures == ()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every picture counts as one that takes long."""
    monkeypatch.setattr(preview, "WORTH_S", 0.0)
    monkeypatch.setattr(preview, "EVERY_S", 0.0)


def test_a_drawing_is_cancelled_between_two_steps(engine: Engine, tiny_base: Path, slow: None) -> None:
    """Nothing of the picture is kept; those before it are."""

    class Impatient(Watch):
        """Cancels at the first preview after a picture has come."""

        def __setattr__(self, name: str, value: object) -> None:
            object.__setattr__(self, name, value)
            if name == "coming" and self.coming.pictures and self.drawn:
                steps.append(self.coming.step)
                self.cancelled.set()

    steps: list[int] = []
    watch = Impatient()
    sixteen = {"prompts": ["a ball"], "seeds": list(range(16)), "base_model": str(tiny_base), "drawing": {"steps": 50}}

    drawn = engine.draw_pictures(sixteen, watch=watch)

    assert len(drawn) == 8
    assert steps == [2]
    assert [shot.path.exists() for shot in drawn] == [True] * 8


def test_the_page_shows_what_comes(engine: Engine, tiny_base: Path, slow: None) -> None:
    settings = [GenerateConfig().model_dump()[name] for name in ("negative_prompt", "guidance_scale")]
    shown = [
        html
        for html, _ in draw_asked(
            engine, Access(base_model=str(tiny_base)), Drawings(), ("negative_prompt", "guidance_scale", "steps"),
            SimpleNamespace(session_hash="me"), "a ball", "1", 2, str(tiny_base), [], *[1] * MOST_ADAPTERS, None, 0.6, *settings, 100,
        )
    ]  # fmt: skip

    coming = [html for html in shown if "data:image/png" in html]
    assert coming, "no preview was shown"
    assert "of 100</span>" in coming[-1]
    assert coming[-1].count("<img") == 2
    assert "data:image" not in shown[-1]
