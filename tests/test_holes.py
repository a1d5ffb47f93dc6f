"""Inpainting bases learn from pictures with holes: which hole comes when, and what the base is shown of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sdplay.cache import load_pixels
from sdplay.config import LoraConfig
from sdplay.data import Example
from sdplay.device import best_device
from sdplay.engine import Engine
from sdplay.families import family
from sdplay.holes import Holes, holes_for, random_mask
from tests import tiny
from tests.test_train import trained, values


@pytest.fixture
def base(tiny_base: Path, tmp_path: Path) -> Path:
    return tiny.make_inpainting(tmp_path / "inpainting", tiny_base)


@pytest.fixture
def example(pictures: Path) -> Example:
    return Example("red", pictures / "red.png", "", 64, 64, "red.png", ())


def holes(base: Path, example: Example, **changes: object) -> Holes:
    chosen = family("sd15")
    parts = chosen.load(base, best_device(), source="tiny")
    made = holes_for(parts, chosen, [example], LoraConfig(**changes))  # type: ignore[arg-type]
    assert made is not None
    return made


def test_random_masks_hide_some_and_never_all_and_are_of_several_kinds() -> None:
    masks = [random_mask((48, 32), torch.Generator().manual_seed(seed)) for seed in range(60)]

    assert all(mask.shape == (1, 32, 48) and set(mask.unique().tolist()) == {0.0, 1.0} for mask in masks)
    shares = [float(mask.mean()) for mask in masks]
    assert min(shares) < 0.1 < 0.35 < max(shares)
    boxes = sum(bool((mask[0].sum(1)[mask[0].sum(1) > 0] == mask[0].sum(1).max()).all()) for mask in masks)
    assert 0 < boxes < 40, "rectangles among others"


def test_a_mask_depends_on_the_seed_and_step_alone(base: Path, example: Example) -> None:
    one, other = holes(base, example), holes(base, example, seed=1)

    first = one.shown([0, 0], (8, 8), step=3, micro=0)

    assert torch.equal(first, one.shown([0, 0], (8, 8), step=3, micro=0))
    assert not torch.equal(first, one.shown([0, 0], (8, 8), step=4, micro=0))
    assert not torch.equal(first, one.shown([0, 0], (8, 8), step=3, micro=1))
    assert not torch.equal(first, other.shown([0, 0], (8, 8), step=3, micro=0))


def test_a_quarter_of_the_time_everything_is_hidden(base: Path, example: Example) -> None:
    made = holes(base, example)

    whole = [bool((made.shown([0], (8, 8), step=step, micro=0)[:, 0] == 1).all()) for step in range(80)]

    assert 10 <= sum(whole) <= 30


@torch.no_grad()
def test_the_base_sees_the_mask_and_the_latents_of_the_rest(base: Path, example: Example, tmp_path: Path) -> None:
    """As diffusers' inpainting pipeline prepares them: grey where it is hidden, the mask at the latents' size by the nearest pixel."""
    own = np.zeros((64, 64), np.uint8)
    own[16:48, 8:40] = 255
    Image.fromarray(own).save(tmp_path / "own.png")
    made = holes(base, replace(example, mask=tmp_path / "own.png"))
    half = torch.zeros(1, 1, 32, 32)
    half[..., 8:24, 4:20] = 1
    vae = made.parts.pipeline.vae

    shown = next(given for step in range(20) if (given := made.shown([0], (8, 8), step=step, micro=0))[:, 0].mean() < 1)

    expected = vae.encode(load_pixels(example.path, (32, 32))[None] * (1 - half)).latent_dist.mean * vae.config.scaling_factor
    assert torch.equal(shown[:, :1], half[..., ::4, ::4])
    torch.testing.assert_close(shown[:, 1:], expected)


def test_random_leaves_the_pictures_own_masks_aside_and_whole_and_plain_bases_have_no_holes(
    base: Path, tiny_base: Path, example: Example, tmp_path: Path
) -> None:
    Image.new("L", (64, 64), 255).save(tmp_path / "white.png")
    masked, chosen = replace(example, mask=tmp_path / "white.png"), family("sd15")

    auto, random = (holes(base, masked, inpaint_masks=name) for name in ("auto", "random"))

    assert all((auto.shown([0], (8, 8), step=step, micro=0)[:, 0] == 1).all() for step in range(10))
    assert not all((random.shown([0], (8, 8), step=step, micro=0)[:, 0] == 1).all() for step in range(10))
    assert holes_for(auto.parts, chosen, [example], LoraConfig(inpaint_masks="whole")) is None
    assert holes_for(chosen.load(tiny_base, best_device(), source="tiny"), chosen, [example], LoraConfig()) is None


@pytest.mark.parametrize("prior", ["none", "prediction"])
def test_a_run_with_holes_learns_and_repeats_itself(engine: Engine, base: Path, pictures: Path, prior: str) -> None:
    config = {"sample_prompts": [], "prior": prior, "class_word": "ball", "steps": 4, "learning_rate": 1e-3}

    first, again, whole = (
        [step.loss for step in trained(engine, values(engine, base, pictures, **config, inpaint_masks=name)).state().losses]
        for name in ("auto", "auto", "whole")
    )

    assert first == again
    assert first != whole
