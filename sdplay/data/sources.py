"""Whatever a user brings -> the files that are in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from sdplay.data.arrow import is_hub_id, is_saved_folder, read_hub, read_parquet, read_saved_folder
from sdplay.data.download import Progress, download_zip, is_url
from sdplay.data.files import Found, in_natural_order, kind_of, on_disk
from sdplay.data.limits import Limits
from sdplay.data.zips import open_zip
from sdplay.errors import DataError

SEPARATE_FILES = "files"
"""The scope of files that were given one by one: they belong together."""


@contextmanager
def open_sources(sources: Sequence[str | Path], limits: Limits, *, on_progress: Progress | None = None) -> Iterator[list[Found]]:
    """Every file in the sources, readable while the block lasts; each source in natural order.

    A source is a folder, a file, a zip, the https address of a zip, a folder saved by `datasets`, or a Hub data set id.
    on_progress(what, done, total) is told about downloads.
    Raises DataError if one does not exist or cannot be opened at all.
    """
    with ExitStack() as stack:
        found: list[Found] = []
        separate: list[Found] = []
        for index, source in enumerate(sources):
            path = Path(source).expanduser()
            if is_url(str(source)):
                path = Path(stack.enter_context(TemporaryDirectory(prefix="sdplay-"))) / f"{name_of([source])}.zip"
                download_zip(str(source), path, limits, on_progress=on_progress)
            if path.is_file() and path.suffix.lower() not in (".zip", ".parquet"):
                separate.append(on_disk(path, name=path.name, scope=SEPARATE_FILES, path=path.as_posix(), limits=limits))
            elif path.is_file() and path.suffix.lower() == ".zip":
                found += stack.enter_context(open_zip(path, scope=str(index), limits=limits))
            else:
                found += _open_collection(str(source), path, scope=str(index), limits=limits)
        yield in_natural_order(separate) + found


def name_of(sources: Sequence[str | Path]) -> str:
    """What to call a data set made from these: the name of the first folder, zip or Hub data set, else "pictures"."""
    for source in sources:
        if is_url(str(source)):
            return PurePosixPath(urlsplit(str(source)).path).stem[:80] or "pictures"
        path = Path(source)
        if path.suffix.lower() in (".zip", ".parquet"):
            return path.stem
        if not path.is_file():
            return path.resolve().name
    return "pictures"


def _open_collection(source: str, path: Path, *, scope: str, limits: Limits) -> list[Found]:
    if path.is_file():
        return read_parquet([path], scope=scope, limits=limits)
    if path.is_dir():
        return _open_folder(path, scope=scope, limits=limits)
    if is_hub_id(source):
        return read_hub(source, scope=scope, limits=limits)
    raise DataError(f"There is no file or folder at {source}.", "Check the path, or give a Hub data set as owner/name.")


def _open_folder(folder: Path, *, scope: str, limits: Limits) -> list[Found]:
    if is_saved_folder(folder):
        return read_saved_folder(folder, scope=scope, limits=limits)
    files = list(islice((file for file in folder.rglob("*") if file.is_file()), limits.folder_files + 1))
    if len(files) > limits.folder_files:
        raise DataError(
            f"The folder {folder.name} holds more than {limits.folder_files} files.",
            "Choose the folder that holds only the pictures.",
        )
    names = [file.relative_to(folder).as_posix() for file in files]
    parquet = sorted(file for file in files if file.suffix.lower() == ".parquet")
    if parquet and not any(kind_of(name) == "picture" for name in names):
        return read_parquet(parquet, scope=scope, limits=limits)
    found = [
        on_disk(file, name=name, scope=scope, path=name, limits=limits)
        for file, name in zip(files, names, strict=True)
        if kind_of(name) != "junk"
    ]
    return in_natural_order(found)
