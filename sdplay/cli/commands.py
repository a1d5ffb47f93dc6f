"""What each command does. What needs torch is imported when it is asked for."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from sdplay.errors import ConfigError, SdplayError
from sdplay.progress import watch_comparison, watch_run
from sdplay.ui.views.text import megabytes
from sdplay.workspace import open_workspace

if TYPE_CHECKING:
    from sdplay.engine import Engine
    from sdplay.events import RunState

EXIT_FAILED = 1
DEMO_SAMPLE, DEMO_PRESET, DEMO_PROMPTS = "fxemoji-style", "style", 6


def do_demo(arguments: argparse.Namespace) -> int:
    """Sample data set -> LoRA -> grid of base, half-way and result."""
    from sdplay.cli.values import composed
    from sdplay.prompt_sets import PromptSet
    from sdplay.templates import Values, expand_one

    started = time.monotonic()
    engine = _engine()
    sample = engine.samples()[DEMO_SAMPLE]
    dataset = engine.sample_dataset(DEMO_SAMPLE)
    print(f"Data set: {sample.title}, {len(dataset.examples)} pictures.")
    prompt_set: PromptSet = engine.prompt_set(sample.prompt_set)
    changes = {"dataset": dataset.id, "token": sample.token, "class_word": sample.class_word}
    run_id = engine.submit(composed(arguments.preset, prompt_set.name, changes, engine), name="demo")
    state = watch_run(engine, run_id)
    if state.status != "finished":
        return EXIT_FAILED
    prompts = [expand_one(text, Values(token=sample.token, style=sample.token), 0) for text in prompt_set.prompts("compare")[:DEMO_PROMPTS]]
    columns = ["base", f"{run_id}@{state.checkpoints[0]}", run_id] if len(state.checkpoints) > 1 else ["base", run_id]
    comparison_id = engine.compare({"columns": columns, "prompts": prompts, "seeds": [1, 2], "drawing": {"guidance_scale": 3.0}})
    folder = _finished_comparison(engine, comparison_id, arguments.out)
    print(f"Done in {time.monotonic() - started:.0f} s. The grid: {folder / 'grid.png'}")
    return 0


def do_check(arguments: argparse.Namespace) -> int:
    """Import the source, report, and forget it again."""
    from sdplay.data.health import Advice, examined

    engine = _engine()
    dataset = engine.datasets.create(arguments.path)
    try:
        lines = examined(dataset, Advice(engine.base_size("mini")))
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
    engine, values = _asked_for(arguments)
    run_id = engine.submit(values, name=arguments.name)
    return _report_end(engine, run_id, watch_run(engine, run_id, quiet=arguments.json), as_json=arguments.json)


def _asked_for(arguments: argparse.Namespace) -> tuple[Engine, dict[str, object]]:
    """The settings of a training, its pictures imported."""
    from sdplay.cli.values import train_values
    from sdplay.presets import AUTO

    if bool(arguments.images) == bool(arguments.dataset) and (arguments.images or not arguments.like):
        raise ConfigError("Say what to learn from.", "Give --images PATH, --dataset ID or --like RUN.")
    engine = _engine()
    values = train_values(arguments, engine) if arguments.preset != AUTO else {}
    dataset_id = arguments.dataset or ""
    if arguments.images:
        dataset = engine.datasets.create(arguments.images, name=arguments.name)
        for entry in dataset.skipped:
            print(f"skipped {entry.name}: {entry.reason}", file=sys.stderr)
        dataset_id = dataset.id
    values = values or train_values(arguments, engine, dataset_id)
    if dataset_id:  # else it is that of the run whose settings these are
        values["dataset"] = dataset_id
    class_folder = Path(str(values.get("prior_dataset") or "")).expanduser()
    if class_folder.name and class_folder.is_dir():
        values["prior_dataset"] = engine.datasets.create([class_folder]).id
    return engine, values


def do_plan(arguments: argparse.Namespace) -> int:
    """Print the plan, and whether it fits where the GPU's memory is known."""
    from dataclasses import asdict

    from sdplay.cli.values import train_values
    from sdplay.device import best_device, free_bytes

    engine = _engine()
    plan = engine.plan(train_values(arguments, engine), precision=arguments.precision)
    free = free_bytes(best_device())
    if arguments.json:
        _print_json({**asdict(plan), "total": plan.total, "free": free})
    else:
        print(plan.sentence, plan.disk.sentence, *([] if free is None else [plan.verdict(free)]), sep="\n")
    return 0


def do_advise(arguments: argparse.Namespace) -> int:
    """Import the pictures, say what suits them and why, and forget them again."""
    engine = _engine()
    dataset = engine.datasets.create(arguments.path)
    try:
        advice = engine.advise(dataset.id, base_model=arguments.base, class_word=arguments.class_word)
    finally:
        engine.datasets.delete(dataset.id)
    if arguments.json:
        reasons = [{"about": reason.about, "text": reason.text} for reason in advice.reasons]
        _print_json({"kind": advice.kind, "prompts": advice.prompt_set, "config": dict(advice.values), "reasons": reasons})
        return 0
    for reason in advice.reasons:
        print(f"{reason.about}: {reason.text}")
    print("As settings: " + " ".join(f"--set {key}={value}" for key, value in advice.values.items()))
    return 0


