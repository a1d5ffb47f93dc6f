"""Optimisers, schedules and averages: each learns, is kept without pickle, and goes on in the bits it would have gone on in."""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sdplay import checkpoint
from sdplay.config import LoraConfig
from sdplay.diffusion.ema import Average
from sdplay.engine import Engine
from sdplay.errors import ConfigError, DeviceError
from sdplay.methods import parse_train_config
from sdplay.optimizers import Learner, Lion, learning_rate_at, make_optimizer, notes
from sdplay.runs import Run
from tests.test_train import trained, values

PACKAGES = {"prodigy": "prodigyopt", "schedule_free": "schedulefree"}
OPTIMIZERS = ("adamw", "adafactor", "prodigy", "lion", "schedule_free")


class Saved:
    """What a checkpoint asks of a trainable: it writes its weights as they are at that moment."""

    light = True

    def __init__(self, weights: list[Tensor]) -> None:
        self.weights = weights

    def save(self, path: Path) -> None:
        from safetensors.torch import save_file

        save_file({str(index): weight.detach().clone() for index, weight in enumerate(self.weights)}, path)


def config_of(optimizer: str, **changes: object) -> LoraConfig:
    if optimizer in PACKAGES:
        pytest.importorskip(PACKAGES[optimizer])
    return LoraConfig(optimizer=optimizer, learning_rate=1e-2, steps=8, warmup_steps=2, **changes)  # type: ignore[arg-type]


def fresh_weights() -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((3, 4), (4,))]


def learn(learner: Learner, config: LoraConfig, steps: range) -> None:
    """Pull the weights to 1, a little differently each step."""
    for step in steps:
        for group in learner.optimizer.param_groups:
            group["lr"] = learning_rate_at(step, config)
        for weight in learner.parameters:
            weight.grad = (weight.detach() - 1) * (1 + 0.1 * step)
        learner.step()
        learner.update_average()


def learner_of(config: LoraConfig) -> tuple[Learner, list[torch.nn.Parameter]]:
    weights = fresh_weights()
    return Learner([{"params": weights}], config, device_kind="cpu"), weights


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_optimiser_comes_nearer_to_what_it_learns(optimizer: str) -> None:
    config = config_of(optimizer)
    learner, weights = learner_of(config)
    before = sum((weight - 1).square().sum().item() for weight in weights)

    learn(learner, config, range(8))

    with learner.shown():
        assert sum((weight - 1).square().sum().item() for weight in weights) < before


