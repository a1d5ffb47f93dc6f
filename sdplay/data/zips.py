"""Reading a zip that a stranger packed: sizes are checked before and while reading, and its names never reach the disk."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from sdplay.data.files import Found, check_size, in_natural_order, kind_of, shown
from sdplay.data.limits import Limits
from sdplay.errors import DataError

_REPACK = "Pack the pictures again as an ordinary .zip, or add them as files."
_END, _END64, _LOCATOR64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_ENTRY_BYTES = 400
"""Room for one entry of the zip's directory with a long name and extra fields."""


@contextmanager
def open_zip(path: Path, *, scope: str, limits: Limits) -> Iterator[list[Found]]:
    """Its files in natural order, readable while the block lasts. Folders, links and what the system hides are left out.

    Raises DataError if it is no zip, damaged, locked, packed in an uncommon way, or larger than the limits.
    """
    with ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("rb"))
            _check_directory(file, path.name, limits)
            archive = stack.enter_context(zipfile.ZipFile(file))
        except (zipfile.BadZipFile, OSError, struct.error, ValueError, NotImplementedError) as error:
            raise DataError(f"{path.name} is not a readable zip file.", _REPACK) from error
        entries = [info for info in archive.infolist() if _is_wanted(info)]
        _check_entries(entries, path, limits)
        reader = _Reader(archive, limits)
        yield in_natural_order([reader.found(info, scope) for info in entries])


class _Reader:
    """Reads entries and counts the bytes that really come out, over the whole zip."""

    def __init__(self, archive: zipfile.ZipFile, limits: Limits) -> None:
        self._archive = archive
        self._limits = limits
        self._left_bytes = limits.zip_mb * 2**20

    def found(self, info: zipfile.ZipInfo, scope: str) -> Found:
        name = info.filename.replace("\\", "/")
        return Found(shown(name), scope, name, kind_of(name), lambda: self._read(info))

    def _read(self, info: zipfile.ZipInfo) -> bytes:
        check_size(info.file_size, self._limits)
        try:
            with self._archive.open(info) as entry:
                raw = entry.read(info.file_size + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, struct.error, RuntimeError, ValueError) as error:
            raise DataError("It is damaged inside the zip.", "Pack it again.") from error
        self._left_bytes -= len(raw)
        if len(raw) > info.file_size or self._left_bytes < 0:
            raise DataError("The zip holds more than it says.", _REPACK)
        return raw


def _check_directory(file: BinaryIO, name: str, limits: Limits) -> None:
    """Refuse a huge directory before it is parsed, which costs time and memory by the entry."""
    entries, size_bytes = _declared_directory(file, name)
    # Macs add a hidden twin to every file, and folders are entries too: those are passed over later.
    most = 4 * limits.zip_entries
    if entries > most or size_bytes > most * _ENTRY_BYTES:
        raise _too_many(name, limits)
    file.seek(0)


def _declared_directory(file: BinaryIO, name: str) -> tuple[int, int]:
    """How many entries and how many bytes of directory the end of the file announces."""
    length = file.seek(0, os.SEEK_END)
    start = max(0, length - 65_557 - 76)
    file.seek(start)
    tail = file.read()
    end = tail.rfind(_END)
    if end < 0 or end + 22 > len(tail):
        raise DataError(f"{name} is not a zip file, or its end is missing.", "Download or pack it again.")
    locator = end - 20
    if locator >= 0 and tail[locator : locator + 4] == _LOCATOR64:
        # zipfile believes the larger record only where it belongs, right before its locator.
        record = locator - 56
        if record < 0 or tail[record : record + 4] != _END64:
            raise DataError(f"{name} is not a readable zip file.", _REPACK)
        entries, size_bytes = struct.unpack_from("<QQ", tail, record + 32)
    else:
        entries, size_bytes = struct.unpack_from("<H", tail, end + 10)[0], struct.unpack_from("<L", tail, end + 12)[0]
    return int(entries), int(size_bytes)


def _check_entries(entries: list[zipfile.ZipInfo], path: Path, limits: Limits) -> None:
    if len(entries) > limits.zip_entries:
        raise _too_many(path.name, limits)
    if any(info.flag_bits & 0x1 for info in entries):
        raise DataError(f"{path.name} is locked with a password.", "Pack the pictures again without one.")
    if any(info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for info in entries):
        raise DataError(f"{path.name} is packed in an uncommon way.", _REPACK)
    declared_bytes = sum(info.file_size for info in entries)
    if declared_bytes > limits.zip_mb * 2**20:
        raise DataError(
            f"{path.name} unpacks to {declared_bytes / 2**20:.0f} MB, more than {limits.zip_mb} MB.",
            "Make the pictures smaller, or bring fewer.",
        )
    if declared_bytes > limits.zip_ratio * path.stat().st_size:
        raise DataError(f"{path.name} claims to unpack to over {limits.zip_ratio} times its size, which no pictures do.", _REPACK)


def _is_wanted(info: zipfile.ZipInfo) -> bool:
    mode = info.external_attr >> 16
    special = stat.S_IFMT(mode) not in (0, stat.S_IFREG)
    return not (info.is_dir() or special or kind_of(info.filename.replace("\\", "/")) == "junk")


def _too_many(name: str, limits: Limits) -> DataError:
    return DataError(
        f"{name} holds more than {limits.zip_entries} files.",
        f"A data set takes up to {limits.pictures} pictures: pack only those.",
    )