def do_estimate(arguments: argparse.Namespace) -> int:
    """Train the first steps, print what the whole would take."""
    from dataclasses import asdict

    engine, values = _asked_for(arguments)
    estimate = engine.estimate(values, hardware=arguments.hardware)
    if arguments.json:
        _print_json(asdict(estimate))
    else:
        print(estimate.sentence)
    engine.close()
    return 0


def do_resume(arguments: argparse.Namespace) -> int:
    """Resume and watch."""
    engine = _engine()
    run_id = engine.resume(arguments.run)
    return _report_end(engine, run_id, watch_run(engine, run_id, quiet=arguments.json), as_json=arguments.json)


def do_continue(arguments: argparse.Namespace) -> int:
    """Say what it means for the learning rate, go on, and watch."""
    engine = _engine()
    if not arguments.json:
        print(engine.history.continuation(arguments.run, arguments.steps))
    run_id = engine.continue_run(arguments.run, arguments.steps)
    return _report_end(engine, run_id, watch_run(engine, run_id, quiet=arguments.json), as_json=arguments.json)


def do_stop(arguments: argparse.Namespace) -> int:
    """Ask the process that trains to stop."""
    engine = _engine()
    engine.stop(arguments.run)
    print(f"{engine.run(arguments.run).id} stops at its next step and keeps what it has.")
    return 0


def do_runs(arguments: argparse.Namespace) -> int:
    """One line per run."""
    from sdplay.history import History
    from sdplay.runs import Run

    listed = History(open_workspace(), Run.state).rows()
    rows = [{"id": row.id, "status": row.status, "step": row.step, "steps": row.steps, "loss": row.loss} for row in listed]
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
    from dataclasses import asdict

    from sdplay.estimate import read_estimate
    from sdplay.runs import open_run

    run = open_run(open_workspace().runs, arguments.run)
    state = run.state()
    facts = _facts(run.id, state)
    facts["settings"] = run.settings
    facts["folder"] = str(run.folder)
    facts |= {name: asdict(found) for name in ("estimate", "outcome") if (found := read_estimate(run.folder / f"{name}.json"))}
    if arguments.json:
        _print_json(facts)
    else:
        print(yaml.safe_dump(facts, sort_keys=False, allow_unicode=True), end="")
    return 0


def do_generate(arguments: argparse.Namespace) -> int:
    """Draw, print the files."""
    from sdplay.cli.drawing import generate_values

    engine = _engine()
    drawn = engine.draw_pictures(generate_values(arguments), folder=arguments.out)
    _tell_strangers(engine, arguments.base, [arguments.adapter], [arguments.prompt])
    if arguments.json:
        _print_json([{"file": str(picture.path), "prompt": picture.prompt, "seed": picture.seed} for picture in drawn])
    else:
        print("\n".join(str(picture.path) for picture in drawn))
    engine.close()
    return 0


def do_animate(arguments: argparse.Namespace) -> int:
    """Draw the frames, print the files."""
    from sdplay.cli.drawing import animate_values

    engine = _engine()
    print(*engine.animate(animate_values(arguments), arguments.out), sep="\n")
    engine.close()
    return 0


def do_compare(arguments: argparse.Namespace) -> int:
    """Draw a grid, print its folder."""
    from sdplay.axes import parse_axes, parse_numbers
    from sdplay.cli.drawing import drawing_values
    from sdplay.cli.values import axis_text
    from sdplay.prompt_sets import prompts_from

    engine = _engine()
    values = {
        "base_model": arguments.base,
        "columns": [column for column in arguments.columns.split(",") if column.strip()],
        "prompts": prompts_from(arguments.prompts),
        "seeds": parse_numbers(arguments.seeds, "Seeds", whole=True),
        "drawing": drawing_values(arguments),
        "axes": parse_axes(dict(axis_text(text) for text in arguments.axis)),
    }
    comparison_id = engine.compare(values)
    _tell_strangers(engine, arguments.base, values["columns"], values["prompts"])
    folder = _finished_comparison(engine, comparison_id, arguments.out, quiet=arguments.json)
    if arguments.json:
        _print_json({"id": comparison_id, "folder": str(folder)})
    else:
        print(folder / "grid.png")
    engine.close()
    return 0


def _tell_strangers(engine: Engine, base_model: str, columns: Sequence[str], prompts: Sequence[str]) -> None:
    """Say on stderr which words the base was never shown."""
    for one in engine.known_words.strangers(base_model, columns, prompts):
        near = f" Did you mean {one.near!r}?" if one.near else ""
        print(f"{base_model} was never shown {one.word!r}; it passes over the word, or draws shapes of no meaning.{near}", file=sys.stderr)


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
