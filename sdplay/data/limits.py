"""How much a user may bring. A public server keeps the defaults; a person at home may raise them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The largest input that is still read. Beyond it a file is left out with a sentence, or a zip refused.

    kept_side_px: larger pictures are reduced to this.  listed: so many skipped rows or files are named, the rest counted.
    """

    file_mb: int = 50
    folder_files: int = 10_000
    zip_entries: int = 500
    zip_mb: int = 1024
    zip_ratio: int = 200
    megapixels: int = 40
    side_px: int = 12_000
    smallest_side_px: int = 32
    kept_side_px: int = 2048
    pictures: int = 200
    table_mb: int = 5
    table_rows: int = 10_000
    caption_chars: int = 1000
    listed: int = 10
    download_mb: int = 300
    download_seconds: int = 300
