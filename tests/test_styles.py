from __future__ import annotations

import time
from pathlib import Path

import pytest
from PIL import Image

from sdplay.engine import Engine
from sdplay.errors import ConfigError, TemplateError
from sdplay.hub import MINI
from sdplay.styles import Style, key_of, load_styles
from sdplay.templates import check
from sdplay.ui.files import find_file
from sdplay.ui.views.prompt_table import style_grid
from sdplay.workspace import PRESETS

SHIPPED = load_styles([PRESETS / "styles"])


def test_every_shipped_style_goes_around_a_prompt() -> None:
    assert set(SHIPPED) == {path.stem for path in (PRESETS / "styles").glob("*.yaml")}
    for style in SHIPPED.values():
        check(style.around("{token} {class}"))
        assert "{token} {class}" in style.around("{token} {class}")


def test_the_embedded_base_is_offered_its_own_words_and_others_are_not() -> None:
    mini, other = ({style.id for style in SHIPPED.values() if style.suits(base)} for base in (MINI, "owner/name"))

    assert mini
    assert other
    assert mini.isdisjoint(other)
    assert mini | other == set(SHIPPED)


def test_a_style_joins_the_negatives() -> None:
    style = Style(id="a", title="A", prompt="a print of {prompt}, two colours", negative="photo")

    assert style.around("a cat --n dog") == "a print of a cat, two colours --n dog, photo"
    assert style.around("a cat") == "a print of a cat, two colours --n photo"


@pytest.mark.parametrize("prompt", ["no place", "{prompt} and {prompt}"])
def test_a_style_without_a_place_for_the_prompt_is_refused(prompt: str) -> None:
    with pytest.raises((TemplateError, ConfigError), match="does not hold"):
        Style(id="a", title="A", prompt=prompt)


def test_pictures_are_drawn_once_by_each_base_and_served(engine: Engine, tiny_base: Path, tiny_sdxl: Path) -> None:
    folder = engine.workspace.root / "styles"
    folder.mkdir()
    (folder / "mine.yaml").write_text("title: Mine\nprompt: 'my {prompt}'\n")
    for style in SHIPPED:
        (folder / f"{style}.yaml").write_text("title: Other\nprompt: '{prompt}'\nbase_models: [another]\n")  # one to draw is enough
    base = str(tiny_base)

    assert engine.styles.draw_missing(base)
    while engine.styles.busy(base):
        time.sleep(0.02)

    assert engine.styles.drawn(base) == {"mine"}
    assert engine.styles.drawn(str(tiny_sdxl)) == set()
    assert not engine.styles.draw_missing(base)
    with Image.open(find_file(engine, "styles", key_of(base), "mine.png")) as picture:
        assert picture.size == (32, 32)
    with pytest.raises(FileNotFoundError):
        find_file(engine, "styles", "../../runs", "../x.png")


def test_new_weights_under_an_old_name_throw_the_old_pictures_away(engine: Engine, tiny_base: Path) -> None:
    base = str(tiny_base)
    folder = engine.styles.folder(key_of(base))
    folder.mkdir(parents=True)
    (folder / "fingerprint.txt").write_text("other weights")
    (folder / "old.png").write_bytes(b"")
    style = next(iter(engine.styles.suited(base)))

    from functools import partial

    from sdplay.styles import _draw_one

    engine.in_worker(base, partial(_draw_one, style=style, folder=folder)).result()

    assert engine.styles.drawn(base) == {style.id}


def test_styles_are_found_by_words_of_their_names_and_prompts(engine: Engine) -> None:
    styles = engine.styles.suited("mini")
    wanted = styles[1]

    found = style_grid(styles, (), "mini", busy=False, query=f"{wanted.title.upper()} {wanted.prompt.split()[-1]}")
    nothing = style_grid(styles, (), "mini", busy=False, query="no such style")

    assert f'data-id="{wanted.id}"' in found
    assert found.count("<button") < len(styles)
    assert "None of" in nothing
