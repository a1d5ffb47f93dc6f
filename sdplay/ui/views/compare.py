"""Comparison -> what the viewer shows, progress line, downloads, the list of earlier ones."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from typing import Any

from sdplay.compare import Comparison
from sdplay.drawing_plan import Effort
from sdplay.ui.files import file_url
from sdplay.ui.views.text import count_of, duration, empty, esc, message, picture
from sdplay.viewer import short_label, viewer_data
from sdplay.votes import Ballot, Outcome, count_pairs, outcome

STATUS = {
    "waiting": "Waiting for the model",
    "drawing": "Drawing",
    "finished": "Done",
    "cancelled": "Cancelled; finished pictures stay",
    "failed": "Failed",
}
THUMBNAILS = 4


def no_comparison() -> str:
    """Where a grid would be."""
    return empty("No comparison yet", "Choose runs above and press Draw. The base is always the first column, from the same noise.")


def viewer_value(comparison: Comparison, ballot: Ballot | None) -> str:
    """What the viewer is given, as JSON; nothing about whose a picture of a blind test is, until its end."""
    data = viewer_data(comparison, lambda file: file_url("comparisons", comparison.id, file))
    data["pairs"] = count_pairs(comparison)
    data["blind"] = blind_data(comparison, ballot) if ballot else None
    return json.dumps(data, ensure_ascii=False)


def blind_data(comparison: Comparison, ballot: Ballot) -> dict[str, Any]:
    """A blind test as the viewer takes it."""
    texts = {cell.file: comparison.config.prompts[cell.prompt] for cell in comparison.drawn}
    pairs = [
        {
            "left": file_url("comparisons", comparison.id, f"blind/{ballot.token(pair.left_file)}.png"),
            "right": file_url("comparisons", comparison.id, f"blind/{ballot.token(pair.right_file)}.png"),
            "text": texts.get(pair.left_file, ""),
        }
        for pair in ballot.pairs
    ]
    ended = outcome_data(outcome(ballot, comparison.labels)) if ballot.revealed else None
    mark = sha256(ballot.salt.encode()).hexdigest()[:12]
    return {"id": mark, "pairs": pairs, "votes": dict(ballot.votes), "outcome": ended}


def outcome_data(result: Outcome) -> dict[str, Any]:
    """A result as JSON values, with a sentence that says it."""
    standings = [{**asdict(one), "label": short_label(one.label)} for one in result.standings]
    duels = [{**asdict(one), "first": short_label(one.first), "second": short_label(one.second)} for one in result.duels]
    return {"votes": result.votes, "standings": standings, "duels": duels, "verdict": verdict(result)}


def verdict(result: Outcome) -> str:
    """What the choices show, and whether they show it clearly."""
    best, second = result.standings[:2]
    duel = next(duel for duel in result.duels if {duel.first, duel.second} == {best.label, second.label})
    rate, low = (duel.rate.rate, duel.rate.low) if duel.first == best.label else (1 - duel.rate.rate, 1 - duel.rate.high)
    names = short_label(best.label), short_label(second.label)
    if not duel.wins + duel.losses + duel.ties:
        return f"No clear winner: {names[0]} and {names[1]} have not met yet. More pairs would tell."
    if low > 0.5:
        return f"{names[0]} wins: preferred to {names[1]} in {rate:.0%} of the choices, more than chance explains."
    return f"No clear winner: {names[0]} against {names[1]} is {rate:.0%}, which chance alone could make. More pairs would tell."


def progress_line(comparison: Comparison) -> str:
    """How far it is, and what it was drawn with."""
    config, done = comparison.config, len(comparison.drawn)
    drawing = config.drawing
    facts = f"{config.base_model}, {drawing.steps} steps, guidance {drawing.guidance_scale:g}, {comparison.created.replace('T', ' ')}"
    if comparison.status == "failed" and not done:
        return message("error", comparison.message or "Failed.")
    share = 100 * done / config.num_cells
    left = config.num_cells - len(comparison.cells)
    eta = duration(left * drawing.steps * comparison.seconds_per_step) + " left" if not comparison.ended and done else ""
    return (
        f'<div class="sd-card sd-status sd-{esc(comparison.status)}"><div class="sd-head"><span class="sd-dot"></span>'
        f"<strong>{esc(STATUS[comparison.status])}</strong>"
        f"<span>{done} of {count_of(config.num_cells, 'picture')}</span><span>{esc(eta)}</span></div>"
        f'<progress max="100" value="{share:.1f}" aria-label="Pictures done"></progress>'
        f'<div class="sd-facts"><span>{esc(facts)}</span></div>'
        f"{message('warning', comparison.message) if comparison.message else ''}</div>"
    )


def effort_line(effort: Effort, places: int, seconds_per_step: float | None, sizes: Mapping[str, int]) -> str:
    """What Draw would do, said before: `8 pictures: 2 columns x 4 prompts x 1 seed. About 11 s.` sizes: how many of what."""
    product = " x ".join(count_of(number, thing) for thing, number in sizes.items())
    same = f"; of {places} places some show the same picture, which is drawn once" if places > effort.pictures else ""
    if seconds_per_step is None:
        time = "The time is known after the first pictures with this base."
    else:
        time = f"About {duration(max(1.0, effort.steps * seconds_per_step))}."
    return message("good", f"{count_of(effort.pictures, 'picture')}: {product}{same}.", time)


def downloads(comparison: Comparison) -> str:
    """Links to the files of a comparison that has ended."""
    if not comparison.ended or not comparison.drawn:
        return ""
    names = {"grid.png": "Grid as one picture", "index.html": "Grid as a web page", "cells.zip": "All pictures (zip)"}
    links = "".join(
        f'<a class="sd-button" href="{file_url("comparisons", comparison.id, name)}?n={len(comparison.drawn)}" download>{text}</a>'
        for name, text in names.items()
    )
    return f'<div class="sd-downloads">{links}</div>'


def gallery(comparisons: Sequence[Comparison], shown: str) -> str:
    """Earlier comparisons, newest first, as cards that open them."""
    if len(comparisons) < 2:
        return ""
    cards = "".join(_card(comparison, comparison.id == shown) for comparison in comparisons)
    return f'<h2>Comparisons</h2><div class="sd-grids" role="group" aria-label="Comparisons">{cards}</div>'


def comparison_label(comparison: Comparison) -> str:
    """One line for the list of past comparisons."""
    count = count_of(comparison.config.num_cells, "picture")
    others = [short_label(label) for label in comparison.labels if label != "base"]
    return f"{comparison.created[:16].replace('T', ' ')} · {', '.join(others) or 'base'} · {count}"


def _card(comparison: Comparison, is_shown: bool) -> str:
    cells = comparison.drawn
    first = [cell for cell in cells if cell.place[1:] == cells[0].place[1:]] if cells else []
    picked = list(dict.fromkeys([*first[:1], *first[-(THUMBNAILS - 1) :]])) if first else []
    thumbs = "".join(picture(file_url("comparisons", comparison.id, cell.file, width=160), "") for cell in picked)
    return (
        f'<button type="button" class="sd-made" data-action="select" data-id="{esc(comparison.id)}" aria-pressed="{str(is_shown).lower()}">'
        f'<span class="sd-strip">{thumbs}</span><span translate="no">{esc(comparison_label(comparison))}</span></button>'
    )
