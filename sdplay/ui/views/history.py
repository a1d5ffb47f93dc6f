"""Run summaries -> the list of runs, the trash, what two runs differ in; adapters -> the library."""

from __future__ import annotations

from collections.abc import Sequence

from sdplay.history import KEPT_DAYS, Deleted, RunSummary
from sdplay.library import Adapter
from sdplay.ui.files import file_url
from sdplay.ui.views.text import age, count_of, duration, empty, esc, megabytes, message, picture

ORIGINS = {"run": "your run", "file": "a file", "hub": "from the Hub"}


def run_list(rows: Sequence[RunSummary], total: int, chosen: str) -> str:
    """Runs with thumbnails; a click on a name chooses one, a click on the star stars it. total: how many match in all."""
    if not rows:
        if total:
            return empty("No run fits", "Search for other words, or show all runs.")
        return empty("No runs yet", "Train one: its settings, pictures and files will be kept here.")
    more = ""
    if total > len(rows):
        more = f'<button type="button" class="sd-button sd-more" data-action="more">Show more of {total}</button>'
    items = "".join(_item(row, row.id == chosen) for row in rows)
    return f'<ul class="sd-runs" tabindex="0" aria-label="Runs">{items}</ul>{more}'


def disk_line(rows: Sequence[RunSummary], trash: Sequence[Deleted]) -> str:
    """How much all runs and the trash take."""
    told = f"{count_of(len(rows), 'run')}, {megabytes(sum(row.num_bytes for row in rows))}"
    if trash:
        told += f"; {len(trash)} in the trash, {megabytes(sum(entry.num_bytes for entry in trash))}"
    return f'<p class="sd-why">{esc(told)}</p>'


def trash_list(trash: Sequence[Deleted]) -> str:
    """What can be brought back."""
    if not trash:
        return '<p class="sd-why">The trash is empty.</p>'
    items = "".join(
        f'<li>{_names(entry.id)}<span class="sd-why">{megabytes(entry.num_bytes)}, {esc(age(entry.deleted_at))}</span>'
        f'<button type="button" class="sd-link" data-action="restore" data-id="{esc(entry.id)}">Restore</button></li>'
        for entry in trash
    )
    return f'<ul class="sd-trash">{items}</ul><p class="sd-why">Runs stay here for {KEPT_DAYS} days.</p>'


def difference_table(found: Sequence[tuple[str, object, object]], first: str, second: str) -> str:
    """Settings that differ, side by side."""
    if not found:
        return message("good", "Both runs were given the same settings.")
    body = "".join(
        f'<tr><th scope="row">{esc(name)}</th><td>{esc(_plain(one))}</td><td>{esc(_plain(other))}</td></tr>' for name, one, other in found
    )
    heads = f'<th scope="col">Setting</th><th scope="col">{esc(first)}</th><th scope="col">{esc(second)}</th>'
    return (
        '<div class="sd-scroll" tabindex="0" role="region" aria-label="Settings that differ"><table class="sd-table sd-diff">'
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def library_grid(entries: Sequence[Adapter], total: int) -> str:
    """Adapters as cards; Mix puts one into the mix, Remove deletes a file that was brought."""
    if not entries:
        if total:
            return empty("No adapter fits", "Search for other words.")
        return empty("No adapters yet", "Train one, add a .safetensors file, or fetch one from the Hub.")
    return f'<div class="sd-library">{"".join(map(_card, entries))}</div>'


def _item(row: RunSummary, chosen: bool) -> str:
    shown = picture(file_url("runs", row.id, row.picture, width=160), f"A sample of {row.name}") if row.picture else ""
    starred = "true" if row.star else "false"
    star = (
        f'<button type="button" class="sd-star" data-action="star" data-id="{esc(row.id)}" aria-pressed="{starred}" '
        f'aria-label="Star {esc(row.name)}">{"★" if row.star else "☆"}</button>'
    )
    loss = "" if row.loss is None else f"loss {row.loss:.4f}"
    took = duration(row.worked_seconds) if row.worked_seconds else ""
    told = (
        _facts(f"{row.step}/{row.steps}", row.method.replace("_", " "))
        + _names(row.base.split("/")[-1], row.dataset)
        + _facts(loss, took, megabytes(row.num_bytes), age(row.submitted_at))
    )
    note = f'<p class="sd-note-text" translate="no">{esc(row.note)}</p>' if row.note else ""
    mark = ' aria-current="true"' if chosen else ""
    return (
        f'<li class="sd-{esc(row.status)}"{mark}><div class="sd-thumb">{shown}</div><div class="sd-run-text">'
        f'<div class="sd-run-name"><button type="button" class="sd-link" data-action="select" data-id="{esc(row.id)}" '
        f'translate="no">{esc(row.name)}</button>'
        f'<span class="sd-state"><span class="sd-dot"></span> {esc(row.status)}</span></div>'
        f'<div class="sd-facts">{told}</div>{note}</div>{star}</li>'
    )


def _facts(*facts: str) -> str:
    return "".join(f"<span>{esc(fact)}</span>" for fact in facts if fact)


def _names(*names: str) -> str:
    """What nobody translates: the names of bases, data sets, files."""
    return "".join(f'<span translate="no">{esc(name)}</span>' for name in names if name)


def _card(entry: Adapter) -> str:
    facts = entry.facts
    if entry.origin == "run":
        url = file_url("runs", entry.column, entry.picture, width=160) if entry.picture else ""
    else:
        url = file_url("adapters", "preview", entry.picture, width=160) if entry.picture else ""
    shown = picture(url, f"Drawn with {entry.title}") if url else '<span class="sd-missing"></span>'
    told = (
        (_names(facts.source) or _facts(ORIGINS[entry.origin]))
        + _facts(facts.method.replace("_", " "))
        + _names(facts.family.split("/")[-1])
        + _facts(f"rank {facts.rank}" if facts.rank else "", megabytes(entry.num_bytes) if entry.num_bytes else "")
    )
    trigger = f"<p>called by <code>{esc(facts.trigger)}</code></p>" if facts.trigger else ""
    problem = message("warning", facts.problem) if facts.problem else ""
    column = esc(entry.column)
    mix = f'<button type="button" class="sd-link" data-action="mix" data-id="{column}">Mix</button>'
    remove = (
        f'<button type="button" class="sd-link" data-action="remove" data-id="{column}">Remove</button>' if entry.origin != "run" else ""
    )
    return (
        f'<article class="sd-adapter"><div class="sd-thumb">{shown}</div>'
        f'<strong translate="no">{"★ " if entry.star else ""}{esc(entry.title)}</strong>'
        f'<div class="sd-facts">{told}</div>{trigger}{problem}'
        f'<div class="sd-card-actions">{mix if not facts.problem else ""}{remove}</div></article>'
    )


def _plain(value: object) -> str:
    if value is None or value == "":
        return "–"
    return "\n".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
