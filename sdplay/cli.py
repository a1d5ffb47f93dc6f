"""The command line: argv -> Engine. Progress bars on a terminal, plain lines in a log, JSON where a program reads."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import yaml

from sdplay import __version__
from sdplay.config import GenerateConfig, parse_assignment
from sdplay.errors import ConfigError, SdplayError
from sdplay.progress import watch_comparison, watch_run
from sdplay.quiet import quiet_environment
from sdplay.ui.views.text import megabytes
from sdplay.workspace import open_workspace

if TYPE_CHECKING:
    from sdplay.engine import Engine
    from sdplay.events import RunState

EXIT_FAILED, EXIT_STOPPED = 1, 130
DEMO_SAMPLE, DEMO_PRESET, DEMO_PROMPTS = "fxemoji-style", "style", 6


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0, or 1 with a sentence on stderr."""
    arguments = build_parser().parse_args(argv)
    quiet_environment()
    logging.getLogger("sdplay").addHandler(logging.NullHandler())
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)
    try:
        return arguments.do(arguments)
    except SdplayError as error:
        print(f"sdplay: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_STOPPED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    """A polite kill is what Ctrl-C is: stop, keep what was learned."""
    raise KeyboardInterrupt


def build_parser() -> argparse.ArgumentParser:
    """Every command and option."""
    parser = argparse.ArgumentParser(prog="sdplay", description="Teach Stable Diffusion a subject or a style, and see what it learned.")
    parser.add_argument("--version", action="version", version=f"sdplay {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, do: Callable[[argparse.Namespace], int], text: str, *, json_too: bool = False) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(do=do)
        if json_too:
            made.add_argument("--json", action="store_true", help="print JSON")
        return made

    demo = command("demo", do_demo, "the whole main job on a sample data set, ending in a comparison")
    demo.add_argument("--out", type=Path, help="copy the comparison into this folder")
    demo.add_argument("--preset", default=DEMO_PRESET, help=f"training preset (default: {DEMO_PRESET})")
    check = command("check", do_check, "say what training would see of a folder, zip or other source", json_too=True)
    check.add_argument("path", nargs="+")
    _add_train(command("train", do_train, "teach a base model your pictures", json_too=True))
    _add_plan(command("plan", do_plan, "the memory that a training would take on a card", json_too=True))
    resume = command("resume", do_resume, "let a run go on from its newest checkpoint", json_too=True)
    resume.add_argument("run")
    stop = command("stop", do_stop, "stop a run; what it has learned is kept")
    stop.add_argument("run")
    command("runs", do_runs, "list all runs", json_too=True)
    show = command("show", do_show, "everything about a run", json_too=True)
    show.add_argument("run")
    _add_generate(command("generate", do_generate, "draw pictures", json_too=True))
    _add_compare(command("compare", do_compare, "draw a grid: columns x prompts x seeds", json_too=True))
    command("bases", do_bases, "list the base models that are offered, with size and licence", json_too=True)
    export = command("export", do_export, "write what a run learned as a .safetensors file for other programs")
    export.add_argument("run", help="RUN, RUN@STEP or FILE; with --merge also RUN:0.8+FILE:0.5")
    export.add_argument("-o", "--out", type=Path, required=True, help="file or folder")
    export.add_argument("--format", choices=("diffusers", "kohya"), default="diffusers", help="kohya: for A1111 and ComfyUI")
    export.add_argument("--merge", action="store_true", help="write the whole base model with it: a folder, or one .safetensors")
    export.add_argument("--base", default="", help="base model to merge a FILE into")
    inspect = command("inspect", do_inspect, "what an adapter file is, and what is wrong with it", json_too=True)
    inspect.add_argument("file", type=Path)
    serve = command("serve", do_serve, "open the web page")
    serve.add_argument("--share", action="store_true", help="open a public link, behind a password")
    serve.add_argument("--host", default=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"))
    serve.add_argument("--port", type=int, default=int(os.environ.get("GRADIO_SERVER_PORT", "7860")))
    serve.add_argument("--password", help="ask visitors for it (user name: sdplay)")
    return parser


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", nargs="+", metavar="PATH", help="pictures: folder, files, zip, CSV, Hub data set id")
    parser.add_argument("--dataset", help="a data set's id, instead of --images")
    parser.add_argument("--token", help="trigger word")
    parser.add_argument("--class", dest="class_word", help="what kind of thing it is: dog, vase")
    parser.add_argument("--name", default="", help="name of the run")
    _add_settings(parser)


def _add_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--precision", choices=("bfloat16", "float32"), help="bfloat16: as on a GPU (default: as this machine computes)")
    parser.set_defaults(dataset=None, token=None, class_word=None)
    _add_settings(parser)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", default="style", help="training preset, such as quick, style, subject, sd15 (default: style)")
    parser.add_argument("--prompts", metavar="SET", help="prompt set (default: the preset's own)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file of settings")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings", help="one setting; may be repeated")
    parser.add_argument("--base", help="mini, a Hub id, a folder or a .safetensors checkpoint (default: mini); see `sdplay bases`")


def _add_generate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--adapter", default="base", metavar="RUN|FILE[:STRENGTH]")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-n", type=int, default=1, dest="count", help="how many, with seeds counting up")
    parser.add_argument("-o", "--out", type=Path, help="folder (default: in the workspace)")
    _add_drawing(parser)


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--columns", required=True, help="base,RUN@50,RUN,FILE:0.8 ...")
    parser.add_argument("--prompts", required=True, nargs="+", metavar="FILE|TEXT", help="prompts, or files with one on each line")
    parser.add_argument("--seeds", default="1", help="1,2,3 or 1..8 (default: 1)")
    what = "what else changes: strength=0.2..1:0.2, checkpoint=50,100, style=-|ink"
    parser.add_argument("--axis", action="append", default=[], metavar="NAME=VALUES", help=what)
    parser.add_argument("-o", "--out", type=Path, help="copy the comparison into this folder")
    _add_drawing(parser)


def _add_drawing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base", default="mini", help="base model (default: mini)")
    parser.add_argument("--steps", type=int, default=GenerateConfig().steps)
    parser.add_argument("--guidance", type=float, default=GenerateConfig().guidance_scale)
    parser.add_argument("--negative", default="")


def do_demo(arguments: argparse.Namespace) -> int:
    """Sample data set -> LoRA -> grid of base, half-way and result."""
    from sdplay.prompt_sets import PromptSet
    from sdplay.templates import Values, expand_one

    started = time.monotonic()
    engine = _engine()
    sample = engine.samples()[DEMO_SAMPLE]
    dataset = engine.sample_dataset(DEMO_SAMPLE)
    print(f"Data set: {sample.title}, {len(dataset.examples)} pictures.")
    prompt_set: PromptSet = engine.prompt_set(sample.prompt_set)
    changes = {"dataset": dataset.id, "token": sample.token, "class_word": sample.class_word}
    run_id = engine.submit(_composed(arguments.preset, prompt_set.name, changes, engine), name="demo")
    state = watch_run(engine, run_id)
    if state.status != "finished":
        return EXIT_FAILED
    prompts = [expand_one(text, Values(token=sample.token, style=sample.token), 0) for text in prompt_set.sample[:DEMO_PROMPTS]]
    columns = ["base", f"{run_id}@{state.checkpoints[0]}", run_id] if len(state.checkpoints) > 1 else ["base", run_id]
    comparison_id = engine.compare({"columns": columns, "prompts": prompts, "seeds": [1, 2], "drawing": {"guidance_scale": 3.0}})
    folder = _finished_comparison(engine, comparison_id, arguments.out)
    print(f"Done in {time.monotonic() - started:.0f} s. The grid: {folder / 'grid.png'}")
    return 0


def do_check(arguments: argparse.Namespace) -> int:
    """Import the source, report, and forget it again."""
    from sdplay.data import report

    engine = _engine()
    dataset = engine.datasets.create(arguments.path)
    try:
        lines = report(dataset, resolution_px=engine.base_size("mini"))
        if arguments.json:
            pictures = [
                {"source": e.source, "caption": e.caption, "width": e.width, "height": e.height, "notes": e.notes} for e in dataset.examples
            ]
            skipped = [{"name": entry.name, "reason": entry.reason} for entry in dataset.skipped]
            findings = [{"level": line.level, "text": line.text, "hint": line.hint} for line in lines]
            _print_json({"pictures": pictures, "skipped": skipped, "report": findings})
            return 0
        for example in dataset.examples:
            print(f"  {example.source}  {example.width} x {example.height}  {example.caption or '(no caption)'}")
        for entry in dataset.skipped:
            print(f"  skipped {entry.name}: {entry.reason}")
        for line in lines:
            print(f"{line.level}: {line.text} {line.hint}".rstrip())
    finally:
        engine.datasets.delete(dataset.id)
    return 0


def do_train(arguments: argparse.Namespace) -> int:
    """Import pictures if asked, submit, and watch."""
    if bool(arguments.images) == bool(arguments.dataset):
        raise ConfigError("Say what to learn from.", "Give either --images PATH or --dataset ID.")
    engine = _engine()
    values = _train_values(arguments, engine)
    if arguments.images:
        dataset = engine.datasets.create(arguments.images, name=arguments.name)
        for entry in dataset.skipped:
            print(f"skipped {entry.name}: {entry.reason}", file=sys.stderr)
        values["dataset"] = dataset.id
    class_folder = Path(str(values.get("prior_dataset") or "")).expanduser()
    if class_folder.name and class_folder.is_dir():
        values["prior_dataset"] = engine.datasets.create([class_folder]).id
    run_id = engine.submit(values, name=arguments.name)
    return _report_end(engine, run_id, watch_run(engine, run_id, quiet=arguments.json), as_json=arguments.json)


def do_plan(arguments: argparse.Namespace) -> int:
    """Print the plan, and whether it fits where the GPU's memory is known."""
    from dataclasses import asdict

    from sdplay.device import best_device, free_bytes

    engine = _engine()
    plan = engine.plan(_train_values(arguments, engine), precision=arguments.precision)
    free = free_bytes(best_device())
    if arguments.json:
        _print_json({**asdict(plan), "total": plan.total, "free": free})
    else:
        print(plan.sentence, *([] if free is None else [plan.verdict(free)]), sep="\n")
    return 0


def do_resume(arguments: argparse.Namespace) -> int:
    """Resume and watch."""
    engine = _engine()
    run_id = engine.resume(arguments.run)
    return _report_end(engine, run_id, watch_run(engine, run_id, quiet=arguments.json), as_json=arguments.json)


def do_stop(arguments: argparse.Namespace) -> int:
    """Ask the process that trains to stop."""
    engine = _engine()
    engine.stop(arguments.run)
    print(f"{engine.run(arguments.run).id} stops at its next step and keeps what it has.")
    return 0


def do_runs(arguments: argparse.Namespace) -> int:
    """One line per run."""
    from sdplay.runs import list_runs

    rows = []
    for run in list_runs(open_workspace().runs):
        state = run.state()
        loss = state.losses[-1].loss if state.losses else None
        rows.append({"id": run.id, "status": state.status, "step": state.step, "steps": state.steps, "loss": loss})
    if arguments.json:
        _print_json(rows)
        return 0
    for row in rows:
        loss_text = "" if row["loss"] is None else f"loss {row['loss']:.4f}"
        print(f"{row['id']:48} {row['status']:12} {row['step']}/{row['steps']}  {loss_text}".rstrip())
    if not rows:
        print("No runs yet. `sdplay demo` makes one.")
    return 0


def do_show(arguments: argparse.Namespace) -> int:
    """Settings, state and files of a run."""
    from sdplay.runs import open_run

    run = open_run(open_workspace().runs, arguments.run)
    state = run.state()
    facts = _facts(run.id, state)
    facts["settings"] = run.settings
    facts["folder"] = str(run.folder)
    if arguments.json:
        _print_json(facts)
    else:
        print(yaml.safe_dump(facts, sort_keys=False, allow_unicode=True), end="")
    return 0


def do_generate(arguments: argparse.Namespace) -> int:
    """Draw, print the files."""
    engine = _engine()
    seeds = [arguments.seed + index for index in range(arguments.count)]
    drawn = engine.draw(
        [arguments.prompt], seeds, _drawing(arguments), adapter=arguments.adapter, base_model=arguments.base, folder=arguments.out
    )
    if arguments.json:
        _print_json([{"file": str(picture.path), "prompt": picture.prompt, "seed": picture.seed} for picture in drawn])
    else:
        print("\n".join(str(picture.path) for picture in drawn))
    engine.close()
    return 0


def do_compare(arguments: argparse.Namespace) -> int:
    """Draw a grid, print its folder."""
    from sdplay.axes import parse_axes, parse_numbers
    from sdplay.prompt_sets import prompts_from

    engine = _engine()
    values = {
        "base_model": arguments.base,
        "columns": [column for column in arguments.columns.split(",") if column.strip()],
        "prompts": prompts_from(arguments.prompts),
        "seeds": parse_numbers(arguments.seeds, "Seeds", whole=True),
        "drawing": _drawing(arguments),
        "axes": parse_axes(dict(_axis(text) for text in arguments.axis)),
    }
    comparison_id = engine.compare(values)
    folder = _finished_comparison(engine, comparison_id, arguments.out, quiet=arguments.json)
    if arguments.json:
        _print_json({"id": comparison_id, "folder": str(folder)})
    else:
        print(folder / "grid.png")
    engine.close()
    return 0


def do_bases(arguments: argparse.Namespace) -> int:
    """One line per base, with what it takes."""
    from sdplay.bases import load_bases

    bases = load_bases().values()
    if arguments.json:
        _print_json([base.model_dump(mode="json") for base in bases])
        return 0
    for base in bases:
        print(f"{base.id:50} {base.facts}")
    return 0


def do_export(arguments: argparse.Namespace) -> int:
    """Write the file, print where and how large."""
    engine = _engine()
    if arguments.merge:
        path = engine.export_merged(arguments.run, arguments.out, base_model=arguments.base)
    else:
        path = engine.export(arguments.run, arguments.out, layout=arguments.format)
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    print(f"{path} ({megabytes(sum(file.stat().st_size for file in files))})")
    engine.close()
    return 0


def do_inspect(arguments: argparse.Namespace) -> int:
    """Print the report. 1 when the file cannot be used."""
    from dataclasses import asdict

    from sdplay.formats import report_lines

    report = _engine().inspect(arguments.file)
    if arguments.json:
        _print_json(asdict(report))
    else:
        print("\n".join(report_lines(report)))
    return 0 if report.methods else EXIT_FAILED


def do_serve(arguments: argparse.Namespace) -> int:
    """Open the page until it is interrupted."""
    from sdplay.ui.app import serve

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    engine = _engine()
    try:
        serve(engine, host=arguments.host, port=arguments.port, share=arguments.share, password=arguments.password)
    finally:
        engine.close()
    return 0


def _engine() -> Engine:
    from sdplay.engine import Engine

    return Engine(open_workspace())


def _train_values(arguments: argparse.Namespace, engine: Engine) -> dict[str, object]:
    """Preset, prompt set, file and --set, in this order; the later wins."""
    changes: dict[str, object] = {}
    if arguments.config:
        changes.update(_read_config(arguments.config))
    named = {"dataset": arguments.dataset, "token": arguments.token, "class_word": arguments.class_word, "base_model": arguments.base}
    changes.update({key: value for key, value in named.items() if value is not None})
    changes.update(dict(parse_assignment(text) for text in arguments.settings))
    return _composed(arguments.preset, arguments.prompts, changes, engine)


def _composed(preset_name: str, prompt_set_name: str | None, changes: Mapping[str, object], engine: Engine) -> dict[str, object]:
    from sdplay.presets import compose_training, training_preset

    preset = training_preset(preset_name)
    chosen = prompt_set_name or preset.prompt_set_for(str(changes.get("base_model", "mini")))
    return compose_training(preset, engine.prompt_set(chosen), changes)


def _read_config(path: Path) -> dict[str, object]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.", "It must be a YAML file of settings.") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds no settings.", "Write one `key: value` per line.")
    settings = values.get("config", values)  # a run's config.yaml may be given as it is
    return {str(key): value for key, value in settings.items()}


