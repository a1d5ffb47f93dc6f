"""Estimates held against outcomes: ten short runs of different kinds, each measured first, then trained: `python -m benchmarks.estimates`.

Nothing else should be running. Prints a table, writes JSON with --json FILE.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from sdplay.engine import Engine
from sdplay.estimate import OUTCOME, read_estimate
from sdplay.presets import compose_training, training_preset
from sdplay.quiet import quiet_environment
from sdplay.workspace import open_workspace

WANTED = 0.15
RUNS: dict[str, tuple[str, dict[str, object]]] = {
    "quick, 60 steps": ("quick", {"steps": 60}),
    "quick, 150 steps": ("quick", {"steps": 150}),
    "quick, batch 1": ("quick", {"steps": 100, "batch_size": 1}),
    "quick, batch 8": ("quick", {"steps": 50, "batch_size": 8}),
    "quick, rank 32": ("quick", {"steps": 80, "rank": 32}),
    "style, all layers": ("style", {"steps": 80, "sample_every": 20}),
    "subject, few samples": ("subject", {"steps": 60, "sample_every": 0}),
    "textual inversion": ("textual-inversion", {"steps": 60}),
    "pivotal tuning": ("pivotal", {"steps": 80}),
    "DreamBooth": ("dreambooth", {"steps": 40, "warmup_steps": 5}),
}


def main() -> None:
    """Measure, train, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    quiet_environment()
    rows = []
    print("| run | time, estimate / outcome | error | memory | disk |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(open_workspace(Path(folder)))
        for title, (preset, changes) in RUNS.items():
            if arguments.only in title:
                rows.append(row := measured(engine, title, preset, changes))
                print(
                    f"| {row['run']} | {row['told']:.1f} / {row['took']:.1f} s | {row['error']:+.0%} | {row['memory']} | {row['disk']} |",
                    flush=True,
                )
        engine.close()
    within = sum(abs(float(str(row["error"]))) <= WANTED for row in rows)
    print(f"{within} of {len(rows)} within {WANTED:.0%}.")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


def measured(engine: Engine, title: str, preset: str, changes: dict[str, object]) -> dict[str, object]:
    """One run's estimate and outcome."""
    prompts = engine.prompt_set("mini-style")
    facts = {"dataset": engine.sample_dataset("fxemoji-style").id, "token": "fxemoji", "class_word": "icon", **changes}
    values = compose_training(training_preset(preset), prompts, facts)
    told = engine.estimate(values)
    run = engine.run(engine.submit(values, name=title))
    engine.wait(run.id)
    while run.is_held():
        time.sleep(0.05)
    took = read_estimate(run.folder / OUTCOME)
    assert took is not None, run.state().message
    return {
        "run": title, "told": told.seconds, "took": took.seconds, "error": told.seconds / took.seconds - 1,
        "memory": _shares(told.peak_bytes, took.peak_bytes), "disk": _shares(told.disk_bytes, took.disk_bytes),
    }  # fmt: skip


def _shares(told: int | None, took: int | None) -> str:
    return f"{told / 1e6:.0f} / {took / 1e6:.0f} MB" if told and took else "not told here"


if __name__ == "__main__":
    main()
