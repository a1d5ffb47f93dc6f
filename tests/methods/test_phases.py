"""Who learns when: pivot, stop of the text encoders, averages, large checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sdplay import checkpoint
from sdplay.config import LoraConfig
from sdplay.device import Device
from sdplay.engine import Engine
from sdplay.errors import AdapterError, RunError
from sdplay.families import Parts, family
from sdplay.methods import method, parse_train_config
from sdplay.optimizers import learning_rate_at, open_groups, parameter_groups
from sdplay.runs import Run
from tests.methods.test_contract import settings
from tests.test_train import pixels, trained


@pytest.fixture
def parts(tiny_base: Path) -> Parts:
    return family("sd15").load(tiny_base, Device("cpu", "CPU"), source="tiny")


def checkpoints(run: Run) -> list[dict[str, torch.Tensor]]:
    return [load_file(run.folder / "checkpoints" / str(step) / "adapter.safetensors") for step in (1, 2, 3, 4, 5, 6)]


@pytest.mark.trap(18, 21)
def test_at_the_pivot_the_word_stops_and_the_adapter_starts(engine: Engine, tiny_base: Path, pictures: Path) -> None:
    """Steps are counted by the optimiser; here the data set's epoch (3 steps) never coincides with the pivot (step 2)."""
    run = trained(
        engine, settings(engine, tiny_base, pictures, "pivotal", sample_prompts=[], pivot=0.34, checkpoint_every=1, weight_decay=0.5)
    )
    states = checkpoints(run)
    word = [state["lora_bundle_emb.ohwx.clip_l"] for state in states]
    adapter = [torch.cat([tensor.flatten() for name, tensor in state.items() if "bundle" not in name]) for state in states]

    assert not torch.equal(word[0], word[1])
    assert all(torch.equal(word[1], later) for later in word[2:]), "frozen: no momentum, no decay, no norm control after the pivot"
    assert torch.equal(adapter[0], adapter[1])
    assert all(not torch.equal(adapter[index], adapter[index + 1]) for index in range(1, 5))
    formats = [artifact.format for artifact in run.state().artifacts]
    assert formats == ["diffusers LoRA with its word", "kohya, for A1111 and ComfyUI", "embedding"]


@pytest.mark.parametrize("name", ["lora with text encoder", "dreambooth with text encoder and mean"])
def test_the_text_encoder_stops_at_its_share_and_the_denoiser_goes_on(engine: Engine, tiny_base: Path, pictures: Path, name: str) -> None:
    run = trained(
        engine, settings(engine, tiny_base, pictures, name, sample_prompts=[], checkpoint_every=1, weight_decay=0.5, ema_decay=None)
    )
    steps = checkpoint.steps_on_disk(run.folder / "checkpoints")
    states = [load_file(run.folder / "checkpoints" / str(step) / "adapter.safetensors") for step in steps]
    late = [state for step, state in zip(steps, states, strict=True) if step >= 3]
    text = [name for name in states[0] if name.startswith("text_encoder")]

    assert text
    assert all(torch.equal(late[0][name], state[name]) for state in late for name in text)
    assert any(not torch.equal(late[0][name], late[-1][name]) for name in late[0] if name.startswith("unet"))


def test_a_groups_schedule_runs_over_its_own_steps(parts: Parts) -> None:
    config = parse_train_config({"method": "pivotal", "token": "ohwx", "steps": 100, "warmup_steps": 5, "pivot": 0.4, "words_rate": 10.0})
    trainable = method("pivotal").prepare(parts, family("sd15"), config)
    optimizer = torch.optim.AdamW(parameter_groups(trainable), lr=1.0)  # type: ignore[arg-type]
    whole = LoraConfig(steps=60, warmup_steps=5)

    open_groups(optimizer, 40, config)

    words, adapter = optimizer.param_groups
    assert not any(parameter.requires_grad for parameter in words["params"])
    assert all(parameter.requires_grad for parameter in adapter["params"])
    assert adapter["lr"] == learning_rate_at(0, whole)
    open_groups(optimizer, 70, config)
    assert adapter["lr"] == learning_rate_at(30, whole)
    open_groups(optimizer, 0, config)
    assert words["lr"] == pytest.approx(10.0 * config.learning_rate / 5)
    assert not any(parameter.requires_grad for parameter in adapter["params"])


def test_averages_follow_their_formula_and_are_what_is_kept_and_drawn(engine: Engine, tiny_base: Path, pictures: Path) -> None:
    """The decay of the sixth is min(0.9, (1 + 6) / (10 + 6))."""
    run = trained(engine, settings(engine, tiny_base, pictures, "dreambooth with text encoder and mean", checkpoint_every=5))
    fifth, sixth = (load_file(run.folder / "checkpoints" / str(step) / "adapter.safetensors") for step in (5, 6))
    kept = load_file(run.folder / run.state().artifacts[0].file)
    name = "unet.conv_in.weight"
    restored = checkpoint.newest_valid(run.folder / "checkpoints")
    assert restored
    learning = restored.state["trained"][0]

    torch.testing.assert_close(sixth[name], 7 / 16 * fifth[name] + 9 / 16 * learning)
    assert torch.equal(kept[name], sixth[name])
    assert not torch.equal(kept[name], learning)
    of_checkpoint = engine.draw(["a red ball"], [1], {"steps": 2}, adapter=f"{run.id}@6", base_model=str(tiny_base))[0].path
    of_result = engine.draw(["a red ball"], [1], {"steps": 2}, adapter=run.id, base_model=str(tiny_base))[0].path
    assert (pixels(of_checkpoint) == pixels(of_result)).all()


