"""A prompt set as a table to edit, and the library of styles."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sdplay.errors import TemplateError
from sdplay.prompt_rows import MAX_NAME, MAX_WEIGHT, USES, PromptRow, Use
from sdplay.styles import Style, key_of
from sdplay.ui.files import file_url
from sdplay.ui.views.text import empty, esc, message, picture

USE_TITLES: dict[Use, str] = {"train": "Train", "sample": "Sample", "compare": "Compare"}
USE_HELP: dict[Use, str] = {
    "train": "Training shows pictures with this text",
    "sample": "Drawn while training",
    "compare": "Drawn in comparisons",
}

COPY_SIGN = (
    '<svg viewBox="0 0 16 16" width="15" height="15" fill="none" stroke="currentColor" stroke-width="1.5" aria-hidden="true">'
    '<rect x="5.5" y="5.5" width="8" height="8" rx="1.5"/><path d="M10.5 3.5v-1h-8v8h1"/></svg>'
)
TABLE_JS = """
const rows = () => [...element.querySelectorAll('.sd-row')].filter(row => !row.hidden);
const read = row => ({
  text: row.querySelector('[name=text]').value, name: row.querySelector('[name=name]').value,
  negative: row.querySelector('[name=negative]').value, weight: row.querySelector('[name=weight]').value,
  uses: [...row.querySelectorAll('[name=use]:checked')].map(box => box.value)
});
let waiting;
const send = () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => trigger('edit', {rows: JSON.stringify(rows().map(read))}), 150);
};
const fresh = source => {
  const made = source.cloneNode(true);
  made.hidden = false;
  for (const field of source.querySelectorAll('textarea, input')) {
    const twin = made.querySelector(`[name=${field.name}]` + (field.type === 'checkbox' ? `[value=${field.value}]` : ''));
    twin.value = field.value; twin.checked = field.checked;
  }
  return made;
};
const moves = {
  up: row => row.previousElementSibling?.classList.contains('sd-row') && row.previousElementSibling.before(row),
  down: row => row.nextElementSibling && !row.nextElementSibling.hidden && row.nextElementSibling.after(row),
  copy: row => row.after(fresh(row)),
  remove: row => row.remove()
};
element.addEventListener('click', event => {
  const button = event.target.closest('button[data-move]');
  if (!button) return;
  if (button.dataset.move === 'add') {
    const blank = element.querySelector('.sd-row[hidden]'), made = fresh(blank);
    blank.before(made);
    made.querySelector('[name=text]').focus();
    return;
  }
  moves[button.dataset.move](button.closest('.sd-row'));
  if (button.isConnected) button.focus();
  send();
});
element.addEventListener('change', event => {
  const row = event.target.closest('.sd-row');
  if (event.target.name === 'use' && !row.querySelector('[name=use]:checked')) event.target.checked = true;
  send();
});
const panel = element.closest('[role=tabpanel]') ?? document.body;
const mark = () => {
  const wrong = new Map([...panel.querySelectorAll('[data-mistake]')].map(({dataset}) => [dataset.mistake, dataset.why]));
  for (const row of rows()) {
    const field = row.querySelector('[name=text]'), why = wrong.get(field.value.trim().replace(/\\s+/g, ' ')) ?? '';
    if ((row.dataset.why ?? '') === why) continue;
    row.dataset.why = why;
    field.setAttribute('aria-invalid', String(why !== ''));
    row.querySelector('.sd-mistake')?.remove();
    if (why) row.append(Object.assign(document.createElement('p'), {className: 'sd-mistake', textContent: why}));
  }
};
new MutationObserver(mark).observe(panel, {childList: true, subtree: true});
"""
"""Rows are moved in the browser at once; what the table holds is sent after every change. What the preview finds wrong with a template is
said beneath its row, too."""


def table(rows: Sequence[PromptRow]) -> str:
    """Every row with its fields, a hidden blank one, and a button that adds."""
    blank = PromptRow("", ("sample", "compare"))
    heads = "".join(f'<span title="{esc(USE_HELP[use])}">{USE_TITLES[use]}</span>' for use in USES)
    names = "<span>Template</span><span>Name</span><span>Negative</span>"
    head = f'<div class="sd-row-head" aria-hidden="true">{names}{heads}<span>Weight</span></div>'
    body = "".join(_row(row) for row in rows)
    add = '<button type="button" class="sd-quiet" data-move="add">Add a row</button>'
    return f'<div class="sd-rows">{head}{body}{_row(blank, hidden=True)}</div>{add}'


def table_problem(error: TemplateError) -> str:
    """What a table says whose text cannot be read."""
    return message("error", error.message, error.hint) + message("note", "Switch to Text to mend it.")


def rows_of(text: str) -> list[PromptRow]:
    """The rows that the table's script sent; empty ones are left out. Raises TemplateError."""
    try:
        given = json.loads(text)
        return [_row_of(fields) for fields in given if str(fields["text"]).strip()]
    except (ValueError, TypeError, KeyError) as error:
        raise TemplateError("The table could not be read.", "Reload the page.") from error


