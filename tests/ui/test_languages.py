"""Catalogues are whole: every text of the page is translated, and nothing in them is left over."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from sdplay.ui import languages, messages

OTHERS = [code for code in languages.languages() if code != "en"]
NAMED = re.compile(r"\{[a-z_]+\}|`[^`]+`")


def test_english_comes_first_and_one_more_language_is_there() -> None:
    assert list(languages.languages().items())[:1] == [("en", "English")]
    assert languages.languages()["de"] == "Deutsch"


@pytest.mark.parametrize("code", OTHERS)
def test_every_message_is_translated_and_none_is_left_over(code: str) -> None:
    """`python -m sdplay.ui.messages de` tells the same; add what is missing to presets/languages/de.json."""
    missing, stale = messages.report(languages.load_catalogue(code))

    assert missing == []
    assert stale == []


@pytest.mark.parametrize("code", OTHERS)
def test_what_is_put_in_has_a_place_in_the_translation(code: str) -> None:
    catalogue = languages.load_catalogue(code)
    for english, other in {**catalogue.texts, **catalogue.more}.items():
        places = re.findall(r"\{(\d*)\}", other)
        assert len(places) == english.count("{}"), english
        assert not any(places) or sorted(map(int, places)) == list(range(1, len(places) + 1)), english


@pytest.mark.parametrize("code", OTHERS)
def test_names_in_braces_and_code_stay_as_they_are(code: str) -> None:
    for english, other in languages.load_catalogue(code).texts.items():
        assert Counter(NAMED.findall(english)) == Counter(NAMED.findall(other)), english


def test_messages_are_found_in_the_source() -> None:
    """Whole, with what is put in as {}, and without tags; what programs read is none."""
    source = """
def card(name, number):
    'A docstring is no message.'
    LOG.warning('nor is what is logged')
    show(f'<p class="x" aria-label="What it is">Run {name} has ended.</p>', key='train.steps', style='color: red;')
    return count_of(number, 'picture')
"""

    assert messages.messages_in(source) == {"What it is", "Run {} has ended.", "{} picture", "{} pictures"}


def test_an_unknown_language_is_not_there() -> None:
    with pytest.raises(FileNotFoundError):
        languages.load_catalogue("xx")
