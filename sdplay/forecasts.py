"""What a run will write, need and take, found out beside the page: whoever asks gets a key at once and looks again later.

Plans are computed in a thread of their own, one at a time; measuring is the worker's, and the thread only waits for it.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from sdplay.errors import ModelError, RunError, SdplayError

if TYPE_CHECKING:
    from sdplay.engine import Engine
    from sdplay.estimate import Estimate
    from sdplay.plan import MemoryPlan

LOG = logging.getLogger("sdplay")
MOST_KEPT = 100


@dataclass(frozen=True)
class Forecast:
    """What is known so far about a run that was not started."""

    about: str = ""
    """The settings it is for, in short."""
    doing: str = ""
    """`planning`, `measuring`, or empty."""
    plan: MemoryPlan | None = None
    free_bytes: int | None = None
    """What the device has left for it; None where nobody tells."""
    device: str = ""
    estimate: Estimate | None = None
    message: str = ""
    """What went wrong, with the hint below."""
    hint: str = ""


class Forecasts:
    """By the settings they are for. Any thread may ask."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._found: dict[str, Forecast] = {}
        self._unwanted: set[str] = set()
        self.changes = 0
        """Grows with everything that was found out."""
        self._change, self._planning, self._measuring = threading.Lock(), threading.Lock(), threading.Lock()

    def ask(self, values: Mapping[str, object], *, instead_of: str = "") -> str:
        """Have files and memory of such a run computed. Returns the key. instead_of: a key whose turn may be skipped."""
        key = _key(values)
        with self._change:
            old = self._found.get(instead_of)
            if old and old.doing == "planning" and instead_of != key:
                self._unwanted.add(instead_of)
            self._unwanted.discard(key)
            known = self._found.get(key)
            if known and (known.doing or known.plan):
                return key
            self._keep(key, replace(known or Forecast(_about(values)), doing="planning", message="", hint=""))
        self._start(self._plan, key, values)
        return key

    def measure(self, values: Mapping[str, object]) -> str:
        """Have such a run measured, and planned where it was not. Returns the key. Raises RunError while another is measured."""
        if not self._measuring.acquire(blocking=False):
            raise RunError("Another run is being measured.", "Wait some seconds.")
        key = _key(values)
        with self._change:
            self._keep(key, replace(self._found.get(key) or Forecast(_about(values)), doing="measuring", message="", hint=""))
        self._start(self._measure, key, values)
        return key

    def look(self, key: str) -> Forecast | None:
        """What is known by now; None where nothing was asked."""
        return self._found.get(key)

    def _plan(self, key: str, values: Mapping[str, object]) -> None:
        with self._planning:
            if key in self._unwanted:
                self._unwanted.discard(key)
                self._found.pop(key, None)
                return
            self._note(key, doing="", **self._told(lambda: self._planned(values)))

    def _measure(self, key: str, values: Mapping[str, object]) -> None:
        try:
            facts = self._told(lambda: {"estimate": self._engine.estimate(values)})
            if not facts.get("message") and not self._found[key].plan:
                facts |= self._told(lambda: self._planned(values))
            self._note(key, doing="", **facts)
        finally:
            self._measuring.release()

    def _planned(self, values: Mapping[str, object]) -> dict[str, Any]:
        from sdplay.device import available_bytes, best_device

        source = str(values.get("base_model", ""))
        if source and not self._engine.has_base(source):
            raise ModelError(f"{source!r} is not on this computer yet, so its size is not known.", "Measuring downloads it first.")
        device = best_device()
        return {"plan": self._engine.plan(values), "free_bytes": available_bytes(device), "device": device.label}

    def _told(self, find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What was found, or the sentence why not."""
        try:
            return find()
        except SdplayError as error:
            return {"message": error.message, "hint": error.hint}
        except Exception:  # the door to the visitor: whatever it is, they get a sentence
            LOG.exception("a forecast failed")
            return {"message": "This could not be found out.", "hint": "The server's log has the full report."}

    def _note(self, key: str, **facts: Any) -> None:  # noqa: ANN401  Forecast's fields
        with self._change:
            self._keep(key, replace(self._found.get(key) or Forecast(), **facts))

    def _keep(self, key: str, forecast: Forecast) -> None:
        self._found[key] = forecast
        self.changes += 1
        for old in list(self._found)[:-MOST_KEPT]:
            if not self._found[old].doing:
                del self._found[old]

    def _start(self, do: Callable[[str, Mapping[str, object]], None], key: str, values: Mapping[str, object]) -> None:
        threading.Thread(target=do, args=(key, dict(values)), name="sdplay-forecast", daemon=True).start()


def _key(values: Mapping[str, object]) -> str:
    return sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _about(values: Mapping[str, object]) -> str:
    """What counts most for time and memory."""
    words = {"steps": "{} steps", "batch_size": "batch {}", "resolution": "{} px", "rank": "rank {}"}
    return ", ".join([str(values.get("method", "lora")), *(text.format(values[name]) for name, text in words.items() if values.get(name))])