@pytest.mark.parametrize("changes", [{}, {"ema_decay": 0.9}], ids=["last weights", "average"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_optimiser_goes_on_from_a_checkpoint_in_the_same_bits(optimizer: str, changes: dict[str, float], tmp_path: Path) -> None:
    """Through the file: nested values, plain numbers and None come back as they were. The file holds the shown weights."""
    if optimizer == "schedule_free" and changes:
        pytest.skip("schedule-free averages already; the door refuses both")
    config = config_of(optimizer, **changes)
    whole, expected = learner_of(config)
    learn(whole, config, range(8))
    first, weights = learner_of(config)
    learn(first, config, range(4))
    state = first.state()
    with first.shown():
        checkpoint.write_checkpoint(tmp_path, 4, Saved(list(weights)), state)  # type: ignore[arg-type]

    restored = checkpoint.newest_valid(tmp_path)
    assert restored is not None
    second, resumed = learner_of(config)
    saved = load_file(restored.path)
    with torch.no_grad():
        for index, weight in enumerate(resumed):
            weight.copy_(saved[str(index)])
    second.load(restored.state)
    learn(second, config, range(4, 8))

    assert all(torch.equal(a, b) for a, b in zip(resumed, expected, strict=True))
    with whole.shown(), second.shown():
        assert all(torch.equal(a, b) for a, b in zip(resumed, expected, strict=True))


@pytest.mark.parametrize(("optimizer", "changes"), [("adamw", {"ema_decay": 0.9}), ("schedule_free", {})])
def test_showing_the_average_leaves_training_as_it_was_to_the_bit(optimizer: str, changes: dict[str, float]) -> None:
    """schedulefree's own way back from eval mode rounds."""
    config = config_of(optimizer, **changes)
    disturbed, weights = learner_of(config)
    alone, expected = learner_of(config)
    for step in range(8):
        learn(disturbed, config, range(step, step + 1))
        learn(alone, config, range(step, step + 1))
        trained_now = [weight.detach().clone() for weight in weights]
        with disturbed.shown():
            assert any(not torch.equal(a, b) for a, b in zip(weights, trained_now, strict=True)) or step == 0

    assert all(torch.equal(a, b) for a, b in zip(weights, expected, strict=True))


def test_what_is_packed_comes_back_with_its_types() -> None:
    value = {0: {"step": 3, "rate": 0.1, "none": None, "on": True, "deep": {"a": [torch.ones(2), (1, "x")]}}, "inf": math.inf}
    tensors: dict[str, Tensor] = {}

    back = checkpoint.unpacked(json.loads(json.dumps(checkpoint.packed(value, tensors))), tensors)

    assert torch.equal(back[0]["deep"]["a"].pop(0), torch.ones(2))
    assert back == {0: {"step": 3, "rate": 0.1, "none": None, "on": True, "deep": {"a": [(1, "x")]}}, "inf": math.inf}
    assert type(back[0]["step"]) is int
    assert type(back[0]["on"]) is bool


def test_lion_is_the_papers() -> None:
    """First step: w (1 - lr decay) - lr sign(0.1 g); momentum 0.01 g."""
    weight = torch.nn.Parameter(torch.tensor([2.0, -2.0]))
    weight.grad = torch.tensor([3.0, -0.5])
    optimizer = Lion([{"params": [weight]}], lr=0.1, weight_decay=0.5)

    optimizer.step()

    assert weight.tolist() == pytest.approx([2 * 0.95 - 0.1, -2 * 0.95 + 0.1])
    assert optimizer.state[weight]["momentum"].tolist() == pytest.approx([0.03, -0.005])


def test_lion_takes_the_steps_of_lion_pytorch() -> None:
    reference = pytest.importorskip("lion_pytorch").Lion
    ours, theirs = fresh_weights(), fresh_weights()
    optimizers = [Lion([{"params": ours}], lr=1e-2, weight_decay=0.1), reference(theirs, lr=1e-2, weight_decay=0.1)]

    for step in range(10):
        for weights, optimizer in zip((ours, theirs), optimizers, strict=True):
            for weight in weights:
                weight.grad = torch.sin(weight.detach() * (step + 1))
            optimizer.step()

    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(ours, theirs, strict=True))


def test_an_optimiser_whose_package_is_missing_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prodigyopt", None)

    with pytest.raises(ConfigError, match="pip install prodigyopt"):
        make_optimizer([{"params": fresh_weights()}], LoraConfig(optimizer="prodigy"), device_kind="cpu")


def test_8_bit_adamw_needs_a_gpu() -> None:
    with pytest.raises(DeviceError, match="NVIDIA"):
        make_optimizer([{"params": fresh_weights()}], LoraConfig(optimizer="adamw8bit"), device_kind="cpu")


@pytest.mark.trap(22)
def test_prodigy_refuses_groups_of_different_rates_before_it_would_fail() -> None:
    """prodigyopt raises RuntimeError at the first step: Setting different lr values ..."""
    first, second = fresh_weights()
    config = config_of("prodigy")

    with pytest.raises(ConfigError, match=r"factors 0\.1, 1\."):
        make_optimizer([{"params": [first], "rate": 0.1}, {"params": [second], "rate": 1.0}], config, device_kind="cpu")

    assert make_optimizer([{"params": [first], "rate": 0.1}, {"params": [second], "rate": 0.1}], config, device_kind="cpu")


@pytest.mark.parametrize("optimizer", ["prodigy", "schedule_free"])
@pytest.mark.parametrize("part", [{"first_step": 3}, {"end_step": 3}], ids=str)
def test_optimisers_that_gather_over_the_steps_refuse_groups_that_learn_in_some(optimizer: str, part: dict[str, int]) -> None:
    """prodigyopt would count steps of another learning rate, schedulefree would average weights that never moved."""
    first, second = fresh_weights()
    config = config_of(optimizer)

    with pytest.raises(ConfigError, match="in a part of them only"):
        make_optimizer([{"params": [first]}, {"params": [second], **part}], config, device_kind="cpu")

    assert make_optimizer([{"params": [first]}, {"params": [second], "end_step": config.steps}], config, device_kind="cpu")


@pytest.mark.parametrize(
    "asked",
    [
        {"max_norm": 1.0},
        {"ema_decay": 0.9},
        {"method": "textual_inversion", "token": "ohwx"},
        {"method": "pivotal", "token": "ohwx", "norm": "none", "max_norm": 1.0},
    ],
    ids=str,
)
def test_schedule_free_refuses_at_the_door_what_its_averages_would_undo(asked: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="Schedule-free AdamW"):
        parse_train_config({**asked, "optimizer": "schedule_free"}).check()


def test_state_read_from_a_file_lies_in_memory_as_its_weights_do() -> None:
    """A fused optimiser walks both side by side; a file knows no strides."""
    weight = torch.nn.Parameter(torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last))
    config = config_of("adamw")
    learner = Learner([{"params": [weight]}], config, device_kind="cpu")
    learn(learner, config, range(1))
    tensors: dict[str, Tensor] = {}
    kept = checkpoint.packed(learner.state(), tensors)

    again = Learner([{"params": [weight]}], config, device_kind="cpu")
    again.load(checkpoint.unpacked(kept, tensors))

    found, expected = again.optimizer.state[weight]["exp_avg"], learner.optimizer.state[weight]["exp_avg"]
    assert found.stride() == weight.stride()
    assert torch.equal(found, expected)


