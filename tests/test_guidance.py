"""Guidance away from what the base alone would draw, and in a part of the steps, with every kind of adapter and every family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from sdplay.config import GenerateConfig
from sdplay.engine import Engine
from sdplay.families import Parts
from sdplay.formats import AdapterFile, Layer
from sdplay.guidance import guided_from
from sdplay.sample import using
from tests.families.test_contract import CASES, PROMPT, Case, run_values
from tests.formats.conftest import LINEAR, weight_of
from tests.formats.conftest import make as make
from tests.formats.conftest import parts as parts
from tests.formats.conftest import random as random
from tests.formats.conftest import sd15 as sd15
from tests.formats.test_attach import random_layer
from tests.test_train import pixels, trained

AWAY = GenerateConfig(guidance_from="base")
KINDS = ("lora", "dora", "loha", "lokr", "full", "weights")


@pytest.fixture(params=CASES.values(), ids=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    name, fixture = request.param
    return Case(name, request.getfixturevalue(fixture))


def adapter_of(kind: str, parts: Parts, make: Callable[..., AdapterFile], random: torch.Generator) -> AdapterFile:
    """One that changes the denoiser by peft's layers, by what is added to weights, or by other weights in their place."""
    if kind in ("lora", "dora"):
        return make(dora=kind == "dora")
    if kind == "weights":
        return AdapterFile("w", weights={f"unet.{name}": 1.1 * value for name, value in parts.denoiser.state_dict().items()}, family="sd15")
    layer: Layer = random_layer(kind, weight_of(parts, f"unet.{LINEAR}").detach(), random)
    return AdapterFile("a", {f"unet.{LINEAR}": layer}, family="sd15")


@pytest.mark.parametrize("kind", KINDS)
def test_the_negative_half_is_the_bases_and_the_other_the_adapters(
    kind: str, parts: Parts, make: Callable[..., AdapterFile], random: torch.Generator
) -> None:
    adapter = adapter_of(kind, parts, make, random)
    x, text = torch.randn((4, 4, 8, 8), generator=random), torch.randn((4, 77, 16), generator=random)

    @torch.no_grad()
    def answers(rows: slice = slice(None)) -> Tensor:
        return parts.denoiser(x[rows], torch.tensor(500), encoder_hidden_states=text[rows], return_dict=False)[0]

    base = answers(slice(2))
    with using(parts, [(adapter, 0.7)], [AWAY]):
        changed = answers(slice(2, 4))
        with guided_from(parts.denoiser, parts.base_denoiser):
            both = answers()

    assert torch.equal(both[:2], base)
    assert torch.equal(both[2:], changed)
    assert (answers(slice(2, 4)) - changed).abs().max() > 1e-3, "the adapter changes something"
    assert torch.equal(answers(slice(2)), base), "and is gone afterwards"


def test_a_picture_is_that_of_two_pipelines_of_diffusers(engine: Engine, tiny_base: Path, pictures: Path) -> None:
    """One with the exported LoRA answers for the prompt, one without for none: noise - g (noise - with words), step by step."""
    run = trained(engine, run_values(engine, Case("sd15", tiny_base), pictures))
    plain, taught = (StableDiffusionPipeline.from_pretrained(tiny_base, safety_checker=None) for _ in range(2))
    taught.load_lora_weights(run.folder / "out", weight_name=f"{run.id}.safetensors")
    scheduler, latents = plain.scheduler, torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        words, nothing = plain.encode_prompt(PROMPT, "cpu", 1, do_classifier_free_guidance=True)
        scheduler.set_timesteps(4)
        latents = latents * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            given = scheduler.scale_model_input(latents, t)
            without = plain.unet(given, t, nothing).sample
            noise = without + 4.0 * (taught.unet(given, t, words).sample - without)
            latents = scheduler.step(noise, t, latents).prev_sample
        drawn = plain.vae.decode(latents / plain.vae.config.scaling_factor).sample[0]
    expected = ((drawn / 2 + 0.5).clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()

    drawing = {"steps": 4, "guidance_scale": 4.0, "guidance_from": "base"}
    ours = pixels(engine.draw([PROMPT], [7], drawing, adapter=run.id, base_model=str(tiny_base))[0].path)

    assert abs(ours - expected).max() <= 1


def test_every_family_draws_with_it(engine: Engine, case: Case, pictures: Path) -> None:
    run = trained(engine, run_values(engine, case, pictures))

    def drawn(adapter: str, guidance_from: str, guidance: float = 4.0) -> bytes:
        drawing = {"steps": 3, "guidance_scale": guidance, "guidance_from": guidance_from}
        return pixels(engine.draw([PROMPT], [7], drawing, adapter=adapter, base_model=str(case.folder))[0].path).tobytes()

    usual, base = drawn(run.id, "adapter"), drawn("base", "adapter")

    assert len({usual, base, drawn(run.id, "base")}) == 3
    assert drawn(run.id, "base", guidance=1.0) == drawn(run.id, "adapter", guidance=1.0), "without guidance there is nothing to go from"
    assert drawn("base", "base") == drawn(f"{run.id}:0", "base") == base, "nothing is on the base that could be left away"
    assert drawn(run.id, "adapter") == usual, "one drawing leaves nothing to the next"


def test_guidance_that_stops_is_diffusers_own_recipe(engine: Engine, tiny_base: Path) -> None:
    """Its manual's callback for dynamic classifier-free guidance: after some steps, the prompt's embedding alone and no guidance."""
    plain = StableDiffusionPipeline.from_pretrained(tiny_base, safety_checker=None)

    def stop(pipe: StableDiffusionPipeline, step: int, timestep: int, values: dict[str, Tensor]) -> dict[str, Tensor]:
        if step + 1 == 2:
            pipe._guidance_scale = 0.0
            values["prompt_embeds"] = values["prompt_embeds"].chunk(2)[-1]
        return values

    latents = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(7))
    asked = {"latents": latents, "num_inference_steps": 5, "guidance_scale": 4.0, "height": 32, "width": 32, "output_type": "np"}
    told = {"callback_on_step_end": stop, "callback_on_step_end_tensor_inputs": ["prompt_embeds"]}
    expected = (plain(PROMPT, **asked, **told).images[0] * 255).round()

    drawing = {"steps": 5, "guidance_scale": 4.0, "guidance_stop": 0.4}
    ours = pixels(engine.draw([PROMPT], [7], drawing, base_model=str(tiny_base))[0].path)

    assert abs(ours - expected).max() <= 1


