"""How far it is, for a person at a terminal or in a log: one line that changes, or a line now and then."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdplay.compare import Comparison
    from sdplay.engine import Engine
    from sdplay.events import RunState


def watch_run(engine: Engine, run_id: str, *, quiet: bool = False) -> RunState:
    """Follow a run in this process; Ctrl-C stops it and keeps what it has."""
    teller = _Teller(quiet=quiet)
    try:
        state = engine.wait(run_id, tick=teller.tell)
    except KeyboardInterrupt:
        print("\nStopping; what was learned is kept.", file=sys.stderr)
        engine.stop(run_id)
        state = engine.wait(run_id, tick=teller.tell)
    teller.end()
    return state


def watch_comparison(engine: Engine, comparison_id: str, *, quiet: bool) -> Comparison:
    """Wait until a comparison has ended."""
    while True:
        comparison = engine.comparison(comparison_id)
        if not quiet and sys.stderr.isatty():
            end = "\n" if comparison.ended else ""
            print(
                f"\r\x1b[K{comparison.status}: {len(comparison.drawn)} of {comparison.config.num_cells} pictures", end=end, file=sys.stderr
            )
        if comparison.ended:
            return comparison
        time.sleep(0.2)


class _Teller:
    """Says what is new about a run: one line that changes on a terminal, a line now and then in a log."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self.live = sys.stderr.isatty()
        self.last = ""

    def tell(self, state: RunState) -> None:
        """Print if there is news."""
        if self.quiet:
            return
        text = self._line(state)
        if self.live:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
        elif text != self.last and (state.step % 25 == 0 or state.ended or state.phase != "training"):
            print(text, file=sys.stderr, flush=True)
        self.last = text

    def end(self) -> None:
        """Leave the line."""
        if self.live and not self.quiet:
            print(file=sys.stderr)

    def _line(self, state: RunState) -> str:
        if not self.live and state.phase in ("sampling", "encoding pictures", "encoding text"):
            return state.phase
        count = f" {state.phase_done}/{state.phase_total}" if state.phase_total and state.phase != "training" else ""
        text = f"{state.status}: {state.phase}{count}" if not state.ended else state.status
        if state.losses:
            text += f", step {state.step}/{state.steps}, loss {state.losses[-1].loss:.4f}"
        if state.eta_seconds and state.phase == "training":
            text += f", {state.seconds_per_step:.2f} s/step, {state.eta_seconds:.0f} s left"
        return text