def test_only_the_newest_two_large_checkpoints_are_kept(engine: Engine, tiny_base: Path, pictures: Path) -> None:
    run = trained(engine, settings(engine, tiny_base, pictures, "dreambooth", sample_prompts=[]))

    assert checkpoint.steps_on_disk(run.folder / "checkpoints") == [4, 6]
    with pytest.raises(RunError, match="no checkpoint at step 2"):
        engine.draw(["a"], [1], {"steps": 1}, adapter=f"{run.id}@2", base_model=str(tiny_base))


def test_a_fine_tune_is_kept_in_float16_and_between_base_and_result_lies_every_strength(
    engine: Engine, tiny_base: Path, pictures: Path
) -> None:
    run = trained(engine, settings(engine, tiny_base, pictures, "dreambooth", sample_prompts=[], save_dtype="float16"))

    kept = load_file(run.folder / run.state().artifacts[0].file)
    assert {tensor.dtype for tensor in kept.values()} == {torch.float16}
    exact = load_file(run.folder / "checkpoints" / "6" / "adapter.safetensors")
    assert {tensor.dtype for tensor in exact.values()} == {torch.float32}
    drawn = [
        pixels(engine.draw(["a red ball"], [1], {"steps": 2}, adapter=f"{run.id}@6:{strength}", base_model=str(tiny_base))[0].path)
        for strength in (0, 0.5, 1)
    ]
    assert abs(drawn[1] - drawn[0]).sum() < abs(drawn[2] - drawn[0]).sum()


def test_a_fine_tune_says_what_it_is_and_is_merged_into_a_model_for_other_programs(
    engine: Engine, tiny_base: Path, pictures: Path, tmp_path: Path
) -> None:
    run = trained(engine, settings(engine, tiny_base, pictures, "dreambooth", sample_prompts=[]))
    drawing, prompt = {"steps": 2}, ["a red ball"]
    mine = engine.draw(prompt, [1], drawing, adapter=run.id, base_model=str(tiny_base))[0].path

    report = engine.inspect(engine.export(run.id, tmp_path / "mine.safetensors"))
    model = engine.export_merged(run.id, tmp_path / "model")

    assert (report.family, report.methods, report.layout) == ("sd15", ("full fine-tune",), "sdplay's own, whole weights")
    assert (report.trigger, report.problems) == ("ohwx", ())
    assert (pixels(engine.draw(prompt, [1], drawing, base_model=str(model))[0].path) == pixels(mine)).all()
    with pytest.raises(AdapterError, match="Merge it"):
        engine.export(run.id, tmp_path / "kohya.safetensors", layout="kohya")


def test_a_fine_tune_of_another_base_is_refused_and_the_base_stays_clean(
    engine: Engine, tiny_base: Path, tiny_sd3: Path, pictures: Path
) -> None:
    run = trained(engine, settings(engine, tiny_base, pictures, "dreambooth", sample_prompts=[]))
    before = engine.draw(["a"], [1], {"steps": 1}, base_model=str(tiny_sd3))[0].path

    with pytest.raises(AdapterError, match="Stable Diffusion 1"):
        engine.draw(["a"], [1], {"steps": 1}, adapter=run.id, base_model=str(tiny_sd3))

    assert (pixels(engine.draw(["a"], [1], {"steps": 1}, base_model=str(tiny_sd3))[0].path) == pixels(before)).all()


def test_a_word_and_a_fine_tune_are_mixed_in_one_column(engine: Engine, tiny_base: Path, pictures: Path) -> None:
    word = trained(engine, settings(engine, tiny_base, pictures, "textual inversion", sample_prompts=[]))
    tuned = trained(engine, settings(engine, tiny_base, pictures, "dreambooth", sample_prompts=[]))

    def drawn(adapter: str) -> np.ndarray:
        return pixels(engine.draw(["an ohwx"], [1], {"steps": 2}, adapter=adapter, base_model=str(tiny_base))[0].path)

    mixed = drawn(f"{word.id}+{tuned.id}")
    assert (mixed != drawn(word.id)).any()
    assert (mixed != drawn(tuned.id)).any()
    assert (mixed == drawn(f"{tuned.id}+{word.id}")).all()


@pytest.mark.parametrize("name", ["dreambooth", "textual inversion", "pivotal", "loha"])
def test_pictures_drawn_meanwhile_see_the_base_and_do_not_change_the_run(
    engine: Engine, tiny_base: Path, pictures: Path, name: str
) -> None:
    asked = settings(engine, tiny_base, pictures, name, steps=30, sample_prompts=[])
    drawing = {"steps": 2}
    prompt = ["a red ball, ohwx dog"]
    base = pixels(engine.draw(prompt, [1], drawing, base_model=str(tiny_base))[0].path)
    alone = trained(engine, asked)
    run_id = engine.submit(asked)
    engine.wait_for_step(run_id, 3)

    meanwhile = engine.draw(prompt, [1], drawing, base_model=str(tiny_base))[0].path
    engine.draw(prompt, [1], drawing, adapter=f"{alone.id}:0.5", base_model=str(tiny_base))
    disturbed = engine.wait(run_id)

    assert (pixels(meanwhile) == base).all()
    assert [step.loss for step in disturbed.losses] == [step.loss for step in alone.state().losses]
