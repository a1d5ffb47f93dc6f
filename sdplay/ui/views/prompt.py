"""How a template reads: the texts it makes, their tokens, and where the text encoder stops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sdplay.ui.views.text import count_of, empty, esc, message


@dataclass(frozen=True)
class Tokens:
    """How a base reads a text: kept and cut tokens, without start and end."""

    kept: tuple[str, ...]
    cut: tuple[str, ...]
    limit: int


@dataclass(frozen=True)
class Reading:
    """One template: what is wrong with it, or the texts it makes."""

    template: str
    error: str = ""
    texts: tuple[str, ...] = ()
    tokens: tuple[Tokens, ...] = ()
    """One for each text; empty while they cannot be counted."""


def preview(training: Sequence[Reading], samples: Sequence[Reading], notes: Sequence[str]) -> str:
    """Training texts for the chosen picture in full, sample prompts in short."""
    if not training and not samples:
        return empty("Nothing to preview", "Write a training template, for example: a photo of {token} {class}, {caption}")
    warnings = "".join(message("warning", note) for note in notes)
    total = sum(len(reading.texts) for reading in training)
    head = f"<h3>Training reads this picture as {count_of(total, 'text')}</h3>" if total else "<h3>Training templates</h3>"
    trained, sampled = "".join(map(_full, training)), "".join(map(_short, samples))
    return f'<div class="sd-preview">{warnings}{head}{trained}<h3>Sample prompts</h3>{sampled}</div>'


def _full(reading: Reading) -> str:
    if reading.error:
        return _problem(reading)
    return "".join(_text(text, reading.tokens[index] if reading.tokens else None) for index, text in enumerate(reading.texts))


def _text(text: str, tokens: Tokens | None) -> str:
    shown = esc(text) if text else "<em>(an empty text)</em>"
    if tokens is None:
        return f'<div class="sd-reading"><p>{shown}</p></div>'
    count = f"{len(tokens.kept) + len(tokens.cut)} of {tokens.limit} tokens"
    if tokens.cut:
        count += f": the last {len(tokens.cut)} are cut off"
    chips = "".join(f"<i>{esc(_readable(token))}</i>" for token in tokens.kept)
    chips += "".join(f'<i class="sd-cut">{esc(_readable(token))}</i>' for token in tokens.cut)
    kind = "sd-over" if tokens.cut else ""
    return f'<div class="sd-reading {kind}"><p>{shown}</p><div class="sd-chips">{chips}</div><small>{esc(count)}</small></div>'


def _short(reading: Reading) -> str:
    if reading.error:
        return _problem(reading)
    cut = sum(len(tokens.cut) for tokens in reading.tokens[:1])
    more = f" <small>and {len(reading.texts) - 1} more</small>" if len(reading.texts) > 1 else ""
    note = f' <small class="sd-over">{count_of(cut, "token")} cut off</small>' if cut else ""
    return f'<p class="sd-sampled">{esc(reading.texts[0])}{more}{note}</p>'


def _problem(reading: Reading) -> str:
    return message("error", f"“{reading.template[:80]}”: {reading.error}")


def _readable(token: str) -> str:
    """CLIP marks a word's end with </w>; a reader needs no mark."""
    return token.removesuffix("</w>") or " "
