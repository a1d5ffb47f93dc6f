"""Kill -9 a training run at random moments, resume it, and see whether it ends in the same bits.

`python benchmarks/crash.py --kills 20` trains one run undisturbed, then as many that are each killed once, at a moment
drawn evenly over the life of the process, and resumed by a new process.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "presets" / "samples" / "fxemoji-style"


def main() -> None:
    """Print one line per kill and the score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        whole = _finish(_train_command(arguments.steps), Path(folder) / "whole")
        lifetime = time.monotonic() - started
        print(f"undisturbed: {lifetime:.1f} s, adapter {whole['sha256'][:12]}", flush=True)
        equal = 0
        for number in range(arguments.kills):
            home = Path(folder) / f"kill-{number}"
            moment = chance.uniform(0, lifetime)
            killed_at = _kill_after(_train_command(arguments.steps), home, moment)
            found = _finish(["resume", "last"] if killed_at is not None else _train_command(arguments.steps), home)
            same = found["status"] == "finished" and found["sha256"] == whole["sha256"]
            equal += same
            print(f"kill {number + 1}: after {moment:.1f} s, at step {killed_at}: {'bit-equal' if same else 'DIFFERENT'}", flush=True)
        print(f"{equal} of {arguments.kills} resumed to bit-equal weights")
    raise SystemExit(equal != arguments.kills)


def _train_command(steps: int) -> list[str]:
    settings = [f"steps={steps}", "checkpoint_every=10", "sample_every=0", "sample_prompts=[]", "validate_every=0"]
    return [
        "train",
        "--images",
        str(SAMPLE),
        "--preset",
        "quick",
        "--name",
        "crash",
        *(word for text in settings for word in ("--set", text)),
    ]


def _finish(command: list[str], home: Path) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "sdplay", *command, "--json"], cwd=ROOT, env=_environment(home), capture_output=True, text=True, check=False
    )
    if done.returncode:
        return {"status": done.stderr.strip()[-300:], "sha256": ""}
    facts = json.loads(done.stdout)
    return {"status": facts["status"], "sha256": _weights_digest(home)}


def _weights_digest(home: Path) -> str:
    """sha256 over the tensors alone: the header of the file holds nothing that differs, but the tensors are what counts."""
    import hashlib

    from safetensors.torch import load_file

    weights = load_file(next(iter(sorted(home.glob("runs/*/out/*.safetensors")))))
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + weights[name].numpy().tobytes())
    return digest.hexdigest()


def _kill_after(command: list[str], home: Path, seconds: float) -> int | None:
    """Step the run had reached when it was killed; None when it had not been made yet, or had ended before."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sdplay", *command], cwd=ROOT, env=_environment(home), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()
    listed = subprocess.run(
        [sys.executable, "-m", "sdplay", "runs", "--json"], cwd=ROOT, env=_environment(home), capture_output=True, check=True
    )
    runs = json.loads(listed.stdout)
    return runs[0]["step"] if runs and runs[0]["status"] != "finished" else None


def _environment(home: Path) -> dict[str, str]:
    return {**os.environ, "SDPLAY_HOME": str(home), "HF_HUB_OFFLINE": "1"}


if __name__ == "__main__":
    main()
