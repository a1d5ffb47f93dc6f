"""Drawing, for every family: from nothing, from a picture, inside a mask; by every scheduler that the family takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, EulerAncestralDiscreteScheduler, StableDiffusionImg2ImgPipeline
from PIL import Image, ImageDraw

from sdplay.config import Scheduler
from sdplay.device import best_device
from sdplay.engine import Engine
from sdplay.errors import ConfigError
from sdplay.families import Parts, family
from sdplay.schedulers import DIFFUSION, FLOW, scheduler_for
from tests import tiny
from tests.families.test_contract import CASES, PROMPT, Case
from tests.test_train import pixels

Draw = Callable[..., np.ndarray]
INPAINTING = {"sd15 inpainting": "tiny_base", "sd2 inpainting": "tiny_sd2", "sdxl inpainting": "tiny_sdxl"}


@pytest.fixture(params=[*CASES, *INPAINTING])
def any_base(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    """Every family's tiny base, and the inpainting versions."""
    name = request.param
    if name in CASES:
        return Case(CASES[name][0], request.getfixturevalue(CASES[name][1]))
    return Case(name.split()[0], tiny.make_inpainting(tmp_path / "inpainting", request.getfixturevalue(INPAINTING[name])))


@pytest.fixture
def draw(engine: Engine, any_base: Case) -> Draw:
    """Draw with the engine; the pixels."""

    def drawn(**asked: object) -> np.ndarray:
        drawing = {"steps": 4, **{key: asked.pop(key) for key in ("scheduler", "clip_skip", "guidance_scale") if key in asked}}
        values = {"prompts": [PROMPT], "seeds": [7], "base_model": str(any_base.folder), "drawing": drawing, **asked}
        return pixels(engine.draw_pictures(values)[0].path)

    return drawn


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture of the bases' own size."""
    made = Image.new("RGB", (32, 32), "white")
    ImageDraw.Draw(made).ellipse((4, 6, 26, 28), fill="teal")
    made.save(tmp_path / "start.png")
    return tmp_path / "start.png"


def mask(folder: Path, box: tuple[int, int, int, int]) -> Path:
    """Black, with a white box."""
    made = Image.new("L", (32, 32), 0)
    ImageDraw.Draw(made).rectangle(box, fill=255)
    made.save(folder / "mask.png")
    return folder / "mask.png"


def test_strength_0_gives_the_picture_back_and_strength_1_forgets_it(draw: Draw, picture: Path) -> None:
    assert (draw(image=str(picture), strength=0) == pixels(picture)).all()
    assert abs(draw(image=str(picture), strength=1) - draw()).max() <= 1


def test_the_weaker_the_strength_the_nearer_to_the_start_picture(draw: Draw, picture: Path, any_base: Case) -> None:
    quarter, three_quarters = (draw(image=str(picture), strength=strength) for strength in (0.25, 0.75))

    assert (quarter != three_quarters).any()
    assert (quarter == draw(image=str(picture), strength=0.25)).all(), "the same seed draws the same picture"


def test_outside_the_mask_no_pixel_changes_and_inside_it_is_drawn(draw: Draw, picture: Path, tmp_path: Path) -> None:
    box = (9, 10, 18, 21)  # not on the borders of latents

    drawn = draw(image=str(picture), mask=str(mask(tmp_path, box)), strength=1)

    inside = np.zeros((32, 32), bool)
    inside[10:22, 9:19] = True
    assert (drawn[~inside] == pixels(picture)[~inside]).all()
    assert (drawn[inside] != pixels(picture)[inside]).any()


@pytest.mark.parametrize("strength", [0.5, 1])
def test_a_white_mask_is_image_to_image(draw: Draw, picture: Path, tmp_path: Path, strength: float) -> None:
    masked = draw(image=str(picture), mask=str(mask(tmp_path, (0, 0, 31, 31))), strength=strength)

    assert (masked == draw(image=str(picture), strength=strength)).all()


