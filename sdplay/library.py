"""The adapters at hand: what runs have learned, files that were brought, files from the Hub. One place to choose and mix from.

adapters/<name>.safetensors   a file that was brought; its name is a column
         <name>.json          what it is and where it came from; made anew when missing
         <name>.png           a preview that was drawn with it
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from sdplay.columns import MAX_MIXED, MAX_STRENGTH
from sdplay.errors import AdapterError, ConfigError
from sdplay.history import RunSummary
from sdplay.hub import HUB_ID
from sdplay.workspace import Workspace, slug, write_json

BEST_NAMES = ("pytorch_lora_weights.safetensors", "learned_embeds.safetensors")
"""What diffusers' own scripts call an adapter: taken first from a repository with several files."""
FILE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,60}\.safetensors")


class AdapterFacts(BaseModel):
    """<name>.json."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    title: str = ""
    source: str = ""
    """The Hub repository it came from; empty: a file."""
    family: str = ""
    method: str = ""
    trigger: str = ""
    rank: str = ""
    problem: str = ""
    """Why it cannot be used, if it cannot."""


class Adapter(BaseModel):
    """One entry of the library."""

    model_config = ConfigDict(frozen=True)
    column: str
    """What a comparison or `--adapter` calls it."""
    title: str
    origin: Literal["run", "file", "hub"]
    facts: AdapterFacts
    num_bytes: int = 0
    picture: str = ""
    """Its preview: relative to the run's folder, or to the folder of adapters."""
    star: bool = False

    def matches(self, query: str) -> bool:
        """Whether every word of the query is in what is known of it."""
        facts = self.facts
        known = " ".join((self.column, self.title, self.origin, facts.family, facts.method, facts.trigger, facts.source)).lower()
        return all(word in known for word in query.lower().split())


class Library:
    """The adapters of a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def entries(self, runs: Iterable[RunSummary], query: str = "") -> list[Adapter]:
        """Every adapter that matches: what runs learned, newest first, then files by name."""
        found = [_of_run(row) for row in runs if row.checkpoints]
        found += [self._of_file(path) for path in sorted(self._workspace.adapters.glob("*.safetensors"))]
        return [entry for entry in found if entry.matches(query)]

    def add(self, path: Path, *, source: str = "") -> str:
        """Keep a copy of an adapter file; returns the name that is its column. The same file twice is kept once.

        Raises AdapterError when it cannot be read, with what is wrong with it; then nothing is kept.
        """
        from sdplay.formats import read_adapter

        read_adapter(path)
        target = self._free(path, slug(Path(source).name if source else path.stem) or "adapter")
        if not target.exists():
            shutil.copyfile(path, target)
        write_json(target.with_suffix(".json"), describe(target, source=source).model_dump())
        return target.name

    def fetch(self, repository: str) -> str:
        """Download an adapter from the Hub (`owner/name`, or `owner/name/file.safetensors`) and keep it. Raises AdapterError."""
        owner_and_name, file = split_repository(repository)
        return self.add(_download(owner_and_name, file), source=owner_and_name)

    def path_of(self, name: str) -> Path:
        """The file of a name. Raises AdapterError."""
        path = self._workspace.adapters / name
        if not FILE_NAME.fullmatch(name) or not path.is_file():
            raise AdapterError(f"There is no adapter file {name[:60]!r}.", "Choose one from the library.")
        return path

    def remove(self, name: str) -> None:
        """Delete a file that was brought, with its preview. Raises AdapterError."""
        path = self.path_of(name)
        for suffix in (".safetensors", ".json", ".png"):
            path.with_suffix(suffix).unlink(missing_ok=True)

    def keep_preview(self, column: str, drawn: Path) -> None:
        """Keep a picture as the preview of the file that `column` names; other columns have their own pictures."""
        path = self._workspace.adapters / column
        if FILE_NAME.fullmatch(column) and path.is_file():
            shutil.copyfile(drawn, path.with_suffix(".png"))

    def _of_file(self, path: Path) -> Adapter:
        facts = self._facts(path)
        return Adapter(
            column=path.name,
            title=facts.title or path.stem,
            origin="hub" if facts.source else "file",
            facts=facts,
            num_bytes=path.stat().st_size,
            picture=f"{path.stem}.png" if path.with_suffix(".png").is_file() else "",
        )

    def _facts(self, path: Path) -> AdapterFacts:
        beside = path.with_suffix(".json")
        try:
            return AdapterFacts.model_validate_json(beside.read_bytes())
        except (OSError, ValidationError):
            facts = describe(path)
        write_json(beside, facts.model_dump())
        return facts

    def _free(self, path: Path, stem: str) -> Path:
        """A name that is free, or that this very file has already."""
        from sdplay.formats import sha256_of

        self._workspace.adapters.mkdir(exist_ok=True)
        digest, number = sha256_of(path), 1
        target = self._workspace.adapters / f"{stem}.safetensors"
        while target.exists() and sha256_of(target) != digest:
            number += 1
            target = self._workspace.adapters / f"{stem}-{number}.safetensors"
        return target


def describe(path: Path, *, source: str = "") -> AdapterFacts:
    """What an adapter file says about itself; what is wrong with it is a fact too."""
    from sdplay.formats import inspect_adapter

    try:
        report = inspect_adapter(path)
    except AdapterError as error:
        return AdapterFacts(source=source, problem=str(error))
    return AdapterFacts(
        title=report.training.get("title", ""),
        source=source,
        family=report.family_title,
        method=", ".join(report.methods),
        trigger=report.trigger or ", ".join(report.words),
        rank=", ".join(map(str, report.ranks)),
        problem="" if report.methods else " ".join(report.problems),
    )


def mixed(parts: Sequence[tuple[str, float]]) -> str:
    """(column, strength) pairs as one column: `RUN:0.8+FILE:0.5`. Raises ConfigError when nothing is left to mix, or too much."""
    chosen = [(column, strength) for column, strength in parts if column and strength]
    if not chosen:
        raise ConfigError("There is nothing to mix.", "Choose an adapter and give it a strength other than 0.")
    if len(chosen) > MAX_MIXED:
        raise ConfigError(f"The mix has {len(chosen)} adapters.", f"Mix at most {MAX_MIXED}.")
    if len({column for column, _ in chosen}) < len(chosen):
        raise ConfigError("An adapter is in the mix twice.", "Take one of them away.")
    for column, strength in chosen:
        if abs(strength) > MAX_STRENGTH:
            raise ConfigError(f"The strength {strength:g} of {column} is out of range.", f"Use -{MAX_STRENGTH:g} to {MAX_STRENGTH:g}.")
    return "+".join(column if strength == 1 else f"{column}:{strength:g}" for column, strength in chosen)


def split_repository(text: str) -> tuple[str, str]:
    """`owner/name` and the file in it, which may be empty. Takes the page's address too. Raises AdapterError."""
    plain = re.sub(r"^https://huggingface\.co/|/?(blob|resolve|tree)/main/?", lambda found: "/" if found.start() else "", text.strip())
    owner, _, rest = plain.partition("/")
    name, _, file = rest.partition("/")
    if not HUB_ID.fullmatch(f"{owner}/{name}") or (file and not file.endswith(".safetensors")):
        raise AdapterError(f"{text[:80]!r} names no adapter of the Hub.", "Write owner/name, or owner/name/file.safetensors.")
    return f"{owner}/{name}", file


