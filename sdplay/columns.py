"""What a comparison's column or a drawing's adapter is, as a user writes it.

`base`, `RUN`, `RUN@STEP`, `FILE`, each with `:STRENGTH`; several adapters at once joined by `+`: `FILE:0.8+RUN:0.5`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sdplay.errors import AdapterError, ConfigError, RunError
from sdplay.runs import Run, open_run
from sdplay.workspace import Workspace

BASE = "base"
MAX_STRENGTH = 4.0
MAX_MIXED = 8
_STRENGTH = re.compile(r"^(?P<what>.+?):(?P<strength>-?[0-9.]+(e-?[0-9]+)?)$")


@dataclass(frozen=True)
class Column:
    """One column: the base alone (`path` None), or an adapter file at a strength, maybe with more of them."""

    label: str
    path: Path | None = None
    strength: float = 1.0
    run_id: str = ""
    step: int | None = None
    more: tuple[tuple[Path, float], ...] = ()
    """What is joined to it by `+`."""
    text: str = BASE
    """All of it as a user writes it, with whole run ids and without folders."""

    @property
    def adapters(self) -> tuple[tuple[Path, float], ...]:
        """Every adapter file with its strength; none for the base."""
        return ((self.path, self.strength), *self.more) if self.path else ()


def parse_column(text: str, workspace: Workspace) -> Column:
    """Find what `text` names. Raises RunError, AdapterError or ConfigError with what to write instead."""
    pieces = [piece for piece in text.split("+") if piece.strip()]
    if len(pieces) < 2 or _is_file(_split_strength(text.strip())[0]):
        return _parse_one(text, workspace)
    columns = [_parse_one(piece, workspace) for piece in pieces]
    if len(columns) > MAX_MIXED:
        raise ConfigError(f"{text!r} mixes {len(columns)} adapters.", f"Mix at most {MAX_MIXED}.")
    first, *others = [column for column in columns if column.path] or columns
    more = tuple(pair for column in others for pair in column.adapters)
    text = "+".join(column.text for column in columns)
    return replace(first, label=" + ".join(column.label for column in columns), more=more, text=text)


def _parse_one(text: str, workspace: Workspace) -> Column:
    what, strength = _split_strength(text.strip())
    if what == BASE:
        return Column(BASE)
    if what.endswith(".safetensors"):
        path = Path(what).expanduser()
        if path.name == what and (workspace.adapters / what).is_file():
            path = workspace.adapters / what
        if not path.is_file():
            raise AdapterError(f"There is no file {what!r}.", "Give a run, or the path of a .safetensors file.")
        return Column(_label(path.stem, strength), path.resolve(), strength, text=_text(path.name, strength))
    run_text, _, step_text = what.partition("@")
    run = open_run(workspace.runs, run_text)
    step = _step(run, step_text)
    label = run.id if step is None else f"{run.id}@{step}"
    return Column(_label(label, strength), adapter_of(run, step), strength, run.id, step, text=_text(label, strength))


def adapter_of(run: Run, step: int | None) -> Path:
    """The adapter file of a run at a checkpoint, or its latest. Raises RunError if there is none (yet)."""
    if step is None:
        final = run.folder / "out" / f"{run.id}.safetensors"
        steps = checkpoint_steps(run)
        if final.is_file():
            return final
        if not steps:
            raise RunError(f"Run {run.id} has no checkpoint yet.", "Wait for its first one, or choose another run.")
        step = steps[-1]
    path = run.folder / "checkpoints" / str(step) / "adapter.safetensors"
    if not path.is_file():
        there = ", ".join(map(str, checkpoint_steps(run))) or "none"
        raise RunError(f"Run {run.id} has no checkpoint at step {step}.", f"Its checkpoints: {there}.")
    return path


def checkpoint_steps(run: Run) -> list[int]:
    """Steps whose adapter is on disk, rising."""
    return sorted(int(path.parent.name) for path in run.folder.glob("checkpoints/[0-9]*/adapter.safetensors"))


def _is_file(text: str) -> bool:
    """Whether it is the path of a file; a text that can be no path is none."""
    try:
        return Path(text).expanduser().is_file()
    except (OSError, RuntimeError, ValueError):
        return False


def _split_strength(text: str) -> tuple[str, float]:
    found = _STRENGTH.match(text)
    if not found:
        return text, 1.0
    try:
        strength = float(found["strength"])
    except ValueError:
        raise ConfigError(f"The strength in {text!r} is not a number.", "Write it like RUN:0.8.") from None
    if not -MAX_STRENGTH <= strength <= MAX_STRENGTH:
        raise ConfigError(
            f"The strength {strength:g} in {text!r} is out of range.", f"Use a strength from -{MAX_STRENGTH:g} to {MAX_STRENGTH:g}."
        )
    return found["what"], strength


def _step(run: Run, text: str) -> int | None:
    if not text:
        return None
    if not text.isdigit():
        raise ConfigError(f"{text!r} is not a step.", f"Write it like {run.id}@50.")
    return int(text)


def _label(what: str, strength: float) -> str:
    return what if strength == 1 else f"{what} x {strength:g}"


def _text(what: str, strength: float) -> str:
    return what if strength == 1 else f"{what}:{strength:g}"


def split_adapters(text: str) -> list[tuple[str, float]]:
    """`RUN:0.8+FILE` -> [("RUN", 0.8), ("FILE", 1.0)]; nothing for the base alone. Raises ConfigError for a strength out of range."""
    pieces = [_split_strength(piece.strip()) for piece in text.split("+") if piece.strip()]
    return [piece for piece in pieces if piece[0] != BASE]


def joined_adapters(adapters: Sequence[tuple[str, float]]) -> str:
    """The other way round; `base` for none."""
    return "+".join(_text(what, strength) for what, strength in adapters) or BASE
