"""Pictures to train the embedded base model on: colour emoji drawn from free icon sets.

Every icon set is an npm package that holds one `icons.json` of SVG bodies. A *subject* is an icon's name
("red-apple"), a *style* is the set it comes from ("noto"). The same thousand subjects exist in several styles,
which is what lets us check that a style was learned.

`fxemoji` is never trained on: it is the style that the sample data set teaches.
"""

from __future__ import annotations

import functools
import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

TRAINED_STYLES = ("noto", "twemoji")
"""Best known first. Two, by measurement: 6,000 more steps with emojione, noto-v1 and fluent-emoji-flat beside them, other words and two
subjects in a picture brought the right name first in 79 % in place of 68 %, but a new style was then hardly learned (26 % of drawings
judged in style, and 26 % before it was taught). 5,000 more with these two alone brought 96 %, and a new style takes 9 % to 33 %."""
STYLE_WORDS = {"noto-v1": "blob", "fluent-emoji-flat": "fluent"}
"""What captions call a style whose package has no plain word for a name."""
AUTOENCODER_STYLES = ("noto", "noto-v1", "twemoji", "emojione", "fluent-emoji-flat")
HELD_OUT_STYLE = "fxemoji"
PACKAGES = (*AUTOENCODER_STYLES, HELD_OUT_STYLE)

ICON_PX = 128
"""Side at which icons are drawn and cached; compositions shrink them to the model's size."""

XLINK = "http://www.w3.org/1999/xlink"

BACKGROUNDS = {
    "white": (255, 255, 255),
    "gray": (128, 128, 128),
    "black": (24, 24, 24),
    "red": (224, 64, 60),
    "orange": (250, 160, 60),
    "yellow": (252, 224, 90),
    "green": (96, 190, 96),
    "blue": (80, 140, 230),
    "purple": (150, 95, 205),
    "pink": (250, 165, 200),
}


@dataclass(frozen=True)
class Icon:
    """One drawing: (ICON_PX, ICON_PX, 4) uint8 RGBA, straight alpha."""

    name: str
    style: str
    rgba: np.ndarray


