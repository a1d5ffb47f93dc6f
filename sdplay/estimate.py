"""What a run will take: time, memory, disk, price. Measured by a short run of the same settings, multiplied out by a model of the work.

    time = once + steps x step + rounds x samples + validations x validation + checkpoints x checkpoint

The short run does everything that the long one does, so nothing is guessed but that a step costs what a step cost. What it puts into
the caches is there when the long run starts, and is not counted.
"""

from __future__ import annotations

import itertools
import json
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sdplay.config import TrainConfig
from sdplay.errors import SdplayError
from sdplay.events import Checkpoint, Event, Failed, Finished, Phase, Samples, Started, Step, Validation
from sdplay.price import Hardware
from sdplay.workspace import write_json

PROBE_STEPS, PROBE_STEPS_OF_TWO = 4, 8
"""The first is for warming up; methods that learn two things one after the other need some of each."""
KEPT = 2
"""Checkpoints that keep their optimiser state, as in checkpoint.py."""
EVENT_BYTES = 130
"""A step's line in events.jsonl."""
OUTCOME, ESTIMATE = "outcome.json", "estimate.json"


@dataclass(frozen=True)
class Costs:
    """What the short run showed, in seconds and bytes."""

    once: float
    """Preparing and finishing."""
    step: float
    samples: float
    """A round of sample pictures."""
    validation: float
    checkpoint: float
    peak_bytes: int | None
    adapter_bytes: int
    """What stays of every checkpoint."""
    state_bytes: int
    """What the newest checkpoints have beside it."""
    samples_bytes: int
    out_bytes: int


@dataclass(frozen=True)
class Estimate:
    """What a run takes from its start to its end, without waiting in the queue and loading the base."""

    seconds: float
    peak_bytes: int | None
    """Of the whole program; on a GPU of the card. None where the system does not tell."""
    disk_bytes: int
    hardware: str = ""
    """A key of hardware.yaml, or what the price is for."""
    usd: float | None = None

    @property
    def sentence(self) -> str:
        """For people."""
        memory = f", {self.peak_bytes / 1e9:.1f} GB of memory" if self.peak_bytes else ""
        price = f", {self.usd:.2f} USD on {self.hardware}" if self.usd is not None else ""
        return f"{duration(self.seconds)}{memory}, {self.disk_bytes / 1e6:.0f} MB of disk{price}"


def probe_config(config: TrainConfig) -> TrainConfig:
    """The short run: the same work in few steps, samples and a validation at its end."""
    steps = min(config.steps, PROBE_STEPS if later_share(config) is None else PROBE_STEPS_OF_TWO)
    every = {"sample_every": 0, "validate_every": steps if config.validate_every else 0, "checkpoint_every": 5000}
    return config.model_copy(update={**every, "steps": steps, "warmup_steps": 0})


def later_share(config: TrainConfig) -> float | None:
    """Which share of the steps learns the first of two things; None where all steps are alike."""
    share = float(getattr(config, "pivot", 0.0) or getattr(config, "text_encoder_share", 0.0))
    return share if 0 < share < 1 else None


def costs_of(events: Iterable[Event], config: TrainConfig, folder: Path, peak_bytes: int | None) -> Costs:
    """From the short run's events and folder. Raises SdplayError with its message when it failed.

    Time between two events belongs to the later one; what comes after an `encoding` phase fills a cache and is left out.
    """
    told = list(events)
    failed = next((event for event in told if isinstance(event, Failed)), None)
    if failed:
        raise SdplayError(failed.message, failed.hint)
    started = next(index for index, event in enumerate(told) if isinstance(event, Started))
    spent: dict[type, list[float]] = {kind: [] for kind in (Step, Samples, Validation, Checkpoint)}
    once, rest = 0.0, told[started:]
    for before, event in itertools.pairwise(rest):
        gap = event.time - before.time
        if type(event) in spent and not isinstance(event, Step):
            spent[type(event)].append(gap)
        elif not isinstance(event, Step) and not (isinstance(before, Phase) and before.name.startswith(("encoding", "drawing"))):
            once += gap
    steps = [event.seconds for event in rest if isinstance(event, Step)]
    step = _step_seconds(steps, later_share(config))
    checkpoint = next((folder / "checkpoints").glob("*/adapter.safetensors")).parent
    adapter = (checkpoint / "adapter.safetensors").stat().st_size
    rounds = [path for path in (folder / "samples").glob("*") if path.is_dir()]
    return Costs(
        once=once + max(0.0, steps[0] - step),
        step=step,
        samples=spent[Samples][-1] if spent[Samples] else 0.0,
        validation=spent[Validation][-1] if spent[Validation] else 0.0,
        checkpoint=spent[Checkpoint][-1] if spent[Checkpoint] else 0.0,
        peak_bytes=peak_bytes,
        adapter_bytes=adapter,
        state_bytes=disk_bytes(checkpoint) - adapter,
        samples_bytes=disk_bytes(rounds[-1]) if rounds else 0,
        out_bytes=disk_bytes(folder / "out"),
    )


