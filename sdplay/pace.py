"""Whether steps crawl because the card is full: some drivers then lend main memory in place of raising an error."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

from sdplay.device import CardMemory

SLOWER = 8.0
"""How many times the usual a step must take; buckets of other sizes stay far below."""
FULL = 0.02
"""Share of a card's memory that may be free for it to count as full."""
STEPS = 5
"""After how many steps it is known how long one usually takes."""
HINT = "Lower the batch size or the size, or switch gradient checkpointing on; elsewhere such steps are ten to a hundred times slower."


@dataclass
class Pace:
    """How long steps take. Says at most one thing in a run."""

    seconds: list[float] = field(default_factory=list)
    said: bool = False

    def after_step(self, seconds: float, memory: CardMemory | None) -> str | None:
        """A sentence for the user when memory that is not the card's slows the run down; `memory` is None where there is no GPU."""
        usual = median(self.seconds) if len(self.seconds) >= STEPS else None
        self.seconds.append(seconds)
        if memory is None or self.said:
            return None
        if memory.held > memory.total:
            told = f"This run holds {memory.held / 1e9:.1f} GB, more than the {memory.total / 1e9:.1f} GB of the GPU"
        elif usual is not None and seconds > SLOWER * usual and memory.free < FULL * memory.total:
            told = f"A step took {seconds:.1f} s where {usual:.1f} s is usual, and the GPU's memory is full"
        else:
            return None
        self.said = True
        return f"{told}: the driver uses the computer's main memory instead. {HINT}"
