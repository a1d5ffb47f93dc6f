"""Watch a program from outside: when each of its steps came, the most memory it and its children held, how long it took."""

from __future__ import annotations

import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
TICK_SECONDS = 0.05
WARM_STEPS = 3
PEAK = "PEAK_CUDA_BYTES="
SHIM = f"""
import atexit, runpy, sys
def peak():
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        print("{PEAK}%d" % torch.cuda.max_memory_reserved(), file=sys.stderr, flush=True)
atexit.register(peak)
kind, name = sys.argv[1:3]
sys.argv = sys.argv[2:]
if kind == "script":  # example scripts ask for a newer diffusers than the one they run with
    import diffusers.utils
    diffusers.utils.check_min_version = lambda version: None
    runpy.run_path(name, run_name="__main__")
else:
    runpy.run_module(name, run_name="__main__", alter_sys=True)
"""
"""Runs a script or a module as `python` would, and tells at its end what CUDA's allocator held at most."""


@dataclass
class Watched:
    """What was seen of a program. Times are seconds since it was started."""

    seconds: float = 0.0
    memory_mb: float = 0.0
    """CUDA's allocator at its fullest where there is one, else resident memory of all its processes, in MiB."""
    step_times: dict[int, float] = field(default_factory=dict)
    """When each step was told to be done."""
    error: str = ""

    @property
    def first_step_seconds(self) -> float | None:
        """Until the first step was done."""
        return min(self.step_times.values(), default=None)

    @property
    def step_seconds(self) -> float | None:
        """Median time of a step, the first ones left out; None when too few were seen."""
        seen = sorted(self.step_times.items())[WARM_STEPS:]
        gaps = [(after - before) / (later - step) for (step, before), (later, after) in itertools.pairwise(seen)]
        return statistics.median(gaps) if gaps else None


Steps = Callable[[], Mapping[int, float]]
"""Asked when the program has ended: the steps, with seconds since 1970."""


def watch(
    command: Sequence[str], *, env: Mapping[str, str] | None = None, steps: Steps | None = None, limit_seconds: float = 3600
) -> Watched:
    """Run a program to its end. Without `steps`, they are read from tqdm's bar on its stderr. A failure is told in `error`."""
    seen, tail = Watched(), bytearray()
    started, began = time.monotonic(), time.time()
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, env={**os.environ, **(env or {})}, cwd=ROOT)
        reader = threading.Thread(target=_read_bar, args=(process, started, seen, tail), daemon=True)
        reader.start()
        resident = 0
        while process.poll() is None:
            resident = max(resident, _resident_bytes(process.pid))
            if time.monotonic() - started > limit_seconds:
                process.kill()
            time.sleep(TICK_SECONDS)
        seen.seconds = time.monotonic() - started
        reader.join(5)
    text = tail.decode(errors="replace")
    card = re.findall(rf"{PEAK}(\d+)", text)
    seen.memory_mb = (int(card[-1]) if card and int(card[-1]) else resident) / 2**20
    if process.returncode:
        lines = [line for line in text.replace("\r", "\n").splitlines() if line.strip()]
        seen.error = f"ended with {process.returncode}: " + " | ".join(lines[-3:])[-400:]
    if steps is not None:
        seen.step_times = {step: when - began for step, when in steps().items()}
    return seen


def shimmed(python: str, kind: str, name: str, *arguments: str) -> list[str]:
    """The command that runs a `script` or a `module` through the shim."""
    return [python, "-c", SHIM, kind, name, *arguments]


def events_of(home: Path) -> Steps:
    """When the steps of the one run in a workspace were done."""

    def read() -> dict[int, float]:
        found: dict[int, float] = {}
        for path in (home / "runs").glob("*/events.jsonl"):
            for line in path.read_text().splitlines():
                event = json.loads(line)
                if event["event"] == "step":
                    found[event["step"]] = event["time"]
        return found

    return read


def child(module: str, *arguments: str) -> dict[str, object]:
    """What `python -m module arguments` prints, as its last line, in JSON: measured in a process of its own."""
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["?"])[-1][-300:]}
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def _read_bar(process: subprocess.Popen[bytes], started: float, seen: Watched, tail: bytearray) -> None:
    """tqdm writes `Steps:  3%|#  | 9/300 [00:02<...` again and again over one line."""
    assert process.stderr is not None
    while chunk := os.read(process.stderr.fileno(), 65536):
        now = time.monotonic() - started
        tail += chunk
        for count in re.findall(rb"Steps:[^\r\n]*?\| *(\d+)/\d+ \[", chunk):
            if int(count):
                seen.step_times.setdefault(int(count), now)
        del tail[:-20000]


def _resident_bytes(pid: int) -> int:
    """Of a process and all its children, without what they share counted twice where the system can tell."""
    total = 0
    try:
        top = psutil.Process(pid)
        for process in (top, *top.children(recursive=True)):
            total += process.memory_info().rss
    except psutil.Error:
        pass
    return total
