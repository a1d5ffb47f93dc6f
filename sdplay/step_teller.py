"""What each step came to, told when its loss is known: on a GPU one step late, so that the processor never waits for the card."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sdplay.device import Device, card_memory
from sdplay.errors import DeviceError
from sdplay.events import Event, Note, Step
from sdplay.job import Hooks
from sdplay.pace import Pace

LATE = 1
"""Steps that a GPU may be working on while the next is prepared."""


class LateSum:
    """A sum of numbers on a device, on its way to the processor."""

    def __init__(self, terms: Sequence[Tensor]) -> None:
        """terms: of no dimension each. Nothing waits for them here."""
        self._terms = torch.stack([term.detach() for term in terms])
        self._there: torch.cuda.Event | None = None
        if self._terms.is_cuda:
            there = torch.empty_like(self._terms, device="cpu", pin_memory=True)
            self._terms = there.copy_(self._terms, non_blocking=True)
            self._there = torch.cuda.Event()
            self._there.record()

    def read(self) -> float:
        """The sum, in double precision; waits for what was asked of the device before it, and for nothing after it."""
        if self._there is not None:
            self._there.synchronize()
        return float(sum(self._terms.tolist()))


@dataclass(frozen=True)
class _Step:
    number: int
    loss: LateSum
    rate: float


@dataclass
class StepTeller:
    """Tells the steps in order. Whatever else is told meanwhile comes after the steps that were done before it.

    late: how many steps may be untold; None: as the device is.
    """

    hooks: Hooks
    device: Device
    late: int | None = None
    _untold: deque[_Step] = field(default_factory=deque)
    _pace: Pace = field(default_factory=Pace)
    _since: float = 0.0

    def begin(self) -> None:
        """A step is about to be done."""
        if not self._untold:
            self._since = time.perf_counter()

    def done(self, step: int, loss: LateSum, learning_rate: float) -> None:
        """So many steps are done. Raises DeviceError when the loss of one that is told now is not a number."""
        self._untold.append(_Step(step, loss, learning_rate))
        late = self.late if self.late is not None else LATE if self.device.kind == "cuda" else 0
        while len(self._untold) > late:
            self._tell()

    def flush(self) -> None:
        """Tell what is untold, before anything is kept of what was learned. Raises DeviceError as `done` does."""
        while self._untold:
            self._tell()

    def emit(self, event: Event) -> None:
        """Tell something else."""
        self.flush()
        self.hooks.emit(event)

    def _tell(self) -> None:
        step = self._untold.popleft()
        loss, now = step.loss.read(), time.perf_counter()
        seconds, self._since = now - self._since, now
        if not math.isfinite(loss):
            self._untold.clear()
            hint = "Lower the learning rate, for example to half, and train again."
            raise DeviceError(f"The loss at step {step.number} is not a number.", hint)
        self.hooks.emit(Step(step=step.number, loss=loss, learning_rate=step.rate, seconds=seconds))
        if (warning := self._pace.after_step(seconds, card_memory(self.device))) is not None:
            self.hooks.emit(Note(text=warning))
