"""Steps are told in order and never later than what was done after them, also where the processor runs ahead of a GPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sdplay import train
from sdplay.device import Device, sent
from sdplay.engine import Engine
from sdplay.errors import DeviceError
from sdplay.events import Checkpoint, Event, Note, Samples, Step
from sdplay.job import Hooks
from sdplay.step_teller import LateSum, StepTeller

CPU = Device("cpu", "CPU")
Told = list[Event]


def teller(told: Told, late: int) -> StepTeller:
    """One whose device is `late` steps behind."""
    return StepTeller(Hooks(told.append, lambda: False, lambda: False), CPU, late)


def loss(*terms: float) -> LateSum:
    return LateSum([torch.tensor(term) for term in terms])


def test_a_sum_is_added_up_in_double_precision() -> None:
    """As the shares of micro-batches were before they came late: bit for bit."""
    shares = torch.rand(7, generator=torch.Generator().manual_seed(1))

    assert LateSum(list(shares)).read() == sum(share.item() for share in shares)


def test_a_loss_that_still_learns_is_read_without_its_graph() -> None:
    weight = torch.ones((), requires_grad=True)

    assert LateSum([weight * 2]).read() == 2


@pytest.mark.parametrize("late", [0, 1, 2])
def test_a_step_is_told_when_its_loss_is_there(late: int) -> None:
    told: Told = []
    given = teller(told, late)

    for number in range(1, 5):
        given.begin()
        given.done(number, loss(number), 1e-3)
        assert [step.step for step in told if isinstance(step, Step)] == list(range(1, number - late + 1))
    given.flush()

    assert [(step.step, step.loss) for step in told if isinstance(step, Step)] == [(number, float(number)) for number in range(1, 5)]


def test_whatever_else_is_told_comes_after_the_steps_before_it() -> None:
    told: Told = []
    given = teller(told, 1)
    given.begin()
    given.done(1, loss(0.5), 1e-3)
    given.emit(Note(text="drawn"))
    given.begin()
    given.done(2, loss(0.5), 1e-3)
    given.flush()

    assert [type(event) for event in told] == [Step, Note, Step]
    assert all(event.seconds >= 0 for event in told if isinstance(event, Step))


def test_a_loss_that_is_no_number_ends_the_run_at_its_own_step() -> None:
    told: Told = []
    given = teller(told, 1)
    given.begin()
    given.done(1, loss(float("nan")), 1e-3)
    with pytest.raises(DeviceError, match="The loss at step 1 is not a number"):
        given.done(2, loss(float("nan")), 1e-3)

    given.flush()  # on the way out nothing more is said
    assert told == []


def test_a_run_whose_steps_are_told_late_is_the_same_run(
    engine: Engine, pictures: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same losses, pictures and checkpoints in the same order, to the bit."""
    dataset = engine.datasets.create([pictures], name="balls").id
    values = {
        "dataset": dataset, "base_model": str(tiny_base), "method": "lora", "steps": 5, "sample_every": 2, "checkpoint_every": 3, "rank": 2,
        "sample_prompts": ["a ball"], "gradient_accumulation": 2, "batch_size": 1, "warmup_steps": 0,
        "validation_share": 0.2, "validate_every": 2,
    }  # fmt: skip

    def run() -> list[tuple[object, ...]]:
        run_id = engine.submit(values, name="late")
        assert engine.wait(run_id).status == "finished"
        kept = (Step, Samples, Checkpoint)
        events = [event for event in engine.run(run_id).events() if isinstance(event, kept)]
        return [(type(event).__name__, event.step, getattr(event, "loss", None)) for event in events]

    at_once = run()
    monkeypatch.setattr(train, "StepTeller", partial(StepTeller, late=1))

    assert run() == at_once
    assert [name for name, *_ in at_once].count("Step") == 5


@pytest.mark.parametrize("make", [torch.zeros, torch.ones], ids=["zeros", "ones"])
def test_what_is_sent_arrives(make: Callable[..., Tensor]) -> None:
    value = make(2, 3)

    assert torch.equal(sent(value, torch.device("cpu")), value)
    assert sent(value, torch.device("meta")).device.type == "meta"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_on_a_gpu_nothing_waits_for_a_loss() -> None:
    """A sum of what is still being computed is there at once, and read when that is done."""
    device = torch.device("cuda")
    large = sent(torch.ones(4096, 4096), device)
    torch.cuda.synchronize()
    for _ in range(50):
        product = large @ large
    waiting = LateSum([product.mean()])

    assert waiting._there is not None
    assert not waiting._there.query()
    assert waiting.read() == 4096
