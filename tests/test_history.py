"""A list of a thousand runs answers at once, and nothing that is deleted is lost at once."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from sdplay.config import LoraConfig
from sdplay.engine import Engine
from sdplay.errors import RunError
from sdplay.events import Checkpoint, Finished, Samples, Started, Step, Submitted
from sdplay.runs import Run, RunLog, create_run


def finished_run(runs: Path, name: str, *, steps: int = 3, **settings: object) -> Run:
    run = create_run(runs, LoraConfig(dataset="d", steps=steps, **settings), name=name, facts={"dataset": {"id": "d", "name": "Foxes"}})
    log = RunLog(run)
    for event in (
        Submitted(steps=steps),
        Started(step=0, device="CPU"),
        Samples(step=0, prompts=("a",), files=("samples/000000/00-a.png",)),
    ):
        log.append(event)
    lines = [Step(step=step, loss=0.5, learning_rate=1e-3, seconds=0.1).model_dump_json() for step in range(1, steps + 1)]
    with log.path.open("a") as file:
        file.write("\n".join(lines) + "\n")
    log.append(Checkpoint(step=steps))
    log.append(Finished(step=steps))
    return run


def copies(run: Run, count: int) -> None:
    """The same run under other ids, as a folder holds them."""
    for number in range(count):
        folder = run.folder.with_name(f"20250101-{number:06d}-copy")
        folder.mkdir()
        for name in ("config.yaml", "events.jsonl"):
            (folder / name).write_bytes((run.folder / name).read_bytes())


def test_a_summary_says_what_a_list_needs(engine: Engine) -> None:
    run = finished_run(engine.workspace.runs, "red fox", token="sks")

    (row,) = engine.history.rows()

    assert (row.id, row.name, row.status, row.step, row.steps) == (run.id, "red-fox", "finished", 3, 3)
    assert (row.dataset, row.token, row.checkpoints, row.picture) == ("Foxes", "sks", (3,), "samples/000000/00-a.png")
    assert row.num_bytes > 0


def test_a_thousand_runs_are_listed_at_once_the_second_time(engine: Engine) -> None:
    copies(finished_run(engine.workspace.runs, "first", steps=50), 999)
    engine.history.rows()
    again = Engine(engine.workspace)

    started = time.perf_counter()
    rows = again.history.rows()
    from_index = time.perf_counter() - started
    again.history.look_again()
    started = time.perf_counter()
    again.history.rows()
    known = time.perf_counter() - started

    assert len(rows) == 1000
    assert again._followers == {}  # no run's events were read
    assert from_index < 2, from_index
    assert known < 0.5, known
    again.close()


def test_a_spoilt_index_is_made_anew(engine: Engine) -> None:
    finished_run(engine.workspace.runs, "first")
    engine.history.rows()
    (engine.workspace.runs / "index.json").write_text('{"version": 1, "runs": {"x": 3}}')

    assert [row.name for row in Engine(engine.workspace).history.rows()] == ["first"]


def test_what_is_new_about_a_run_is_seen(engine: Engine) -> None:
    run = finished_run(engine.workspace.runs, "first")
    assert engine.history.rows()[0].status == "finished"

    RunLog(run).append(Submitted(steps=9))
    engine.history.look_again()

    assert engine.history.rows()[0].steps == 9


def test_runs_are_found_by_every_word_of_a_search_and_by_their_star(engine: Engine) -> None:
    run = finished_run(engine.workspace.runs, "red fox")
    finished_run(engine.workspace.runs, "blue vase")

    engine.history.annotate(run, note="best face so far", star=True)

    assert [row.name for row in engine.history.search("FACE fox")] == ["red-fox"]
    assert [row.name for row in engine.history.search(starred=True)] == ["red-fox"]
    assert engine.history.search("face vase") == []
    assert engine.history.annotate(run, star=False).note == "best face so far"


def test_a_note_that_is_too_long_gets_a_sentence(engine: Engine) -> None:
    run = finished_run(engine.workspace.runs, "red fox")

    with pytest.raises(RunError, match="2001 characters"):
        engine.history.annotate(run, note="x" * 2001)


def test_two_runs_differ_in_what_was_set_differently(engine: Engine) -> None:
    first = finished_run(engine.workspace.runs, "a", learning_rate=1e-3)
    second = finished_run(engine.workspace.runs, "b", learning_rate=2e-3, rank=16)

    assert engine.history.differences(first.id, second.id) == [("learning_rate", 1e-3, 2e-3), ("rank", 8, 16)]


def test_a_deleted_run_comes_back_whole(engine: Engine) -> None:
    run = finished_run(engine.workspace.runs, "red fox")
    before = {path.name: path.read_bytes() for path in run.folder.iterdir() if path.name != "lock"}

    engine.delete_run(run.id)
    gone = engine.history.rows()
    engine.history.restore(run.id)

    assert gone == []
    assert engine.history.trash() == []
    assert {path.name: path.read_bytes() for path in run.folder.iterdir() if path.name != "lock"} == before


def test_emptying_the_trash_says_how_much_it_frees(engine: Engine) -> None:
    run = finished_run(engine.workspace.runs, "red fox")
    (run.folder / "large.bin").write_bytes(b"x" * 5000)
    engine.delete_run(run.id)

    freed = engine.history.empty_trash()

    assert freed > 5000
    assert engine.history.trash() == []
    with pytest.raises(RunError, match="in the trash"):
        engine.history.restore(run.id)


def test_the_trash_keeps_a_run_for_thirty_days(engine: Engine) -> None:
    old, new = (finished_run(engine.workspace.runs, name) for name in ("old", "new"))
    for run in (old, new):
        engine.delete_run(run.id)
    facts = engine.workspace.trash / old.id / "deleted.json"
    facts.write_text(json.dumps({"time": time.time() - 31 * 86_400, "num_bytes": 1}))

    assert [entry.id for entry in engine.history.trash()] == [new.id]
    assert not (engine.workspace.trash / old.id).exists()


@pytest.mark.parametrize("run_id", ["../../etc", "nothing", ""])
def test_only_what_is_in_the_trash_can_be_restored(engine: Engine, run_id: str) -> None:
    with pytest.raises(RunError, match="in the trash"):
        engine.history.restore(run_id)


def test_a_run_in_somebodys_hands_is_not_deleted(engine: Engine) -> None:
    from filelock import FileLock

    run = finished_run(engine.workspace.runs, "red fox")

    with FileLock(run.folder / "lock"), pytest.raises(RunError, match="still going"):
        engine.delete_run(run.id)
    assert run.folder.is_dir()