def _drawing(arguments: argparse.Namespace) -> dict[str, object]:
    return {"steps": arguments.steps, "guidance_scale": arguments.guidance, "negative_prompt": arguments.negative}


def _report_end(engine: Engine, run_id: str, state: RunState, *, as_json: bool) -> int:
    folder = engine.run(run_id).folder
    if as_json:
        _print_json(_facts(run_id, state))
    elif state.status == "failed":
        print(f"sdplay: {state.message} {state.hint}\nThe full report: {folder / 'log.txt'}", file=sys.stderr)
    else:
        print(f"{run_id} {state.status} at step {state.step}.")
        for artifact in state.artifacts:
            print(f"{folder / artifact.file} ({megabytes(artifact.num_bytes)})")
    engine.close()
    return 0 if state.status in ("finished", "stopped") else EXIT_FAILED


def _facts(run_id: str, state: RunState) -> dict[str, object]:
    return {
        "id": run_id,
        "status": state.status,
        "step": state.step,
        "steps": state.steps,
        "submitted": datetime.fromtimestamp(state.submitted_at).isoformat(timespec="seconds"),
        "device": state.device,
        "loss": state.losses[-1].loss if state.losses else None,
        "validation_loss": state.validations[-1].loss if state.validations else None,
        "checkpoints": list(state.checkpoints),
        "samples": [file for entry in state.samples for file in entry.files],
        "artifacts": [artifact.model_dump(mode="json", exclude={"time", "event"}) for artifact in state.artifacts],
        "message": state.message,
        "hint": state.hint,
    }


def _axis(text: str) -> tuple[str, str]:
    name, equals, values = text.partition("=")
    if not equals:
        raise ConfigError(f"--axis {text!r} is not NAME=VALUES.", "Write it like --axis strength=0.2..1:0.2.")
    return name.strip(), values


def _finished_comparison(engine: Engine, comparison_id: str, out: Path | None, *, quiet: bool = False) -> Path:
    """Wait for a comparison; copy it to `out` if given. Raises SdplayError when it failed."""
    import shutil

    comparison = watch_comparison(engine, comparison_id, quiet=quiet)
    if comparison.status != "finished":
        raise SdplayError(comparison.message or f"The comparison is {comparison.status}.")
    if comparison.message:
        print(comparison.message, file=sys.stderr)
    folder = engine.comparison_folder(comparison_id)
    if out is None:
        return folder
    shutil.copytree(folder, out, dirs_exist_ok=True)
    return out


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False))
