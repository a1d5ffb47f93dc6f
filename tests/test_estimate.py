"""What a run will take is measured by a short one, multiplied out, and held against the outcome."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdplay.config import LoraConfig, PivotalConfig
from sdplay.engine import Engine
from sdplay.errors import ConfigError, SdplayError
from sdplay.estimate import (
    OUTCOME,
    Costs,
    Estimate,
    costs_of,
    duration,
    estimated,
    probe_config,
    read_estimate,
)  # fmt: skip
from sdplay.events import Checkpoint, Event, Failed, Finished, Phase, Samples, Started, Step
from sdplay.price import cost_of, hardware_here, hardware_named, hardware_of, load_hardware

COSTS = Costs(
    once=2.0, step=0.5, samples=3.0, validation=1.0, checkpoint=0.25, peak_bytes=10**9, adapter_bytes=100, state_bytes=1000,
    samples_bytes=50, out_bytes=200,
)  # fmt: skip


def values_for(engine: Engine, pictures: Path, base: Path, **changes: object) -> dict[str, object]:
    dataset = engine.datasets.create([pictures])
    return {
        "dataset": dataset.id, "base_model": str(base), "token": "sks", "steps": 12, "warmup_steps": 0, "batch_size": 2, "rank": 2,
        "sample_prompts": ["a ball"], "sample_every": 4, "sample_steps": 2, "validate_every": 4, "checkpoint_every": 6, **changes,
    }  # fmt: skip


def test_the_model_of_the_work_is_a_sum() -> None:
    """2 + 100 x 0.5 + (before, 25, 50, 75, 100) x 3 + 10 x 1 + 2 x 0.25 = 77.5 s."""
    config = LoraConfig(steps=100, sample_every=25, validate_every=10, checkpoint_every=50, sample_prompts=("a dog",))

    light = estimated(config, COSTS, light=True, hardware=hardware_named("t4-small"))
    heavy = estimated(replace_steps(config, 200), COSTS, light=False, hardware=None)

    assert light.seconds == pytest.approx(77.5)
    assert light.usd == pytest.approx(77.5 / 3600 * 0.40)
    assert light.disk_bytes == 2 * 100 + 2 * 1000 + 5 * 50 + 200 + 100 * 130
    assert heavy.disk_bytes == 2 * 100 + 2 * 1000 + 9 * 50 + 200 + 200 * 130


def replace_steps(config: LoraConfig, steps: int) -> LoraConfig:
    return config.model_copy(update={"steps": steps})


def test_what_fills_a_cache_is_not_counted_and_the_first_step_is_no_pattern(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoints" / "4"
    checkpoint.mkdir(parents=True)
    (checkpoint / "adapter.safetensors").write_bytes(b"x" * 70)
    (checkpoint / "optimizer.safetensors").write_bytes(b"x" * 30)
    events: list[Event] = [
        Started(time=0, step=0, device="CPU"), Phase(time=1, name="encoding pictures"), Phase(time=6, name="sampling"),
        Samples(time=8, step=0, prompts=(), files=()), Phase(time=8, name="training"),
        *(Step(time=9 + step, step=step, loss=1, learning_rate=1, seconds=(0.9, 0.4, 0.5, 0.6)[step - 1]) for step in (1, 2, 3, 4)),
        Phase(time=13, name="saving"), Checkpoint(time=14, step=4), Finished(time=16, step=4),
    ]  # fmt: skip

    costs = costs_of(events, LoraConfig(), tmp_path, None)

    assert (costs.step, costs.samples, costs.checkpoint, costs.adapter_bytes, costs.state_bytes) == (0.5, 2.0, 1.0, 70, 30)
    assert costs.once == pytest.approx(1 + 0 + 2 + 0.4)  # up to encoding, training begins, finishing, the first step's surplus


def test_a_failed_measurement_says_why(tmp_path: Path) -> None:
    with pytest.raises(SdplayError, match="No memory"):
        costs_of([Failed(message="No memory.", hint="Less.")], LoraConfig(), tmp_path, None)


def test_methods_that_learn_two_things_are_measured_in_both() -> None:
    short = probe_config(PivotalConfig(token="sks", steps=400, pivot=0.4))

    assert short.steps == 8
    assert probe_config(LoraConfig(steps=400)).steps == 4
    assert probe_config(LoraConfig(steps=2)).steps == 2


def test_hardware_is_known_by_its_card_and_has_a_price() -> None:
    assert hardware_of("NVIDIA L40S (40 of 45 GB free)").name == "l40sx1"  # type: ignore[union-attr]
    assert hardware_of("Tesla T4 (14 of 15 GB free)").name == "t4-small"  # type: ignore[union-attr]
    assert hardware_of("CPU, 2 threads") is None
    assert load_hardware()["cpu-basic"].usd_per_hour == 0
    with pytest.raises(ConfigError, match="t4-small"):
        hardware_named("a toaster")


def test_the_environment_says_what_this_computer_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("SDPLAY_PRICE_PER_HOUR", "SDPLAY_HARDWARE", "SPACE_HARDWARE"):
        monkeypatch.delenv(variable, raising=False)
    assert hardware_here() is cost_of(3600) is None

    monkeypatch.setenv("SPACE_HARDWARE", "a toaster")
    assert hardware_here() is None
    monkeypatch.setenv("SPACE_HARDWARE", "cpu-basic")
    assert cost_of(3600) is None  # nothing is nothing to speak of
    monkeypatch.setenv("SDPLAY_HARDWARE", "t4-small")
    assert cost_of(3600) == pytest.approx(0.40)
    monkeypatch.setenv("SDPLAY_PRICE_PER_HOUR", "2")
    assert cost_of(1800) == pytest.approx(1.0)


def test_times_are_told_in_words() -> None:
    assert [duration(seconds) for seconds in (49.6, 250, 7500)] == ["50 s", "4 min 10 s", "2 h 5 min"]
    assert Estimate(50, 2 * 10**9, 5 * 10**6, "t4-small", 0.01).sentence == "50 s, 2.0 GB of memory, 5 MB of disk, 0.01 USD on t4-small"


def test_a_run_is_measured_and_its_outcome_kept_beside_the_estimate(engine: Engine, pictures: Path, tiny_base: Path) -> None:
    values = values_for(engine, pictures, tiny_base)

    estimate = engine.estimate(values)
    assert engine.runs() == []
    run = engine.run(engine.submit(values))
    state = engine.wait(run.id)
    while run.is_held():
        pass
    outcome = read_estimate(run.folder / OUTCOME)

    assert state.status == "finished"
    assert outcome is not None
    assert read_estimate(run.folder / "estimate.json") == estimate
    assert outcome.seconds == pytest.approx(state.ended_at - state.started_at, abs=0.02)
    assert estimate.disk_bytes == pytest.approx(outcome.disk_bytes, rel=0.5)  # a tiny run is mostly its config and log
    assert any("The estimate was" in note for note in run.state().notes)


def test_the_same_settings_train_to_the_same_bits_after_a_measurement(engine: Engine, pictures: Path, tiny_base: Path) -> None:
    values = values_for(engine, pictures, tiny_base)

    before = [step.loss for step in engine.wait(engine.submit(values)).losses]
    engine.estimate(values)
    after = [step.loss for step in engine.wait(engine.submit(values)).losses]

    assert after == before
