"""Training: every family x method keeps the contract; resumed runs are the runs they would have been."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from sdplay import checkpoint
from sdplay.config import LoraConfig
from sdplay.engine import Engine
from sdplay.errors import ConfigError, RunError, TemplateError
from sdplay.material import indices_of, split
from sdplay.optimizers import learning_rate_at
from sdplay.runs import Run


def values(engine: Engine, base: Path, pictures: Path, **changes: object) -> dict[str, object]:
    """A run of a second."""
    return {
        "dataset": engine.datasets.create([pictures]).id,
        "base_model": str(base),
        "steps": 6,
        "learning_rate": 1e-2,
        "warmup_steps": 1,
        "batch_size": 2,
        "sample_prompts": ["a red ball"],
        "sample_steps": 2,
        "sample_every": 3,
        "checkpoint_every": 2,
        **changes,
    }


def trained(engine: Engine, run_values: dict[str, object]) -> Run:
    run_id = engine.submit(run_values)
    state = engine.wait(run_id)
    assert state.status == "finished", state
    return engine.run(run_id)


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


@pytest.mark.parametrize("method", ["lora"])
def test_contract_step_save_reload_same_picture(engine: Engine, tiny_base: Path, pictures: Path, method: str) -> None:
    """The last sample of the run and a picture drawn with the saved file are the same; the base's is another."""
    run = trained(engine, values(engine, tiny_base, pictures, method=method))
    state = run.state()
    drawing = {"steps": 2, "guidance_scale": 4.0}

    reloaded = engine.draw(["a red ball"], [1], drawing, adapter=run.id, base_model=str(tiny_base))[0].path
    base = engine.draw(["a red ball"], [1], drawing, base_model=str(tiny_base))[0].path

    last_sample = run.folder / state.samples[-1].files[0]
    assert (pixels(reloaded) == pixels(last_sample)).all()
    assert (pixels(base) == pixels(run.folder / state.samples[0].files[0])).all(), "step 0 draws what the base draws"
    assert (pixels(base) != pixels(reloaded)).any()


def test_training_changes_every_trained_weight_and_no_frozen_one(engine: Engine, tiny_base: Path, pictures: Path) -> None:
    before = engine.draw(["dog"], [1], {"steps": 2}, base_model=str(tiny_base))[0].path

    run = trained(engine, values(engine, tiny_base, pictures, sample_prompts=[]))

    weights = load_file(run.folder / run.state().artifacts[0].file)
    assert weights
    assert all(tensor.dtype == torch.float32 and tensor.abs().max() > 0 for tensor in weights.values())
    after = engine.draw(["dog"], [1], {"steps": 2}, base_model=str(tiny_base))[0].path
    assert (pixels(before) == pixels(after)).all()


def test_same_seed_same_losses_other_seed_others(engine: Engine, tiny_base: Path, pictures: Path) -> None:
    losses = [
        [step.loss for step in trained(engine, values(engine, tiny_base, pictures, sample_prompts=[], seed=seed)).state().losses]
        for seed in (3, 3, 4)
    ]

    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


@pytest.mark.trap(24)
def test_a_run_cut_off_anywhere_resumes_to_equal_weights(engine: Engine, tiny_base: Path, pictures: Path) -> None:
    """The state a kill leaves behind: events up to a moment, checkpoints up to the last one, nothing in out/."""
    settings = values(engine, tiny_base, pictures, sample_prompts=[], gradient_accumulation=2)
    whole = trained(engine, settings)
    expected = load_file(whole.folder / whole.state().artifacts[0].file)
    cut = engine.run(trained(engine, settings).id)
    lines = (cut.folder / "events.jsonl").read_bytes().splitlines(keepends=True)
    moment = next(i for i, line in enumerate(lines) if json.loads(line).get("step") == 5)
    (cut.folder / "events.jsonl").write_bytes(b"".join(lines[:moment]) + lines[moment][:7])
    shutil.rmtree(cut.folder / "out")
    shutil.rmtree(cut.folder / "checkpoints" / "6")
    assert cut.state().status == "interrupted"

    new_process = Engine(engine.workspace)
    new_process.resume(cut.id)
    state = new_process.wait(cut.id)
    new_process.close()

    assert state.status == "finished"
    assert [step.loss for step in state.losses] == [step.loss for step in whole.state().losses]
    found = load_file(cut.folder / state.artifacts[0].file)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_a_damaged_checkpoint_is_passed_over_for_an_older_one(engine: Engine, tiny_base: Path, pictures: Path) -> None:
    run = trained(engine, values(engine, tiny_base, pictures, sample_prompts=[]))
    newest = run.folder / "checkpoints" / "6" / checkpoint.OPTIMIZER
    newest.write_bytes(newest.read_bytes()[:-10])

    restored = checkpoint.newest_valid(run.folder / "checkpoints")

    assert restored is not None
    assert restored.step == 4


def test_older_checkpoints_keep_their_adapter_but_not_their_optimiser(engine: Engine, tiny_base: Path, pictures: Path) -> None:
    run = trained(engine, values(engine, tiny_base, pictures, sample_prompts=[]))

    folder = run.folder / "checkpoints"
    assert checkpoint.steps_on_disk(folder) == [2, 4, 6]
    assert not (folder / "2" / checkpoint.OPTIMIZER).exists()
    assert (folder / "2" / checkpoint.ADAPTER).exists()


