"""Is a trigger word a good one for a base? What it is made of, whether the base knows it, and better ones.

CLIP's vocabulary is numbered in the order in which byte pairs were merged, the most frequent first (Sennrich et al. 2016,
arXiv 1508.07909, sec. 3.2), so a token's number says how common it is. A good trigger is short and rare, as in DreamBooth
(Ruiz et al. 2022, arXiv 2208.12242, sec. 3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

MOST_CANDIDATES, MOST_TOKENS = 5, 4
ORDINARY_UP_TO = 0.8
"""A whole word among the first four fifths of the vocabulary is one that the base has a meaning for."""
PROPOSED = (
    "nlwx", "pln", "hns", "bsp", "spp", "gsc", "csg", "npt", "brt", "tvc", "bdg", "szn",
    "ohwx", "zwx", "qvz", "xjk", "kvq", "vqx", "zkz", "wqj", "jqv", "xzq", "zubq", "vorx", "brilq", "quvo", "zoxi", "ixq",
)  # fmt: skip
"""Short words without a meaning. The first line is single rare tokens of CLIP's own vocabulary, from its last tenth, without the
names and abbreviations that most of those are; the second is made up. What they are for a base, its own tokenizer says."""


@dataclass(frozen=True)
class Piece:
    """A token of the word."""

    text: str
    place: int
    """Its number in the base's vocabulary: the lower, the more common."""
    known: bool
    """Whether it is a whole word that the base has a meaning for."""


@dataclass(frozen=True)
class TriggerReport:
    """What there is to say about a trigger word."""

    level: Literal["good", "note", "warning"]
    text: str
    hint: str
    pieces: tuple[Piece, ...]
    vocabulary: int
    candidates: tuple[str, ...]
    """Better ones: short for this base, and none of their tokens a word it knows."""


Tokenize = Callable[[str], list[str]]
"""A text as the vocabulary's tokens, `</w>` included."""


def judge(word: str, vocabulary: Mapping[str, int], tokenize: Tokenize) -> TriggerReport:
    """Judge a trigger word. The same word and base give the same report always."""
    pieces = tuple(_piece(token, vocabulary) for token in tokenize(word))
    level, text, hint = _verdict(word.strip(), pieces, len(vocabulary))
    return TriggerReport(level, text, hint, pieces, len(vocabulary), tuple(candidates(vocabulary, tokenize, taken=word)))


def candidates(vocabulary: Mapping[str, int], tokenize: Tokenize, *, taken: str = "") -> list[str]:
    """Up to MOST_CANDIDATES of PROPOSED that are short for this base and hold no word it knows: fewest tokens first, then the rarest."""
    ranked = []
    for word in PROPOSED:
        pieces = [_piece(token, vocabulary) for token in tokenize(word)]
        if word != taken.strip().lower() and len(pieces) <= MOST_TOKENS and not any(piece.known for piece in pieces):
            ranked.append((len(pieces), -min(piece.place for piece in pieces), word))
    return [word for *_, word in sorted(ranked)[:MOST_CANDIDATES]]


def _piece(token: str, vocabulary: Mapping[str, int]) -> Piece:
    place = vocabulary.get(token, len(vocabulary))
    plain = token.removesuffix("</w>")
    known = token.endswith("</w>") and len(plain) > 2 and place < ORDINARY_UP_TO * len(vocabulary)
    return Piece(plain, place, known)


def _verdict(
    word: str, pieces: tuple[Piece, ...], size: int
) -> tuple[Literal["good", "note", "warning"], str, str]:  # fmt: skip
    if not pieces:
        return "warning", "There is no trigger word.", "So no prompt could call what you teach."
    count = "1 token" if len(pieces) == 1 else f"{len(pieces)} tokens"
    if all(piece.known for piece in pieces) and len(pieces) == len(word.split()):
        places = ", ".join(f"{piece.place:,}" for piece in pieces)
        text = f"The base knows “{word}”: {count}, number {places} of {size:,} by how common they are."
        return "warning", text, "What it means already would mix with what you teach."
    if len(pieces) > MOST_TOKENS:
        return "warning", f"“{word}” takes {count} of every prompt.", "A shorter word leaves more room and is learned faster."
    leaking = [piece.text for piece in pieces if piece.known]
    if leaking:
        return "note", f"“{word}” is {count}; the base knows “{leaking[0]}”.", "A little of that meaning will be in it."
    return "good", f"“{word}” is {count}, and the base knows no word of it.", ""
