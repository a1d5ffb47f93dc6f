"""What one press can do about a line of the health report: it changes facts about pictures, and can be undone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from sdplay.data.caption_tools import named_after_files, shortened, with_trigger
from sdplay.data.edits import Facts, facts_of
from sdplay.data.examples import Dataset, Example
from sdplay.data.health import near_duplicates
from sdplay.data.measures import Measures
from sdplay.data.report import CAPTION_WORDS
from sdplay.errors import DataError

LABELS = {
    "caption_by_name": "Name them after their files",
    "shorten": "Cut them there",
    "add_trigger": "Add it",
    "leave_out": "Leave them out",
    "take_back": "Take them back",
    "one_of_each": "Keep one of each",
    "crop_frames": "Crop them away",
}
"""What the button says."""
Fix = Callable[[Sequence[Example], Mapping[str, Measures], str], dict[str, Facts]]


def fix(name: str, dataset: Dataset, measures: Mapping[str, Measures], *, keys: Sequence[str], trigger: str) -> dict[str, Facts]:
    """The facts that a fix changes, by key. Raises DataError for an unknown fix, and when there is nothing to change."""
    if name not in _FIXES:
        raise DataError(f"There is no fix called {name[:40]!r}.", "Reload the page.")
    chosen = [example for example in dataset.pictures if example.key in set(keys)]
    facts = _FIXES[name](chosen, measures, trigger)
    if not facts:
        raise DataError("There is nothing left to change.", "It was done already: reload the page.")
    return facts


def captioned(examples: Sequence[Example], captions: Mapping[str, str]) -> dict[str, Facts]:
    """Facts with new captions, for the pictures that get one."""
    return {example.key: replace(facts_of(example), caption=captions[example.key]) for example in examples if example.key in captions}


def _left_out(examples: Sequence[Example], out: bool) -> dict[str, Facts]:
    return {example.key: replace(facts_of(example), left_out=out) for example in examples if example.left_out != out}


def _one_of_each(examples: Sequence[Example], measures: Mapping[str, Measures], _trigger: str) -> dict[str, Facts]:
    used = [example for example in examples if not example.left_out and example.key in measures]
    return _left_out([example for group in near_duplicates(used, measures) for example in group[1:]], out=True)


def _crop_frames(examples: Sequence[Example], measures: Mapping[str, Measures], _trigger: str) -> dict[str, Facts]:
    found = {example.key: measures[example.key].inner for example in examples if example.key in measures}
    return {e.key: replace(facts_of(e), crop=found[e.key]) for e in examples if found.get(e.key) and found[e.key] != e.crop}


_FIXES: dict[str, Fix] = {
    "caption_by_name": lambda examples, _measures, _trigger: captioned(examples, named_after_files(examples)),
    "shorten": lambda examples, _measures, _trigger: captioned(examples, shortened(examples, CAPTION_WORDS)),
    "add_trigger": lambda examples, _measures, trigger: captioned(examples, with_trigger(examples, trigger)),
    "leave_out": lambda examples, _measures, _trigger: _left_out(examples, out=True),
    "take_back": lambda examples, _measures, _trigger: _left_out(examples, out=False),
    "one_of_each": _one_of_each,
    "crop_frames": _crop_frames,
}
