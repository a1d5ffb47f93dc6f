"""A full card is told, where the driver would only make the run crawl."""

from __future__ import annotations

import pytest

from sdplay.device import CardMemory
from sdplay.pace import Pace

ROOMY, FULL = CardMemory(total=8_000, free=3_000, held=5_000), CardMemory(total=8_000, free=100, held=7_900)


def told(seconds: list[float], memory: CardMemory | None) -> list[str | None]:
    pace = Pace()
    return [pace.after_step(each, memory) for each in seconds]


@pytest.mark.trap(30)
def test_steps_that_become_a_hundred_times_slower_on_a_full_card_are_explained_once() -> None:
    """Known figures of such runs: 1.2 s a step, then 200."""
    *before, first, second = told([1.2] * 6 + [200, 200], FULL)

    assert before == [None] * 6
    assert first is not None
    assert first.startswith("A step took 200.0 s where 1.2 s is usual")
    assert "Lower the batch size" in first
    assert second is None


@pytest.mark.trap(30)
def test_more_memory_than_the_card_has_is_told_at_the_first_step() -> None:
    (first,) = told([40], CardMemory(total=8_000_000_000, free=0, held=9_500_000_000))

    assert first is not None
    assert "holds 9.5 GB, more than the 8.0 GB" in first


@pytest.mark.parametrize(
    ("seconds", "memory"),
    [([1.2] * 6 + [200], ROOMY), ([1.2] * 6 + [200], None), ([1.2] * 6 + [5], FULL), ([90, 1, 1, 1, 1, 1], FULL)],
    ids=["the card has room", "there is no card", "another bucket", "the first step warms up"],
)
def test_other_slow_steps_are_not_blamed_on_memory(seconds: list[float], memory: CardMemory | None) -> None:
    assert told(seconds, memory) == [None] * len(seconds)
