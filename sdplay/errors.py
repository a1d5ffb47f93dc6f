"""Everything that can go wrong for a user, as one tree.

    SdplayError          a message (what happened, with the value) and a hint (what to do)
    |- ConfigError       a setting is missing, misspelt or out of range
    |- DataError         pictures or captions cannot be used
    |- TemplateError     a prompt template cannot be read
    |- ModelError        a base model cannot be found or loaded
    |- AdapterError      an adapter file cannot be read or does not fit
    |- RunError          a run does not exist or is in the wrong state for what was asked
    |- DeviceError       memory, disk or device
    `- Cancelled         the user stopped it; nothing is wrong

A user sees `message` and `hint`, never a traceback.
"""

from __future__ import annotations


class SdplayError(Exception):
    """What happened, and what to do about it. Both are whole sentences in the user's words."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class ConfigError(SdplayError):
    """A setting is missing, misspelt or out of range."""


class DataError(SdplayError):
    """Pictures or captions cannot be used."""


class TemplateError(SdplayError):
    """A prompt template cannot be read."""


class ModelError(SdplayError):
    """A base model cannot be found or loaded."""


class AdapterError(SdplayError):
    """An adapter file cannot be read or does not fit."""


class RunError(SdplayError):
    """A run does not exist, or is in the wrong state for what was asked."""


class DeviceError(SdplayError):
    """Memory, disk or device."""


class Cancelled(SdplayError):
    """The user stopped it; nothing is wrong."""
