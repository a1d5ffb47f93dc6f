"""What benchmarks/speed.py has done, each in a process of its own: `python -m benchmarks.speed_work WHAT ...` prints JSON."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks.processes import Watched, events_of, shimmed, watch

ROOT = Path(__file__).resolve().parent.parent
MINI_FOLDER = ROOT / "presets" / "mini"
SAMPLE = ROOT / "presets" / "samples" / "fxemoji-style"
TOKEN, PROMPT = "fxemoji", "fxemoji style"
RANK, GPU_PICTURES, TIMES = 8, 16, 30
GRID_PROMPTS, GRID_SEEDS = ("rocket, fxemoji style", "a house, fxemoji style", "a red apple, fxemoji style"), (1, 2)
GRID_STEPS, GRID_GUIDANCE = 20, 3.0
METHOD_FLAGS = {
    "textual_inversion": {"method": "textual_inversion", "vectors": 1, "initial": ""},
    "dreambooth": {"method": "dreambooth", "prior": "none"},
}


@dataclass(frozen=True)
class Work:
    """What is trained."""

    title: str
    base: str
    """mini, or a layout of sdplay/single_file.py, which then gets random weights."""
    method: str
    size: int
    batch_size: int
    precision: str = "bfloat16"


def ours(entry: Work, base: Path, pictures: Path, folder: Path, *, steps: int) -> dict[str, object]:
    """The command line as a user runs it, in an empty workspace. Samples and validation are off, as they are in the peer."""
    home = folder / "home"
    method = METHOD_FLAGS.get(entry.method, {"method": "lora", "kind": "lora", "targets": "attention", "rank": RANK, "alpha": RANK})
    settings = {
        **method, "steps": steps, "batch_size": entry.batch_size, "resolution": entry.size, "learning_rate": 1e-4, "warmup_steps": 0,
        "sample_prompts": [], "sample_every": 0, "validate_every": 0, "validation_share": 0.0, "checkpoint_every": 5000,
        "caption_dropout": 0.0, "caption_templates": ["{token} style"], "lr_schedule": "constant",
    }  # fmt: skip
    config = folder / "ours.yaml"
    config.write_text(yaml.safe_dump(settings))
    source = "mini" if entry.base == "mini" else str(base)
    arguments = ["train", "--images", str(pictures), "--preset", "quick", "--config", str(config), "--base", source, "--token", TOKEN]
    command = shimmed(sys.executable, "module", "sdplay", *arguments)
    return facts(watch(command, env={"SDPLAY_HOME": str(home), "HF_HUB_OFFLINE": "1"}, steps=events_of(home)))


def peer(entry: Work, base: Path, pictures: Path, folder: Path, *, steps: int, script: Path | None, python: str) -> dict[str, object]:  # noqa: PLR0913
    """diffusers' example script on the same pictures, base, batch and precision."""
    if script is None:
        return {"absent": "not given; see --peer-script and --peer-folder"}
    if not script.is_file() or not Path(shutil.which(python) or "").is_file():
        return {"absent": f"{script if not script.is_file() else python} is not there"}
    flags: dict[str, object] = {
        "pretrained_model_name_or_path": base, "output_dir": folder / "peer", "resolution": entry.size,
        "train_batch_size": entry.batch_size, "max_train_steps": steps, "learning_rate": 1e-4, "lr_scheduler": "constant",
        "lr_warmup_steps": 0, "checkpointing_steps": 10**6, "seed": 0,
        "mixed_precision": "no" if entry.precision == "float32" else "bf16",
    }  # fmt: skip
    if entry.method == "textual_inversion":
        flags |= {"train_data_dir": pictures, "placeholder_token": "<sks>", "initializer_token": "dog", "learnable_property": "style"}
    else:
        flags |= {"instance_data_dir": pictures, "instance_prompt": PROMPT}
    if entry.method == "lora":
        flags["rank"] = RANK
    command = shimmed(python, "script", str(script), *(text for key, value in flags.items() for text in (f"--{key}", str(value))))
    return facts(watch(command, env={"HF_HUB_OFFLINE": "1", "WANDB_DISABLED": "true"}))