def test_every_scheduler_of_the_family_draws_with_and_without_a_start_picture(draw: Draw, picture: Path, any_base: Case) -> None:
    zero_snr = any_base.family == "sd2"
    names = list(FLOW if any_base.family == "sd3" else DIFFUSION)
    able = []
    for name in names:
        try:
            drawn = draw(scheduler=name)
        except ConfigError:
            continue
        able.append(name)
        assert (drawn == draw(scheduler=name)).all(), f"{name} is not the seed's alone"
        assert draw(scheduler=name, image=str(picture), strength=0.5).std() > 0, name
    assert {"Euler", "LCM"} <= set(able)
    assert zero_snr or able == names


def test_a_picture_does_not_depend_on_its_neighbours(engine: Engine, any_base: Case) -> None:
    scheduler = "LCM"  # takes noise in every step
    asked = {"prompts": [PROMPT], "base_model": str(any_base.folder), "drawing": {"steps": 3, "scheduler": scheduler}}

    alone = engine.draw_pictures({**asked, "seeds": [7]})[0].path
    among = engine.draw_pictures({**asked, "seeds": [6, 7, 8]})[1].path

    assert abs(pixels(alone) - pixels(among)).max() <= 1


def test_the_own_scheduler_is_back_after_drawing_with_another(any_base: Case) -> None:
    from sdplay.config import GenerateConfig
    from sdplay.sample import Shot
    from sdplay.sample import draw as draw_sample

    parts, chosen = any_base.load(), family(any_base.family)
    own = parts.pipeline.scheduler

    list(draw_sample(parts, chosen, [Shot(PROMPT, 1)], GenerateConfig(steps=2, scheduler="Euler")))

    assert parts.pipeline.scheduler is own
    assert not hasattr(parts.denoiser, "_hf_hook")


def test_guidance_of_0_and_1_are_none(draw: Draw) -> None:
    assert (draw(guidance_scale=0) == draw(guidance_scale=1)).all()
    assert (draw(guidance_scale=0) != draw(guidance_scale=4)).any()


def test_clip_skip_reads_an_earlier_layer(any_base: Case, draw: Draw) -> None:
    deep = any_base.family == "sd15"  # the tiny one has one layer
    if deep:
        with pytest.raises(ConfigError, match="larger than this base's text encoder is deep"):
            draw(clip_skip=2)
    else:
        assert (draw(clip_skip=2) != draw()).any()


def test_a_picture_of_another_shape_keeps_its_shape_at_the_bases_area(draw: Draw, tmp_path: Path) -> None:
    Image.new("RGB", (200, 100), "teal").save(tmp_path / "wide.png")

    height, width, _ = draw(image=str(tmp_path / "wide.png")).shape

    assert width > height
    assert 0.7 * 32**2 < width * height < 1.4 * 32**2


# ---- against diffusers, and the paper


def load(case: Case) -> Parts:
    return family(case.family).load(case.folder, best_device(), source="tiny")


def test_every_name_is_in_a_table() -> None:
    assert set(get_args(Scheduler)) == {"base", *DIFFUSION}
    assert set(FLOW) <= set(DIFFUSION)


def test_a_scheduler_keeps_what_the_base_predicts_and_its_zero_terminal_snr(tiny_sd2: Path) -> None:
    own = load(Case("sd2", tiny_sd2)).pipeline.scheduler

    for name in ("Euler", "Euler a", "DPM++ 2M Karras", "UniPC", "LCM"):
        chosen = scheduler_for(own, name)
        assert (chosen.config.prediction_type, chosen.config.rescale_betas_zero_snr) == ("v_prediction", True)
        assert torch.allclose(chosen.betas, own.betas)


def test_a_scheduler_that_does_not_know_zero_terminal_snr_is_refused_for_such_a_base(tiny_sd2: Path) -> None:
    own = load(Case("sd2", tiny_sd2)).pipeline.scheduler

    with pytest.raises(ConfigError, match="zero terminal SNR"):
        scheduler_for(own, "Heun")


