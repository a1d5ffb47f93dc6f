"""Every text of the page that a translation needs: those in the source, by reading it, and those in presets/.

    python -m sdplay.ui.messages de

tells which of them presets/languages/de.json lacks, and which it has that nobody says any more. A message is written as the page
says it, with `{}` where something is put in: "Run {} is {}."
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from sdplay.ui.languages import Catalogue, load_catalogue
from sdplay.workspace import PRESETS
from sdplay.yaml_text import parse_yaml

PACKAGE = Path(__file__).resolve().parent.parent
UNSEEN = ("mini/", "cli/", "__main__.py", "ui/api.py", "ui/api_runs.py", "ui/messages.py", "ui/languages.py", "card.py", "film.py")
"""What no page shows: the recipe of the embedded base, the command line, the API's own words."""
PRESET_FIELDS = ("title", "why", "needs", "what", "note", "label", "takes", "look", "text", "description", "name", "about")
"""Keys of presets/*.yaml and of lessons' heads whose texts the page shows."""
PRESET_FOLDERS = ("training", "prompts", "samples", "experiments", "lessons", "styles", "bases.yaml")
SPOKEN_ATTRIBUTES = re.compile(r'(?:title|aria-label|alt|placeholder)="([^"]*)"')
SCRIPT_TEXT = re.compile(r"""(?<![\w.])['"`]([A-Z][^'"`\n]*)['"`]""")
SLOT = re.compile(r"\$\{[^}]*\}")
TAG = re.compile(r"<[^>]*>")
SENTENCE = re.compile(r"[A-Z][a-z]+[.:!?]?|.*[A-Za-z]{2,}[,;:.]? .*|.* [A-Za-z]{2,}.*", re.DOTALL)
"""A word with a capital, or at least two words."""
CODE = re.compile(
    r"^[a-z_]+(?:[-.=/(#\[]|:(?! \w+ \w+ \w+))|[a-z]+\(|--|^[.#]sd-|\\|=>|:\s*\w+;|^\{\}[-_.]|^[a-z0-9_./-]+$|^[A-Z_]+$|^\W*$"
)


def spoken() -> dict[str, str]:
    """Every message, and where it stands first."""
    found: dict[str, str] = {}
    for place, text in (*_in_source(), *_in_scripts(), *_in_presets()):
        found.setdefault(text, place)
    return found


def _in_source() -> Iterator[tuple[str, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        place = str(path.relative_to(PACKAGE))
        if not place.startswith(UNSEEN):
            for text in sorted(messages_in(path.read_text(encoding="utf-8"))):
                yield place, text


def _in_scripts() -> Iterator[tuple[str, str]]:
    for path in sorted(PACKAGE.rglob("*.js")):
        source = re.sub(r"(?m)^\s*//.*$", "", path.read_text(encoding="utf-8"))
        for quoted in sorted(set(SCRIPT_TEXT.findall(source))):
            yield from ((str(path.relative_to(PACKAGE)), part) for part in _parts(SLOT.sub("{}", quoted)) if is_message(part))


def messages_in(source: str) -> set[str]:
    """The messages of a Python file."""
    tree = ast.parse(source)
    silent = {id(node) for parent in ast.walk(tree) for node in _silent_parts(parent)}
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    texts = {text for node in ast.walk(tree) if isinstance(node, ast.Call) for text in _counted(node)}
    for node in ast.walk(tree):
        if id(node) not in silent | inner and (text := _template(node)):
            texts |= {part for part in _parts(text) if is_message(part)}
    return texts


def _counted(call: ast.Call) -> Iterator[str]:
    """What `count_of(number, "picture")` says of one and of several."""
    thing = call.args[-1] if call.args else None
    if isinstance(call.func, ast.Name) and call.func.id == "count_of" and isinstance(thing, ast.Constant):
        yield from (f"{{}} {thing.value!s}", f"{{}} {thing.value!s}s")


def _silent_parts(node: ast.AST) -> Iterator[ast.AST]:
    """Docstrings, annotations, what is logged, and patterns: nobody reads them on the page."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        yield node.value
    if isinstance(node, ast.arg) and node.annotation:
        yield from ast.walk(node.annotation)
    if isinstance(node, ast.AnnAssign):
        yield from ast.walk(node.annotation)
    if isinstance(node, ast.FunctionDef) and node.returns:
        yield from ast.walk(node.returns)
    if isinstance(node, ast.Call) and ast.unparse(node.func).startswith(("LOG.", "Response", "re.", "print", "Literal", "warnings.")):
        yield from ast.walk(node)
    if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Literal":
        yield from ast.walk(node)
    if isinstance(node, ast.Assert) and node.msg:
        yield from ast.walk(node.msg)


def _template(node: ast.AST) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_template(part) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return ""


def _parts(text: str) -> list[str]:
    """A text's pieces as a browser makes text nodes of them: between tags, in attributes that are read out, between blank lines."""
    whole = re.sub(r"(?m)^#+ (.*)$", r"\1\0", text) if "<" not in text else TAG.sub("\0", text)
    pieces = [*re.split(r"\0|\n\n", whole), *(SPOKEN_ATTRIBUTES.findall(text) if "<" in text else ())]
    return [re.sub(r"\s+", " ", piece).strip() for piece in pieces]


def is_message(text: str) -> bool:
    """Whether people read it, rather than programs."""
    bare = text.replace("{}", "").strip()
    return bool(SENTENCE.fullmatch(text)) and not CODE.search(text) and bool(re.search(r"[A-Za-z]{2}", bare))


def _in_presets() -> Iterator[tuple[str, str]]:
    for folder in PRESET_FOLDERS:
        for path in sorted((PRESETS / folder).rglob("*") if (PRESETS / folder).is_dir() else [PRESETS / folder]):
            if path.suffix in (".yaml", ".md"):
                place = str(path.relative_to(PRESETS))
                head, _, body = path.read_text(encoding="utf-8").removeprefix("---\n").partition("\n---\n")
                yield from ((place, part) for value in _fields(parse_yaml(head)) for part in _parts(value))
                if path.suffix == ".md":
                    yield from ((place, part) for part in lesson_parts(body))


def _fields(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(inner, str) and key in PRESET_FIELDS:
                yield inner
            yield from _fields(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _fields(inner)


def lesson_parts(body: str) -> list[str]:
    """The pieces of a lesson's Markdown, as the page makes text nodes of them: split at what is bold, slanted or code."""
    blocks = re.split(r"\n\n|\n(?=- |\d\. |\|)", body)
    plain = [re.sub(r"^(?:- |\d\. |#+ )", "", block.strip()) for block in blocks]
    pieces = [piece for block in plain for piece in re.split(r"\*\*|\*|`[^`]*`|\|", re.sub(r"\s+", " ", block))]
    return [piece.strip() for piece in pieces if re.search(r"[A-Za-z]{2}", piece)]


def report(catalogue: Catalogue) -> tuple[list[str], list[str]]:
    """Messages without a translation, and translations of nothing."""
    texts = spoken()
    return sorted(set(texts) - set(catalogue.texts)), sorted(set(catalogue.texts) - set(texts) - set(catalogue.more))


if __name__ == "__main__":
    missing, stale = report(load_catalogue(sys.argv[1]))
    print(f"{len(missing)} missing", *missing, f"{len(stale)} that nobody says", *stale, sep="\n")
