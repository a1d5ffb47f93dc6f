"""What a judge's eye tells about pictures; see eyes.py and judging.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Seen:
    """What there is to N pictures."""

    views: dict[str, Tensor]
    """(N, d) rows of length 1 by what is looked at; their dot product is how like two pictures are."""
    places: Tensor
    """(N, d) whose distances say how far two pictures are from being the same one."""
    fits: Tensor
    """(N,) how much better each picture fits its own text than others; 0 is not at all. Empty where no texts were given."""

    def of(self, chosen: Sequence[int]) -> Seen:
        """Some of the pictures, without their texts."""
        index = list(chosen)
        return Seen({name: rows[index] for name, rows in self.views.items()}, self.places[index], self.fits[:0])


class Eye(Protocol):
    """Models that look at pictures."""

    name: str

    def see(self, pixels: Tensor, texts: Sequence[str] = ()) -> Seen:
        """pixels: (N, 3, H, W) in [-1, 1], on the CPU.  texts: N, or none."""
