"""What can be put on a base model and taken off again: adapters, words, whole weights.

What is on a base is in `parts.attached`, in the order it came. Taking everything off leaves the base in its own bits, so
while something trains, others can draw with the base alone or with adapters of their own (sdplay/formats/attach.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sdplay.families import Parts


class Attachment(Protocol):
    """Something that changes what the base computes."""

    def put_on(self) -> None:
        """Change what the base computes."""

    def take_off(self) -> None:
        """Leave the base in the bits it had before `put_on`."""


def attach(parts: Parts, attachment: Attachment) -> None:
    """Put on, until `detach`."""
    attachment.put_on()
    parts.attached.append(attachment)


def detach(parts: Parts, attachment: Attachment) -> None:
    """Take off for good; what was put on later stays on."""
    later = parts.attached[parts.attached.index(attachment) + 1 :]
    for other in reversed(later):
        other.take_off()
    attachment.take_off()
    parts.attached.remove(attachment)
    for other in later:
        other.put_on()


@contextmanager
def worn(parts: Parts, attachment: Attachment) -> Iterator[None]:
    """It is on inside the block."""
    attach(parts, attachment)
    try:
        yield
    finally:
        detach(parts, attachment)


@contextmanager
def base_alone(parts: Parts) -> Iterator[None]:
    """Inside the block the base is as it was loaded; afterwards everything is on again."""
    before = list(parts.attached)
    for attachment in reversed(before):
        attachment.take_off()
    parts.attached.clear()
    try:
        yield
    finally:
        parts.attached[:] = before
        for attachment in before:
            attachment.put_on()