def test_flow_bases_keep_their_shift_and_refuse_what_is_for_noise(tiny_sd3: Path) -> None:
    own = load(Case("sd3", tiny_sd3)).pipeline.scheduler

    assert scheduler_for(own, "Heun").config.shift == 3.0
    with pytest.raises(ConfigError, match="Choose one of: base, Euler, Heun, LCM"):
        scheduler_for(own, "DPM++ 2M Karras")


def test_a_scheduler_by_name_draws_what_diffusers_draws_with_it(engine: Engine, tiny_base: Path) -> None:
    pipeline = DiffusionPipeline.from_pretrained(tiny_base)
    pipeline.scheduler = EulerAncestralDiscreteScheduler.from_config(pipeline.scheduler.config)
    generator = torch.Generator().manual_seed(7)
    drawn = pipeline(PROMPT, generator=[generator], height=32, width=32, num_inference_steps=4, guidance_scale=4.0, output_type="np")

    ours = engine.draw([PROMPT], [7], {"steps": 4, "scheduler": "Euler a"}, base_model=str(tiny_base))[0].path

    assert abs(pixels(ours) - (drawn.images[0] * 255).round()).max() <= 1


def test_a_start_picture_is_drawn_over_as_diffusers_does(engine: Engine, tiny_base: Path, picture: Path) -> None:
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(tiny_base)
    tensor = torch.from_numpy(pixels(picture).astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    with torch.no_grad():
        latents = pipeline.vae.encode(tensor).latent_dist.mean * pipeline.vae.config.scaling_factor
    generator = torch.Generator().manual_seed(7)
    drawn = pipeline(
        PROMPT, image=latents, strength=0.5, generator=[generator], num_inference_steps=4, guidance_scale=4.0, output_type="np"
    )

    asked = {
        "prompts": [PROMPT],
        "seeds": [7],
        "base_model": str(tiny_base),
        "drawing": {"steps": 4},
        "image": str(picture),
        "strength": 0.5,
    }
    ours = engine.draw_pictures(asked)[0].path

    assert abs(pixels(ours) - (drawn.images[0] * 255).round()).max() <= 1


def test_an_inpainting_base_sees_what_the_mask_leaves(tiny_base: Path, tmp_path: Path, picture: Path, engine: Engine) -> None:
    folder = tiny.make_inpainting(tmp_path / "inpainting", tiny_base)
    other = tmp_path / "other.png"
    Image.new("RGB", (32, 32), "red").save(other)
    box = str(mask(tmp_path, (8, 8, 15, 15)))
    asked = {"prompts": [PROMPT], "seeds": [7], "base_model": str(folder), "drawing": {"steps": 4}, "mask": box, "strength": 1.0}

    inside = [pixels(engine.draw_pictures({**asked, "image": str(path)})[0].path)[8:16, 8:16] for path in (picture, other)]

    assert (inside[0] != inside[1]).any(), "at strength 1 only what is outside the mask can tell the two apart"


def test_guidance_rescale_is_the_papers_and_refused_where_diffusers_has_none(engine: Engine, tiny_base: Path, tiny_sd3: Path) -> None:
    pipeline = DiffusionPipeline.from_pretrained(tiny_base)
    noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(7))
    drawn = pipeline(
        PROMPT, latents=noise, height=32, width=32, num_inference_steps=4, guidance_scale=4.0, guidance_rescale=0.7, output_type="np"
    )

    drawing = {"steps": 4, "guidance_rescale": 0.7}
    ours = engine.draw([PROMPT], [7], drawing, base_model=str(tiny_base))[0].path

    assert abs(pixels(ours) - (drawn.images[0] * 255).round()).max() <= 1
    with pytest.raises(ConfigError, match="cannot be rescaled"):
        engine.draw([PROMPT], [7], drawing, base_model=str(tiny_sd3))
