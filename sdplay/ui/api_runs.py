"""The public functions for runs that are there and for adapters; see api.py."""

from __future__ import annotations

from typing import Any, Literal

from sdplay.choice import choose
from sdplay.engine import Engine
from sdplay.errors import AdapterError


def run_ask(engine: Engine, run_id: str, what: Literal["sample", "save"]) -> str:
    """Ask a run that trains for sample pictures or a checkpoint after its next step.

    Args:
        run_id: The id that train_start returned.
        what: sample for pictures, save for a checkpoint.

    Returns:
        The run's id.
    """
    engine.ask_for(run_id, what)
    return engine.run(run_id).id


def run_continue(engine: Engine, run_id: str, more_steps: int) -> dict[str, Any]:
    """Let a run that has ended go on for more steps than it was made for.

    Args:
        run_id: The id that train_start returned.
        more_steps: How many more.

    Returns:
        id, steps in all, and note: what that does to the learning rate.
    """
    note = engine.history.continuation(run_id, more_steps)
    engine.continue_run(run_id, more_steps)
    run = engine.run(run_id)
    return {"id": run.id, "steps": run.state().steps, "note": note}


def run_best(engine: Engine, run_id: str) -> dict[str, Any]:
    """Say which checkpoint of a run to take first, and why.

    Args:
        run_id: The id that train_start returned.

    Returns:
        column (for compare and generate; empty while nothing is judged), reason, and the scores of each judged checkpoint.
    """
    run = engine.run(run_id)
    choice = choose(engine.state(run))
    if choice is None:
        return {"column": "", "reason": "No checkpoint has scores yet.", "scores": []}
    told = {"step", "judge", "likeness", "agreement", "nearness"}
    scores = [{**rated.scores.model_dump(include=told), "held_out": rated.held_out, "worth": rated.worth} for rated in choice.rated]
    return {"column": f"{run.id}@{choice.step}", "reason": choice.reason, "scores": scores}


def run_note(engine: Engine, run_id: str, note: str | None = None, star: bool | None = None) -> dict[str, Any]:
    """Write a note on a run, or star it.

    Args:
        run_id: The id that train_start returned.
        note: The new note; none: as it was.
        star: Whether it has a star; none: as it was.

    Returns:
        id, note and star as they are now.
    """
    run = engine.run(run_id)
    return {"id": run.id, **engine.history.annotate(run, note=note, star=star).model_dump()}


def run_delete(engine: Engine, run_id: str) -> str:
    """Move a run into the trash; run_restore brings it back within 30 days.

    Args:
        run_id: The id that train_start returned.

    Returns:
        The run's id.
    """
    return engine.delete_run(run_id)


def run_restore(engine: Engine, run_id: str) -> str:
    """Bring a run back from the trash.

    Args:
        run_id: The id that run_delete returned.

    Returns:
        The run's id.
    """
    return engine.history.restore(run_id).id


def run_report(engine: Engine, run_id: str) -> str:
    """Tell what to send in when a run went wrong, without secrets and paths.

    Args:
        run_id: The id that train_start returned.

    Returns:
        Markdown.
    """
    return engine.history.report(run_id)


def adapters_list(engine: Engine, search: str = "") -> list[dict[str, Any]]:
    """List the adapters at hand: what runs learned, and files that were brought.

    Args:
        search: Words that must all be in what is known of an adapter; empty: all.

    Returns:
        column (for compare and generate), title, origin and facts of each.
    """
    return [entry.model_dump(exclude={"picture"}) for entry in engine.library.entries(engine.history.rows(), search)]


def adapter_fetch(engine: Engine, repository: str) -> str:
    """Download an adapter from the Hub and keep it.

    Args:
        repository: owner/name, or owner/name/file.safetensors.

    Returns:
        Its column, for compare and generate.
    """
    if not repository.strip():
        raise AdapterError("There is no repository.", "Write owner/name.")
    return engine.library.fetch(repository)
