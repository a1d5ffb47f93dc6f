"""A zip from a stranger."""

from __future__ import annotations

import struct
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from sdplay.data import DatasetStore, Limits
from sdplay.errors import DataError

Paint = Callable[..., Path]


def pack(path: Path, entries: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, raw in entries.items():
            archive.writestr(name, raw)
    return path


def refusal(store: DatasetStore, path: Path) -> DataError:
    start = time.perf_counter()
    with pytest.raises(DataError) as caught:
        store.create([path])
    assert time.perf_counter() - start < 1
    assert caught.value.hint
    assert store.list() == []
    return caught.value


def test_any_inner_structure_is_read_and_what_systems_hide_is_passed_over(store: DatasetStore, paint: Paint, tmp_path: Path) -> None:
    raw = paint("a.png").read_bytes()
    entries = {"deep/er/a.png": raw, "__MACOSX/deep/._a.png": b"x", "deep/.DS_Store": b"x", "Thumbs.db": b"x", "README": b"hi"}

    dataset = store.create([pack(tmp_path / "my pictures.zip", entries)])

    assert [example.source for example in dataset.examples] == ["deep/er/a.png"]
    assert dataset.skipped == ()
    assert dataset.id.startswith("my-pictures-")


def test_names_in_a_zip_never_reach_the_disk(store: DatasetStore, paint: Paint, tmp_path: Path) -> None:
    names = [
        "../../up.png",
        "/abs.png",
        "C:\\drive.png",
        "..\\back.png",
        "\\\\host\\unc.png",
        "x" * 300 + ".png",
        "CON.png",
        "\u202egnp.png",
    ]
    entries = {name: paint(f"{index}.png").read_bytes() for index, name in enumerate(names)}
    before = set(tmp_path.rglob("*"))

    dataset = store.create([pack(tmp_path / "slip" / "slip.zip", entries)])

    made = {path for path in set(tmp_path.rglob("*")) - before if path.is_file() and path.suffix == ".png"}
    assert made == {example.path for example in dataset.examples}
    assert {path.parent for path in made} == {dataset.folder / "pictures"}
    assert len(made) == len(names)


def test_links_in_a_zip_are_passed_over(store: DatasetStore, paint: Paint, tmp_path: Path) -> None:
    path = pack(tmp_path / "links.zip", {"a.png": paint("a.png").read_bytes()})
    link = zipfile.ZipInfo("link.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/hostname")

    assert len(store.create([path]).examples) == 1


def test_a_zip_in_a_zip_is_not_opened(store: DatasetStore, paint: Paint, tmp_path: Path) -> None:
    raw = paint("a.png").read_bytes()
    inner = pack(tmp_path / "inner.zip", {"b.png": paint("b.png").read_bytes()}).read_bytes()

    dataset = store.create([pack(tmp_path / "outer.zip", {"a.png": raw, "inner.zip": inner})])

    assert len(dataset.examples) == 1
    assert dataset.skipped[0].name == "inner.zip"


def test_a_zip_that_announces_too_much_is_refused_unread(store: DatasetStore, tmp_path: Path) -> None:
    path = pack(tmp_path / "bomb.zip", {"a.png": bytes(10_000)})
    raw = bytearray(path.read_bytes())
    struct.pack_into("<L", raw, raw.find(b"PK\x01\x02") + 24, 2**31)  # declared size in the directory
    path.write_bytes(raw)

    assert "2048 MB" in refusal(store, path).message


def test_a_zip_that_shrank_a_thousandfold_is_refused(store: DatasetStore, tmp_path: Path) -> None:
    path = pack(tmp_path / "bomb.zip", {"a.png": bytes(10**7)})

    assert "200 times" in refusal(store, path).message


def test_a_zip_bomb_that_lies_about_its_size_gives_no_more_than_it_declared(store: DatasetStore, paint: Paint, tmp_path: Path) -> None:
    path = pack(tmp_path / "liar.zip", {"bomb.png": bytes(10**7), "ok.png": paint("ok.png").read_bytes()})
    raw = bytearray(path.read_bytes())
    struct.pack_into("<L", raw, raw.find(b"PK\x01\x02") + 24, 1000)  # says 1000 bytes, would give ten million
    path.write_bytes(raw)

    dataset = store.create([path])

    assert [example.source for example in dataset.examples] == ["ok.png"]
    assert "damaged inside the zip" in dataset.skipped[0].reason


def test_what_really_comes_out_is_counted(paint: Paint, tmp_path: Path) -> None:
    # Each picture is about 0.7 MB of noise; declared sizes may not exceed 1 MB, nor may what is read.
    store = DatasetStore(tmp_path / "store", Limits(zip_mb=1))
    entries = {f"{i}.png": paint(f"{i}.png", size=(480, 480)).read_bytes() for i in range(3)}
    path = pack(tmp_path / "big.zip", entries)

    assert "more than 1 MB" in refusal(store, path).message


def test_a_zip_of_far_too_many_files_is_refused(store: DatasetStore, tmp_path: Path) -> None:
    path = pack(tmp_path / "many.zip", {f"{i}.png": b"" for i in range(3000)}, zipfile.ZIP_STORED)

    assert "more than 500 files" in refusal(store, path).message


def test_a_locked_zip_is_refused(store: DatasetStore, paint: Paint, tmp_path: Path) -> None:
    path = pack(tmp_path / "locked.zip", {"a.png": paint("a.png").read_bytes()})
    raw = bytearray(path.read_bytes())
    raw[raw.find(b"PK\x01\x02") + 8] |= 1  # the flag that says encrypted
    path.write_bytes(raw)

    assert "password" in refusal(store, path).message


def test_an_uncommon_compression_is_refused(store: DatasetStore, paint: Paint, tmp_path: Path) -> None:
    path = pack(tmp_path / "lzma.zip", {"a.png": paint("a.png").read_bytes()}, zipfile.ZIP_LZMA)

    assert "uncommon" in refusal(store, path).message


@pytest.mark.parametrize("raw", [b"", b"not a zip", b"PK\x05\x06" + bytes(10), b"PK\x05\x06" + b"\xff" * 18])
def test_what_is_no_zip_is_refused(store: DatasetStore, tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "no.zip"
    path.write_bytes(raw)

    assert "no.zip" in refusal(store, path).message


def test_a_truncated_zip_is_refused(store: DatasetStore, paint: Paint, tmp_path: Path) -> None:
    path = pack(tmp_path / "cut.zip", {"a.png": paint("a.png").read_bytes()})
    path.write_bytes(path.read_bytes()[:-40])

    assert "cut.zip" in refusal(store, path).message


def test_an_empty_zip_is_refused(store: DatasetStore, tmp_path: Path) -> None:
    assert "nothing inside" in refusal(store, pack(tmp_path / "empty.zip", {})).message


def test_a_zip_of_text_is_refused_saying_what_was_found(store: DatasetStore, tmp_path: Path) -> None:
    path = pack(tmp_path / "text.zip", {"a.txt": b"hello", "b.txt": b"there", "c.docx": b"x"})

    error = refusal(store, path)

    assert "2 .txt files, 1 .docx file" in error.message
    assert "Bring JPEG, PNG or WebP" in error.hint


def test_mutated_zips_never_raise_anything_but_a_data_error(store: DatasetStore, paint: Paint, tmp_path: Path) -> None:
    raw = np.frombuffer(
        pack(tmp_path / "a.zip", {"a.png": paint("a.png").read_bytes(), "c.csv": b"file,text\na.png,x"}).read_bytes(), np.uint8
    )
    rng = np.random.default_rng(0)
    for _ in range(60):
        hurt = raw.copy()
        hurt[len(raw) - 1 - rng.integers(0, 200, 3)] = rng.integers(0, 256, 3)
        path = tmp_path / "hurt.zip"
        path.write_bytes(hurt.tobytes())
        with suppress(DataError):
            store.create([path])
