"""The figures the main job is held to, measured on this machine: `make bench`.

Prints a table and writes JSON beside itself when `--json FILE` is given. Nothing else should be running.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from sdplay.engine import Engine
from sdplay.presets import compose_training, training_preset
from sdplay.quiet import quiet_environment, quiet_libraries
from sdplay.workspace import PRESETS, open_workspace

ROOT = Path(__file__).resolve().parent.parent
PROMPT, SEED, STEPS, GUIDANCE = "rocket, fxemoji style", 3, 20, 5.0


def main() -> None:
    """Train once, draw, compare with plain diffusers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--train-steps", type=int, default=60)
    arguments = parser.parse_args()
    quiet_environment()
    quiet_libraries()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), arguments.train_steps)
    for name, value in figures.items():
        print(f"{name:58} {value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


def measure(folder: Path, train_steps: int) -> dict[str, float]:
    """Every figure by its name."""
    engine = Engine(open_workspace(folder))
    preset, prompts = training_preset("style"), engine.prompt_set("mini-style")
    dataset = engine.sample_dataset("fxemoji-style")
    changes = {
        "dataset": dataset.id, "token": "fxemoji", "steps": train_steps, "sample_prompts": [], "batch_size": 4, "validate_every": 0,
        "targets": "attention",
    }  # fmt: skip
    run_id = engine.submit(compose_training(preset, prompts, changes), name="bench")
    state = engine.wait(run_id)
    assert state.status == "finished", state.message
    path = engine.export(run_id, folder / "bench.safetensors")
    ours = _draw(engine, str(path))
    plain = plain_diffusers(path)
    base_ours, base_plain = _draw(engine, "base"), plain_diffusers(None)
    zero = _draw(engine, f"{path}:0")
    figures = {
        "LoRA step, batch 4, median (s)": round(statistics.median(step.seconds for step in state.losses[5:]), 4),
        f"one picture, {STEPS} steps with guidance, median of 5 (s)": round(_picture_seconds(engine), 3),
        "the same by a plain diffusers pipeline (s)": round(_plain_picture_seconds(), 3),
        "export: largest difference to plain diffusers (of 255)": int(abs(ours - plain).max()),
        "base: largest difference to plain diffusers (of 255)": int(abs(base_ours - base_plain).max()),
        "strength 0: largest difference to the base (of 255)": int(abs(zero - base_ours).max()),
        "adapter file (MB)": round(path.stat().st_size / 2**20, 3),
        "`sdplay runs` (s)": round(_seconds_of([sys.executable, "-m", "sdplay", "runs"]), 2),
    }
    engine.close()
    return figures


def plain_diffusers(adapter: Path | None) -> np.ndarray:
    """(H, W, 3) integers: the same picture, drawn by diffusers alone."""
    pipeline = _plain_pipeline(adapter)
    return (pipeline(**_plain_arguments(pipeline)).images[0] * 255).round().astype(int)


def _plain_pipeline(adapter: Path | None) -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(PRESETS / "mini", safety_checker=None, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    if adapter:
        pipeline.load_lora_weights(adapter.parent, weight_name=adapter.name)
    return pipeline


def _plain_arguments(pipeline: StableDiffusionPipeline) -> dict[str, object]:
    noise = torch.randn((1, pipeline.unet.config.in_channels, 16, 16), generator=torch.Generator().manual_seed(SEED))
    return {"prompt": PROMPT, "latents": noise, "num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "output_type": "np"}


def _draw(engine: Engine, adapter: str) -> np.ndarray:
    drawn = engine.draw([PROMPT], [SEED], {"steps": STEPS, "guidance_scale": GUIDANCE}, adapter=adapter)
    return np.asarray(Image.open(drawn[0].path)).astype(int)


def _picture_seconds(engine: Engine) -> float:
    return statistics.median(_timed(lambda: _draw(engine, "base")) for _ in range(5))


def _plain_picture_seconds() -> float:
    pipeline = _plain_pipeline(None)
    return statistics.median(_timed(lambda: pipeline(**_plain_arguments(pipeline))) for _ in range(5))


def _timed(do: object) -> float:
    started = time.perf_counter()
    do()  # type: ignore[operator]
    return time.perf_counter() - started


def _seconds_of(command: list[str]) -> float:
    return statistics.median(_timed(lambda: subprocess.run(command, check=True, capture_output=True, cwd=ROOT)) for _ in range(3))


if __name__ == "__main__":
    main()
