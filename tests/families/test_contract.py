"""The contract: every family is identified, loads, encodes, trains, resumes, saves what plain diffusers reads, and draws the same there."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image
from safetensors.torch import load_file

from sdplay import families
from sdplay.device import best_device
from sdplay.engine import Engine
from sdplay.families import Parts, family
from sdplay.formats import Report
from sdplay.hub import find_base
from tests.test_train import pixels, trained, values

CASES = {
    "sd15": ("sd15", "tiny_base"),
    "sd2": ("sd2", "tiny_sd2"),
    "sdxl": ("sdxl", "tiny_sdxl"),
    "sd3": ("sd3", "tiny_sd3"),
    "sd3 without T5": ("sd3", "tiny_sd3_without_t5"),
}
PROMPT = "a red ball"


@dataclass(frozen=True)
class Case:
    """A tiny base and the family it is of."""

    family: str
    folder: Path

    def load(self) -> Parts:
        return family(self.family).load(self.folder, best_device(), source="tiny")


@pytest.fixture(params=CASES.values(), ids=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    name, fixture = request.param
    return Case(name, request.getfixturevalue(fixture))


def run_values(engine: Engine, case: Case, pictures: Path, **changes: object) -> dict[str, object]:
    changed = {"steps": 3, "checkpoint_every": 1, "sample_prompts": [], "rank": 4, "alpha": 2, "learning_rate": 5e-2, **changes}
    return {name: value for name, value in values(engine, case.folder, pictures, **changed).items() if value is not None}


def plain_diffusers(folder: Path, adapter: Path | None) -> np.ndarray:
    """The picture that diffusers alone draws."""
    is_without_t5 = (folder / "transformer").exists() and not (folder / "text_encoder_3").exists()
    pipeline = DiffusionPipeline.from_pretrained(folder, **({"text_encoder_3": None, "tokenizer_3": None} if is_without_t5 else {}))
    if adapter:
        pipeline.load_lora_weights(adapter.parent, weight_name=adapter.name, adapter_name="a")
        pipeline.set_adapters(["a"], [1.0])
    channels = pipeline.vae.config.latent_channels
    noise = torch.randn((channels, 8, 8), generator=torch.Generator().manual_seed(7))[None]
    drawn = pipeline(
        PROMPT, negative_prompt="", latents=noise, height=32, width=32, num_inference_steps=4, guidance_scale=4.0, output_type="np"
    )
    return (drawn.images[0] * 255).round().astype(int)


def test_every_family_has_a_case() -> None:
    assert {name for name, _ in CASES.values()} == set(families.NAMES)


def test_a_base_is_identified_as_its_family_and_no_other(case: Case) -> None:
    assert find_base(str(case.folder)).family == case.family
    assert [name for name in families.NAMES if family(name).identify(case.folder)] == [case.family]


def test_native_size_and_tokens_are_known_without_weights(case: Case) -> None:
    chosen = family(case.family)

    assert chosen.native_size(case.folder) == 32
    assert chosen.count_tokens(case.folder, ["dog"])[0].tokens == ("dog",)
    assert "dog" in chosen.ordinary_words(case.folder) or len(chosen.ordinary_words(case.folder)) > 100


def test_latents_have_the_shape_the_denoiser_takes_and_are_float32(case: Case) -> None:
    parts = case.load()

    mean, std = family(case.family).encode_images(parts, torch.zeros(2, 3, 32, 32))

    assert mean.shape == std.shape == (2, parts.latent_channels, 8, 8)
    assert mean.dtype == torch.float32


@pytest.mark.trap(2, 29)
def test_a_text_means_what_the_pipeline_says_it_means(case: Case) -> None:
    parts = case.load()
    texts = ["a red ball", ""]
    arguments = {"prompt": texts, "num_images_per_prompt": 1, "do_classifier_free_guidance": False}
    if case.family == "sd3":
        arguments |= {"prompt_2": None, "prompt_3": None}
    with torch.no_grad():
        expected = parts.pipeline.encode_prompt(device=parts.device, **arguments)
        found = family(case.family).encode_prompts(parts, texts)

    assert torch.equal(found.hidden, expected[0])
    assert found.pooled is None or torch.equal(found.pooled, expected[2])
    assert (found.pooled is None) == (case.family in ("sd15", "sd2"))


def test_gradients_reach_every_text_encoder_that_is_switched_on(case: Case) -> None:
    parts = case.load()
    for encoder in parts.text_encoders.values():
        encoder.requires_grad_(True)

    conditioning = family(case.family).encode_prompts(parts, ["dog"])
    sum(tensor.sum() for tensor in conditioning.tensors().values()).backward()

    for name, encoder in parts.text_encoders.items():
        assert any(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in encoder.parameters()), name


@pytest.mark.trap(16)
def test_the_adapter_draws_the_same_picture_in_plain_diffusers(engine: Engine, case: Case, pictures: Path, tmp_path: Path) -> None:
    run = trained(engine, run_values(engine, case, pictures))
    path = engine.export(run.id, tmp_path / "mine.safetensors")
    drawing = {"steps": 4, "guidance_scale": 4.0}

    ours = engine.draw([PROMPT], [7], drawing, adapter=str(path), base_model=str(case.folder))[0].path
    zero = engine.draw([PROMPT], [7], drawing, adapter=f"{path}:0", base_model=str(case.folder))[0].path

    base = plain_diffusers(case.folder, None)
    theirs = plain_diffusers(case.folder, path)
    assert abs(pixels(ours) - theirs).max() <= 2
    assert abs(pixels(zero) - base).max() <= 1
    assert (theirs != base).any()
    assert all(tensor.dtype == torch.float32 for tensor in load_file(path).values())


def test_a_run_cut_off_resumes_to_equal_weights(engine: Engine, case: Case, pictures: Path) -> None:
    settings = run_values(engine, case, pictures)
    whole = trained(engine, settings)
    cut = trained(engine, settings)
    lines = (cut.folder / "events.jsonl").read_bytes().splitlines(keepends=True)
    moment = next(index for index, line in enumerate(lines) if json.loads(line).get("step") == 2)
    (cut.folder / "events.jsonl").write_bytes(b"".join(lines[:moment]))
    shutil.rmtree(cut.folder / "out")
    for step in (2, 3):
        shutil.rmtree(cut.folder / "checkpoints" / str(step))

    new_process = Engine(engine.workspace)
    new_process.resume(cut.id)
    state = new_process.wait(cut.id)
    new_process.close()

    assert [step.loss for step in state.losses] == [step.loss for step in whole.state().losses]
    expected = load_file(whole.folder / whole.state().artifacts[0].file)
    found = load_file(cut.folder / state.artifacts[0].file)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_a_run_with_buckets_and_every_loss_option_learns(engine: Engine, case: Case, pictures: Path) -> None:
    """Pictures that are not square, at two sizes; flow matching and diffusion alike."""
    for name, size in (("wide", (96, 64)), ("tall", (40, 80))):
        Image.new("RGB", size, "red").save(pictures / f"{name}.png")
    options = {
        "bucketing": "on", "resolutions": [32, 40], "gradient_checkpointing": "on", "huber_c": 0.1, "noise_offset": 0.05,
        "input_perturbation": 0.1, "timestep_sampling": "logit_normal", "caption_shuffle": "on", "ema_decay": 0.9,
        "loss_weighting": "debiased", "validate_every": 1, "validation_share": 0.3,
    }  # fmt: skip

    state = trained(engine, run_values(engine, case, pictures, **options)).state()

    assert all(math.isfinite(step.loss) for step in state.losses)
    assert len({validation.loss for validation in state.validations}) == 3, "the weights have moved"
    cached = [load_file(path)["mean"].shape for path in (engine.workspace.cache / "latents").glob("*.safetensors")]
    assert any(shape[1] > shape[2] for shape in cached)
    assert any(shape[1] < shape[2] for shape in cached)


def draws_its_last_sample_again(engine: Engine, case: Case, pictures: Path, **changes: object) -> Report:
    """Train, draw with the written file, and say what the file is."""
    prompt = "a red ball, ohwx dog"
    asked = {"token": "ohwx", "caption_templates": ["{caption}, {token} dog"], "sample_prompts": [prompt], **changes}
    run = trained(engine, run_values(engine, case, pictures, **asked))

    def drawn(adapter: str) -> np.ndarray:
        return pixels(engine.draw([prompt], [1], {"steps": 2}, adapter=adapter, base_model=str(case.folder))[0].path)

    last = pixels(run.folder / run.state().samples[-1].files[0])
    assert (drawn(run.id) == last).all()
    assert (drawn(f"{run.id}@1") != last).any()
    assert (drawn("base") == drawn(f"{run.id}:0")).all()
    assert run.state().message == "", "no file was found to be broken"
    return engine.inspect(run.folder / run.state().artifacts[-1].file)


def test_a_lora_on_the_text_encoders_is_drawn_as_it_was_trained_and_leaves_t5_alone(engine: Engine, case: Case, pictures: Path) -> None:
    report = draws_its_last_sample_again(engine, case, pictures, text_encoder_share=1.0, text_encoder_rate=1.0)

    assert report.layers.keys() == {family(case.family).DENOISER, *case.load().clip_encoders}
    assert (report.family, report.layout, report.alphas) == (case.family, "kohya (A1111, ComfyUI)", (2.0,))


def test_a_word_is_drawn_as_it_was_learned_and_leaves_t5_alone(engine: Engine, case: Case, pictures: Path) -> None:
    word = {"method": "textual_inversion", "vectors": 2, "rank": None, "alpha": None}
    report = draws_its_last_sample_again(engine, case, pictures, **word)

    assert (report.family, report.methods, report.words) == (case.family, ("embedding",), {"ohwx": 2})