def style_grid(styles: Sequence[Style], drawn: Collection[str], base_model: str, *, busy: bool, query: str = "") -> str:
    """A card for each style that has all words of the query in its name or prompt; without a picture it says that one is on its way."""
    if not styles:
        return empty("No styles for this base", "Put a YAML file into the styles folder of the workspace.")
    words = query.lower().split()
    found = [style for style in styles if all(word in f"{style.title} {style.prompt}".lower() for word in words)]
    if not found:
        return empty(f"None of {len(styles)} styles is called so", "Take a word of their names or prompts.")
    cards = "".join(_style(style, style.id in drawn, key_of(base_model), busy=busy) for style in found)
    return f'<div class="sd-styles">{cards}</div>'


def _style(style: Style, drawn: bool, key: str, *, busy: bool) -> str:
    blank = '<span class="sd-blank sd-pending"></span>' if busy else '<span class="sd-blank"></span>'
    image = picture(file_url("styles", key, f"{style.id}.png"), "") if drawn else blank
    return (
        f'<button type="button" class="sd-shown" data-action="select" data-id="{esc(style.id)}" title="{esc(style.prompt)}" translate="no">'
        f'{image}<span translate="yes">{esc(style.title)}</span></button>'
    )


def _row_of(fields: Mapping[str, Any]) -> PromptRow:
    try:
        weight = float(fields["weight"] or 1)
    except ValueError:
        weight = 0.0
    if not 0 < weight <= MAX_WEIGHT:
        raise TemplateError(f"The weight {str(fields['weight'])[:20]!r} cannot be used.", f"Take more than 0 and at most {MAX_WEIGHT:g}.")
    uses = tuple(use for use in USES if use in fields["uses"])
    plain = {key: " ".join(str(fields[key]).split()) for key in ("text", "name", "negative")}
    return PromptRow(plain["text"], uses, plain["name"][:MAX_NAME], plain["negative"], weight)


def _row(row: PromptRow, *, hidden: bool = False) -> str:
    boxes = "".join(
        f'<label class="sd-use" title="{esc(USE_HELP[use])}">'
        f'<input type="checkbox" name="use" value="{use}"{" checked" if use in row.uses else ""}>'
        f"<span>{USE_TITLES[use]}</span></label>"
        for use in USES
    )
    moves = "".join(
        f'<button type="button" data-move="{move}" title="{title}" aria-label="{title}">{sign}</button>'
        for move, title, sign in (
            ("up", "Move up", "↑"), ("down", "Move down", "↓"), ("copy", "Duplicate", COPY_SIGN), ("remove", "Delete", "×"),
        )
    )  # fmt: skip
    weight = f"{row.weight:g}" if row.weight != 1 else ""
    return (
        f'<div class="sd-row"{" hidden" if hidden else ""}>'
        f'<textarea name="text" rows="1" aria-label="Template" placeholder="a photo of &#123;token&#125; &#123;class&#125;">'
        f"{esc(row.text)}</textarea>"
        f'<input name="name" value="{esc(row.name)}" aria-label="Name" placeholder="name" maxlength="{MAX_NAME}">'
        f'<input name="negative" value="{esc(row.negative)}" aria-label="Negative prompt of this row" placeholder="negative">'
        f'{boxes}<input name="weight" value="{weight}" inputmode="decimal" aria-label="Weight in training" placeholder="1" '
        f'title="How often training draws it beside the others">'
        f'<span class="sd-moves">{moves}</span></div>'
    )
