"""Every command and option."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from sdplay import __version__
from sdplay.cli import commands as run
from sdplay.cli import experiment
from sdplay.cli.run_commands import Add, add_run_commands


def build_parser(wanted: str = "") -> argparse.ArgumentParser:
    """Every command and option. wanted: the one command that will be run; of others whose options take long to tell it has the names."""
    parser = argparse.ArgumentParser(prog="sdplay", description="Teach Stable Diffusion a subject or a style, and see what it learned.")
    parser.add_argument("--version", action="version", version=f"sdplay {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, do: Callable[[argparse.Namespace], int], text: str, *, json_too: bool = False) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(do=do)
        if json_too:
            made.add_argument("--json", action="store_true", help="print JSON")
        return made

    demo = command("demo", run.do_demo, "the whole main job on a sample data set, ending in a comparison")
    demo.add_argument("--out", type=Path, help="copy the comparison into this folder")
    demo.add_argument("--preset", default=run.DEMO_PRESET, help=f"training preset (default: {run.DEMO_PRESET})")
    check = command("check", run.do_check, "say what training would see of a folder, zip or other source", json_too=True)
    check.add_argument("path", nargs="+")
    _add_advise(command("advise", run.do_advise, "settings that suit your pictures and this machine, with reasons", json_too=True))
    _add_train(command("train", run.do_train, "teach a base model your pictures", json_too=True))
    _add_plan(command("plan", run.do_plan, "the memory that a training would take on a card", json_too=True))
    _add_estimate(command("estimate", run.do_estimate, "what a run would take: time, memory, disk, price", json_too=True))
    command("resume", run.do_resume, "let a run go on from its newest checkpoint", json_too=True).add_argument("run")
    _add_continue(command("continue", run.do_continue, "let a run that has ended go on for more steps", json_too=True))
    command("stop", run.do_stop, "stop a run; what it has learned is kept").add_argument("run")
    command("runs", run.do_runs, "list all runs", json_too=True)
    command("show", run.do_show, "everything about a run", json_too=True).add_argument("run")
    add_run_commands(command, wanted)
    _add_drawing_commands(command, wanted)
    experiment.add_arguments(
        command("experiment", experiment.do_experiment, "trainings that differ in one thing, and their comparison", json_too=True)
    )
    command("bases", run.do_bases, "list the base models that are offered, with size and licence", json_too=True)
    export = command("export", run.do_export, "write what a run learned as a .safetensors file for other programs")
    export.add_argument("run", help="RUN, RUN@STEP or FILE; with --merge also RUN:0.8+FILE:0.5")
    export.add_argument("-o", "--out", type=Path, required=True, help="file or folder")
    export.add_argument("--format", choices=("diffusers", "kohya"), default="diffusers", help="kohya: for A1111 and ComfyUI")
    export.add_argument("--merge", action="store_true", help="write the whole base model with it: a folder, or one .safetensors")
    export.add_argument("--base", default="", help="base model to merge a FILE into")
    inspect = command("inspect", run.do_inspect, "what an adapter file is, and what is wrong with it", json_too=True)
    inspect.add_argument("file", type=Path)
    serve = command("serve", run.do_serve, "open the web page")
    serve.add_argument("--share", action="store_true", help="open a public link, behind a password")
    serve.add_argument("--host", default=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"))
    serve.add_argument("--port", type=int, default=int(os.environ.get("GRADIO_SERVER_PORT", "7860")))
    serve.add_argument("--password", help="ask visitors for it (user name: sdplay)")
    return parser


def _add_advise(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", nargs="+", help="folder, files, zip, CSV, Hub data set id")
    parser.add_argument("--base", default="mini", help="base model (default: mini)")
    parser.add_argument("--class", dest="class_word", default="", help="what kind of thing it is, if it is one: dog, vase")


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", nargs="+", metavar="PATH", help="pictures: folder, files, zip, CSV, Hub data set id")
    parser.add_argument("--dataset", help="a data set's id, instead of --images")
    parser.add_argument("--like", metavar="RUN", help="a run whose settings and data set to begin with")
    parser.add_argument("--token", help="trigger word")
    parser.add_argument("--class", dest="class_word", help="what kind of thing it is: dog, vase")
    parser.add_argument("--name", default="", help="name of the run")
    _add_settings(parser)


def _add_estimate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--hardware", default="", help="a Space's hardware, such as t4-small, for the price")
    _add_train(parser)


def _add_continue(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run")
    parser.add_argument("--steps", type=int, required=True, help="how many more")


def _add_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--precision", choices=("bfloat16", "float32"), help="bfloat16: as on a GPU (default: as this machine computes)")
    parser.set_defaults(dataset=None, token=None, class_word=None)
    _add_settings(parser)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", default="style", help="training preset, such as auto, quick, style, subject, sd15 (default: style)")
    parser.add_argument("--prompts", metavar="SET", help="prompt set (default: the preset's own)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file of settings")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings", help="one setting; may be repeated")
    parser.add_argument("--base", help="mini, a Hub id, a folder or a .safetensors checkpoint (default: mini); see `sdplay bases`")


def _add_drawing_commands(command: Add, wanted: str) -> None:
    generate = command("generate", run.do_generate, "draw pictures", json_too=True)
    animate = command("animate", run.do_animate, "draw frames from picture to picture, or with a motion adapter, as GIF or MP4")
    compare = command("compare", run.do_compare, "draw a grid: columns x prompts x seeds", json_too=True)
    if wanted not in ("", "generate", "animate", "compare"):
        return
    from sdplay.cli.drawing import add_animate, add_drawing, add_generate

    add_generate(generate)
    add_animate(animate)
    _add_compare(compare)
    add_drawing(compare)


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--columns", required=True, help="base,RUN@50,RUN,FILE:0.8 ...")
    parser.add_argument("--prompts", required=True, nargs="+", metavar="FILE|TEXT", help="prompts, or files with one on each line")
    parser.add_argument("--seeds", default="1", help="1,2,3 or 1..8 (default: 1)")
    what = "what else changes: strength=0.2..1:0.2, checkpoint=50,100, style=-|ink"
    parser.add_argument("--axis", action="append", default=[], metavar="NAME=VALUES", help=what)
    parser.add_argument("-o", "--out", type=Path, help="copy the comparison into this folder")
