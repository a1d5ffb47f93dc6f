"""Ours against peers, in one run and on one machine, on the same work: `python -m benchmarks.speed`, or all of it with `make bench`.

    python -m benchmarks.speed --peer-script .../examples/dreambooth/train_dreambooth_lora.py --peer-python .../bin/python
    python -m benchmarks.speed --gpu --peer-folder .../examples --peer-python .../bin/python

Training: program start to program end, model load and saving included. Grid: 6 rows x 4 columns against a plain loop over diffusers'
pipeline. The limit is the operations that the work needs over this machine's measured rate of matrix products; a LoRA step needs two
predictions' worth, because frozen weights take no gradient, a full one three. Peers run as programs of their own, in their own
environment; their code is no part of this project, and a row says so when it is not there. Nothing else should be running.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

from benchmarks import speed_work as work
from benchmarks.processes import child

SCRIPTS = {
    "lora": "dreambooth/train_dreambooth_lora.py",
    "lora-sdxl": "dreambooth/train_dreambooth_lora_sdxl.py",
    "lora-sd3": "dreambooth/train_dreambooth_lora_sd3.py",
    "dreambooth": "dreambooth/train_dreambooth.py",
    "textual_inversion": "textual_inversion/textual_inversion.py",
}
MINI = work.Work("embedded model, LoRA, 128 px, batch 4", "mini", "lora", size=128, batch_size=4, precision="float32")
GPU = (
    work.Work("SD 1.5, LoRA, 512 px, batch 1", "sd15", "lora", size=512, batch_size=1),
    work.Work("SD 1.5, LoRA, 512 px, batch 4", "sd15", "lora", size=512, batch_size=4),
    work.Work("SDXL, LoRA, 1024 px, batch 1", "sdxl", "lora", size=1024, batch_size=1),
    work.Work("SD 1.5, DreamBooth, 512 px, batch 1", "sd15", "dreambooth", size=512, batch_size=1),
    work.Work("SD 1.5, textual inversion, 512 px, batch 1", "sd15", "textual_inversion", size=512, batch_size=1),
    work.Work("SD 3 Medium, LoRA, 1024 px, batch 1", "sd3-medium", "lora", size=1024, batch_size=1),
)


def main() -> None:
    """Measure, print tables, write JSON."""
    arguments = parse_arguments()
    figures: dict[str, object] = {"machine": machine()}
    if figures["machine"]["load"] > 0.5:  # type: ignore[index]
        print(f"Warning: the load of this machine is {figures['machine']['load']:.1f}; figures will be off.", file=sys.stderr)  # type: ignore[index]
    rates = child("benchmarks.speed_work", "rate")
    figures["rate"] = rates
    rows = [measured(entry, arguments, rates) for entry in (GPU if arguments.gpu else (MINI,)) if arguments.only in entry.title]
    figures["training"] = rows
    print(training_table(rows))
    if not arguments.gpu and arguments.only in "grid":
        figures["grid"] = grid(rates)
        print(grid_table(figures["grid"]))  # type: ignore[arg-type]
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, help="optimiser steps (default: 300, with --gpu 100)")
    parser.add_argument("--peer-script", type=Path, help="diffusers' examples/dreambooth/train_dreambooth_lora.py")
    parser.add_argument("--peer-folder", type=Path, help="diffusers' examples folder, for every row")
    parser.add_argument("--peer-python", default=sys.executable, help="the Python of the peers' environment, which needs torchvision")
    parser.add_argument("--gpu", action="store_true", help="true-size bases with random weights, on a CUDA device")
    parser.add_argument("--only", default="", help="rows whose title contains this; `grid` for the grid alone")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    arguments.steps = arguments.steps or (100 if arguments.gpu else 300)
    return arguments


def measured(entry: work.Work, arguments: argparse.Namespace, rates: dict[str, object]) -> dict[str, object]:
    """One row: ours, the peer's, the limit, and the ratios."""
    with tempfile.TemporaryDirectory(prefix="sdplay-speed-") as name:
        folder = Path(name)
        if entry.base == "mini":
            base = work.MINI_FOLDER
        else:
            base = folder / "base"
            made = child("benchmarks.speed_work", "base", entry.base, str(base))
            if made.get("error"):
                return {"work": entry.title, "error": made["error"]}
        pictures = work.write_pictures(folder / "pictures", entry)
        ours = work.ours(entry, base, pictures, folder, steps=arguments.steps)
        script = peer_script(entry, arguments)
        peer = work.peer(entry, base, pictures, folder, steps=arguments.steps, script=script, python=arguments.peer_python)
        flop = child("benchmarks.speed_work", "flop", entry.base, entry.method, str(entry.size), str(entry.batch_size))
    limit = limit_of(rates.get(entry.precision), flop.get("step_flop"))
    row = {"work": entry.title, "steps": arguments.steps, "ours": ours, "peer": peer, "limit_steps_per_second": limit}
    return {**row, **ratios(ours, peer, limit)}


