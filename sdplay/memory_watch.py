"""What a run does when a card's memory is not enough for a batch: the same batch in smaller pieces."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

from sdplay.events import Event, Halved

Result = TypeVar("Result")
MOST_PIECES = 4
"""A batch is halved twice at most."""


@dataclass
class MemoryWatch:
    """Of one run."""

    emit: Callable[[Event], None]
    pieces: int = 1
    """In how many pieces each batch goes through the denoiser."""

    def attempt(self, work: Callable[[int], Result], *, step: int, batch_size: int, clean: Callable[[], None]) -> Result:
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
