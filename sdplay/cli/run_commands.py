"""The command line for runs that are there: pictures and checkpoints now, more steps, notes, the trash, cards, the library."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from sdplay.errors import ConfigError
from sdplay.ui.views.text import age, megabytes
from sdplay.workspace import open_workspace

if TYPE_CHECKING:
    from sdplay.engine import Engine

Add = Callable[..., argparse.ArgumentParser]


def add_run_commands(command: Add, wanted: str = "") -> None:
    """Add every command of this file. `command` makes a parser from a name, a function and a help text; `wanted`: see `build_parser`."""
    for name, what, text in (
        ("sample-now", "sample", "draw the sample prompts of a run that trains, after its next step"),
        ("save-now", "save", "write a checkpoint of a run that trains, after its next step"),
    ):
        asking = command(name, do_ask, text)
        asking.add_argument("run")
        asking.set_defaults(what=what)
    for name, do, text in (
        ("report", do_report, "what to send in when a run went wrong: no secrets, no paths"),
        ("best", do_best, "which checkpoint of a run to take first, and why"),
        ("delete", do_delete, "move a run into the trash"),
        ("restore", do_restore, "bring a run back from the trash"),
    ):
        command(name, do, text).add_argument("run")
    notes = command("note", do_note, "write a note on a run, or star it")
    notes.add_argument("run")
    notes.add_argument("text", nargs="?")
    notes.add_argument("--star", action=argparse.BooleanOptionalAction)
    differ = command("diff", do_diff, "the settings in which two runs differ", json_too=True)
    differ.add_argument("run")
    differ.add_argument("other")
    trash = command("trash", do_trash, "list the deleted runs, or remove them for good", json_too=True)
    trash.add_argument("--empty", action="store_true", help="remove them for good")
    library = command("adapters", do_adapters, "list the adapters at hand; add a file, or fetch one from the Hub", json_too=True)
    library.add_argument("--add", type=Path, metavar="FILE")
    library.add_argument("--fetch", metavar="OWNER/NAME")
    bundle = command("bundle", do_bundle, "a run's files with a model card and samples, or in another format; push them to the Hub")
    if wanted in ("", "bundle"):
        _add_bundle(bundle)


def _add_bundle(parser: argparse.ArgumentParser) -> None:
    from sdplay.exports import FORMATS

    parser.add_argument("run", help="RUN or FILE; to be merged also RUN:0.8+FILE:0.5")
    parser.add_argument("-o", "--out", type=Path, help="file to write")
    parser.add_argument("--format", choices=tuple(FORMATS), default="bundle")
    parser.add_argument("--push", metavar="OWNER/NAME", help="upload the bundle to the Hub, with HF_TOKEN or after `hf auth login`")
    parser.add_argument("--public", action="store_true", help="with --push: for everybody to see")
    parser.add_argument("--training-pictures", action="store_true", help="show the training pictures in the card")


def do_ask(arguments: argparse.Namespace) -> int:
    """Ask the process that trains."""
    engine = _engine()
    engine.ask_for(arguments.run, arguments.what)
    print("Asked: it comes after the next step.")
    return 0


def do_report(arguments: argparse.Namespace) -> int:
    """Print Markdown."""
    print(_engine().history.report(arguments.run))
    return 0


def do_best(arguments: argparse.Namespace) -> int:
    """Print the column to take, and why."""
    from sdplay.choice import choose

    engine = _engine()
    run = engine.run(arguments.run)
    choice = choose(engine.state(run))
    if choice is None:
        print(f"{run.id} has no checkpoint with scores: samples are drawn and judged at the same steps as checkpoints are written.")
        return 1
    print(f"{run.id}@{choice.step}\n{choice.reason}")
    for rated in choice.rated:
        scores = rated.scores
        print(
            f"step {rated.step:6}  likeness {scores.likeness:5.2f}  agreement {scores.agreement:5.2f}  nearness {scores.nearness:5.2f}  "
            f"held-out {rated.held_out:5.2f}  worth {rated.worth:5.2f}"
        )
    return 0


def do_note(arguments: argparse.Namespace) -> int:
    """Keep it, print what is kept."""
    engine = _engine()
    run = engine.run(arguments.run)
    notes = engine.history.annotate(run, note=arguments.text, star=arguments.star)
    print(f"{'* ' if notes.star else ''}{run.id} {notes.note}".rstrip())
    return 0


def do_diff(arguments: argparse.Namespace) -> int:
    """One line per setting."""
    found = _engine().history.differences(arguments.run, arguments.other)
    if arguments.json:
        _print_json([{"setting": name, "first": first, "second": second} for name, first, second in found])
        return 0
    for name, first, second in found:
        print(f"{name:24} {first}  ->  {second}")
    if not found:
        print("They were given the same settings.")
    return 0


def do_delete(arguments: argparse.Namespace) -> int:
    """Move it."""
    run_id = _engine().delete_run(arguments.run)
    print(f"{run_id} is in the trash; `sdplay restore {run_id}` brings it back.")
    return 0


def do_restore(arguments: argparse.Namespace) -> int:
    """Move it back."""
    print(f"{_engine().history.restore(arguments.run).id} is back.")
    return 0


def do_trash(arguments: argparse.Namespace) -> int:
    """List or empty."""
    history = _engine().history
    if arguments.empty:
        print(f"Removed for good: {megabytes(history.empty_trash())} are free again.")
        return 0
    found = history.trash()
    if arguments.json:
        _print_json([asdict(entry) for entry in found])
        return 0
    for entry in found:
        print(f"{entry.id:48} {megabytes(entry.num_bytes):>10}  {age(entry.deleted_at)}")
    if not found:
        print("The trash is empty.")
    return 0


def do_adapters(arguments: argparse.Namespace) -> int:
    """Add, fetch, list."""
    engine = _engine()
    if arguments.add:
        print(engine.library.add(arguments.add))
    if arguments.fetch:
        print(engine.library.fetch(arguments.fetch))
    if arguments.add or arguments.fetch:
        return 0
    found = engine.library.entries(engine.history.rows())
    if arguments.json:
        _print_json([entry.model_dump() for entry in found])
        return 0
    for entry in found:
        facts = entry.facts
        print(f"{entry.column:48} {entry.origin:5} {facts.method:20} {facts.family:16} {facts.trigger}".rstrip())
    if not found:
        print("No adapters yet. Train one, or add a file with --add.")
    return 0


def do_bundle(arguments: argparse.Namespace) -> int:
    """Write the file, or push."""
    engine = _engine()
    if not arguments.push and not arguments.out:
        raise ConfigError("Say where it should go.", "Give -o FILE, or --push OWNER/NAME.")
    try:
        if arguments.push:
            private, pictures = not arguments.public, arguments.training_pictures
            token = os.environ.get("HF_TOKEN", "")
            print(engine.exports.push(arguments.run, arguments.push, token=token, private=private, with_training_pictures=pictures))
        if arguments.out:
            made = engine.exports.make(arguments.run, arguments.format, with_training_pictures=arguments.training_pictures)
            target = arguments.out / made.name if arguments.out.is_dir() else arguments.out
            shutil.move(made, target)
            print(f"{target} ({megabytes(target.stat().st_size)})")
    finally:
        engine.close()
    return 0


def _engine() -> Engine:
    from sdplay.engine import Engine

    return Engine(open_workspace())


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False, default=str))
