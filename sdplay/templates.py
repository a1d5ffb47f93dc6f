"""Prompt templates: `a photo of {token} {class}, {in the snow|on a beach}`.

    {token} {class} {caption} {style}   variables, replaced by what the user gave
    {a|b|c}                             alternatives; a branch may be empty, or hold variables and alternatives
    {{ and }}                           braces that stay in the prompt
    a prompt --n what it must not show  a negative of its own, as kohya's sample prompts have it

Inside alternatives `}}` is a literal brace only where it answers a `{{` of the same branch;
otherwise it closes two pairs, so that `{a|{token}}` reads as one expects.
"""

from __future__ import annotations

import difflib
import itertools
import math
import re
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field

from sdplay.errors import TemplateError

VARIABLES = ("token", "class", "caption", "style")

MAX_LENGTH = 4000
MAX_COMBINATIONS = 64


@dataclass(frozen=True)
class Values:
    """What the variables stand for; `class_word` fills `{class}`. An empty value leaves no gap in the prompt."""

    token: str = ""
    class_word: str = ""
    caption: str = ""
    style: str = ""


@dataclass(frozen=True)
class _Variable:
    name: str


@dataclass(frozen=True)
class _Alternatives:
    branches: tuple[_Sequence, ...]


_Sequence = tuple["str | _Variable | _Alternatives", ...]


def check(template: str) -> None:
    """Say what is wrong with a template, if anything.

    Raises TemplateError: unknown variable, unbalanced brace, longer than MAX_LENGTH, more than MAX_COMBINATIONS.
    """
    _parse(template)


def expand_all(template: str, values: Values) -> list[str]:
    """Every prompt the template stands for, in reading order, without doubles; always at least one.

    Values go in as they are: braces in a caption stay braces. Spaces and commas that empty values leave behind are removed.
    Raises TemplateError.
    """
    return list(dict.fromkeys(_clean(text) for text in _expand(_parse(template), values)))


def expand_one(template: str, values: Values, choice: int) -> str:
    """The prompt number `choice` of `expand_all`, counted round and round. Raises TemplateError."""
    prompts = expand_all(template, values)
    return prompts[choice % len(prompts)]


def count(template: str) -> int:
    """How many combinations the alternatives make, before doubles are removed. Raises TemplateError."""
    return _count(_parse(template))


def uses(template: str) -> set[str]:
    """The variables that occur in the template, in any branch. Raises TemplateError."""
    return _variables(_parse(template))


def split_negative(prompt: str) -> tuple[str, str]:
    """(prompt, its own negative): what stands before and behind ` --n `; the negative is empty where there is none."""
    text, _, negative = f" {prompt}".partition(" --n ")
    return text.strip(), negative.strip()


def token_warning(token: str, known_words: Container[str]) -> str | None:
    """Why this trigger token would teach badly, in a sentence with a better idea; None if it is fine.

    known_words: lower-case words the base model has a meaning for already.
    """
    words = token.lower().split()
    if not words:
        return "The trigger token is empty, so no prompt could call what you teach: try a made-up word such as 'sksdog'."
    if not all(word in known_words for word in words):
        return None
    plain = token.strip()
    kind = "is an ordinary word" if len(words) == 1 else "is made of ordinary words"
    rarer = "-".join(words)
    return f"{plain} {kind} the model already knows, try {rarer}-sks or a made-up word such as 'sks{''.join(words)}'."


@dataclass
class _Group:
    """A pair of braces being read; the whole template is the outermost one."""

    start: int
    branches: list[list[str | _Variable | _Alternatives]] = field(default_factory=lambda: [[]])
    literal_braces: int = 0
    """`{{` in the current branch that no `}}` has answered yet."""

    def add(self, piece: str | _Variable | _Alternatives) -> None:
        self.branches[-1].append(piece)

    def begin_branch(self) -> None:
        self.branches.append([])
        self.literal_braces = 0


_TOKENS = re.compile(r"\{\{|[{}|]|[^{}|]+")


