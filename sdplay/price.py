"""What the hardware costs, in US dollars, where that is known: the one place for prices.

$SDPLAY_PRICE_PER_HOUR says it for a rented computer; $SDPLAY_HARDWARE names an entry of presets/hardware.yaml, and so does $SPACE_HARDWARE.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sdplay.errors import ConfigError
from sdplay.workspace import PRESETS
from sdplay.yaml_text import parse_yaml

VARIABLE = "SDPLAY_PRICE_PER_HOUR"
NAMES = ("SDPLAY_HARDWARE", "SPACE_HARDWARE")
"""The first wins."""


@dataclass(frozen=True)
class Hardware:
    """A computer that can be rented by the hour."""

    name: str
    title: str
    memory_gb: float
    usd_per_hour: float
    gpu: str = ""


@lru_cache
def load_hardware(path: Path = PRESETS / "hardware.yaml") -> dict[str, Hardware]:
    """What Spaces offer, by name."""
    return {name: Hardware(name, **facts) for name, facts in parse_yaml(path.read_text(encoding="utf-8")).items()}


def hardware_named(name: str) -> Hardware:
    """Raises ConfigError that lists the names."""
    found = load_hardware()
    if name not in found:
        raise ConfigError(f"There is no hardware {name!r}.", f"Choose one of: {', '.join(found)}.")
    return found[name]


def hardware_of(device_label: str) -> Hardware | None:
    """The hardware whose card the device's name tells; None for others, and for CPUs."""
    words = set(re.findall(r"[A-Za-z0-9]+", device_label))
    return next((entry for entry in load_hardware().values() if entry.gpu and entry.gpu in words), None)


def hardware_here() -> Hardware | None:
    """This computer, as the environment says; None where it says nothing that is understood."""
    try:
        price = float(os.environ.get(VARIABLE, ""))
    except ValueError:
        price = 0.0
    if 0 < price < 10_000:
        return Hardware("this computer", "This computer", memory_gb=0, usd_per_hour=price)
    named = next((name for variable in NAMES if (name := os.environ.get(variable, ""))), "")
    return load_hardware().get(named)


def cost_of(seconds: float) -> float | None:
    """US dollars for a time of work on this computer; None where its price is not known, or nothing."""
    here = hardware_here()
    return here.usd_per_hour * seconds / 3600 if here and here.usd_per_hour else None
