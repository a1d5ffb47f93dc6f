"""What a user sends in when a run fails: what was asked, what happened, on what. Nothing secret, and no path of their computer."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Mapping

from sdplay.events import RunState
from sdplay.runs import Run

LOG_LINES = 40
_SECRET = re.compile(
    r"\b(hf_[A-Za-z0-9]{8,}|sk-[A-Za-z0-9-]{8,}|gh[pousr]_[A-Za-z0-9]{8,})"
    r"|((?:token|password|secret|api_?key)\s*[=:]\s*)\S+",
    re.IGNORECASE,
)
_PATH = re.compile(r"(?<![\w.:/])(?:[A-Za-z]:)?(?:[\\/][\w.+@~ -]*[\w.+@~-])+[\\/]([\w.+@-]+)")
_PRIVATE_SETTINGS = ("caption_templates", "sample_prompts", "negative_prompt", "prior_prompt", "prior_dataset", "dataset")
"""What a user wrote is theirs; a report does without it."""


def run_report(run: Run, state: RunState) -> str:
    """Markdown: the failure, versions, settings, what was reached, and the end of the log."""
    versions = run.manifest.get("versions")
    told = "\n".join(f"{name}: {value}" for name, value in (versions.items() if isinstance(versions, dict) else ()))
    settings = "\n".join(f"{name}: {value}" for name, value in _plain_settings(run.settings).items())
    reached = f"status {state.status}, phase {state.phase or 'none'}, step {state.step} of {state.steps}"
    loss = f", last loss {state.losses[-1].loss:.5g}" if state.losses else ""
    memory = f"\nmemory: {state.memory.peak_bytes / 2**30:.2f} GB at the most" if state.memory else ""
    sections = {
        "What happened": f"{state.message} {state.hint}".strip() or "Nothing failed.",
        "How far it was": f"{reached}{loss}\ndevice: {state.device or 'not reached'}{memory}",
        "Versions": f"{told}\npython: {sys.version.split()[0]}\nsystem: {platform.system()} {platform.machine()}",
        "Settings": settings,
        "Notes": "\n".join(state.notes),
        "End of the log": _end_of_log(run),
    }
    text = "\n\n".join(f"## {title}\n```\n{body}\n```" for title, body in sections.items() if body)
    return scrubbed(f"# sdplay run {run.id}\n\n{text}\n")


def scrubbed(text: str) -> str:
    """The text with secrets blotted out and every path cut down to the name of its file."""
    text = _SECRET.sub(lambda found: f"{found[2] or ''}[secret]", text)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        value = os.environ.get(name)
        if value:
            text = text.replace(value, "[secret]")
    return _PATH.sub(lambda found: f".../{found[1]}", text)


def _plain_settings(settings: Mapping[str, object]) -> dict[str, object]:
    """Values as numbers and words; of what the user wrote only how much there is."""
    plain: dict[str, object] = {}
    for name, value in settings.items():
        if value in (None, "", [], ()):
            continue
        plain[name] = f"({len(value)} characters or entries)" if name in _PRIVATE_SETTINGS and isinstance(value, str | list) else value
    return plain


def _end_of_log(run: Run) -> str:
    try:
        lines = (run.folder / "log.txt").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-LOG_LINES:])
