"""A finished run goes on, and says what that means."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sdplay.config import LoraConfig, PivotalConfig
from sdplay.engine import Engine
from sdplay.errors import ConfigError, RunError
from sdplay.longer import checked_total, lengthened, same_as_longer, what_happens


def values(engine: Engine, base: Path, pictures: Path, **changes: object) -> dict[str, object]:
    dataset = engine.datasets.create([pictures])
    return {
        "dataset": dataset.id, "base_model": str(base), "token": "sks", "batch_size": 2, "warmup_steps": 1, "sample_steps": 1,
        "checkpoint_every": 4, "sample_prompts": [], "rank": 2, **changes,
    }  # fmt: skip


def weights(engine: Engine, run_id: str) -> dict[str, torch.Tensor]:
    return load_file(engine.run(run_id).folder / "out" / f"{run_id}.safetensors")


def started_at(engine: Engine, run_id: str) -> float:
    events = map(json.loads, (engine.run(run_id).folder / "events.jsonl").read_text().splitlines())
    return next(event["time"] for event in events if event["event"] == "started")


def test_with_a_constant_rate_going_on_is_what_a_longer_run_would_have_been(engine: Engine, tiny_base: Path, pictures: Path) -> None:
    long = engine.submit(values(engine, tiny_base, pictures, steps=7, lr_schedule="constant"))
    short = engine.submit(values(engine, tiny_base, pictures, steps=4, lr_schedule="constant"))
    engine.wait(long)
    engine.wait(short)

    engine.continue_run(short, 3)
    state = engine.wait(short)

    assert (state.status, state.step, state.steps) == ("finished", 7, 7)
    assert [step.loss for step in state.losses] == [step.loss for step in engine.run(long).state().losses]
    one, other = weights(engine, long), weights(engine, short)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert engine.history.settings(short)["steps"] == 7
    assert "exactly that of a run of 10 steps" in engine.history.continuation(short, 3)


def test_pictures_and_a_checkpoint_come_when_asked_for_and_change_nothing(engine: Engine, tiny_base: Path, pictures: Path) -> None:
    wanted = {"sample_prompts": ["a {token} dog", "dog"], "sample_every": 0, "checkpoint_every": 5000, "steps": 60}
    plain = engine.submit(values(engine, tiny_base, pictures, **wanted))
    asked = engine.submit(values(engine, tiny_base, pictures, **wanted))
    for what in ("sample", "save"):
        engine.ask_for(asked, what)
    engine.wait_for_step(asked, 1)

    state, untouched = engine.wait(asked), engine.wait(plain)

    assert len(state.checkpoints) == 2
    assert len(state.samples) == 3  # before, asked for, after
    assert [step.loss for step in state.losses] == [step.loss for step in untouched.losses]
    assert state.memory is None or state.memory.num_bytes > 0


def test_only_a_run_that_trains_can_be_asked(engine: Engine, tiny_base: Path, pictures: Path) -> None:
    run_id = engine.submit(values(engine, tiny_base, pictures, steps=2))
    engine.wait(run_id)

    with pytest.raises(RunError, match="is finished"):
        engine.ask_for(run_id, "sample")


def test_what_learned_in_the_first_steps_does_not_learn_again() -> None:
    config = PivotalConfig(token="sks", steps=100, pivot=0.4)

    longer = lengthened(config, 200)

    assert round(longer.pivot * longer.steps) == 40  # type: ignore[attr-defined]
    assert not same_as_longer(longer)


def test_a_schedule_that_had_come_down_is_said_to_come_down_again() -> None:
    # cosine without warm-up at half of the longer run: half of the rate
    said = what_happens(LoraConfig(steps=100, warmup_steps=0, learning_rate=1e-3), 100, 200)

    assert "goes on from 0.0005" in said
    assert "not the same" in said


@pytest.mark.parametrize(("done", "more"), [(10, 0), (10, -5), (19_999, 2)])
def test_no_more_steps_or_too_many_get_a_sentence(done: int, more: int) -> None:
    with pytest.raises(ConfigError):
        checked_total(done, more)


def test_a_waiting_run_can_be_put_before_the_others(engine: Engine, tiny_base: Path, pictures: Path) -> None:
    settings = values(engine, tiny_base, pictures, steps=2, sample_prompts=[])
    running = engine.submit({**settings, "steps": 5000}, name="running")
    second, third = (engine.submit(settings, name=name) for name in ("second", "third"))
    while engine.state(engine.run(running)).status != "running":
        time.sleep(0.02)

    engine.train_next(third)
    with pytest.raises(RunError, match="does not wait"):
        engine.train_next(running)
    assert engine.history.active()[0].id == running
    engine.stop(running)

    assert [engine.wait(run_id).status for run_id in (second, third)] == ["finished", "finished"]
    assert started_at(engine, third) < started_at(engine, second)