def limit_of(rate: object, flop: object) -> float | None:
    """How often in a second the work could be done at the measured rate; None when one of them is not known."""
    return float(str(rate)) / float(str(flop)) if rate and flop else None


def peer_script(entry: work.Work, arguments: argparse.Namespace) -> Path | None:
    """Where the peer's program for this work is; None when it was not given."""
    kind = {"sdxl": "lora-sdxl", "sd3-medium": "lora-sd3"}.get(entry.base, entry.method)
    if arguments.peer_script and kind == "lora":
        return Path(arguments.peer_script)
    found = arguments.peer_folder / SCRIPTS[kind] if arguments.peer_folder else None
    return found if found and found.is_file() else None


def ratios(ours: dict[str, object], peer: dict[str, object], limit: float | None) -> dict[str, object]:
    """How many times as fast as the peer, share of its memory, share of the limit; nothing where one of them is missing."""

    def of(name: str) -> float | None:
        mine, other = ours.get(name), peer.get(name)
        return float(mine) / float(other) if mine and other else None  # type: ignore[arg-type]

    wall, memory, speed = of("seconds"), of("memory_mb"), of("steps_per_second")
    own = ours.get("steps_per_second")
    return {
        "end_to_end_times_as_fast": wall and round(1 / wall, 3),
        "steps_times_as_fast": speed and round(speed, 3),
        "memory_share": memory and round(memory, 3),
        "share_of_limit": round(float(own) / limit, 3) if own and limit else None,  # type: ignore[arg-type]
    }


def grid(rates: dict[str, object]) -> dict[str, object]:
    """6 rows x 4 columns of the embedded model, each side in a process of its own, after one warm-up picture."""
    with tempfile.TemporaryDirectory(prefix="sdplay-grid-") as folder:
        trained = child("benchmarks.speed_work", "adapter", folder)
        if trained.get("error"):
            return trained
        ours = child("benchmarks.speed_work", "grid-ours", folder)
        plain = child("benchmarks.speed_work", "grid-plain", folder)
    flop = child("benchmarks.speed_work", "picture-flop")
    limit = limit_of(rates.get("float32"), flop.get("picture_flop"))
    row: dict[str, object] = {"ours": ours, "plain loop": plain, "limit_pictures_per_second": limit}
    if ours.get("pictures_per_second") and plain.get("pictures_per_second"):
        mine = float(ours["pictures_per_second"])  # type: ignore[arg-type]
        row["times_as_fast"] = round(mine / float(plain["pictures_per_second"]), 3)  # type: ignore[arg-type]
        row["share_of_limit"] = round(mine / limit, 3) if limit else None
    return row


def machine() -> dict[str, object]:
    """What the figures hold for."""
    from importlib.metadata import version

    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS", ""),
        "load": os.getloadavg()[0],
        **{name: version(name) for name in ("torch", "diffusers", "peft", "transformers")},
    }


def training_table(rows: list[dict[str, object]]) -> str:
    """Markdown."""
    lines = [
        "| training | | whole run, s | first step, s | steps/s | peak memory, MB | share of the limit |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row.get("error"):
            lines.append(f"| {row['work']} | {row['error']} | | | | | |")
            continue
        for side in ("ours", "peer"):
            facts: dict[str, object] = row[side]  # type: ignore[assignment]
            title = f"{row['work']}, {row['steps']} steps" if side == "ours" else ""
            if facts.get("absent") or facts.get("error"):
                lines.append(f"| {title} | {side}: {facts.get('absent') or facts.get('error')} | | | | | |")
                continue
            share = f"{row['share_of_limit']:.0%}" if side == "ours" and row.get("share_of_limit") else ""
            cells = [_number(facts.get(key)) for key in ("seconds", "first_step_seconds", "steps_per_second", "memory_mb")]
            lines.append(f"| {title} | {side} | {' | '.join(cells)} | {share} |")
        if row.get("end_to_end_times_as_fast"):
            lines.append(
                f"| | ratio | {row['end_to_end_times_as_fast']} times as fast | | {_number(row['steps_times_as_fast'])} | "
                f"{_number(row['memory_share'])} | |"
            )
    return "\n".join(lines)


def grid_table(row: dict[str, object]) -> str:
    """Markdown."""
    lines = ["| 6 x 4 grid | pictures/s | seconds |", "|---|---|---|"]
    for side in ("ours", "plain loop"):
        facts: dict[str, object] = row.get(side, {})  # type: ignore[assignment]
        lines.append(f"| {side} | {facts.get('error') or _number(facts.get('pictures_per_second'))} | {_number(facts.get('seconds'))} |")
    return "\n".join([*lines, f"| ratio | {_number(row.get('times_as_fast'))} | share of the limit {_number(row.get('share_of_limit'))} |"])


def _number(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) and value < 100 else f"{value:.0f}" if isinstance(value, float) else str(value or "")


if __name__ == "__main__":
    main()