def facts(seen: Watched) -> dict[str, object]:
    """As the table shows them."""
    if seen.error:
        return {"error": seen.error, "seconds": seen.seconds}
    pace = seen.step_seconds
    return {
        "seconds": round(seen.seconds, 2),
        "first_step_seconds": seen.first_step_seconds and round(seen.first_step_seconds, 2),
        "steps_per_second": pace and round(1 / pace, 3),
        "memory_mb": round(seen.memory_mb, 1),
    }


def write_pictures(folder: Path, entry: Work) -> Path:
    """The style sample for the embedded model, smooth random pictures of the right size for others; nothing else in the folder."""
    folder.mkdir()
    if entry.base == "mini":
        for path in sorted(SAMPLE.glob("*.png")):
            shutil.copyfile(path, folder / path.name)
        return folder
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    for index in range(GPU_PICTURES):
        small = Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        small.resize((entry.size, entry.size), Image.Resampling.BICUBIC).save(folder / f"{index:02d}.png")
    return folder


# ---- in processes of their own


def rate() -> dict[str, object]:
    """Floating-point operations per second of large matrix products, the best of some, on the device that trains."""
    import torch

    from sdplay.device import best_device

    device = best_device()
    found: dict[str, object] = {"device": device.label}
    side = 8192 if device.kind == "cuda" else 2048
    for name in ("float32", *(("bfloat16",) if device.kind == "cuda" else ())):
        one = torch.randn(side, side, device=device.kind, dtype=getattr(torch, name))

        def multiply(one: torch.Tensor = one) -> None:
            one @ one
            if device.kind == "cuda":
                torch.cuda.synchronize()

        multiply()
        found[name] = 2 * side**3 / min(_seconds(multiply) for _ in range(8))
    return found


def flop(base: str, method: str, size: str, batch_size: str) -> dict[str, object]:
    """Operations of a step: twice a prediction's where the weights are frozen, three times where they learn."""
    return {"step_flop": (3 if method == "dreambooth" else 2) * forward_flop(base, int(size), int(batch_size))}


def picture_flop() -> dict[str, object]:
    """Of one picture with guidance; the autoencoder's are left out."""
    return {"picture_flop": 2 * GRID_STEPS * forward_flop("mini", 128, 1)}


def forward_flop(base: str, size: int, batch_size: int) -> int:
    """Of one prediction for a batch."""
    from sdplay import footprint, hub, single_file
    from sdplay.families import family

    with tempfile.TemporaryDirectory() as folder:
        if base == "mini":
            found = hub.find_base("mini")
        else:
            chosen = single_file.layouts()[base]
            single_file.write_layout(base, Path(folder), chosen["scheduler"])
            found = hub.Base(base, Path(folder), str(chosen["family"]), "")
        network = family(found.family)
        parts = footprint.without_numbers(found, network, "float32")
        return footprint.forward_flop(parts, network, footprint.MicroBatch(batch_size, size, bfloat16=False))


def random_base(layout: str, folder: str) -> dict[str, object]:
    """A base of true size with random weights, in diffusers' layout, float16 on disk."""
    import diffusers
    import torch
    import transformers

    from sdplay import single_file

    target = Path(folder)
    single_file.write_layout(layout, target, single_file.layouts()[layout]["scheduler"])
    index = json.loads((target / "model_index.json").read_text())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    for name, kind in index.items():
        config = target / name / "config.json"
        if not config.is_file():
            continue
        with torch.device(device):
            if kind[0] == "diffusers":
                made = getattr(diffusers, kind[1]).from_config(json.loads(config.read_text()))
            else:
                encoder = getattr(transformers, kind[1])
                made = encoder(encoder.config_class.from_dict(json.loads(config.read_text())))
        made.to(torch.float16).save_pretrained(target / name)
    return {"folder": folder}


