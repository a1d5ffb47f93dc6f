"""A model card for what a run learned: how to call it, what it draws, how it was made, under whose licence. And its bundle.

The training pictures are never in it unless the user says so.
"""

from __future__ import annotations

import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

import yaml

from sdplay import __version__
from sdplay.bases import load_bases
from sdplay.events import RunState
from sdplay.hub import HUB_ID
from sdplay.runs import Run
from sdplay.workspace import folder_written_atomically

HUB_LICENCES = {
    "CreativeML OpenRAIL-M": "creativeml-openrail-m",
    "CreativeML OpenRAIL++-M": "openrail++",
    "Apache-2.0": "apache-2.0",
    "MIT": "mit",
    "CC BY 4.0": "cc-by-4.0",
}
"""The Hub's names of licences; any other is `other` with its name beside it."""
MINI_LICENCE = "CC BY 4.0"
MOST_SAMPLES = 8
TOLD = (
    "method", "kind", "rank", "alpha", "targets", "steps", "learning_rate", "lr_schedule", "batch_size", "optimizer", "resolution", "seed",
    "caption_dropout", "prior", "vectors",
)  # fmt: skip
"""Settings that the card lists."""


@dataclass(frozen=True)
class CardFacts:
    """What a card is made of."""

    run: Run
    state: RunState
    training_pictures: tuple[Path, ...] = ()
    """Shown only when the user asks for it."""

    @property
    def token(self) -> str:
        """The trigger word."""
        return str(self.run.settings.get("token") or "")

    @property
    def base(self) -> str:
        """The base model as the user called it; of a path only its name, which says nothing about the computer."""
        base = str(self.run.settings.get("base_model") or "")
        return base if base == "mini" or HUB_ID.fullmatch(base) else Path(base).name

    @property
    def licence(self) -> str:
        """The base's licence in words; empty when it is not known."""
        if self.base == "mini":
            return MINI_LICENCE
        offered = load_bases().get(self.base)
        return offered.licence if offered else ""

    @property
    def samples(self) -> list[tuple[str, str]]:
        """(prompt, file relative to the run) of the newest round, at most MOST_SAMPLES."""
        rounds = sorted((entry for entry in self.state.samples if entry.files and entry.step), key=lambda entry: entry.step)
        return list(zip(rounds[-1].prompts, rounds[-1].files, strict=True))[:MOST_SAMPLES] if rounds else []


