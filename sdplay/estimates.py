"""Measures what a run will take, before it is started, by the same worker on the same device; see estimate.py for the arithmetic."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sdplay.config import TrainConfig
from sdplay.errors import RunError
from sdplay.estimate import (
    OUTCOME,
    Estimate,
    costs_of,
    estimated,
    probe_config,
    read_estimate,
    write_estimate,
)
from sdplay.price import Hardware, hardware_here, hardware_of
from sdplay.runs import Run, create_run

TICK_SECONDS = 0.05


class Estimates:
    """Every estimate that was made since the program started, by the settings it is for."""

    def __init__(self, train: Callable[[Run, int], None]) -> None:
        """train: queues a run of so many steps."""
        self._train = train
        self._known: dict[str, Estimate] = {}

    def known(self, config: TrainConfig) -> Estimate | None:
        """What was measured for these very settings since the program started."""
        return self._known.get(config.model_dump_json())

    def measure(self, config: TrainConfig, hardware: Hardware | None) -> Estimate:
        """Train some steps in a folder that is thrown away, and wait for it. Raises SdplayError when that fails.

        hardware: whose price is told; None: this computer's as the environment says it, else its card's if Spaces have it.
        """
        with tempfile.TemporaryDirectory(prefix="sdplay-probe-", ignore_cleanup_errors=True) as folder:
            short = probe_config(config)
            run = create_run(Path(folder), short, name="probe")
            self._train(run, short.steps)
            while not (state := run.state()).ended or run.is_held():
                time.sleep(TICK_SECONDS)
            if state.status in ("stopped", "interrupted"):
                raise RunError("Measuring was stopped.", "Press Measure again.")
            outcome = read_estimate(run.folder / OUTCOME)
            costs = costs_of(run.events(), config, run.folder, outcome.peak_bytes if outcome else None)
        priced = hardware or hardware_here() or hardware_of(state.device)
        made = estimated(config, costs, light=config.method != "dreambooth", hardware=priced)
        self._known[config.model_dump_json()] = made
        return made

    def keep(self, run: Run, config: TrainConfig) -> None:
        """Write the estimate of these very settings, if there is one, beside the run."""
        made = self.known(config)
        if made:
            write_estimate(run.folder, made)
