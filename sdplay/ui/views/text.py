"""Small pieces that every view is made of."""

from __future__ import annotations

import html
import time
from collections.abc import Sequence

_TEMPLATE_SIGNS = {ord("{"): "&#123;", ord("}"): "&#125;", ord("$"): "&#36;", ord("`"): "&#96;"}


def esc(text: object) -> str:
    """User-made text, harmless inside HTML and inside the templates that the page's HTML goes through."""
    return html.escape(str(text), quote=True).translate(_TEMPLATE_SIGNS)


def duration(seconds: float) -> str:
    """`41 s`, `5:48 min`, `2:03 h`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"


def age(since: float, now: float | None = None) -> str:
    """How long ago a time in seconds since 1970 was: `just now`, `12 min ago`, `3 h ago`, `5 days ago`."""
    seconds = (time.time() if now is None else now) - since
    if seconds < 60:
        return "just now"
    if seconds < 3600:
        return f"{int(seconds / 60)} min ago"
    if seconds < 86_400:
        return f"{int(seconds / 3600)} h ago"
    days = int(seconds / 86_400)
    return "1 day ago" if days == 1 else f"{days} days ago"


def megabytes(num_bytes: int) -> str:
    """`48 KB`, `3.2 MB`."""
    return f"{num_bytes / 1024:.0f} KB" if num_bytes < 2**20 else f"{num_bytes / 2**20:.1f} MB"


def count_of(number: int, thing: str) -> str:
    """`1 picture`, `16 pictures`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def message(kind: str, text: str, hint: str = "") -> str:
    """A line with a sign: kind is good, note, warning or error."""
    return f'<p class="sd-line sd-{kind}"><span class="sd-sign" aria-hidden="true"></span><span>{esc(text)} <em>{esc(hint)}</em></span></p>'


def empty(title: str, text: str) -> str:
    """What a place says that has nothing to show yet: what will be here, and what to do."""
    return f'<div class="sd-empty"><strong>{esc(title)}</strong><span>{esc(text)}</span></div>'


def picture(url: str, alt: str, *, link: str = "") -> str:
    """An <img>, loaded when it comes into view; with `link` a click opens that."""
    image = f'<img loading="lazy" src="{esc(url)}" alt="{esc(alt)}">'
    return f'<a href="{esc(link)}" target="_blank" rel="noopener">{image}</a>' if link else image


def matrix(name: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """A table whose headers stay in sight. `columns` and row heads are HTML, cells are HTML; `name` says what it is."""
    heads = "".join(f'<th scope="col">{column}</th>' for column in columns)
    body = "".join(f'<tr><th scope="row">{head}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>' for head, cells in rows)
    return (
        f'<div class="sd-scroll" tabindex="0" role="region" aria-label="{esc(name)}">'
        f'<table class="sd-matrix"><thead><tr><td></td>{heads}</tr></thead><tbody>{body}</tbody></table></div>'
    )
