"""Drawn pictures -> cards with their settings."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from io import BytesIO

from PIL import Image

from sdplay.asked import Coming, Drawn
from sdplay.ui.files import file_url
from sdplay.ui.views.text import count_of, empty, esc, message, picture


def nothing_drawn() -> str:
    """What the place of the pictures says at first."""
    return empty("Nothing drawn yet", "Write a prompt and press Draw. Every picture is a PNG that knows how it was made.")


def drawing(drawn: Sequence[Drawn], coming: Coming, wanted: int, waits_for: str) -> str:
    """What is there so far, while the rest is drawn. waits_for: why nothing has begun, if it has not."""
    told = waits_for or f"{len(drawn)} of {count_of(wanted, 'picture')}"
    step = f"<span>step {coming.step} of {coming.steps}</span>" if coming.pictures else ""
    done = len(drawn) + len(coming.pictures) * coming.step / max(1, coming.steps)
    body = "".join([*map(_card, drawn), *map(_coming, coming.pictures)])
    return (
        f'<div class="sd-card sd-status sd-running"><div class="sd-head"><span class="sd-dot"></span><strong>Drawing</strong>'
        f'<span>{esc(told)}</span>{step}</div><progress max="{wanted}" value="{done:.2f}" aria-label="Pictures drawn"></progress></div>'
        f'<div class="sd-grid sd-pictures">{body}</div>'
    )


def cards(drawn: Sequence[Drawn], settings: Mapping[str, object], *, cancelled: bool = False) -> str:
    """The pictures, newest request first: each opens in full, gives its settings back, or becomes the start picture."""
    facts = "".join(f"<span>{esc(name)}: {esc(value)}</span>" for name, value in settings.items())
    told = f"Drew {count_of(len(drawn), 'picture')}."
    told = f"Cancelled. {told}" if cancelled else told
    body = "".join(_card(shot) for shot in drawn)
    return f'{message("good", told)}<div class="sd-facts">{facts}</div><div class="sd-grid sd-pictures">{body}</div>'


def _coming(preview: Image.Image) -> str:
    """As large as it will be, and as soft as it is known. It is nowhere on disk."""
    png = BytesIO()
    preview.save(png, "PNG")
    shown = picture(f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}", "A picture that is being drawn")
    return f'<div class="sd-item sd-coming"><div class="sd-thumb">{shown}</div></div>'


def _card(shot: Drawn) -> str:
    name = shot.path.name
    url = file_url("pictures", "drawn", name)
    buttons = (
        f'<button type="button" class="sd-link" data-action="select" data-id="{esc(name)}">Use its settings</button>'
        f'<button type="button" class="sd-link" data-action="edit" data-id="{esc(name)}">Start from it</button>'
    )
    shown = picture(url, f"{shot.prompt}, seed {shot.seed}", link=url)
    return f'<div class="sd-item"><div class="sd-thumb">{shown}</div><small>seed {shot.seed}</small>{buttons}</div>'
