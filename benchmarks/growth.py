"""How time and memory grow: steps against batch, size and rank; caching against pictures; lists against runs on disk.

    python -m benchmarks.growth plots/ [--json FILE] [--small] [--only batch]

Embedded model. One plot for each, with the fitted exponent; "worse than linear" is said of what grows faster than its cause by more than
measuring errs, between the two largest. Nothing else should be running. --small: fewer and smaller, to see that it works.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from benchmarks.plots import exponent, last_exponent, log_plot
from benchmarks.processes import ROOT, child

if TYPE_CHECKING:
    from sdplay.engine import Engine

SIDE, PICTURES, WARM, STEPS_OF_A_RUN = 128, 8, 2, 60
ERRS = 0.15
"""How far above 1 an exponent may be measured of what is linear."""


@dataclass(frozen=True)
class Curve:
    """What grows with what."""

    name: str
    across: str
    up: str
    points: list[tuple[float, float]]

    @property
    def line(self) -> str:
        """A row of the table."""
        values = ", ".join(f"{x:g}: {y:.3g}" for x, y in self.points)
        verdict = "worse than linear" if last_exponent(self.points) > 1 + ERRS else "at most linear"
        return f"| {self.up} against {self.across} | {values} | {exponent(self.points):.2f} | {last_exponent(self.points):.2f} {verdict} |"


def main() -> None:
    """Measure, print a table, write plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the plots go")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--only", default="", choices=["", "batch", "pixels", "rank", "pictures", "runs"])
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    print("| | measured | exponent | between the two largest |\n|---|---|---|---|")
    curves = []
    for curve in measured(arguments.only, small=arguments.small):
        curves.append(curve)
        print(curve.line, flush=True)
        log_plot(arguments.folder / f"{curve.name}.png", curve.up, across=curve.across, points=curve.points)
    if arguments.json:
        arguments.json.write_text(json.dumps({curve.name: curve.points for curve in curves}, indent=1) + "\n")


def measured(only: str, *, small: bool) -> Iterator[Curve]:
    """Curve after curve."""
    steps = WARM + (3 if small else 8)
    grids: dict[str, tuple[list[int], Callable[[int], dict[str, object]]]] = {
        "batch": ([1, 2, 4] if small else [1, 2, 4, 8, 16], lambda value: {"batch_size": value}),
        "pixels": ([64, 128] if small else [64, 128, 192, 256], lambda value: {"resolution": value, "batch_size": 2}),
        "rank": ([4, 32] if small else [2, 8, 32, 128], lambda value: {"rank": value, "alpha": value}),
    }
    with working() as (engine, folder):
        dataset = engine.datasets.create([pictures_in(folder / "pictures", PICTURES)]).id
        for name, (values, changes) in grids.items():
            if only in ("", name):
                seconds = [step_seconds(engine, dataset, steps, changes(value)) for value in values]
                points = [(value**2 if name == "pixels" else value, found) for value, found in zip(values, seconds, strict=True)]
                yield Curve(f"step-{name}", name, "Seconds of a step", points)
    counts = [10, 40] if small else [10, 100, 1000]
    if only in ("", "pictures"):
        yield from caching(counts)
    if only in ("", "runs"):
        yield from listing(counts)


@contextmanager
def working() -> Iterator[tuple[Engine, Path]]:
    """An engine over an empty workspace, and a folder beside it."""
    from sdplay.engine import Engine
    from sdplay.workspace import open_workspace

    with tempfile.TemporaryDirectory(prefix="sdplay-growth-", ignore_cleanup_errors=True) as name:
        engine = Engine(open_workspace(Path(name) / "home"))
        try:
            yield engine, Path(name)
        finally:
            engine.close()


def pictures_in(folder: Path, count: int) -> Path:
    """Smooth random pictures, all different."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for index in range(count):
        small = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        small.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / f"{index:04d}.png")
    return folder


def settings(dataset: str, steps: int, changes: dict[str, object]) -> dict[str, object]:
    """Training and nothing beside it."""
    return {
        "dataset": dataset, "token": "sks", "steps": steps, "warmup_steps": 0, "batch_size": 4, "rank": 8, "alpha": 8, "sample_every": 0,
        "sample_prompts": [], "validate_every": 0, "validation_share": 0.0, "checkpoint_every": 5000, **changes,
    }  # fmt: skip


def step_seconds(engine: Engine, dataset: str, steps: int, changes: dict[str, object]) -> float:
    """Median of a short run's steps, the first ones left out."""
    from sdplay.events import Step

    run = engine.run(engine.submit(settings(dataset, steps, changes)))
    state = engine.wait(run.id)
    assert state.status == "finished", f"{state.message} {state.hint}"
    return statistics.median([event.seconds for event in run.events() if isinstance(event, Step)][WARM:])


def caching(counts: list[int]) -> Iterator[Curve]:
    """Each count in a process of its own, because memory is that of a whole process."""
    found = [(count, child("benchmarks.growth_work", "cache", str(count))) for count in counts]
    for name, up in (("seconds", "Seconds of caching"), ("memory_mb", "Memory above the start, MB")):
        yield Curve(f"cache-{name}", "pictures", up, [(count, float(str(facts[name]))) for count, facts in found])


def listing(counts: list[int]) -> Iterator[Curve]:
    """The command, and what the page asks for when it opens and every second after."""
    command, opened, tick = [], [], []
    with working() as (engine, folder):
        first = example_run(engine, folder)
    for count in counts:
        with tempfile.TemporaryDirectory(prefix="sdplay-growth-") as name:
            copy_runs(first, Path(name) / "runs", count)
            facts = child("benchmarks.growth_work", "page", name)
            opened.append((count, float(str(facts["first"]))))
            tick.append((count, float(str(facts["tick"]))))
            command.append((count, statistics.median(runs_command(name) for _ in range(3))))
    shutil.rmtree(first.parent)
    yield Curve("runs-command", "runs", "Seconds of `sdplay runs`", command)
    yield Curve("runs-opened", "runs", "Seconds until the page lists them", opened)
    yield Curve("runs-tick", "runs", "Seconds of the page's look each second", tick)


def example_run(engine: Engine, folder: Path) -> Path:
    """A trained run, kept outside of the engine's workspace."""
    dataset = engine.datasets.create([pictures_in(folder / "pictures", 2)]).id
    run = engine.run(engine.submit(settings(dataset, STEPS_OF_A_RUN, {"batch_size": 1, "rank": 2, "alpha": 2})))
    assert engine.wait(run.id).status == "finished"
    while run.is_held():
        time.sleep(0.05)
    kept = Path(tempfile.mkdtemp(prefix="sdplay-growth-run-")) / run.id
    shutil.copytree(run.folder, kept)
    return kept


def copy_runs(first: Path, folder: Path, count: int) -> None:
    """The same run many times, without its large files."""
    for index in range(count):
        ignore = shutil.ignore_patterns("*.safetensors", "*.pt", "lock")
        shutil.copytree(first, folder / f"20260101-{index:06d}-copy-{index}", ignore=ignore)


def runs_command(home: str) -> float:
    """Seconds of the program from start to end."""
    started = time.perf_counter()
    environment = {**os.environ, "SDPLAY_HOME": home}
    subprocess.run([sys.executable, "-m", "sdplay", "runs"], env=environment, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


if __name__ == "__main__":
    from sdplay.quiet import quiet_environment

    quiet_environment()
    main()
