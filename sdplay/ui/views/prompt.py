"""How a template reads: the texts it makes, their tokens, and where the text encoder stops. And what there is to say about a trigger,
and about words that a base was never shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sdplay.trigger import TriggerReport
from sdplay.ui.views.text import count_of, empty, esc, message
from sdplay.vocabulary import Stranger, Vocabulary

MOST_STRANGERS = 8

LEGEND = (
    '<p class="sd-legend"><i class="sd-word">trigger word</i> <i class="sd-class">class</i> <i>other words</i> '
    '<i class="sd-cut">cut off</i></p>'
)


@dataclass(frozen=True)
class Tokens:
    """How a base reads a text: kept and cut tokens, without start and end."""

    kept: tuple[str, ...]
    cut: tuple[str, ...]
    limit: int
    ends: tuple[bool, ...] = ()
    """For each of `kept` and then `cut`, whether a word ends with it."""


@dataclass(frozen=True)
class Reading:
    """One template: what is wrong with it, or the texts it makes."""

    template: str
    error: str = ""
    texts: tuple[str, ...] = ()
    tokens: tuple[Tokens, ...] = ()
    """One for each text; empty while they cannot be counted."""
    total: int = 0
    """How many texts it makes in all, where `texts` is only the first of them."""
    share: float = 0.0
    """How often training draws it, of 1; 0: not told."""


@dataclass(frozen=True)
class Names:
    """The tokens of the trigger and the class word, to be coloured."""

    token: tuple[str, ...] = ()
    class_word: tuple[str, ...] = ()


def preview(training: Sequence[Reading], samples: Sequence[Reading], notes: Sequence[str], names: Names = Names()) -> str:
    """Training texts for the chosen picture in full, sample prompts in short."""
    if not training and not samples:
        return empty("Nothing to preview", "Write a training template, for example: a photo of {token} {class}, {caption}")
    warnings = "".join(message("warning", note) for note in notes)
    total = sum(reading.total or len(reading.texts) for reading in training)
    head = f"<h2>Training reads this picture as {count_of(total, 'text')}</h2>" if total else "<h2>Training templates</h2>"
    legend = LEGEND if any(reading.tokens for reading in training) else ""
    trained, sampled = "".join(_full(reading, names) for reading in training), "".join(map(_short, samples))
    return f'<div class="sd-preview">{warnings}{head}{legend}{trained}<h2>Sample prompts</h2>{sampled}</div>'


def trigger_card(report: TriggerReport, word: str) -> str:
    """The verdict, the tokens with their places, and words to take instead."""
    pieces = "".join(
        f'<i class="{"sd-known" if piece.known else "sd-word"}" title="number {piece.place:,} of {report.vocabulary:,}">{esc(piece.text)}'
        f"<small>{piece.place:,}</small></i>"
        for piece in report.pieces
    )
    chips = f'<div class="sd-chips" aria-label="Tokens of {esc(word)} and how common they are">{pieces}</div>' if pieces else ""
    buttons = "".join(
        f'<button type="button" class="sd-pick" data-action="select" data-id="{esc(name)}" title="Take {esc(name)} as trigger word">'
        f'<span translate="no">{esc(name)}</span></button>'
        for name in report.candidates
    )
    better = f'<p class="sd-better">Short and rare for this base: {buttons}</p>' if buttons else ""
    return f'<div class="sd-trigger">{message(report.level, report.text, report.hint)}{chips}{better}</div>'


def strangers_line(base_model: str, strangers: Sequence[Stranger]) -> str:
    """Which words of the prompt say nothing to the base, and what may have been meant. Nothing where there are none."""
    if not strangers:
        return ""
    shown = ", ".join(f"{one.word} ({one.near}?)" if one.near else one.word for one in strangers[:MOST_STRANGERS])
    more = ", ..." if len(strangers) > MOST_STRANGERS else ""
    return message("note", f"{base_model} was never shown: {shown}{more}.", "It passes over such words, or draws shapes of no meaning.")


def vocabulary_list(base_model: str, vocabulary: Vocabulary | None) -> str:
    """Everything that a base was shown, to be opened; nothing for bases that do not say."""
    if vocabulary is None:
        return ""
    groups = (
        ("Subjects", vocabulary.subjects),
        ("Before the word style", vocabulary.styles),
        ("Before the word background", vocabulary.backgrounds),
    )
    body = "".join(f'<p><strong>{title}</strong> <span translate="no">{esc(", ".join(words))}</span></p>' for title, words in groups)
    return f'<details class="sd-vocabulary"><summary>What {esc(base_model)} can draw</summary>{body}</details>'


def _full(reading: Reading, names: Names) -> str:
    if reading.error:
        return _problem(reading)
    shown = "".join(_text(text, reading.tokens[index] if reading.tokens else None, names) for index, text in enumerate(reading.texts))
    more = f"<small>and {reading.total - len(reading.texts)} more</small>" if reading.total > len(reading.texts) else ""
    share = f"<small>drawn {reading.share:.0%} of the time</small>" if 0 < reading.share < 1 else ""
    return f'<div class="sd-template">{shown}{more}{share}</div>'


def _text(text: str, tokens: Tokens | None, names: Names) -> str:
    shown = esc(text) if text else "<em>(an empty text)</em>"
    if tokens is None:
        return f'<div class="sd-reading"><p translate="no">{shown}</p></div>'
    count = f"{len(tokens.kept) + len(tokens.cut)} of {tokens.limit} tokens"
    if tokens.cut:
        count += f": the last {len(tokens.cut)} are cut off"
    kind = "sd-over" if tokens.cut else ""
    chips = f'<div class="sd-chips" translate="no">{_chips(tokens, names)}</div>'
    return f'<div class="sd-reading {kind}">{chips}<small>{esc(count)}</small></div>'


def _chips(tokens: Tokens, names: Names) -> str:
    """One chip a token; the pieces of one word touch each other."""
    every = (*tokens.kept, *tokens.cut)
    kinds = ["sd-cut" if index >= len(tokens.kept) else "" for index in range(len(every))]
    for wanted, kind in ((names.class_word, "sd-class"), (names.token, "sd-word")):
        for start in _places(every, wanted):
            kinds[start : start + len(wanted)] = [f"{kind} {known}".strip() for known in kinds[start : start + len(wanted)]]
    ends = tokens.ends or (True,) * len(every)
    chips = []
    for index, token in enumerate(every):
        joined = "" if ends[index] else " sd-joined"
        chips.append(f'<i class="{(kinds[index] + joined).strip()}">{esc(_readable(token))}</i>')
    return "".join(chips)


def _places(tokens: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Where a run of tokens begins, each time."""
    width = len(wanted)
    return [start for start in range(len(tokens) - width + 1) if tuple(tokens[start : start + width]) == tuple(wanted)] if width else []


def _short(reading: Reading) -> str:
    if reading.error:
        return _problem(reading)
    cut = sum(len(tokens.cut) for tokens in reading.tokens[:1])
    others = (reading.total or len(reading.texts)) - 1
    more = f" <small>and {others} more</small>" if others > 0 else ""
    note = f' <small class="sd-over">{count_of(cut, "token")} cut off</small>' if cut else ""
    return f'<p class="sd-sampled"><span translate="no">{esc(reading.texts[0])}</span>{more}{note}</p>'


def _problem(reading: Reading) -> str:
    """The table's script says the same beneath the row, which it finds by its text."""
    told = message("error", f"“{reading.template[:80]}”: {reading.error}")
    return f'<div data-mistake="{esc(reading.template)}" data-why="{esc(reading.error)}">{told}</div>'


def _readable(token: str) -> str:
    """CLIP marks a word's end with </w>; a reader needs no mark."""
    return token.removesuffix("</w>") or " "