def fetch_icon_sets(folder: Path, packages: tuple[str, ...] = PACKAGES) -> None:
    """Bring the icon sets from npm into `folder`/node_modules; sets that are there already are left alone."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [f"@iconify-json/{name}" for name in packages if not _icons_path(folder, name).exists()]
    if missing:
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), *missing], check=True)


def names_of(folder: Path, style: str) -> list[str]:
    """Every drawable name of a set, in alphabetical order, without letters, flags, clocks and skin-tone doubles."""
    return sorted(name for name in _read_json(_icons_path(folder, style))["icons"] if not _is_left_out_everywhere(name))


def trained_names() -> list[str]:
    """The well-known subjects the first base model learns, from subjects.txt."""
    return [line.split()[0] for line in _subject_lines()]


def trained_names_in(folder: Path, style: str) -> list[str]:
    """Those of them that a set draws: all for noto and twemoji, most for the others."""
    there = _read_json(_icons_path(folder, style))["icons"]
    return [name for name in trained_names() if name in there]


def favourite_names() -> set[str]:
    """The subjects marked with a star in subjects.txt: the best known ones, which are trained more often."""
    return {line.split()[0] for line in _subject_lines() if line.endswith("*")}


@functools.cache
def synonyms() -> dict[str, tuple[str, ...]]:
    """Other words for a subject, from synonyms.txt: keywords of the Unicode CLDR annotations that few of our subjects share."""
    lines = Path(__file__).with_name("synonyms.txt").read_text(encoding="utf-8").splitlines()
    return {name: tuple(others.split(", ")) for name, others in (line.split(": ") for line in lines)}


def _subject_lines() -> list[str]:
    return Path(__file__).with_name("subjects.txt").read_text(encoding="utf-8").splitlines()


def draw_icons(folder: Path, style: str, names: list[str]) -> list[Icon]:
    """Draw icons from their SVG. Names whose SVG cannot be drawn are left out."""
    import resvg_py

    sheet = _read_json(_icons_path(folder, style))
    icons = []
    for name in names:
        entry = sheet["icons"][name]
        box = [entry.get(key, sheet.get(key, default)) for key, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))]
        view_box = " ".join(map(str, box))
        svg = f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="{XLINK}" viewBox="{view_box}">{entry["body"]}</svg>'
        png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=ICON_PX, height=ICON_PX))
        picture = Image.open(BytesIO(png)).convert("RGBA")
        square = Image.new("RGBA", (ICON_PX, ICON_PX))
        square.paste(picture, ((ICON_PX - picture.width) // 2, (ICON_PX - picture.height) // 2))
        icons.append(Icon(name, style, np.asarray(square)))
    return icons


def compose(icon: Icon, background: str, *, size_px: int, rng: np.random.Generator) -> Image.Image:
    """One training picture: the icon on a named colour, slightly shifted and scaled, RGB `size_px` square."""
    canvas = _canvas(background, size_px, rng)
    side = round(size_px * rng.uniform(0.82, 0.94))
    drawing = premultiplied_resize(icon.rgba, side)
    slack, reach = size_px - side, size_px // 32
    x, y = (int(np.clip(slack / 2 + rng.integers(-reach, reach + 1), 0, slack)) for _ in range(2))
    canvas.paste(drawing, (x, y), drawing)
    return canvas


def compose_small(icons: Sequence[Icon], background: str, *, size_px: int, rng: np.random.Generator) -> Image.Image:
    """One icon in the middle or two side by side, each about half as large as in `compose`, RGB `size_px` square."""
    canvas = _canvas(background, size_px, rng)
    side = round(size_px * rng.uniform(0.44, 0.5))
    for place, icon in enumerate(icons):
        drawing = premultiplied_resize(icon.rgba, side)
        middle = size_px * (2 * place + 1) / (2 * len(icons))
        x = int(np.clip(middle - side / 2 + rng.integers(-1, 2), 0, size_px - side))
        y = round((size_px - side) / 2) + int(rng.integers(-3, 4))
        canvas.paste(drawing, (x, y), drawing)
    return canvas


def _canvas(background: str, size_px: int, rng: np.random.Generator) -> Image.Image:
    colour = np.clip(np.array(BACKGROUNDS[background]) + rng.integers(-8, 9, 3) * (background != "white"), 0, 255)
    return Image.new("RGB", (size_px, size_px), tuple(int(c) for c in colour))


def premultiplied_resize(rgba: np.ndarray, side: int) -> Image.Image:
    """Shrink RGBA without dark fringes: resize with premultiplied alpha."""
    return Image.fromarray(rgba, "RGBA").convert("RGBa").resize((side, side), Image.Resampling.LANCZOS).convert("RGBA")


def words(name: str) -> str:
    """`red-apple` -> `red apple`: the name as a caption says it."""
    return name.replace("-", " ")


def plural(text: str) -> str:
    """`red apple` -> `red apples`, as far as two rules go."""
    return text if text.endswith("s") else text + ("es" if text.endswith(("sh", "ch", "x")) else "s")


def style_words(style: str) -> str:
    """`noto` -> `noto style`, as a caption says it."""
    return f"{STYLE_WORDS.get(style, style)} style"


def caption(name: str, style: str, background: str | None) -> str:
    """`red apple, noto style, blue background`; without a background clause the picture is on white."""
    text = f"{words(name)}, {style_words(style)}"
    return text if background is None else f"{text}, {background} background"


def _is_left_out_everywhere(name: str) -> bool:
    return bool(re.search(r"flag|keycap|letter-|oclock|-thirty|skin-tone|regional", name))


def _icons_path(folder: Path, style: str) -> Path:
    return folder / "node_modules" / "@iconify-json" / style / "icons.json"


def _read_json(path: Path) -> dict:
    return json.loads(path.read_text())