def adapter(folder: str) -> dict[str, object]:
    """Two LoRAs of a few steps for the grid's columns."""
    from sdplay.presets import compose_training, training_preset

    engine = _engine(folder)
    dataset = engine.sample_dataset("fxemoji-style")
    for number in (1, 2):
        changes = {
            "dataset": dataset.id, "token": TOKEN, "steps": 8, "warmup_steps": 0, "seed": number, "sample_prompts": [], "validate_every": 0,
        }  # fmt: skip
        run_id = engine.submit(compose_training(training_preset("quick"), engine.prompt_set("mini-style"), changes), name=f"grid-{number}")
        state = engine.wait(run_id)
        assert state.status == "finished", state.message
        engine.export(run_id, Path(folder) / f"grid-{number}.safetensors")
    engine.close()
    return {"adapters": 2}


def columns(folder: str) -> list[tuple[str, float]]:
    """The grid's columns: adapter file, empty for the base alone, and strength."""
    first, second = (str(Path(folder) / f"grid-{number}.safetensors") for number in (1, 2))
    return [("", 1.0), (first, 1.0), (first, 0.5), (second, 1.0)]


def grid_ours(folder: str) -> dict[str, object]:
    """A comparison through the engine, files and grid picture written."""
    engine = _engine(folder)
    drawing = {"steps": GRID_STEPS, "guidance_scale": GRID_GUIDANCE}
    engine.draw(["warm-up"], [1], drawing)
    named = [f"{path}:{strength:g}" if path else "base" for path, strength in columns(folder)]
    started = time.perf_counter()
    grid_id = engine.compare({"columns": named, "prompts": list(GRID_PROMPTS), "seeds": list(GRID_SEEDS), "drawing": drawing})
    while not (grid := engine.comparison(grid_id)).ended:
        time.sleep(0.02)
    seconds = time.perf_counter() - started
    assert grid.status == "finished", grid.message
    engine.close()
    return {"seconds": round(seconds, 2), "pictures_per_second": round(len(grid.cells) / seconds, 3)}


def grid_plain(folder: str) -> dict[str, object]:
    """A plain loop: for every column its adapter, for every prompt and seed one call of diffusers' pipeline, one file."""
    import torch
    from diffusers import StableDiffusionPipeline

    from sdplay.quiet import quiet_libraries

    quiet_libraries()
    pipeline = StableDiffusionPipeline.from_pretrained(MINI_FOLDER, safety_checker=None, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    more = {"num_inference_steps": GRID_STEPS, "guidance_scale": GRID_GUIDANCE}
    pipeline("warm-up", **more)
    target = Path(folder) / "plain"
    target.mkdir(exist_ok=True)
    started, count = time.perf_counter(), 0
    for path, strength in columns(folder):
        if path:
            pipeline.load_lora_weights(Path(path).parent, weight_name=Path(path).name, adapter_name="one")
            pipeline.set_adapters("one", strength)
        for prompt in GRID_PROMPTS:
            for seed in GRID_SEEDS:
                noise = torch.randn((1, pipeline.unet.config.in_channels, 16, 16), generator=torch.Generator().manual_seed(seed))
                pipeline(prompt, latents=noise, **more).images[0].save(target / f"{count:02d}.png")
                count += 1
        if path:
            pipeline.unload_lora_weights()
    seconds = time.perf_counter() - started
    return {"seconds": round(seconds, 2), "pictures_per_second": round(count / seconds, 3)}


def _engine(folder: str) -> "Engine":  # noqa: F821, UP037  imported when needed
    from sdplay.engine import Engine
    from sdplay.workspace import open_workspace

    return Engine(open_workspace(Path(folder) / "home"))


def _seconds(do: Callable[[], object]) -> float:
    started = time.perf_counter()
    do()
    return time.perf_counter() - started


TASKS: dict[str, Callable[..., dict[str, object]]] = {
    "rate": rate, "flop": flop, "picture-flop": picture_flop, "base": random_base, "adapter": adapter, "grid-ours": grid_ours,
    "grid-plain": grid_plain,
}  # fmt: skip

if __name__ == "__main__":
    from sdplay.quiet import quiet_environment

    quiet_environment()
    print(json.dumps(TASKS[sys.argv[1]](*sys.argv[2:])))