def test_prodigy_and_schedule_free_say_what_they_do_not_use() -> None:
    assert "Learning rate is not used" in notes(LoraConfig(optimizer="prodigy"))[0]
    assert "schedule" in notes(LoraConfig(optimizer="schedule_free"))[0]
    assert notes(LoraConfig()) == []


def test_prodigy_decays_weights_as_asked_and_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = fresh_weights()

    made = make_optimizer([{"params": [first]}, {"params": [second], "weight_decay": 0.0}], config_of("prodigy"), device_kind="cpu")

    assert [group["weight_decay"] for group in made.param_groups] == [1e-2, 0]
    assert capsys.readouterr().out == ""


def test_prodigys_rate_is_shown_as_it_is_used() -> None:
    config = config_of("prodigy")
    learner, _ = learner_of(config)
    learn(learner, config, range(4))

    assert learner.rate_in_use(0.5) == pytest.approx(0.5 * float(learner.optimizer.param_groups[0]["d"]))


# ---- schedules


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "cosine_with_restarts", "polynomial"])
def test_each_schedule_is_diffusers_after_the_warm_up(schedule: str) -> None:
    """diffusers counts its warm-up from 0, so that its first step changes nothing; ours counts from 1."""
    from diffusers.optimization import get_scheduler

    config = LoraConfig(steps=30, warmup_steps=5, learning_rate=1e-2, lr_schedule=schedule, lr_cycles=2, lr_power=2.0)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1e-2)
    name = "constant_with_warmup" if schedule == "constant" else schedule
    options = {"cosine_with_restarts": {"num_cycles": 2}, "polynomial": {"power": 2.0}}.get(schedule, {})
    reference = get_scheduler(name, optimizer, num_warmup_steps=5, num_training_steps=30, **options)

    rates = []
    for _ in range(30):
        rates.append(reference.get_last_lr()[0])
        optimizer.step()
        reference.step()

    assert [learning_rate_at(step, config) for step in range(5, 30)] == pytest.approx(rates[5:], abs=1e-7)
    assert learning_rate_at(0, config) == pytest.approx(1e-2 / 5)


