"""One row of a prompt set, as a line of text: the template, then flags.

    a photo of {token} {class} --weight 2              drawn twice as often in training as a row without a weight
    {token} {class} as a king --n blurry               with a negative prompt of its own, as kohya's sample prompts have it
    {token} {class} on a beach --name Beach            what the table calls it
    {class} --only compare                             a sample prompt that comparisons draw and training does not; or the reverse

The table on the page, the files and the two text fields all hold these lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args

from sdplay import templates
from sdplay.errors import TemplateError

Use = Literal["train", "sample", "compare"]
USES: tuple[Use, ...] = get_args(Use)
MAX_WEIGHT = 100.0
MAX_NAME = 60
_FLAG = re.compile(r"(?:^|\s)--([A-Za-z]+)(?=\s|$)")
_FLAGS = ("n", "name", "weight", "only")


@dataclass(frozen=True)
class PromptRow:
    """A template, what it is called, and where it is used."""

    text: str
    uses: tuple[Use, ...]
    name: str = ""
    negative: str = ""
    weight: float = 1.0
    """How often training draws it beside the other training templates; > 0."""

    @property
    def prompt(self) -> str:
        """The template with its own negative, as drawing reads it."""
        return f"{self.text} --n {self.negative}" if self.negative else self.text


def parse_row(line: str, uses: tuple[Use, ...]) -> PromptRow:
    """A line's template and flags. `uses`: what lines of this list are for, unless --only says less. Raises TemplateError."""
    pieces = _FLAG.split(line)
    values = {flag: value.strip() for flag, value in zip(pieces[1::2], pieces[2::2], strict=True)}
    for flag, value in values.items():
        if flag not in _FLAGS:
            raise TemplateError(f"There is no flag --{flag}.", "Known are --n, --weight, --name and --only.")
        if not value:
            raise TemplateError(f"Nothing stands behind --{flag}.", "Write its value there, or remove it.")
    only = values.get("only")
    if only is not None and only not in uses:
        raise TemplateError(f"--only {only[:20]} means nothing here.", f"Write --only {' or --only '.join(uses)}.")
    chosen = (cast(Use, only),) if only else uses
    return PromptRow(pieces[0].strip(), chosen, values.get("name", "")[:MAX_NAME], values.get("n", ""), _weight(values.get("weight", "1")))


def parse_rows(train: Iterable[str], sample: Iterable[str]) -> list[PromptRow]:
    """The rows of both lists; one that stands in both is one row. Raises TemplateError."""
    rows: dict[tuple[str, str, str], PromptRow] = {}
    lines = [parse_row(line, ("train",)) for line in train] + [parse_row(line, ("sample", "compare")) for line in sample]
    for row in lines:
        key = (row.text, row.name, row.negative)
        known = rows.get(key)
        weight = known.weight if known else row.weight
        uses = tuple(use for use in USES if use in row.uses or (known and use in known.uses))
        rows[key] = replace(row, uses=uses, weight=weight)
    return list(rows.values())


def to_lines(rows: Sequence[PromptRow]) -> tuple[list[str], list[str]]:
    """(training templates, sample prompts) as `parse_rows` reads them. A row that is used nowhere is in neither."""
    train = [_line(row, weight=row.weight) for row in rows if "train" in row.uses]
    sample = []
    for row in rows:
        drawn = [use for use in row.uses if use != "train"]
        if drawn:
            sample.append(_line(row, only=drawn[0] if len(drawn) == 1 else ""))
    return train, sample


def _line(row: PromptRow, *, weight: float = 1.0, only: str = "") -> str:
    flags = {"n": row.negative, "weight": f"{weight:g}" if weight != 1 else "", "name": row.name, "only": only}
    return " ".join([row.text, *(f"--{flag} {value}" for flag, value in flags.items() if value)])


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        raise TemplateError(f"The weight {text[:20]!r} is not a number.", "Write it like --weight 2.") from None
    if not 0 < weight <= MAX_WEIGHT:
        raise TemplateError(f"The weight {weight:g} is out of range.", f"Take more than 0 and at most {MAX_WEIGHT:g}.")
    return weight


def check_row(row: PromptRow) -> None:
    """Say what is wrong with a row's texts, if anything. Raises TemplateError."""
    if not row.text:
        raise TemplateError("The template is empty.", "Write something there, or remove it.")
    templates.check(row.prompt)