def _parse(template: str) -> _Sequence:
    if len(template) > MAX_LENGTH:
        raise TemplateError(f"The template is {len(template)} characters long.", f"Keep it under {MAX_LENGTH}.")
    groups = [_Group(start=-1)]
    position = 0
    while match := _TOKENS.match(template, position):
        position = _read(groups, match.group(), template, position)
    if len(groups) > 1:
        raise TemplateError(f"The brace at character {groups[-1].start + 1} is never closed.", "Add a }, or write {{ for a plain brace.")
    sequence = tuple(groups[0].branches[0])
    _check_count(_count(sequence))
    return sequence


def _read(groups: list[_Group], symbol: str, template: str, position: int) -> int:
    """Take one symbol into the innermost group; returns where the next one begins."""
    group, inside = groups[-1], len(groups) > 1
    if symbol == "{{":
        group.literal_braces += 1
        group.add("{")
    elif symbol == "{":
        groups.append(_Group(start=position))
        # n nested alternatives make at least n + 1 combinations
        _check_count(len(groups) - 1)
    elif symbol == "}" and template.startswith("}}", position) and (not inside or group.literal_braces):
        group.literal_braces -= 1
        group.add("}")
        return position + 2
    elif symbol == "}":
        _close(groups, position)
    elif symbol == "|" and inside:
        group.begin_branch()
    else:
        group.add(symbol)
    return position + len(symbol)


def _close(groups: list[_Group], position: int) -> None:
    if len(groups) == 1:
        raise TemplateError(
            f"The brace at character {position + 1} closes nothing.",
            "Remove it, or write }} for a plain brace. A branch may begin with a brace after a space: { {token}|...}.",
        )
    group = groups.pop()
    groups[-1].add(_variable(group) if len(group.branches) == 1 else _Alternatives(tuple(map(tuple, group.branches))))


def _variable(group: _Group) -> _Variable:
    pieces = group.branches[0]
    name = "".join(piece for piece in pieces if isinstance(piece, str)).strip()
    if name in VARIABLES and len(pieces) == 1:
        return _Variable(name)
    place = group.start + 1
    if not name or any(not isinstance(piece, str) for piece in pieces):
        raise TemplateError(f"The braces at character {place} hold neither a variable nor alternatives.", "Write {token} or {one|another}.")
    near = difflib.get_close_matches(name.lower(), VARIABLES, n=1)
    known = "Known are " + ", ".join(f"{{{variable}}}" for variable in VARIABLES) + "; for alternatives write {one|another}."
    raise TemplateError(f"There is no variable {{{name}}} (at character {place}).", f"Did you mean {{{near[0]}}}?" if near else known)


def _check_count(combinations: int) -> None:
    if combinations > MAX_COMBINATIONS:
        raise TemplateError(
            f"The alternatives make more than {MAX_COMBINATIONS} combinations.",
            "Use fewer branches, or split the template in two.",
        )


def _count(sequence: _Sequence) -> int:
    return math.prod(sum(map(_count, piece.branches)) for piece in sequence if isinstance(piece, _Alternatives))


def _variables(sequence: _Sequence) -> set[str]:
    found = {piece.name for piece in sequence if isinstance(piece, _Variable)}
    inner = [_variables(branch) for piece in sequence if isinstance(piece, _Alternatives) for branch in piece.branches]
    return found.union(*inner)


def _expand(sequence: _Sequence, values: Values) -> list[str]:
    choices = [_expand_piece(piece, values) for piece in sequence]
    return ["".join(texts) for texts in itertools.product(*choices)]


def _expand_piece(piece: str | _Variable | _Alternatives, values: Values) -> list[str]:
    if isinstance(piece, str):
        return [piece]
    if isinstance(piece, _Variable):
        return [getattr(values, "class_word" if piece.name == "class" else piece.name)]
    return [text for branch in piece.branches for text in _expand(branch, values)]


def _clean(text: str) -> str:
    spaced = re.sub(r"\s+", " ", text)
    return re.sub(r"(?: ?,)+", ",", spaced).strip(" ,")


def shuffled_tags(text: str, keep: int, order_of: Callable[[int], Sequence[int]]) -> str:
    """The comma-separated tags of a text in another order; the first `keep` stay where they are.

    order_of: a count -> that many numbers from 0, in the new order.
    """
    tags = [tag.strip() for tag in text.split(",") if tag.strip()]
    kept, rest = tags[:keep], tags[keep:]
    return ", ".join([*kept, *(rest[index] for index in order_of(len(rest)))])