@pytest.mark.trap(25)
def test_schedules_count_changes_of_the_weights_not_micro_batches(
    engine: Engine, tiny_base: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rate that is shown is the one that is used, however many micro-batches a step has."""
    settings = {**values(engine, tiny_base, pictures, steps=3, sample_prompts=[]), "lr_schedule": "polynomial"}
    used: list[float] = []
    step = Learner.step
    monkeypatch.setattr(Learner, "step", lambda learner: (used.append(learner.optimizer.param_groups[0]["lr"]), step(learner)))

    plain, added_up = (
        [step.learning_rate for step in trained(engine, {**settings, "gradient_accumulation": count}).state().losses] for count in (1, 2)
    )

    assert plain == added_up == [1e-2, 1e-2, pytest.approx(1e-2 / 4)]
    assert used == pytest.approx(plain + added_up)


# ---- averages


def test_the_average_follows_its_closed_form() -> None:
    """Decay min(0.9, 2/11) then min(0.9, 3/12) on weights 0 -> 1 -> 2."""
    average = Average([torch.zeros(1)], 0.9)
    average.update([torch.ones(1)])
    average.update([torch.full((1,), 2.0)])

    first = 1 - 2 / 11
    assert average.values[0].item() == pytest.approx(first * 0.25 + 2 * 0.75)


def cut_at(run: Run, step: int, checkpoint_step: int) -> None:
    """Leave what a kill during `step` leaves, where the last checkpoint is `checkpoint_step`."""
    lines = (run.folder / "events.jsonl").read_bytes().splitlines(keepends=True)
    moment = next(i for i, line in enumerate(lines) if json.loads(line).get("step") == step and json.loads(line)["event"] == "step")
    (run.folder / "events.jsonl").write_bytes(b"".join(lines[:moment]))
    shutil.rmtree(run.folder / "out")
    for later in checkpoint.steps_on_disk(run.folder / "checkpoints"):
        if later > checkpoint_step:
            shutil.rmtree(run.folder / "checkpoints" / str(later))
    deadline = time.monotonic() + 20
    while run.state().status != "interrupted" and time.monotonic() < deadline:  # the worker gives the lock back after its last event
        time.sleep(0.05)


@pytest.mark.parametrize(
    "changes", [{"ema_decay": 0.5}, {"optimizer": "schedule_free", "lr_schedule": "constant"}], ids=["ema", "schedule_free"]
)
def test_a_run_that_shows_an_average_resumes_to_equal_files(
    engine: Engine, tiny_base: Path, pictures: Path, changes: dict[str, object]
) -> None:
    """Samples are drawn and checkpoints written between steps, which must not touch the training."""
    if "optimizer" in changes:
        pytest.importorskip("schedulefree")
    settings = values(engine, tiny_base, pictures, steps=4, sample_every=1, sample_steps=1, **changes)
    run = trained(engine, settings)
    state = run.state()
    expected = load_file(run.folder / state.artifacts[0].file)
    saved = load_file(run.folder / "checkpoints" / "4" / checkpoint.ADAPTER)
    raw = checkpoint.newest_valid(run.folder / "checkpoints")
    assert raw is not None
    assert all(torch.equal(saved[name], tensor) for name, tensor in expected.items())
    assert all(not any(torch.equal(live, tensor) for tensor in expected.values()) for live in raw.state["trained"]), "the average is saved"
    cut_at(run, 4, checkpoint_step=2)

    new_process = Engine(engine.workspace)
    new_process.resume(run.id)
    resumed = new_process.wait(run.id)
    new_process.close()

    found = load_file(run.folder / resumed.artifacts[0].file)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_schedule_free_with_ema_is_refused_at_the_door(engine: Engine, tiny_base: Path, pictures: Path) -> None:
    with pytest.raises(ConfigError, match="averages the weights already"):
        engine.submit(values(engine, tiny_base, pictures, optimizer="schedule_free", ema_decay=0.9))


@pytest.mark.trap(28)
def test_gradient_checkpointing_gives_the_same_losses(engine: Engine, tiny_base: Path, pictures: Path) -> None:
    """With reentrant checkpointing the adapters would get no gradient, as all inputs are frozen: the second loss would differ."""
    settings = values(engine, tiny_base, pictures, steps=3, sample_prompts=[])

    plain, recomputed = (trained(engine, {**settings, "gradient_checkpointing": choice}).state().losses for choice in ("off", "on"))

    assert [step.loss for step in recomputed] == pytest.approx([step.loss for step in plain], abs=1e-6)
