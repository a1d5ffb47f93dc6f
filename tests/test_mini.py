"""The embedded base model and the recipe that made it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPTokenizer

from sdplay.engine import Engine
from sdplay.mini import data, material, unet, vae
from sdplay.mini.recipe import Recipe
from sdplay.mini.vae import learning_rate as vae_learning_rate
from sdplay.mini.vae import psnr
from sdplay.workspace import PRESETS
from tests.test_train import pixels

MINI = PRESETS / "mini"


def test_the_model_fits_where_it_must() -> None:
    sizes = [path.stat().st_size for path in MINI.rglob("*") if path.is_file()]

    assert max(sizes) < 10_000_000
    assert sum(sizes) <= 40_000_000


def test_it_is_a_stable_diffusion_1() -> None:
    index = json.loads((MINI / "model_index.json").read_text())

    assert index["_class_name"] == "StableDiffusionPipeline"
    assert index["unet"][1] == "UNet2DConditionModel"
    assert json.loads((MINI / "scheduler" / "scheduler_config.json").read_text())["prediction_type"] == "epsilon"


def test_the_sample_style_was_never_trained_on() -> None:
    assert data.HELD_OUT_STYLE not in (*data.TRAINED_STYLES, *data.AUTOENCODER_STYLES)


def test_the_card_credits_every_icon_set() -> None:
    card = (MINI / "README.md").read_text()

    for author in ("Google", "Twitter", "Emoji One", "Microsoft", "CC BY 4.0", "Apache-2.0", "MIT"):
        assert author in card, author


def test_backgrounds_are_obeyed(engine: Engine) -> None:
    """The corners of `... blue background` are nearer to blue than to any other named colour, for most colours."""
    colours = [name for name in data.BACKGROUNDS if name not in ("white", "gray")]
    prompts = [f"red apple, noto style, {colour} background" for colour in colours]

    drawn = engine.draw(prompts, [1], {"steps": 12, "guidance_scale": 4.0})

    obeyed = 0
    for colour, picture in zip(colours, drawn, strict=True):
        corners = pixels(picture.path)[[1, 1, -2, -2], [1, -2, 1, -2]]
        nearest = min(data.BACKGROUNDS, key=lambda name: abs(np.median(corners, axis=0) - data.BACKGROUNDS[name]).sum())
        obeyed += nearest == colour
    assert obeyed >= len(colours) - 3


def test_no_subject_loses_both_of_its_styles() -> None:
    left_out = material.held_out_pairs()

    assert len(left_out) == pytest.approx(0.05 * len(data.TRAINED_STYLES) * len(data.trained_names()), abs=1)
    assert len({name for name, _ in left_out}) == len(left_out)
    assert {style for _, style in left_out} == set(data.TRAINED_STYLES)


def test_learning_rates_warm_up_and_end_low() -> None:
    for rate in (vae_learning_rate, unet.learning_rate):
        assert rate(0, 1000, 1.0) < 0.02
        assert rate(999, 1000, 1.0) == pytest.approx(0.02, abs=0.01)


def test_psnr_of_a_known_error() -> None:
    """An error of 0.02 everywhere in a range of 2: 20 log10(2 / 0.02) = 40 dB."""
    assert psnr(torch.full((1, 3, 4, 4), 0.02), torch.zeros(1, 3, 4, 4)) == pytest.approx(40, abs=1e-3)


def test_icons_shrink_without_dark_fringes() -> None:
    rgba = np.zeros((128, 128, 4), np.uint8)
    rgba[32:96, 32:96] = (255, 255, 255, 255)

    small = np.asarray(data.premultiplied_resize(rgba, 30))

    visible = small[small[..., 3] > 20]
    assert visible[:, :3].min() > 240


def test_a_caption_reads_as_users_write_it() -> None:
    assert data.caption("red-apple", "noto", "blue") == "red apple, noto style, blue background"
    assert data.caption("red-apple", "noto", None) == "red apple, noto style"
    assert data.caption("red-apple", "fluent-emoji-flat", None) == "red apple, fluent style"
    assert [data.plural(word) for word in ("fox", "radish", "cherries", "cat face")] == ["foxes", "radishes", "cherries", "cat faces"]


def test_synonyms_stand_for_subjects_and_are_none_themselves() -> None:
    assert set(data.synonyms()) <= set(data.trained_names())
    assert data.synonyms()["hamburger"] == ("burger",)
    names = {data.words(name) for name in data.trained_names()}
    assert not names & {word for words in data.synonyms().values() for word in words}


def test_half_of_the_strange_captions_have_a_style_that_no_picture_goes_with() -> None:
    """The rest of the prompt stays as it is, so that the base learns to follow it beside words that mean nothing."""
    captions = material.Captions(CLIPTokenizer.from_pretrained(MINI / "tokenizer"), dropout=0.0, synonyms=0.0, strangers=1.0)
    cache = material.Cache(torch.empty(0))
    cache.add(("red apple",), "noto", "blue", 1.0)
    rng = np.random.default_rng(0)

    drawn = [captions.tokenizer.decode(captions.draw(cache, 0, rng), skip_special_tokens=True) for _ in range(400)]

    assert all("red apple" in text and text.endswith("blue background") for text in drawn)
    assert sum("noto style" in text for text in drawn) / 400 == pytest.approx(0.9 * 0.5, abs=0.08)
    assert sum(" style" in text for text in drawn) / 400 == pytest.approx(0.9, abs=0.05)
    assert not {captions.stranger(rng) for _ in range(1000)} & {"red", "apple", "noto", "twemoji", "style", "white", "background"}


def test_small_subjects_stand_side_by_side() -> None:
    """A red one left, a blue one right, each about a quarter of the picture, on the background that was asked for."""
    rgba = np.full((2, 128, 128, 4), 255, np.uint8)
    rgba[0, ..., 1:3], rgba[1, ..., :2] = 0, 0
    icons = [data.Icon(name, "noto", picture) for name, picture in zip(("red", "blue"), rgba, strict=True)]

    picture = np.asarray(data.compose_small(icons, "white", size_px=64, rng=np.random.default_rng(0)))

    assert [tuple(picture[32, x]) for x in (16, 48)] == [(255, 0, 0), (0, 0, 255)]
    assert (picture[:6] == 255).all()
    assert 0.38 < (picture != 255).any(axis=2).mean() < 0.51


@pytest.mark.slow
def test_the_whole_recipe_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m sdplay.mini --smoke`, with two icons per set instead of npm's."""
    from sdplay.mini import __main__ as commands
    from sdplay.mini import recipe, unet
    from sdplay.mini.ship import ship

    _fake_icon_sets(tmp_path)
    monkeypatch.setattr(data, "trained_names", lambda: ["ball", "box"])
    monkeypatch.setattr(material, "held_out_pairs", set)
    monkeypatch.setattr(unet, "PREVIEW_PROMPTS", unet.PREVIEW_PROMPTS[:2])
    short = {
        "vae_steps": 2,
        "vae_batch": 2,
        "vae_thinning": 1,
        "polish_steps": 1,
        "polish_batch": 2,
        "unet_steps": 2,
        "unet_batch": 2,
        "views": 2,
        "composed": 3,
        "look_views": 1,
        "unseen": 8,
        "surveyed": 16,
    }
    plan = recipe.stages(tmp_path)

    small = commands.train_small(replace(plan.small, **short), tmp_path / "small")
    grown = commands.train_grown(replace(plan.grown, **short), tmp_path / "grown", small)
    (tmp_path / "grown" / "decoder.pt").unlink()
    again = commands.train_grown(replace(plan.grown, **short), tmp_path / "grown", small)  # goes on where it stopped: at the decoder
    ship(grown, tmp_path / "shipped")

    assert again == grown
    assert (tmp_path / "grown" / "decoder.pt").exists()
    assert Image.open(tmp_path / "grown" / "sheet.png").size == (768, 256)
    config = json.loads((tmp_path / "shipped" / "unet" / "config.json").read_text())
    assert (config["in_channels"], config["sample_size"]) == (plan.grown.latent_channels, 16)
    assert str(tmp_path) not in (tmp_path / "shipped" / "unet" / "config.json").read_text()


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_polishing_teaches_the_decoder_alone(tmp_path: Path, noise: float) -> None:
    """What latents mean is left as it was: a denoiser that was trained on them stays right."""
    _fake_icon_sets(tmp_path)
    torch.manual_seed(0)
    before = vae.new_autoencoder()
    before.save_pretrained(tmp_path / "vae")
    plan = Recipe(tmp_path, size_px=32, polish_steps=1, polish_batch=2, polish_noise=noise)

    vae.polish_decoder(plan, tmp_path)

    after = type(before).from_pretrained(tmp_path / "vae", dtype=torch.float32).state_dict()
    changed = {name.split(".")[0] for name, weights in before.state_dict().items() if not torch.equal(weights, after[name])}
    assert changed == {"decoder", "post_quant_conv"}


def _fake_icon_sets(folder: Path) -> None:
    body = {"ball": '<circle cx="8" cy="8" r="7" fill="red"/>', "box": '<path d="M2 2h12v12H2z" fill="blue"/>'}
    for style in data.PACKAGES:
        target = folder / "node_modules" / "@iconify-json" / style
        target.mkdir(parents=True)
        icons = {f"{name}{suffix}": {"body": drawing} for name, drawing in body.items() for suffix in ("", *(f"-{i}" for i in range(40)))}
        (target / "icons.json").write_text(json.dumps({"icons": icons, "width": 16, "height": 16}))