def chosen_file(repository: str, files: Sequence[str]) -> str:
    """The one adapter file of a repository. Raises AdapterError when there is none, or several."""
    there = [file for file in files if file.endswith(".safetensors")]
    best = [file for file in BEST_NAMES if file in there] or there
    if not best:
        raise AdapterError(f"{repository} has no .safetensors file.", "Pickled files are not read, as they can run programs.")
    if len(best) > 1 and best[0] not in BEST_NAMES:
        raise AdapterError(f"{repository} has {len(best)} adapter files.", f"Name one, such as {repository}/{best[0]}.")
    return best[0]


def _of_run(row: RunSummary) -> Adapter:
    facts = AdapterFacts(family=row.base, method=row.method, trigger=row.token)
    return Adapter(
        column=row.id, title=row.name, origin="run", facts=facts, picture=row.picture, star=row.star
    )  # fmt: skip


def _download(repository: str, file: str) -> Path:
    """A file of the Hub on this disk. Raises AdapterError."""
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    try:
        wanted = file or chosen_file(repository, HfApi().list_repo_files(repository))
        arguments: dict[str, Any] = {"repo_id": repository, "filename": wanted}
        return Path(hf_hub_download(**arguments))
    except GatedRepoError:
        raise AdapterError(f"{repository} is gated.", f"Open huggingface.co/{repository}, accept, then run `hf auth login`.") from None
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise _unreachable(repository, error) from error
    except (RepositoryNotFoundError, EntryNotFoundError):
        raise AdapterError(f"There is no {file or 'public repository'} at {repository} on the Hub.", "Check the spelling.") from None
    except (HfHubHTTPError, OSError) as error:
        raise _unreachable(repository, error) from error


def _unreachable(repository: str, error: Exception) -> AdapterError:
    hint = "Check the connection, or download the file and add it here."
    return AdapterError(f"{repository} could not be downloaded: {type(error).__name__}.", hint)
