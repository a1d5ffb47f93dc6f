"""The command line, as a person or a program uses it."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from sdplay.cli import build_parser, main
from tests.data.test_data_health import scene

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDPLAY_HOME", str(tmp_path / "home"))


def train(base: Path, pictures: Path, *more: str) -> list[str]:
    quick = [
        "steps=4",
        "batch_size=2",
        "warmup_steps=1",
        "checkpoint_every=2",
        "sample_every=0",
        "sample_steps=2",
        "sample_prompts=[a ball]",
    ]
    settings = [word for text in quick for word in ("--set", text)]
    return ["train", "--images", str(pictures), "--base", str(base), "--token", "ohwx", "--name", "balls", *settings, *more]


def test_the_main_job_by_hand(tiny_base: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(train(tiny_base, pictures, "--json")) == 0
    trained = json.loads(capsys.readouterr().out)
    assert (trained["status"], trained["step"], trained["checkpoints"]) == ("finished", 4, [2, 4])

    assert main(["runs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["id"] == trained["id"]

    assert main(["show", "balls", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["steps"] == 4

    drawing = ["--steps", "2", "--base", str(tiny_base)]
    assert main(["generate", "--prompt", "dog", "--adapter", "balls:0.5", "-n", "2", "-o", str(tmp_path / "drawn"), *drawing]) == 0
    assert len(list((tmp_path / "drawn").glob("*.png"))) == 2

    (tmp_path / "prompts.txt").write_text("dog\n# a comment\na ball\n")
    columns = "base,balls@2,balls"
    out = tmp_path / "grid"
    assert (
        main(["compare", "--columns", columns, "--prompts", str(tmp_path / "prompts.txt"), "--seeds", "1,2", "-o", str(out), *drawing]) == 0
    )
    assert {"grid.png", "index.html", "comparison.json"} <= {path.name for path in out.iterdir()}
    assert len(list((out / "cells").iterdir())) == 3 * 2 * 2

    assert main(["export", "balls@2", "-o", str(tmp_path / "half.safetensors")]) == 0
    assert (tmp_path / "half.safetensors").stat().st_size > 1000


def test_words_that_the_base_was_never_shown_are_told_beside_the_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "--prompt", "fox, skech style", "--steps", "1", "-o", str(tmp_path)]) == 0

    told = capsys.readouterr()
    assert told.out.split() == [str(tmp_path / "fox-skech-style-s1.png")]
    assert "mini was never shown 'skech'" in told.err
    assert "Did you mean 'sketch'?" in told.err


def test_check_reports_without_keeping_anything(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(pictures), "--json"]) == 0

    report = json.loads(capsys.readouterr().out)
    assert len(report["pictures"]) == 6
    assert main(["runs"]) == 0
    assert "No runs yet" in capsys.readouterr().out


def test_check_looks_at_the_pixels_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene(1).save(tmp_path / "a.png")
    scene(1).resize((160, 160)).save(tmp_path / "smaller.png")

    assert main(["check", str(tmp_path)]) == 0

    assert "nearly the same" in capsys.readouterr().out


def _empty_zip(folder: Path) -> Path:
    zipfile.ZipFile(folder / "empty.zip", "w").close()
    return folder / "empty.zip"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train"], "what to learn from"),
        (["train", "--images", "/nowhere/at/all"], "nowhere"),
        (["train", "--images", "{pictures}", "--preset", "magic"], "no training preset 'magic'"),
        (["train", "--images", "{pictures}", "--set", "learning_rate=nan"], "Learning rate"),
        (["train", "--images", "{pictures}", "--set", "stpes=3"], "Did you mean 'steps'"),
        (["train", "--images", "{pictures}", "--config", "missing.yaml"], "cannot be read"),
        (["train", "--images", "{pictures}", "--prompts", "nope"], "no prompt set"),
        (["train", "--images", "{zip}"], "zip"),
        (["resume", "nothing"], "no run"),
        (["stop", "nothing"], "no run"),
        (["show", "last"], "no run yet"),
        (["export", "base", "-o", "x.safetensors"], "no adapter"),
        (["generate", "--prompt", "x", "--adapter", "missing.safetensors"], "no file"),
        (["generate", "--prompt", "x", "--adapter", "base", "--steps", "0"], "Denoising steps"),
        (["compare", "--columns", "base", "--prompts", "missing.txt"], "no file 'missing.txt'"),
        (["compare", "--columns", "base,base", "--prompts", "x"], "twice"),
        (["compare", "--columns", "base", "--prompts", "x", "--seeds", "a"], "Seeds"),
    ],
)
def test_a_mistake_gets_a_sentence(
    arguments: list[str], says: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled = [text.format(pictures=pictures, zip=_empty_zip(tmp_path)) for text in arguments]

    assert main(filled) == 1

    said = capsys.readouterr().err
    assert says in said
    assert said.startswith("sdplay: ")
    assert "Traceback" not in said
    assert list((tmp_path / "home").glob("runs/*")) == []


def _process(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sdplay", *arguments], cwd=ROOT, text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )


def _wait_for_step(home: Path, step: int) -> str:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for path in home.glob("runs/*/events.jsonl"):
            if b'"step":%d,' % step in path.read_bytes():
                return path.parent.name
        time.sleep(0.05)
    raise AssertionError("the run did not start")


@pytest.mark.slow
def test_a_killed_process_is_seen_as_interrupted_and_resumes(
    tiny_base: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process = _process(train(tiny_base, pictures, "--set", "steps=3000"))
    run_id = _wait_for_step(tmp_path / "home", 5)
    process.send_signal(signal.SIGKILL)
    process.wait()

    assert main(["show", run_id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "interrupted"


@pytest.mark.slow
def test_a_polite_kill_keeps_what_was_learned(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    process = _process(train(tiny_base, pictures, "--set", "steps=9000"))
    run_id = _wait_for_step(tmp_path / "home", 3)

    process.send_signal(signal.SIGTERM)

    output, _ = process.communicate(timeout=60)
    assert f"{run_id} stopped" in output
    assert list((tmp_path / "home" / "runs" / run_id / "out").glob("*.safetensors"))


@pytest.mark.slow
def test_stop_from_another_process_keeps_what_was_learned(tiny_base: Path, pictures: Path, tmp_path: Path) -> None:
    process = _process(train(tiny_base, pictures, "--set", "steps=9000"))
    run_id = _wait_for_step(tmp_path / "home", 3)

    assert main(["stop", run_id]) == 0

    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert f"{run_id} stopped" in output
    assert list((tmp_path / "home" / "runs" / run_id / "out").glob("*.safetensors"))


@pytest.mark.parametrize(
    ("set_by_the_user", "said"),
    [
        ({}, "GOMP_SPINCOUNT = '4000'"),
        ({"GOMP_SPINCOUNT": "77"}, "GOMP_SPINCOUNT = '77'"),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, "GOMP_SPINCOUNT = '0'"),
    ],
)
def test_a_thread_that_waits_gives_its_core_away(set_by_the_user: dict[str, str], said: str, tmp_path: Path) -> None:
    code = "from sdplay.cli import main; main(['runs']); import torch"
    ours = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    environment = {**ours, "SDPLAY_HOME": str(tmp_path), "OMP_DISPLAY_ENV": "VERBOSE", **set_by_the_user}
    told = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True).stderr
    if "GOMP_SPINCOUNT" not in told:
        pytest.skip("torch has another OpenMP than GNU's here")
    assert said in told


def test_listing_runs_loads_neither_torch_nor_what_else_takes_long() -> None:
    code = "import sys; from sdplay.cli import main; main(['runs']); print(*sys.modules)"

    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ}, check=True, capture_output=True, text=True).stdout

    assert "sdplay.history" in loaded.split()
    assert not {"torch", "numpy", "sdplay.engine", "sdplay.config", "sdplay.exports"} & set(loaded.split())


@pytest.mark.parametrize("command", ["generate", "compare", "animate", "bundle", "plan"])
def test_a_command_knows_all_its_options(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    def told(parser: argparse.ArgumentParser) -> str:
        with pytest.raises(SystemExit):
            parser.parse_args([command, "--help"])
        return capsys.readouterr().out

    assert told(build_parser(command)) == told(build_parser())
    assert len(told(build_parser())) > 300
