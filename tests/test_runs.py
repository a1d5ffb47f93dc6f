"""The run folder is the only truth about a run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock

from sdplay.config import LoraConfig
from sdplay.engine import Engine
from sdplay.errors import RunError
from sdplay.events import Checkpoint, Failed, Finished, Samples, Started, Step, StopRequested, Submitted, Validation, fold
from sdplay.runs import Run, RunLog, create_run, list_runs, open_run
from sdplay.workspace import Workspace


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return create_run(tmp_path, LoraConfig(dataset="d", steps=10), name="My first run!")


def _step(number: int) -> Step:
    return Step(step=number, loss=1 / number, learning_rate=1e-4, seconds=0.5)


def test_a_new_run_has_a_readable_id_and_its_settings(run: Run) -> None:
    assert run.id.endswith("-my-first-run")
    assert run.settings["steps"] == 10
    assert run.manifest["versions"]["sdplay"]  # type: ignore[index]


def test_two_runs_of_one_second_and_name_do_not_share_a_folder(tmp_path: Path) -> None:
    ids = {create_run(tmp_path, LoraConfig(), name="same").id for _ in range(3)}

    assert len(ids) == 3


def test_a_torn_last_line_is_skipped_and_does_not_spoil_the_next_event(run: Run) -> None:
    log = RunLog(run)
    log.append(Submitted(steps=10))
    with (run.folder / "events.jsonl").open("ab") as file:
        file.write(b'{"event":"step","st')

    log.append(Started(step=0, device="CPU"))

    assert [event.event for event in run.events()] == ["submitted", "started"]


def test_events_of_a_newer_version_are_skipped(run: Run) -> None:
    (run.folder / "events.jsonl").write_text('{"event":"teleported","time":1}\n{"event":"submitted","steps":3,"time":2,"new":1}\n')

    assert run.state().steps == 3


def test_a_running_run_whose_lock_is_free_was_interrupted(run: Run) -> None:
    log = RunLog(run)
    log.append(Submitted(steps=10))
    log.append(Started(step=0, device="CPU"))
    lock = FileLock(run.folder / "lock")

    with lock:
        assert run.state().status == "running"
    assert run.state().status == "interrupted"


def test_waiting_for_a_run_ends_when_it_is_let_go(tmp_path: Path) -> None:
    """The last event is written before the lock is given back; what comes after may resume, change or delete the run."""
    engine = Engine(Workspace(tmp_path))
    run = create_run(engine.workspace.runs, LoraConfig())
    RunLog(run).append(Finished(step=1))
    with ThreadPoolExecutor() as pool:
        with FileLock(run.folder / "lock"):
            waiting = pool.submit(engine.wait, run.id)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.5)
        assert waiting.result(timeout=10).status == "finished"


def test_state_adds_up() -> None:
    state = fold(
        [
            Submitted(steps=4), Started(step=0, device="CPU"), Samples(step=0, prompts=("a",), files=("x.png",)),
            _step(1), _step(2), Validation(step=2, loss=0.3), Checkpoint(step=2), StopRequested(),
        ]
    )  # fmt: skip

    assert (state.status, state.step, state.steps) == ("stopping", 2, 4)
    assert state.eta_seconds == pytest.approx(1.0)
    assert state.checkpoints == (2,)


def test_a_resumed_run_forgets_what_came_after_its_checkpoint() -> None:
    state = fold(
        [
            Submitted(steps=4), Started(step=0, device="CPU"), _step(1), _step(2), Checkpoint(step=2), _step(3),
            Submitted(steps=4), Started(step=2, device="CPU"), _step(3), _step(4), Finished(step=4),
        ]
    )  # fmt: skip

    assert [step.step for step in state.losses] == [1, 2, 3, 4]
    assert state.status == "finished"


def test_a_failure_tells_what_to_do() -> None:
    state = fold([Submitted(steps=4), Failed(message="No memory.", hint="Buy some.")])

    assert (state.status, state.message, state.hint) == ("failed", "No memory.", "Buy some.")


def test_a_run_is_found_by_part_of_its_id(tmp_path: Path, run: Run) -> None:
    assert open_run(tmp_path, "my-first-run").id == run.id
    assert open_run(tmp_path, run.id[:15]).id == run.id
    assert open_run(tmp_path, "last").id == run.id


@pytest.mark.parametrize("run_id", ["", "nothing", "../../etc", "a/b", "\0"])
def test_an_unknown_run_is_a_sentence(tmp_path: Path, run: Run, run_id: str) -> None:
    with pytest.raises(RunError, match="There is no run"):
        open_run(tmp_path, run_id)


def test_runs_are_listed_newest_first(tmp_path: Path) -> None:
    for name in ("20250101-000000-a", "20260101-000000-b", "not-a-run"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text("config: {}")

    assert [run.id for run in list_runs(tmp_path)] == ["20260101-000000-b", "20250101-000000-a"]
