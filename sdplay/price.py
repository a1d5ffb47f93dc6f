"""What the hardware costs, where that is known: a rented computer says it by $SDPLAY_PRICE_PER_HOUR, in US dollars."""

from __future__ import annotations

import os

VARIABLE = "SDPLAY_PRICE_PER_HOUR"


def price_per_hour() -> float | None:
    """US dollars; None where nobody says it, and then nothing is said about costs."""
    try:
        price = float(os.environ.get(VARIABLE, ""))
    except ValueError:
        return None
    return price if 0 < price < 10_000 else None


def cost_of(seconds: float) -> float | None:
    """US dollars for a time of work; None where the price is not known."""
    price = price_per_hour()
    return None if price is None else price * seconds / 3600
