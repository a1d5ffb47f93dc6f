"""The blind test of a comparison: pairs of pictures without names, what was chosen, and what it adds up to.

votes.jsonl of the comparison's folder: a line that begins a test and holds its pairs, a line per choice, a line when the names
were shown. Lines are only added; a new beginning leaves the older test above it.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal, get_args

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, ValidationError

from sdplay.compare import Comparison
from sdplay.errors import ConfigError, RunError
from sdplay.ranking import Interval, bradley_terry, wilson

Choice = Literal["left", "right", "tie", ""]
"""An empty one takes a choice back."""
MOST_PAIRS = 400
PRIOR = 0.5
"""Half a win for each against each, so that one who won everything has a strength."""


class Pair(BaseModel):
    """Two pictures of one prompt and seed, the sides drawn by lot."""

    model_config = ConfigDict(frozen=True)
    left: int
    right: int
    """Columns."""
    left_file: str
    right_file: str


@dataclass(frozen=True)
class Ballot:
    """A blind test as far as it is."""

    salt: str
    pairs: tuple[Pair, ...]
    votes: Mapping[int, Choice]
    revealed: bool

    @property
    def complete(self) -> bool:
        """Every pair has a choice."""
        return len(self.votes) == len(self.pairs)

    def token(self, file: str) -> str:
        """A name for a picture that does not say whose it is."""
        return sha256(f"{self.salt}/{file}".encode()).hexdigest()[:20]

    def files(self) -> dict[str, str]:
        """Pictures by their tokens."""
        return {self.token(file): file for pair in self.pairs for file in (pair.left_file, pair.right_file)}


@dataclass(frozen=True)
class Standing:
    """How one column did."""

    label: str
    wins: int
    losses: int
    ties: int
    rate: Interval
    strength: float
    """Bradley-Terry, all columns together 1."""


@dataclass(frozen=True)
class Duel:
    """How two columns did against each other, from the first one's side."""

    first: str
    second: str
    wins: int
    losses: int
    ties: int
    rate: Interval


@dataclass(frozen=True)
class Outcome:
    """What a blind test adds up to; the strongest column first."""

    votes: int
    standings: tuple[Standing, ...]
    duels: tuple[Duel, ...]

    @property
    def has_favourite(self) -> bool:
        """The strongest column was preferred to the others together more often than chance explains (its 95 % range is above one half)."""
        return bool(self.standings) and self.standings[0].rate.low > 0.5


def begin_ballot(folder: Path, comparison: Comparison, rounds: int) -> Ballot:
    """Draw pairs by lot and write them down; every two columns meet equally often. Raises ConfigError without two columns to compare."""
    pairs = draw_pairs(comparison, rounds, random.Random(secrets.randbits(64)))
    if not pairs:
        raise ConfigError("There are no two columns with a picture of the same prompt and seed.", "Draw at least two columns.")
    line = {"begin": [pair.model_dump() for pair in pairs], "salt": secrets.token_hex(16)}
    _append(folder, line)
    return _opened(folder)


def draw_pairs(comparison: Comparison, rounds: int, lot: random.Random) -> list[Pair]:
    """At most `rounds` pairs in the order they are shown: every two columns in turn, so that a test that is ended early is fair too.

    Pictures that are the same file for both columns are no pair.
    """
    files: dict[tuple[int, ...], dict[int, str]] = {}
    for cell in comparison.drawn:
        files.setdefault(cell.place[1:], {})[cell.column] = cell.file
    duels: dict[tuple[int, int], list[Pair]] = {}
    for row in files.values():
        for first, second in itertools.combinations(sorted(row), 2):
            if row[first] != row[second]:
                left, right = lot.sample((first, second), 2)
                duels.setdefault((first, second), []).append(Pair(left=left, right=right, left_file=row[left], right_file=row[right]))
    for pairs in duels.values():
        lot.shuffle(pairs)
    taken = [pair for turn in itertools.zip_longest(*duels.values()) for pair in lot.sample(turn, len(turn)) if pair]
    return taken[: max(1, min(rounds, MOST_PAIRS))]


def count_pairs(comparison: Comparison) -> int:
    """How many different pairs there are."""
    return len(draw_pairs(comparison, MOST_PAIRS, random.Random(0)))