def estimated(config: TrainConfig, costs: Costs, *, light: bool, hardware: Hardware | None) -> Estimate:
    """The model of the work. light: every checkpoint keeps what was learned, not only the newest."""
    rounds = 1 + _times(config.sample_every, config.steps) if config.sample_prompts else 0
    validations = _times(config.validate_every, config.steps) if config.validate_every else 0
    checkpoints = _times(config.checkpoint_every, config.steps)
    seconds = (
        costs.once + config.steps * costs.step + rounds * costs.samples + validations * costs.validation + checkpoints * costs.checkpoint
    )
    disk = (
        (checkpoints if light else min(KEPT, checkpoints)) * costs.adapter_bytes
        + min(KEPT, checkpoints) * costs.state_bytes
        + rounds * costs.samples_bytes
        + costs.out_bytes
        + config.steps * EVENT_BYTES
    )
    usd = None if hardware is None else seconds / 3600 * hardware.usd_per_hour
    return Estimate(seconds, costs.peak_bytes, disk, hardware.name if hardware else "", usd)


def write_estimate(folder: Path, estimate: Estimate) -> None:
    """Beside the run, so that it can be held against the outcome."""
    write_json(folder / ESTIMATE, asdict(estimate))


def write_outcome(folder: Path, seconds: float, peak: int | None) -> str:
    """What a run took. Returns a sentence that names the estimate too, empty where there was none."""
    took = Estimate(round(seconds, 2), peak, disk_bytes(folder))
    write_json(folder / OUTCOME, asdict(took))
    before = read_estimate(folder / ESTIMATE)
    return f"It took {took.sentence}. The estimate was {before.sentence}." if before else ""


def read_estimate(path: Path) -> Estimate | None:
    """An estimate or an outcome that was written; None where there is none that can be read."""
    try:
        return Estimate(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def reset_peak(device_kind: str) -> None:
    """From now on `peak_bytes` counts anew, where the system can."""
    if device_kind == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux, or not allowed: then it is the most since the program started
        return


def peak_bytes(device_kind: str) -> int | None:
    """The most memory since `reset_peak`: the card's, as its allocator took it, or what this program has in main memory."""
    if device_kind == "cuda":
        import torch

        return int(torch.cuda.max_memory_reserved())
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def disk_bytes(folder: Path) -> int:
    """Of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def duration(seconds: float) -> str:
    """`50 s`, `4 min 10 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def taken_seconds(events: Sequence[Event]) -> float:
    """From the last start to the end."""
    started = max((event.time for event in events if isinstance(event, Started)), default=0.0)
    ended = max((event.time for event in events if isinstance(event, Finished)), default=started)
    return ended - started


def _times(every: int, steps: int) -> int:
    """How often something is done that is done every so many steps, and at the end; 0: at the end only."""
    return 1 + ((steps - 1) // every if every else 0)


def _step_seconds(steps: Sequence[float], first_share: float | None) -> float:
    """Of an average step; the first is left out where there are others."""
    if first_share is None or len(steps) < PROBE_STEPS_OF_TWO:
        return statistics.median(steps[1:] or steps)
    turn = max(1, round(first_share * len(steps)))
    first, second = steps[1:turn] or steps[:turn], steps[turn + 1 :] or steps[turn:]
    return first_share * statistics.median(first) + (1 - first_share) * statistics.median(second or first)
