"""Loss options in whole runs: what they change, and what is said where they cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from sdplay.engine import Engine
from sdplay.errors import ConfigError, DataError
from tests.test_train import trained, values


def test_a_run_with_every_option_trains_and_one_without_is_untouched(engine: Engine, tiny_base: Path, pictures: Path) -> None:
    settings = values(engine, tiny_base, pictures, steps=2, sample_prompts=[])
    options = {"huber_c": 0.1, "noise_offset": 0.1, "input_perturbation": 0.1, "timestep_sampling": "logit_normal"}

    plain, changed = (trained(engine, {**settings, **more}).state().losses for more in ({}, {**options, "loss_weighting": "debiased"}))

    assert len(changed) == 2
    assert changed[0].loss != plain[0].loss


def test_zero_terminal_snr_fails_a_run_on_an_epsilon_base_with_advice(engine: Engine, tiny_base: Path, pictures: Path) -> None:
    run_id = engine.submit(values(engine, tiny_base, pictures, steps=2, sample_prompts=[], zero_terminal_snr="on"))

    state = engine.wait(run_id)

    assert state.status == "failed"
    assert "predicts v" in state.message
    assert "off" in state.hint


@pytest.mark.trap(27)
def test_a_masked_run_says_so_and_learns_something_else(engine: Engine, tiny_base: Path, pictures: Path) -> None:
    for path in list(pictures.glob("*.png"))[:5]:
        mask = Image.new("L", (64, 64))
        mask.paste(255, (8, 8, 40, 40))
        mask.save(path.with_name(f"{path.stem}.mask.png"))
    settings = values(engine, tiny_base, pictures, steps=2, sample_prompts=[])

    plain, masked = (trained(engine, {**settings, "masked_loss": choice}) for choice in ("off", "mask"))

    assert [step.loss for step in masked.state().losses] != [step.loss for step in plain.state().losses]
    assert "5 of 6 pictures have a mask" in (masked.folder / "events.jsonl").read_text()


def test_masked_loss_without_a_mask_is_refused_before_the_run(engine: Engine, tiny_base: Path, pictures: Path) -> None:
    settings = values(engine, tiny_base, pictures, steps=2, sample_prompts=[], masked_loss="mask")

    with pytest.raises(DataError, match=r"no picture has a mask.*Add pictures with transparency"):
        engine.submit(settings)

    assert engine.runs() == []


@pytest.mark.parametrize(("steps", "said"), [(10, "as long as"), (8, "longer than")])
def test_a_run_shorter_than_its_warm_up_is_told_what_to_set(engine: Engine, tiny_base: Path, pictures: Path, steps: int, said: str) -> None:
    settings = values(engine, tiny_base, pictures, steps=steps, warmup_steps=10)

    with pytest.raises(ConfigError, match=rf"{said} the run \({steps}\).*Warm-up steps, under Expert, to {steps // 10}"):
        engine.submit(settings)
