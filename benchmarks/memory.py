"""What training takes on a card, by base and method, and the operations of a step: `python -m benchmarks.memory`.

Computed from configs of true size; no weights, no GPU; arithmetic in bfloat16. Prints a table in Markdown; JSON with --json FILE.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from sdplay import footprint, single_file
from sdplay.families import family
from sdplay.hub import Base
from sdplay.methods import parse_train_config
from sdplay.plan import memory_plan
from sdplay.quiet import quiet_environment, quiet_libraries

ROWS = (("Stable Diffusion 1.5", "sd15", 512, 1), ("Stable Diffusion 1.5", "sd15", 512, 4), ("Stable Diffusion 2.1", "sd2", 768, 1),
        ("Stable Diffusion XL", "sdxl", 1024, 1), ("Stable Diffusion 3 Medium", "sd3-medium", 1024, 1))  # fmt: skip
COLUMNS: dict[str, dict[str, object]] = {
    "LoRA rank 8": {"method": "lora", "rank": 8},
    "LoRA, gradient checkpointing": {"method": "lora", "rank": 8, "gradient_checkpointing": "on"},
    "full, AdamW": {"method": "dreambooth"},
    "full, AdamW, gradient checkpointing": {"method": "dreambooth", "gradient_checkpointing": "on"},
}


def main() -> None:
    """Print and write every plan."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", help="a layout: sd15, sd2, sdxl, sd3-medium")
    arguments = parser.parse_args()
    quiet_environment()
    quiet_libraries()
    print(f"| GB | {' | '.join(COLUMNS)} | forward, TFLOP | floor of a LoRA step, TFLOP |\n|---|{'---|' * (len(COLUMNS) + 2)}")
    measured = []
    for title, layout, size, batch_size in ROWS:
        if arguments.only in (None, layout):
            row = measure(title, layout, size, batch_size)
            measured.append(row)
            print(markdown(row), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(measured, indent=1) + "\n")


def measure(title: str, layout: str, size: int, batch_size: int) -> dict[str, object]:
    """Every plan of a row, in bytes, and its operations."""
    shared = {"resolution": size, "batch_size": batch_size}
    with tempfile.TemporaryDirectory() as folder:
        chosen = single_file.layouts()[layout]
        single_file.write_layout(layout, Path(folder), chosen["scheduler"])
        base = Base(title, Path(folder), str(chosen["family"]), "")
        plans = {name: memory_plan(base, parse_train_config({**shared, **values}), "bfloat16") for name, values in COLUMNS.items()}
        network = family(base.family)
        parts = footprint.without_numbers(base, network, "float32")
        flop = footprint.forward_flop(parts, network, footprint.MicroBatch(batch_size, size, bfloat16=False))
    return {
        "base": title,
        "size": size,
        "batch_size": batch_size,
        "plans": {name: {**asdict(plan), "total": plan.total} for name, plan in plans.items()},
        "forward_flop": flop,
        "lora_step_flop": 2 * flop,  # forward, and backward to the activations; frozen weights take no gradient
    }


def markdown(row: dict[str, object]) -> str:
    """One line of the table: total, and in brackets the base's weights + what a step holds."""
    cells = [_cell(plan) for plan in row["plans"].values()]  # type: ignore[attr-defined]
    flops = [f"{float(str(row[key])) / 1e12:.2f}" for key in ("forward_flop", "lora_step_flop")]
    return f"| {row['base']}, {row['size']} px, batch {row['batch_size']} | {' | '.join([*cells, *flops])} |"


def _cell(plan: dict[str, object]) -> str:
    frozen = sum(plan["frozen"].values())  # type: ignore[attr-defined]
    return f"{plan['total'] / 1e9:.1f} ({frozen / 1e9:.1f} + {plan['step'] / 1e9:.1f})"  # type: ignore[operator]


if __name__ == "__main__":
    main()