def test_once_guidance_has_ended_the_half_with_the_words_is_answered_alone(parts: Parts, random: torch.Generator) -> None:
    x, text = torch.randn((4, 4, 8, 8), generator=random), torch.randn((4, 77, 16), generator=random)
    rows: list[int] = []
    hook = parts.denoiser.conv_in.register_forward_hook(lambda layer, given, answer: rows.append(len(answer)))

    @torch.no_grad()
    def answers(part: slice = slice(None)) -> Tensor:
        return parts.denoiser(x[part], torch.tensor(500), encoder_hidden_states=text[part], return_dict=False)[0]

    both, with_words = answers(), answers(slice(2, 4))
    rows.clear()
    with guided_from(parts.denoiser, None, lambda: not rows):
        first, second = answers(), answers()
    hook.remove()

    assert rows == [4, 2]
    assert torch.equal(first, both)
    assert torch.equal(second, torch.cat([with_words, with_words]))


def test_every_family_stops_guiding(engine: Engine, case: Case, pictures: Path) -> None:
    run = trained(engine, run_values(engine, case, pictures))

    def drawn(stop: float, guidance: float = 4.0, reference: str = "adapter") -> bytes:
        drawing = {"steps": 4, "guidance_scale": guidance, "guidance_stop": stop, "guidance_from": reference}
        return pixels(engine.draw([PROMPT], [7], drawing, adapter=run.id, base_model=str(case.folder))[0].path).tobytes()

    without = drawn(1.0, guidance=1.0)
    assert drawn(0.0) == drawn(0.0, reference="base") == without
    assert drawn(0.5, guidance=1.0) == without, "without guidance there is nothing to stop"
    assert len({drawn(1.0), drawn(0.5), drawn(0.5, reference="base"), without}) == 4


def test_films_and_comparisons_obey_it_and_the_base_column_is_drawn_once(
    engine: Engine, tiny_base: Path, pictures: Path, tmp_path: Path
) -> None:
    run = trained(engine, run_values(engine, Case("sd15", tiny_base), pictures))
    asked = {"base_model": str(tiny_base), "prompts": [PROMPT], "seeds": [7], "drawing": {"steps": 2}}
    values = {**asked, "columns": ["base", run.id], "axes": {"guidance_from": ["adapter", "base"]}}
    done = engine.comparison(engine.compare(values))
    while not done.ended:
        done = engine.comparison(done.id)
    files = {(cell.column, *cell.more): cell.file for cell in done.drawn}
    folder = engine.comparison_folder(done.id)

    def film(guidance_from: str) -> bytes:
        drawing = {"steps": 2, "guidance_from": guidance_from}
        values = {**asked, "seeds": [7, 8], "frames": 2, "adapter": run.id, "drawing": drawing}
        return engine.animate(values, [tmp_path / f"{guidance_from}.gif"])[0].read_bytes()

    assert files[0, 0] == files[0, 1], "of the base there is one picture"
    assert (pixels(folder / files[1, 0]) != pixels(folder / files[1, 1])).any()
    assert film("adapter") != film("base")


def test_a_twin_takes_no_memory_for_weights(parts: Parts) -> None:
    with using(parts, [(AdapterFile("none"), 1.0)], [AWAY]):
        assert parts.base_denoiser is not None
        own = {weight.data_ptr() for weight in parts.denoiser.parameters()}
        assert {weight.data_ptr() for weight in parts.base_denoiser.parameters()} == own
    assert parts.base_denoiser is None
