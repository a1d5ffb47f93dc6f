"""The blind test: fair pairs, choices that are never lost, a result that adds up."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from pathlib import Path

import pytest

from sdplay.compare import Comparison, places
from sdplay.config import CompareConfig
from sdplay.errors import ConfigError, RunError
from sdplay.ranking import wilson
from sdplay.votes import begin_ballot, count_pairs, draw_pairs, open_ballot, outcome, reveal, vote


def drawn(columns: int = 3, seeds: int = 10, *, same_file: bool = False) -> Comparison:
    labels = tuple(f"run-{index}" for index in range(columns))
    config = CompareConfig(columns=labels, prompts=("a", "b"), seeds=tuple(range(seeds)))
    cells = []
    for cell in places(config):
        cells.append(cell.model_copy(update={"file": f"cells/{0 if same_file else cell.column}-{cell.prompt}-{cell.seed}.png"}))
    return Comparison(id="x", created="2026-01-01", status="finished", config=config, labels=labels, cells=tuple(cells))


def test_every_two_columns_meet_equally_often_and_on_both_sides() -> None:
    pairs = draw_pairs(drawn(), 30, random.Random(1))

    met = Counter(frozenset((pair.left, pair.right)) for pair in pairs)
    assert met == {frozenset(two): 10 for two in itertools.combinations(range(3), 2)}
    assert 5 < sum(pair.left < pair.right for pair in pairs) < 25


def test_a_pair_is_of_one_prompt_and_seed() -> None:
    for pair in draw_pairs(drawn(), 400, random.Random(1)):
        assert pair.left_file.split("-", 1)[1] == pair.right_file.split("-", 1)[1]
        assert pair.left != pair.right


def test_no_pair_is_shown_twice_and_all_are_there_when_asked_for() -> None:
    pairs = draw_pairs(drawn(), 400, random.Random(1))

    assert len({frozenset((pair.left_file, pair.right_file)) for pair in pairs}) == len(pairs) == 3 * 20 == count_pairs(drawn())


def test_columns_that_show_the_same_picture_are_no_pair(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no two columns"):
        begin_ballot(tmp_path, drawn(same_file=True), 5)


def test_a_test_goes_on_where_it_was_after_a_restart(tmp_path: Path) -> None:
    ballot = begin_ballot(tmp_path, drawn(), 5)
    vote(tmp_path, 0, "left")
    vote(tmp_path, 1, "tie")
    vote(tmp_path, 0, "right")  # the last choice counts
    vote(tmp_path, 1, "")  # taken back
    with (tmp_path / "votes.jsonl").open("a") as file:
        file.write('{"pair": 3, "choi')  # a crash tore the last line

    again = open_ballot(tmp_path)

    assert again is not None
    assert again.pairs == ballot.pairs
    assert again.votes == {0: "right"}
    assert vote(tmp_path, 4, "left").votes == {0: "right", 4: "left"}


def test_names_of_pictures_say_nothing_and_lead_back(tmp_path: Path) -> None:
    ballot = begin_ballot(tmp_path, drawn(), 5)

    tokens = ballot.files()
    assert all(ballot.token(file) == token and len(token) == 20 for token, file in tokens.items())
    assert begin_ballot(tmp_path, drawn(), 5).files().keys().isdisjoint(tokens), "another test has other names"


def test_nothing_can_be_chosen_once_the_names_are_known(tmp_path: Path) -> None:
    begin_ballot(tmp_path, drawn(), 5)
    with pytest.raises(RunError, match="Nothing was chosen"):
        reveal(tmp_path)
    vote(tmp_path, 0, "left")
    reveal(tmp_path)

    with pytest.raises(RunError, match="known already"):
        vote(tmp_path, 1, "left")


@pytest.mark.parametrize(("number", "choice"), [(5, "left"), (-1, "left"), (0, "both")])
def test_a_choice_that_is_none_is_refused(tmp_path: Path, number: int, choice: str) -> None:
    begin_ballot(tmp_path, drawn(), 5)

    with pytest.raises(RunError, match="no choice"):
        vote(tmp_path, number, choice)


def test_the_result_counts_by_column_not_by_side(tmp_path: Path) -> None:
    """Column 2 always wins, column 0 always loses, 1 against 0 is a tie."""
    ballot = begin_ballot(tmp_path, drawn(), 60)
    for number, pair in enumerate(ballot.pairs):
        two = {pair.left, pair.right}
        choice = "tie" if two == {0, 1} else "left" if pair.left == 2 else "right"
        ballot = vote(tmp_path, number, choice)

    result = outcome(ballot, ("run-0", "run-1", "run-2"))

    assert ballot.complete
    best, *others = result.standings
    assert best.label == "run-2"
    assert (best.wins, best.losses, best.ties, best.rate) == (40, 0, 0, wilson(40, 40))
    assert {(other.wins, other.losses, other.ties) for other in others} == {(0, 20, 20)}
    assert others[0].strength == pytest.approx(others[1].strength)
    assert sum(standing.strength for standing in result.standings) == pytest.approx(1)
    assert result.has_favourite
    duel = next(duel for duel in result.duels if (duel.first, duel.second) == ("run-0", "run-1"))
    assert (duel.ties, duel.rate) == (20, wilson(10, 20))
    json.dumps(result.votes)


def test_a_few_choices_make_no_favourite(tmp_path: Path) -> None:
    """3 of 3 is within what chance explains: the lower end of Wilson's 95 % range is 0.44."""
    ballot = begin_ballot(tmp_path, drawn(columns=2), 3)
    for number, pair in enumerate(ballot.pairs):
        ballot = vote(tmp_path, number, "left" if pair.left == 1 else "right")

    result = outcome(ballot, ("run-0", "run-1"))

    assert (result.standings[0].label, result.standings[0].wins) == ("run-1", 3)
    assert not result.has_favourite
