"""Every method, of every kind, keeps the contract: step, save, reload, same picture; resume bit for bit; the base untouched."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sdplay import checkpoint
from sdplay.device import Device
from sdplay.engine import Engine
from sdplay.families import Parts, family
from sdplay.methods import CONFIGS, TITLES, method, parse_train_config
from tests.test_train import pixels, trained, values

RUNS: dict[str, dict[str, object]] = {
    "lora": {},
    "dora": {"kind": "dora"},
    "rslora": {"kind": "rslora", "rank": 4},
    "loha": {"kind": "loha", "rank": 2},
    "lokr": {"kind": "lokr", "rank": 2},
    "lora on all layers": {"targets": "attention+mlp+conv", "rank": 2},
    "loha on all layers": {"kind": "loha", "targets": "attention+mlp+conv", "rank": 2},
    "lora with text encoder": {"text_encoder_share": 0.5, "text_encoder_rate": 1.0},
    "dora with text encoder": {"kind": "dora", "text_encoder_share": 0.5},
    "lora plus, capped": {"lora_plus_ratio": 4.0, "max_norm": 0.05},
    "lora with prior": {"prior": "prediction", "class_word": "ball"},
    "dreambooth": {"method": "dreambooth", "learning_rate": 1e-3, "save_dtype": "float32"},
    "dreambooth with text encoder and mean": {
        "method": "dreambooth", "learning_rate": 1e-3, "save_dtype": "float32", "text_encoder_share": 0.5, "ema_decay": 0.9,
    },
    "dreambooth with prior": {
        "method": "dreambooth", "learning_rate": 1e-3, "save_dtype": "float32", "prior": "prediction", "class_word": "ball",
    },
    "lora with text encoder, mean and shuffled tags": {
        "text_encoder_share": 0.5, "ema_decay": 0.9, "caption_shuffle": "on", "max_norm": 0.05,
    },
    "pivotal with class pictures, mean and buckets": {
        "method": "pivotal", "vectors": 2, "ema_decay": 0.9, "bucketing": "on", "prior": "images", "prior_images": 2, "class_word": "dog",
        "noise_offset": 0.05,
    },
    "textual inversion": {"method": "textual_inversion", "learning_rate": 0.1, "vectors": 2},
    "pivotal": {"method": "pivotal", "vectors": 2},
    "pivotal of dora with prior": {
        "method": "pivotal", "vectors": 2, "kind": "dora", "prior": "prediction", "class_word": "dog", "norm": "median",
    },
}  # fmt: skip


def settings(engine: Engine, base: Path, pictures: Path, name: str, **changes: object) -> dict[str, object]:
    """Six steps of a run by its name above; the pivot and the stop of the text encoder lie at step 3."""
    asked = {"token": "ohwx", "caption_templates": ["{caption}, {token} dog"], "sample_prompts": ["a red ball, ohwx dog"]}
    return values(engine, base, pictures, **{**asked, **RUNS[name], **changes})


@pytest.fixture
def parts(tiny_base: Path) -> Parts:
    return family("sd15").load(tiny_base, Device("cpu", "CPU"), source="tiny")


def test_every_method_is_in_the_matrix_and_has_a_title() -> None:
    assert {str(run.get("method", "lora")) for run in RUNS.values()} == set(CONFIGS) == set(TITLES)
    assert {name: method(name).TITLE for name in CONFIGS} == TITLES


@pytest.mark.parametrize("name", RUNS)
def test_step_save_reload_same_picture(engine: Engine, tiny_base: Path, pictures: Path, name: str) -> None:
    """The last sample of the run and a picture drawn with the saved file are the same; the base's is another.

    LoHa, LoKr and what is beside convolutions are drawn added to the weights, which rounds otherwise than beside them, and DoRA
    stretches the weight where training stretches what it gives: a pixel may differ by 1 of 255.
    """
    run = trained(engine, settings(engine, tiny_base, pictures, name))
    state, prompt = run.state(), "a red ball, ohwx dog"
    drawing = {"steps": 2, "guidance_scale": 4.0}

    def drawn(adapter: str) -> Path:
        return engine.draw([prompt], [1], drawing, adapter=adapter, base_model=str(tiny_base))[0].path

    last_sample = run.folder / state.samples[-1].files[0]
    rounding = 1 if RUNS[name].get("kind") in ("dora", "loha", "lokr") or "conv" in str(RUNS[name].get("targets")) else 0
    assert abs(pixels(drawn(run.id)) - pixels(last_sample)).max() <= rounding
    assert (pixels(drawn(f"{run.id}@4")) != pixels(last_sample)).any()
    assert (pixels(drawn("base")) != pixels(last_sample)).any()
    assert (pixels(drawn("base")) == pixels(drawn(f"{run.id}:0"))).all(), "at strength 0 and after all this the base is the base"
    if RUNS[name].get("method") not in ("textual_inversion", "pivotal"):
        assert (pixels(drawn("base")) == pixels(run.folder / state.samples[0].files[0])).all(), "step 0 draws what the base draws"


@pytest.mark.trap(21, 24)
@pytest.mark.parametrize("name", RUNS)
def test_a_run_cut_off_after_a_checkpoint_resumes_to_equal_losses_and_weights(
    engine: Engine, tiny_base: Path, pictures: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut after the checkpoint at step 4, so behind the pivot, and then once more at step 2, before it."""
    monkeypatch.setattr(checkpoint, "KEPT", 3)
    run = trained(engine, settings(engine, tiny_base, pictures, name, sample_prompts=[]))
    losses = [step.loss for step in run.state().losses]
    expected = load_file(run.folder / run.state().artifacts[0].file)

    for kept in (4, 2):
        lines = (run.folder / "events.jsonl").read_bytes().splitlines(keepends=True)
        moment = next(index for index, line in enumerate(lines) if json.loads(line).get("step") == kept + 1)
        (run.folder / "events.jsonl").write_bytes(b"".join(lines[:moment]) + lines[moment][:7])
        shutil.rmtree(run.folder / "out")
        for step in range(kept + 2, 7, 2):
            shutil.rmtree(run.folder / "checkpoints" / str(step))

        new_process = Engine(engine.workspace)
        new_process.resume(run.id)
        state = new_process.wait(run.id)
        new_process.close()

        assert state.status == "finished", state
        assert [step.loss for step in state.losses] == losses
        found = load_file(run.folder / state.artifacts[0].file)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())