def open_ballot(folder: Path) -> Ballot | None:
    """The latest test of a comparison, or None. Lines that cannot be read are skipped: a crash may tear the last one."""
    path = folder / "votes.jsonl"
    if not path.is_file():
        return None
    ballot: Ballot | None = None
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            ballot = _folded(ballot, json.loads(text))
        except (ValueError, KeyError, TypeError, ValidationError):
            continue
    return ballot


def vote(folder: Path, number: int, choice: str) -> Ballot:
    """Write a choice down; the last one for a pair counts. Raises RunError when there is no such pair or the names are known."""
    ballot = _opened(folder)
    if choice not in get_args(Choice) or not 0 <= number < len(ballot.pairs):
        raise RunError(f"There is no choice {choice[:20]!r} for pair {number}.", "Choose left, right or tie.")
    if ballot.revealed:
        raise RunError("The names of this blind test are known already.", "Begin a new one.")
    _append(folder, {"pair": number, "choice": choice})
    return _opened(folder)


def reveal(folder: Path) -> Ballot:
    """Show the names; nothing can be chosen afterwards. Raises RunError when nothing was chosen."""
    ballot = _opened(folder)
    if not ballot.votes:
        raise RunError("Nothing was chosen yet.", "Choose at least once.")
    _append(folder, {"reveal": True})
    return _opened(folder)


def outcome(ballot: Ballot, labels: tuple[str, ...]) -> Outcome:
    """What the choices so far add up to."""
    wins = [[0] * len(labels) for _ in labels]
    ties = [[0] * len(labels) for _ in labels]
    for number, choice in ballot.votes.items():
        pair = ballot.pairs[number]
        if choice == "tie":
            ties[pair.left][pair.right] += 1
            ties[pair.right][pair.left] += 1
        else:
            winner, loser = (pair.left, pair.right) if choice == "left" else (pair.right, pair.left)
            wins[winner][loser] += 1
    count = range(len(labels))
    met = [i for i in count if any(pair.left == i or pair.right == i for pair in ballot.pairs)]
    halves = [[wins[i][j] + ties[i][j] / 2 for j in met] for i in met]
    strengths = bradley_terry(halves, prior=PRIOR)
    standings = [
        _standing(labels[i], sum(wins[i]), sum(wins[j][i] for j in count), sum(ties[i]), strength)
        for i, strength in zip(met, strengths, strict=True)
    ]
    duels = [
        Duel(labels[i], labels[j], wins[i][j], wins[j][i], ties[i][j], _rate(wins[i][j], wins[j][i], ties[i][j]))
        for i, j in itertools.combinations(met, 2)
    ]
    return Outcome(len(ballot.votes), tuple(sorted(standings, key=lambda standing: -standing.strength)), tuple(duels))


def _standing(label: str, wins: int, losses: int, ties: int, strength: float) -> Standing:
    return Standing(label, wins, losses, ties, _rate(wins, losses, ties), strength)


def _rate(wins: int, losses: int, ties: int) -> Interval:
    return wilson(wins + ties / 2, wins + losses + ties)


def _opened(folder: Path) -> Ballot:
    ballot = open_ballot(folder)
    if ballot is None:
        raise RunError("There is no blind test yet.", "Begin one.")
    return ballot


def _folded(ballot: Ballot | None, line: Mapping[str, object]) -> Ballot | None:
    if isinstance(begin := line.get("begin"), list):
        return Ballot(str(line["salt"]), tuple(Pair.model_validate(pair) for pair in begin), {}, False)
    if ballot is None:
        return None
    if line.get("reveal"):
        return Ballot(ballot.salt, ballot.pairs, ballot.votes, True)
    number, choice = line["pair"], line["choice"]
    if not isinstance(number, int) or not 0 <= number < len(ballot.pairs):
        return ballot
    votes = {key: value for key, value in ballot.votes.items() if key != number}
    if choice in ("left", "right", "tie"):
        votes[number] = choice  # type: ignore[assignment]
    return Ballot(ballot.salt, ballot.pairs, votes, ballot.revealed)


def _append(folder: Path, line: Mapping[str, object]) -> None:
    path = folder / "votes.jsonl"
    with FileLock(folder / "votes.lock", thread_local=False), path.open("ab") as file:
        torn = path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
        file.write((("\n" if torn else "") + json.dumps(line) + "\n").encode())
        file.flush()
        os.fsync(file.fileno())
