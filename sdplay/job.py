"""What a run is given: everything it needs, loaded, and what it asks and tells the outside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sdplay.config import TrainConfig
from sdplay.data import Example
from sdplay.device import Device
from sdplay.events import Event
from sdplay.families import Family, Parts
from sdplay.methods import Method
from sdplay.runs import Request, Run


@dataclass(frozen=True)
class Hooks:
    """What the loop asks and tells the outside."""

    emit: Callable[[Event], None]
    stop_requested: Callable[[], bool]
    between_steps: Callable[[], bool]
    """Lets waiting pictures through; True if there were any. The base comes back as it was left."""
    requested: Callable[[Request], bool] = lambda what: False
    """Whether somebody wants sample pictures or a checkpoint now; asking takes the request."""


@dataclass(frozen=True)
class Job:
    """Everything a run needs, loaded."""

    run: Run
    config: TrainConfig
    examples: Sequence[Example]
    parts: Parts
    family: Family
    method: Method
    device: Device
    cache_folder: Path
    class_examples: Sequence[Example] = ()
    """Pictures of the class, for prior preservation with a data set."""
