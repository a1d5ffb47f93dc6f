"""What a run does when a card's memory is not enough: smaller pieces of a batch; and a warning when it seems to spill."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from sdplay.device import Device, reserved_bytes
from sdplay.events import Event, Halved, Note

MOST_PIECES = 4
"""A batch is halved twice at most."""
SLOWER = 3.0
"""How many times its usual time a step must take to be thought slowed down by spilled memory."""
FULL = 0.92
"""Share of a card's memory from which on a driver may put the rest into the computer's."""
USUAL, LATELY = 10, 3
"""Steps whose median is the usual time, and steps in a row that must be slow."""


@dataclass
class MemoryWatch:
    """Of one run, on one device."""

    device: Device
    emit: Callable[[Event], None]
    pieces: int = 1
    """In how many pieces each batch goes through the denoiser."""
    _seconds: list[float] = field(default_factory=list)
    _warned: bool = False

    def attempt(self, work: Callable[[int], float], *, step: int, batch_size: int, clean: Callable[[], None]) -> float:
        """`work(pieces)`, again in smaller pieces when memory runs out; `clean` clears what the first try left.

        step: counted from 0. Raises torch.OutOfMemoryError when there is nothing left to halve.
        """
        while True:
            try:
                return work(self.pieces)
            except torch.OutOfMemoryError:
                if self.pieces >= min(MOST_PIECES, batch_size):
                    raise
            # Outside the except block, so that the traceback no longer holds the tensors.
            clean()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self.pieces *= 2
            self.emit(Halved(step=step + 1, pieces=self.pieces, text=_halved_text(step + 1, self.pieces, batch_size)))

    def saw(self, seconds: float, *, step: int) -> None:
        """A step took so long. Says so, once, when steps have become slow and the card is full."""
        self._seconds.append(seconds)
        if self._warned or not slowed_down(self._seconds):
            return
        reserved = reserved_bytes(self.device)
        if reserved is not None and reserved[0] >= FULL * reserved[1]:
            self._warned = True
            self.emit(Note(text=_spill_text(step, reserved)))


def slowed_down(seconds: Sequence[float]) -> bool:
    """Whether each of the last steps took SLOWER times the median of the first ones; the very first, which warms up, left out."""
    if len(seconds) < 1 + USUAL + LATELY:
        return False
    usual = sorted(seconds[1 : 1 + USUAL])[USUAL // 2]
    return min(seconds[-LATELY:]) > SLOWER * usual


def piece_rows(count: int, pieces: int) -> list[slice]:
    """The rows of a batch in so many pieces, as even as can be; fewer where there are fewer rows."""
    pieces = min(pieces, count)
    cuts = [round(index * count / pieces) for index in range(pieces + 1)]
    return [slice(first, end) for first, end in itertools.pairwise(cuts)]


def _halved_text(step: int, pieces: int, batch_size: int) -> str:
    largest = max(rows.stop - rows.start for rows in piece_rows(batch_size, pieces))
    return (
        f"Memory ran out at step {step}: each batch of {batch_size} now goes through in {min(pieces, batch_size)} pieces of at most "
        f"{largest}, and their gradients are added up. What is learned stays the same; steps take a little longer."
    )


def _spill_text(step: int, reserved: tuple[int, int]) -> str:
    return (
        f"Steps have become {SLOWER:.0f} times slower by step {step}, and {reserved[0] / 1e9:.1f} of the card's {reserved[1] / 1e9:.1f} GB "
        "are taken: the driver may be using the computer's memory. Lower the batch size or Size, turn on gradient checkpointing, "
        "or close what else uses the card."
    )