@pytest.mark.parametrize("name", RUNS)
def test_trained_weights_are_float32_and_detaching_leaves_the_base_in_its_bits(parts: Parts, name: str) -> None:
    config = parse_train_config({"steps": 6, "warmup_steps": 1, "token": "ohwx", **RUNS[name]})
    modules = {"denoiser": parts.denoiser, **parts.text_encoders}
    before = {key: {name: tensor.clone() for name, tensor in module.state_dict().items()} for key, module in modules.items()}
    tokenizers = dict(parts.tokenizers)

    trainable = method(config.method).prepare(parts, family("sd15"), config)
    parameters = [parameter for group in trainable.groups() for parameter in group.parameters]
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(1.0)
    dtypes = {parameter.dtype for parameter in parameters}
    trainable.detach()

    assert dtypes == {torch.float32}
    assert parts.attached == []
    assert parts.tokenizers == tokenizers
    for key, module in modules.items():
        after = module.state_dict()
        assert after.keys() == before[key].keys()
        assert all(torch.equal(after[name], tensor) for name, tensor in before[key].items())
        assert not any(parameter.requires_grad for parameter in module.parameters())
        assert not any(submodule._forward_hooks or submodule._forward_pre_hooks for submodule in module.modules())


@pytest.mark.trap(4, 5)
@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_trained_weights_are_float32_on_a_half_precision_base(parts: Parts, name: str, dtype: torch.dtype) -> None:
    """peft makes adapters in the base's number format, in which AdamW's small steps vanish; float16 gradients cannot be unscaled."""
    for module in (parts.denoiser, *parts.text_encoders.values()):
        module.to(dtype)
    config = parse_train_config({"steps": 6, "warmup_steps": 1, "token": "ohwx", **RUNS[name]})

    groups = method(config.method).prepare(parts, family("sd15"), config).groups()

    assert {parameter.dtype for group in groups for parameter in group.parameters} == {torch.float32}
