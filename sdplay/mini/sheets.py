"""Pictures that show what the embedded base model draws: the page's opening gallery and a contact sheet of 48 prompts.

    python -m sdplay.mini.sheets

Writes presets/gallery/*.png, one per line of its prompts.yaml, and presets/screens/sheet.png. Every picture has seed 1:
what is shown is what a visitor gets.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from sdplay import sample
from sdplay.config import GenerateConfig
from sdplay.device import best_device
from sdplay.families import family
from sdplay.hub import MINI, find_base
from sdplay.mini import data
from sdplay.mini.looks import looks
from sdplay.sample_sets import gallery_path, gallery_prompts
from sdplay.workspace import PRESETS

SEED = 1
COLUMNS, CELL_PX, LABEL_PX = 8, 112, 16
LABEL_SIZES = (9, 8, 7)
"""Of letters; the largest that fits."""
SHEET_SUBJECTS = (
    "red-apple", "strawberry", "watermelon", "hamburger", "pizza", "birthday-cake", "mushroom", "cactus",
    "tulip", "sunflower", "four-leaf-clover", "evergreen-tree", "cat-face", "dog-face", "fox", "bear",
    "panda", "koala", "frog", "pig-face", "penguin", "owl", "octopus", "lady-beetle",
    "house", "rocket", "guitar", "violin", "teapot", "umbrella", "top-hat", "balloon",
    "soccer-ball", "crown", "trophy", "taxi", "snowman", "ghost", "jack-o-lantern", "robot",
    "red-heart", "star", "sun", "butterfly", "fire", "key", "locked", "light-bulb",
)  # fmt: skip


def main() -> None:
    """Draw both."""
    prompts = gallery_prompts()
    for prompt, picture in zip(prompts, _draw(prompts), strict=True):
        picture.save(gallery_path(prompt), optimize=True)
    names = set(data.trained_names())
    missing = [name for name in SHEET_SUBJECTS if name not in names]
    assert not missing, missing
    colours = [colour for colour in data.BACKGROUNDS if colour not in ("black", "gray")]
    words = list(looks())
    texts = [
        data.caption(
            name,
            words[i // 3] if i % 3 == 1 else data.TRAINED_STYLES[i % 3 == 2],
            None if i % 2 else colours[(i // 2) % len(colours)],
        )
        for i, name in enumerate(SHEET_SUBJECTS)
    ]
    contact_sheet(texts, _draw(texts)).quantize(128).save(PRESETS / "screens" / "sheet.png", optimize=True)


def contact_sheet(prompts: Sequence[str], pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures in rows of eight, each with what its prompt names below."""
    rows = -(-len(pictures) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * CELL_PX, rows * (CELL_PX + LABEL_PX)), "white")
    pen, fonts = ImageDraw.Draw(sheet), [ImageFont.load_default(size) for size in LABEL_SIZES]
    for index, (prompt, picture) in enumerate(zip(prompts, pictures, strict=True)):
        x, y = index % COLUMNS * CELL_PX, index // COLUMNS * (CELL_PX + LABEL_PX)
        sheet.paste(picture.resize((CELL_PX, CELL_PX), Image.Resampling.LANCZOS), (x, y))
        text = _label(prompt)
        font = next((font for font in fonts if pen.textlength(text, font) < CELL_PX - 3), fonts[-1])
        pen.text((x + 3, y + CELL_PX + 2), text, fill="black", font=font)
    return sheet


def _label(prompt: str) -> str:
    """Its subject, and its look if it has one."""
    return re.sub(rf"(, ({'|'.join(data.TRAINED_STYLES)}))? style.*", "", prompt)


def _draw(prompts: Sequence[str]) -> list[Image.Image]:
    base = find_base(MINI)
    module = family(base.family)
    parts = module.load(base.folder, best_device(), source=MINI)
    return list(sample.draw(parts, module, [sample.Shot(prompt, SEED) for prompt in prompts], GenerateConfig()))


if __name__ == "__main__":
    main()
