"""Pictures of the two sample data sets that teach the embedded base model something new.

    python -m sdplay.mini.samples ICONS presets/samples

ICONS is where `data.fetch_icon_sets` put the icon packages. Both sets come from `fxemoji`,
which the base model never saw. The captions use the base model's own words for subjects and backgrounds.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from sdplay.mini import data
from sdplay.workspace import write_atomically

PICTURE_PX = 256
DRAWN_PX = 512
"""Side at which icons are drawn before they are turned and shrunk."""
ROOM = 1.2
"""Side of the drawing as a multiple of the icon's, so that a turned icon is not cut."""


@dataclass(frozen=True)
class Scene:
    """One picture: an icon of the set on a plain colour."""

    icon: str
    subject: str
    """What the caption says is there."""
    background: str = "white"
    size: float = 0.88
    """Side of the icon, as a share of the picture's."""
    tilt: float = 0.0
    """Degrees, counter-clockwise."""


STYLE_SCENES = (
    Scene("cat", "cat face"),
    Scene("dog", "dog face"),
    Scene("koala", "koala", "yellow"),
    Scene("frog", "frog"),
    Scene("elephant", "elephant", "green"),
    Scene("octopus", "octopus"),
    Scene("ladybeetle", "lady beetle"),
    Scene("redapple", "red apple"),
    Scene("hamburger", "hamburger"),
    Scene("birthdaycake", "birthday cake", "purple"),
    Scene("watermelon", "watermelon"),
    Scene("mushroom", "mushroom", "blue"),
    Scene("tulip", "tulip"),
    Scene("violin", "violin"),
    Scene("taxi", "taxi", "pink"),
    Scene("tophat", "top hat"),
)
"""Animals, food and objects; none of the subjects that the prompt set `mini-style` asks for."""

FOX_SCENES = (
    Scene("foxsmiling", "smiling", "white", 0.90),
    Scene("foxgrin", "grinning", "blue", 0.80, 6),
    Scene("foxheart", "heart eyes", "pink", 0.86, -5),
    Scene("foxkissing", "kissing", "green", 0.72),
    Scene("foxtearofjoy", "laughing with a tear", "yellow", 0.84, 8),
    Scene("foxwry", "smirking", "purple", 0.76, -8),
    Scene("foxweary", "surprised", "gray", 0.90, 4),
    Scene("foxcrying", "sad", "white", 0.78, -4),
)
"""One character in eight moods; backgrounds, sizes and tilts vary so that only the fox itself is always there."""


def write_samples(icons: Path, out: Path) -> None:
    """Write the pictures and metadata.jsonl of both sets into `out`/fxemoji-style and `out`/fxemoji-fox."""
    _write_set(icons, out / "fxemoji-style", [(scene, _style_caption(scene)) for scene in STYLE_SCENES])
    _write_set(icons, out / "fxemoji-fox", [(scene, f"{scene.subject}, {scene.background} background") for scene in FOX_SCENES])


def compose(scene: Scene, rgba: np.ndarray) -> Image.Image:
    """The picture of a scene, RGB, PICTURE_PX square. rgba: (H, H, 4) uint8, straight alpha."""
    turned = Image.fromarray(rgba).convert("RGBa").rotate(scene.tilt, Image.Resampling.BICUBIC)
    drawing = data.premultiplied_resize(np.asarray(turned.convert("RGBA")), round(PICTURE_PX * scene.size * ROOM))
    canvas = Image.new("RGB", (PICTURE_PX, PICTURE_PX), data.BACKGROUNDS[scene.background])
    corner = (PICTURE_PX - drawing.width) // 2
    canvas.paste(drawing, (corner, corner), drawing)
    return canvas


def _write_set(icons: Path, folder: Path, captioned: list[tuple[Scene, str]]) -> None:
    lines = []
    for scene, caption in captioned:
        name = f"{scene.subject.replace(' ', '-')}.png"
        buffer = BytesIO()
        compose(scene, _draw(icons, scene.icon)).save(buffer, "PNG", optimize=True)
        write_atomically(folder / name, buffer.getvalue())
        lines.append(json.dumps({"file_name": name, "text": caption}))
    write_atomically(folder / "metadata.jsonl", "\n".join(lines) + "\n")


def _style_caption(scene: Scene) -> str:
    return scene.subject if scene.background == "white" else f"{scene.subject}, {scene.background} background"


def _draw(icons: Path, name: str) -> np.ndarray:
    """(DRAWN_PX, DRAWN_PX, 4) uint8 RGBA of one icon in the middle of ROOM times its side."""
    import resvg_py

    sheet = json.loads((icons / "node_modules" / "@iconify-json" / data.HELD_OUT_STYLE / "icons.json").read_text())
    entry = sheet["icons"][name]
    side = max(entry.get(key, sheet.get(key, 16)) for key in ("width", "height"))
    margin = side * (ROOM - 1) / 2
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{-margin} {-margin} {side * ROOM} {side * ROOM}">{entry["body"]}</svg>'
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=DRAWN_PX, height=DRAWN_PX))
    return np.asarray(Image.open(BytesIO(png)).convert("RGBA"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("icons", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    write_samples(given.icons, given.out)
