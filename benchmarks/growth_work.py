"""What benchmarks/growth.py has done in processes of their own: `python -m benchmarks.growth_work cache 100` prints JSON."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

SAMPLE_SECONDS = 0.01
LOOKS = 9


def cache(count: str) -> dict[str, object]:
    """Latents of so many pictures, computed and written: seconds, and the most memory above what the loaded base takes."""
    import psutil

    from benchmarks.growth import SIDE, pictures_in
    from sdplay import cache as caches
    from sdplay import hub
    from sdplay.data import DatasetStore, Limits
    from sdplay.device import best_device
    from sdplay.families import family

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = DatasetStore(folder / "datasets", Limits(pictures=int(count)))
        examples = store.create([pictures_in(folder / "pictures", int(count))]).examples
        base = hub.find_base(hub.MINI)
        module = family(base.family)
        parts = module.load(base.folder, best_device(), source=base.source)

        def encode(some: int, where: str) -> None:
            caches.encode_examples(examples[:some], parts, module, size=(SIDE, SIDE), folder=folder / where, on_progress=lambda *_: None)

        encode(caches.ENCODE_BATCH, "warm")
        memory, watched, done = psutil.Process().memory_info, [psutil.Process().memory_info().rss], threading.Event()

        def watch() -> None:
            while not done.wait(SAMPLE_SECONDS):
                watched.append(memory().rss)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        started = time.perf_counter()
        encode(int(count), "cache")
        seconds = time.perf_counter() - started
        watched.append(memory().rss)
        done.set()
        watcher.join()
    return {"seconds": seconds, "memory_mb": max(0.1, (max(watched) - watched[0]) / 2**20)}


def page(home: str) -> dict[str, object]:
    """What the Runs tab and the run picker ask of an engine: at first, with nothing indexed, and in a later second."""
    from sdplay.engine import Engine
    from sdplay.ui.tabs.live import run_picker
    from sdplay.ui.tabs.runs import PAGE, watch_runs
    from sdplay.workspace import open_workspace

    engine = Engine(open_workspace(Path(home)))
    started = time.perf_counter()
    run_picker(engine)
    seen = watch_runs(engine, None, "", False, PAGE, {})[-1]
    first = time.perf_counter() - started
    ticks = []
    for _ in range(LOOKS):
        started = time.perf_counter()
        watch_runs(engine, None, "", False, PAGE, seen)
        ticks.append(time.perf_counter() - started)
        time.sleep(0.2)
    engine.close()
    return {"first": first, "tick": statistics.median(ticks)}


TASKS = {"cache": cache, "page": page}

if __name__ == "__main__":
    from sdplay.quiet import quiet_environment

    quiet_environment()
    print(json.dumps(TASKS[sys.argv[1]](*sys.argv[2:])))
