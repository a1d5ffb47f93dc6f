"""Every family x method: step, save, reload in every layout, same picture; a run cut off resumes to equal bits. See matrix.py."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file

from sdplay.engine import Engine
from sdplay.runs import Run
from tests.matrix import FAMILIES, METHODS
from tests.test_train import pixels, trained, values

PROMPT = "a red ball, ohwx dog"
Draw = Callable[[str], np.ndarray]


@dataclass(frozen=True)
class Cell:
    """A family's tiny base and a method's settings."""

    family: str
    method: str
    base: Path

    @property
    def has_word(self) -> bool:
        return self.method in ("textual inversion", "pivotal tuning")

    def settings(self, engine: Engine, pictures: Path, **changes: object) -> dict[str, object]:
        shared = {
            "steps": 3, "checkpoint_every": 1, "learning_rate": 5e-2, "token": "ohwx", "caption_templates": ["{caption}, {token} dog"],
            "sample_prompts": [PROMPT], "sample_every": 0,
        }  # fmt: skip
        return values(engine, self.base, pictures, **{**shared, **METHODS[self.method], **changes})


@pytest.fixture
def cell(request: pytest.FixtureRequest) -> Cell:
    family, method = request.param
    return Cell(family, method, request.getfixturevalue(FAMILIES[family]))


every_cell = pytest.mark.parametrize(
    "cell", [(family, method) for family in FAMILIES for method in METHODS], indirect=True, ids=lambda pair: "-".join(pair)
)


@every_cell
def test_what_was_learned_draws_the_same_picture_in_every_layout(
    engine: Engine, cell: Cell, pictures: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """LoHa and LoKr are drawn added to the weights, other programs round otherwise: a pixel may differ by 2 of 255."""
    run = trained(engine, cell.settings(engine, pictures))
    state = run.state()
    last = pixels(run.folder / state.samples[-1].files[0])

    def drawn(adapter: str) -> np.ndarray:
        return pixels(engine.draw([PROMPT], [1], {"steps": 2}, adapter=adapter, base_model=str(cell.base))[0].path)

    assert state.message == "", "every file was proved when it was written"
    assert abs(drawn(run.id) - last).max() <= (1 if cell.method in ("LoHa", "LoKr") else 0)
    assert (drawn("base") != last).any()
    assert (drawn("base") == drawn(f"{run.id}:0")).all()
    layouts = [*in_files(cell, run, drawn, last), *in_plain_diffusers(engine, cell, run, tmp_path)]
    assert layouts
    record_property("layouts", ", ".join(layouts))


def in_files(cell: Cell, run: Run, drawn: Draw, last: np.ndarray) -> list[str]:
    """Each file of the run, drawn with by its path. A pivotal run's word is a file of its own too."""
    found = set()
    for artifact in run.state().artifacts:
        path = run.folder / artifact.file
        if artifact.format == "embedding" and cell.method == "pivotal tuning":
            continue
        assert abs(drawn(str(path)) - last).max() <= 2, artifact
        if "kohya" in artifact.format or "clip_l" in load_file(path):
            found.add("kohya")
    return sorted(found)


def in_plain_diffusers(engine: Engine, cell: Cell, run: Run, tmp_path: Path) -> list[str]:
    """The picture that diffusers alone draws from the run's first file, or from the merged model."""
    deaf = cell.family == "sd3" and cell.has_word
    if cell.method in ("LoHa", "LoKr") or (deaf and cell.method == "textual inversion"):
        return []
    prompt = "a red ball" if deaf else PROMPT
    ours = pixels(engine.draw([prompt], [1], {"steps": 2}, adapter=run.id, base_model=str(cell.base))[0].path)
    if cell.method == "DreamBooth":
        pipeline = DiffusionPipeline.from_pretrained(engine.export_merged(run.id, tmp_path / "merged"))
    else:
        pipeline = DiffusionPipeline.from_pretrained(cell.base)
        path = run.folder / run.state().artifacts[0].file
        if cell.method != "textual inversion":
            pipeline.load_lora_weights(path.parent, weight_name=path.name)
        if cell.has_word and not deaf:
            load_word(pipeline, run.folder / run.state().artifacts[-1].file)
    noise = torch.randn((pipeline.vae.config.latent_channels, 8, 8), generator=torch.Generator().manual_seed(1))[None]
    theirs = pipeline(
        prompt, negative_prompt="", latents=noise, height=32, width=32, num_inference_steps=2, guidance_scale=4.0, output_type="np"
    ).images[0]
    assert abs((theirs * 255).round().astype(int) - ours).max() <= 2
    return ["merged" if cell.method == "DreamBooth" else "diffusers without the word" if deaf else "diffusers"]


def load_word(pipeline: DiffusionPipeline, path: Path) -> None:
    """As diffusers documents it, an encoder at a time where there are two."""
    vectors = load_file(path)
    encoders = {"clip_l": ("text_encoder", "tokenizer"), "clip_g": ("text_encoder_2", "tokenizer_2")}
    for name, tensor in vectors.items():
        encoder, tokenizer = encoders.get(name, ("text_encoder", "tokenizer"))
        pipeline.load_textual_inversion(
            {"ohwx": tensor}, token="ohwx", text_encoder=getattr(pipeline, encoder), tokenizer=getattr(pipeline, tokenizer)
        )


@pytest.mark.trap(21, 24)
@every_cell
def test_a_run_cut_off_at_its_second_step_resumes_to_equal_bits(engine: Engine, cell: Cell, pictures: Path) -> None:
    """Cut behind the checkpoint of step 2; a pivotal run has its pivot at step 1."""
    settings = cell.settings(engine, pictures, sample_prompts=[])
    whole = trained(engine, settings)
    expected = load_file(whole.folder / whole.state().artifacts[0].file)
    losses = [step.loss for step in whole.state().losses]
    lines = (whole.folder / "events.jsonl").read_bytes().splitlines(keepends=True)
    moment = next(index for index, line in enumerate(lines) if json.loads(line).get("step") == 3)
    (whole.folder / "events.jsonl").write_bytes(b"".join(lines[:moment]) + lines[moment][:7])
    shutil.rmtree(whole.folder / "out")
    shutil.rmtree(whole.folder / "checkpoints" / "3")

    new_process = Engine(engine.workspace)
    new_process.resume(whole.id)
    state = new_process.wait(whole.id)
    new_process.close()

    assert state.status == "finished", state
    assert [step.loss for step in state.losses] == losses
    found = load_file(whole.folder / state.artifacts[0].file)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