def test_stop_keeps_a_usable_result_and_resume_finishes_it(engine: Engine, tiny_base: Path, pictures: Path) -> None:
    run_id = engine.submit(values(engine, tiny_base, pictures, steps=4000, sample_prompts=[]))
    run = engine.run(run_id)
    engine.wait(run_id, tick=lambda state: run.request_stop() if state.step >= 3 and not run.stop_requested else None, seconds=0.02)
    state = run.state()

    assert state.status == "stopped"
    assert state.artifacts
    assert engine.draw(["dog"], [1], {"steps": 2}, adapter=run_id, base_model=str(tiny_base))


def test_a_loss_that_is_not_a_number_is_a_failure_with_advice_and_leaves_no_checkpoint(
    engine: Engine, tiny_base: Path, pictures: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_base, tmp_path / "broken")
    weights_path = tmp_path / "broken" / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(weights_path)
    save_file({**weights, "conv_out.bias": weights["conv_out.bias"] * torch.nan}, weights_path, metadata={"format": "pt"})
    run_id = engine.submit(values(engine, tmp_path / "broken", pictures, sample_prompts=[]))

    state = engine.wait(run_id)

    assert state.status == "failed"
    assert "step 1 is not a number" in state.message
    assert "learning rate" in state.hint
    assert not (engine.run(run_id).folder / "checkpoints").exists()


def test_pictures_can_be_drawn_while_training_runs_and_do_not_change_it(engine: Engine, tiny_base: Path, pictures: Path) -> None:
    settings = values(engine, tiny_base, pictures, steps=40, sample_prompts=[])
    alone = trained(engine, settings)
    run_id = engine.submit(settings)
    engine.wait_for_step(run_id, 3)

    engine.draw(["dog"], [1], {"steps": 2}, base_model=str(tiny_base))
    engine.draw(["dog"], [1], {"steps": 2}, adapter=f"{alone.id}:0.5", base_model=str(tiny_base))
    disturbed = engine.wait(run_id)

    assert [step.loss for step in disturbed.losses] == [step.loss for step in alone.state().losses]


def test_held_out_pictures_give_a_validation_loss_that_repeats(engine: Engine, tiny_base: Path, pictures: Path) -> None:
    for index in range(4):
        Image.new("RGB", (64, 64), (index * 60, 10, 10)).save(pictures / f"plain-{index}.png")

    run = trained(engine, values(engine, tiny_base, pictures, validate_every=3, learning_rate=1e-9, sample_prompts=[]))

    losses = [entry.loss for entry in run.state().validations]
    assert len(losses) == 2
    assert losses[0] == pytest.approx(losses[1], rel=1e-4), "nothing was learned at this rate, so only noise could differ"


def test_the_base_may_predict_v(engine: Engine, tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_base, tmp_path / "v-base")
    config = tmp_path / "v-base" / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "prediction_type": "v_prediction"}))

    run = trained(engine, values(engine, tmp_path / "v-base", pictures, sample_prompts=[]))

    assert run.state().status == "finished"


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"caption_templates": ["a {tokn}"]}, TemplateError, "token"),
        ({"caption_templates": ["a {token"]}, TemplateError, "brace|}"),
        ({"caption_templates": ["{token}"], "token": ""}, ConfigError, "trigger word"),
        ({"learning_rate": float("nan")}, ConfigError, "Learning rate"),
        ({"warmup_steps": 6}, ConfigError, "warm-up"),
        ({"dataset": ""}, ConfigError, "data set"),
    ],
)
def test_a_bad_request_writes_nothing(
    engine: Engine, tiny_base: Path, pictures: Path, changes: dict[str, object], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        engine.submit(values(engine, tiny_base, pictures, **changes))

    assert engine.runs() == []


def test_a_base_that_has_gone_since_fails_the_run_with_advice(engine: Engine, tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    base = shutil.copytree(tiny_base, tmp_path / "base")
    run = engine.run(engine.submit(values(engine, base, pictures, sample_prompts=[], steps=3)))
    engine.stop(run.id)
    engine.wait(run.id)
    shutil.rmtree(base)
    engine.draw(["a dog"], [1], {"steps": 1}, base_model=str(tiny_base))  # another base takes its place in memory

    engine.resume(run.id)
    state = engine.wait(run.id)

    assert state.status == "failed"
    assert "no base model" in state.message


def test_a_finished_run_cannot_be_resumed(engine: Engine, tiny_base: Path, pictures: Path) -> None:
    run = trained(engine, values(engine, tiny_base, pictures, sample_prompts=[]))

    with pytest.raises(RunError, match="finished"):
        engine.resume(run.id)


def test_every_picture_comes_once_an_epoch() -> None:
    first, second = indices_of(0, 5, num_examples=5, seed=1), indices_of(5, 5, num_examples=5, seed=1)

    assert sorted(first) == sorted(second) == [0, 1, 2, 3, 4]
    assert first != second
    assert indices_of(3, 4, num_examples=5, seed=1) == (first + second)[3:7]


def test_learning_rate_warms_up_and_ends_near_zero() -> None:
    config = LoraConfig(steps=100, warmup_steps=10, learning_rate=1.0e-2, lr_schedule="cosine")
    rates = [learning_rate_at(step, config) for step in range(100)]

    assert rates[0] == pytest.approx(1e-3)
    assert max(rates) == rates[10] == pytest.approx(1e-2)
    assert rates[99] < 1e-4


def test_small_sets_hold_nothing_out(engine: Engine, pictures: Path) -> None:
    examples = engine.datasets.create([pictures]).examples

    held_out, train_examples = split(examples, 0.5, seed=0)

    assert (len(held_out), len(train_examples)) == (0, 6)