def model_card(facts: CardFacts) -> str:
    """README.md, with the front matter that the Hub reads. Pictures are named as `write_bundle` names them."""
    settings = facts.run.settings
    title = facts.run.id.split("-", 2)[-1]
    sections = [
        f"# {title}",
        _what_it_is(facts),
        _how_to_call(facts),
        _pictures(facts),
        _how_to_load(facts),
        "## How it was made\n\n" + "\n".join(f"- {name}: `{settings[name]}`" for name in TOLD if settings.get(name) not in (None, "")),
        _data(facts),
        _licence(facts),
        f"Made with sdplay {__version__}.",
    ]
    front = yaml.safe_dump(_front_matter(facts), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n" + "\n\n".join(section for section in sections if section) + "\n"


def write_bundle(folder: Path, facts: CardFacts) -> Path:
    """Fill `folder` with README.md, the run's files, its samples and, if they are in `facts`, the training pictures."""
    with folder_written_atomically(folder) as beside:
        (beside / "README.md").write_text(model_card(facts), encoding="utf-8")
        for artifact in facts.state.artifacts:
            shutil.copyfile(facts.run.folder / artifact.file, beside / Path(artifact.file).name)
        for index, (_, file) in enumerate(facts.samples):
            _copy(facts.run.folder / file, beside / "samples" / f"{index:02d}.png")
        for index, picture in enumerate(facts.training_pictures):
            _copy(picture, beside / "training" / f"{index:02d}{picture.suffix}")
    return folder


def zipped(folder: Path, path: Path) -> Path:
    """`folder` as one zip file, its files in order and with one date, so that the same content is the same zip."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".tmp-{path.name}")
    with zipfile.ZipFile(beside, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(entry for entry in folder.rglob("*") if entry.is_file()):
            archive.writestr(zipfile.ZipInfo(str(file.relative_to(folder))), file.read_bytes())
    beside.replace(path)
    return path


def _front_matter(facts: CardFacts) -> dict[str, object]:
    licence, method = facts.licence, str(facts.run.settings.get("method") or "lora")
    known = HUB_LICENCES.get(licence)
    front: dict[str, object] = {"license": known or "other"}
    if not known and licence:
        front["license_name"] = licence
    if HUB_ID.fullmatch(facts.base):
        front["base_model"] = facts.base
    kinds = [method.replace("_", "-"), *(["template:sd-lora"] if method == "lora" else [])]
    front["tags"] = ["stable-diffusion", "text-to-image", "diffusers", *kinds]
    if facts.token:
        front["instance_prompt"] = facts.token
    if facts.samples:
        shown = enumerate(facts.samples)
        front["widget"] = [{"text": prompt, "output": {"url": f"samples/{index:02d}.png"}} for index, (prompt, _) in shown]
    return front


def _what_it_is(facts: CardFacts) -> str:
    settings = facts.run.settings
    thing = str(settings.get("class_word") or "") or "style"
    method = str(settings.get("method") or "lora").replace("_", " ")
    return f"A {thing} that `{facts.base}` was taught by {method}, in {facts.state.step} steps."


def _how_to_call(facts: CardFacts) -> str:
    if not facts.token:
        return ""
    class_word = str(facts.run.settings.get("class_word") or "")
    return f"## Trigger\n\nWrite `{' '.join(filter(None, (facts.token, class_word)))}` in the prompt."


def _pictures(facts: CardFacts) -> str:
    if not facts.samples:
        return ""
    rows = "\n".join(f"| ![]({f'samples/{index:02d}.png'}) | {_cell(prompt)} |" for index, (prompt, _) in enumerate(facts.samples))
    seed, guidance = facts.run.settings.get("sample_seed"), facts.run.settings.get("guidance_scale")
    return f"## What it draws\n\n| picture | prompt |\n|---|---|\n{rows}\n\nSeed {seed}, guidance {guidance}; not picked."


def _how_to_load(facts: CardFacts) -> str:
    """A few lines for diffusers, where it reads the file as it is."""
    artifacts = facts.state.artifacts
    if not artifacts or not HUB_ID.fullmatch(facts.base):
        return ""
    name = Path(artifacts[0].file).name
    if artifacts[0].format.startswith("diffusers"):
        load = f'pipeline.load_lora_weights(".", weight_name="{name}")'
    elif artifacts[0].format == "embedding":
        load = f'pipeline.load_textual_inversion("{name}")'
    else:
        return ""
    prompt = facts.samples[0][0].replace('"', "'") if facts.samples else facts.token
    code = f'from diffusers import DiffusionPipeline\n\npipeline = DiffusionPipeline.from_pretrained("{facts.base}")\n{load}\n'
    return f'## In diffusers\n\n```python\n{code}pipeline("{prompt}").images[0]\n```'


def _data(facts: CardFacts) -> str:
    about = facts.run.manifest.get("dataset")
    count = about.get("pictures") if isinstance(about, dict) else None
    if count is None:
        return ""
    if not facts.training_pictures:
        return f"## Training data\n\n{count} pictures, which are not part of this repository."
    shown = " ".join(f"![](training/{index:02d}{picture.suffix})" for index, picture in enumerate(facts.training_pictures))
    return f"## Training data\n\n{count} pictures:\n\n{shown}"


def _licence(facts: CardFacts) -> str:
    licence = facts.licence
    if not licence:
        return "## Licence\n\nThe licence of the base model holds for what was made from it; look it up where the base came from."
    return f"## Licence\n\n{licence}, the licence of the base model, which holds for what was made from it."


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _copy(source: Path, target: Path) -> None:
    """Pictures that are gone are left out."""
    if source.is_file():
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(source, target)
