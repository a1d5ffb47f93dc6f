"""Which caption a picture gets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sdplay.data import Dataset, DatasetStore

Paint = Callable[..., Path]


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def captions(dataset: Dataset) -> dict[str, str]:
    return {example.source: example.caption for example in dataset.examples}


@pytest.mark.parametrize(
    "table",
    [
        "file_name,text\na.png,a cat\n",
        "Caption;Image_File\na cat;a.png\n",
        "filename\tPROMPT\na.png\ta cat\n",
        "file,caption\ra.png,a cat\r",
        '"file";"caption"\n"a.png";"a cat"\n',
        "\ufefffile,caption\r\na.png,a cat\r\n",
        'image,caption\n"./a.png","a\ncat"\n',
    ],
)
def test_a_csv_is_read_however_it_was_saved(store: DatasetStore, paint: Paint, table: str) -> None:
    picture = paint("a.png")
    write(picture.parent / "captions.csv", table)

    assert captions(store.create([picture.parent])) == {"a.png": "a cat"}


def test_a_csv_in_utf_16_is_read(store: DatasetStore, paint: Paint) -> None:
    picture = paint("a.png")
    write(picture.parent / "captions.csv", "file,text\na.png,un châton\n".encode("utf-16"))

    assert captions(store.create([picture.parent])) == {"a.png": "un châton"}


def test_a_csv_in_an_old_encoding_is_read_with_a_note(store: DatasetStore, paint: Paint) -> None:
    picture = paint("a.png")
    write(picture.parent / "captions.csv", "file,text\na.png,un châton\n".encode("cp1252"))

    example = store.create([picture.parent]).examples[0]

    assert example.caption == "un châton"
    assert any("check the accents" in note for note in example.notes)


def test_a_csv_whose_letters_cannot_be_read_is_named(store: DatasetStore, paint: Paint) -> None:
    picture = paint("a.png")
    write(picture.parent / "captions.csv", b"file,text\na.png,\x81\x8d\x90\n")

    dataset = store.create([picture.parent])

    assert captions(dataset) == {"a.png": ""}
    assert "UTF-8" in dataset.skipped[0].reason


def test_a_csv_that_names_absent_pictures_says_so(store: DatasetStore, paint: Paint) -> None:
    picture = paint("a.png")
    write(picture.parent / "caption.csv", "file,text\na.png,a cat\nx.jpg,a dog\n../../etc/passwd,nobody\n")

    dataset = store.create([picture.parent])

    assert captions(dataset) == {"a.png": "a cat"}
    assert [skipped.name for skipped in dataset.skipped] == ["x.jpg", "../../etc/passwd"]
    assert dataset.skipped[0].reason.startswith("caption.csv names x.jpg, which is not among the pictures.")


def test_a_long_list_of_absent_pictures_is_kept_short(store: DatasetStore, paint: Paint) -> None:
    picture = paint("a.png")
    write(picture.parent / "caption.csv", "file,text\n" + "".join(f"x{i}.jpg,a dog\n" for i in range(500)))

    assert [skipped.name for skipped in store.create([picture.parent]).skipped][-1] == "490 more rows"


def test_a_csv_without_the_columns_says_which_it_needs(store: DatasetStore, paint: Paint) -> None:
    picture = paint("a.png")
    write(picture.parent / "sales.csv", "month,total\nmay,3\n")

    assert "file_name" in store.create([picture.parent]).skipped[0].reason


def test_a_table_with_too_many_rows_is_refused(store: DatasetStore, paint: Paint) -> None:
    picture = paint("a.png")
    write(picture.parent / "long.csv", "file,text\n" + "a.png,x\n" * 10_001)

    assert "more than 10000 rows" in store.create([picture.parent]).skipped[0].reason


def test_metadata_jsonl_is_read(store: DatasetStore, paint: Paint) -> None:
    picture = paint("train/a.png")
    write(picture.parent / "metadata.jsonl", json.dumps({"file_name": "a.png", "Text": "a cat", "n": 1}) + "\n\n")

    assert captions(store.create([picture.parent.parent])) == {"train/a.png": "a cat"}


@pytest.mark.parametrize("line", ["{", "[1]", "1", '{"file_name": 3, "text": "x"}', "[" * 100_000])
def test_a_broken_jsonl_names_the_line(store: DatasetStore, paint: Paint, line: str) -> None:
    picture = paint("a.png")
    write(picture.parent / "metadata.jsonl", line)

    assert "Line 1" in store.create([picture.parent]).skipped[0].reason


def test_text_files_beside_the_pictures_are_their_captions(store: DatasetStore, paint: Paint) -> None:
    picture = paint("0.src.png")
    write(picture.parent / "0.src.txt", "a cat\n")
    write(picture.parent / "notes.txt", "buy milk")

    dataset = store.create([picture.parent])

    assert captions(dataset) == {"0.src.png": "a cat"}
    assert dataset.skipped == ()


def test_a_table_wins_over_a_text_file(store: DatasetStore, paint: Paint) -> None:
    picture = paint("a.png")
    write(picture.parent / "a.txt", "from text")
    write(picture.parent / "captions.csv", "file,text\na.png,from table\n")

    assert captions(store.create([picture.parent])) == {"a.png": "from table"}


def test_a_file_name_is_no_caption(store: DatasetStore, paint: Paint) -> None:
    assert captions(store.create([paint("a lovely cat.png")])) == {"a lovely cat.png": ""}


def test_separate_uploads_belong_together(store: DatasetStore, paint: Paint, tmp_path: Path) -> None:
    # A browser upload puts each file in a folder of its own and drops brackets from its name.
    pictures = [paint("h1/toy 1.png"), paint("h2/toy 2.png"), paint("h3/b.png")]
    table = write(tmp_path / "h4" / "captions.csv", "file,text\nimages/toy (1).png,one\nC:\\me\\toy (2).png,two\n")
    sidecar = write(tmp_path / "h5" / "b.txt", "bee")

    dataset = store.create([table, *reversed(pictures), sidecar])

    assert captions(dataset) == {"b.png": "bee", "toy 1.png": "one", "toy 2.png": "two"}
    assert dataset.skipped == ()


def test_each_folder_of_a_set_keeps_its_own_captions(store: DatasetStore, paint: Paint) -> None:
    root = paint("one/1.png").parent.parent
    paint("two/1.png")
    write(root / "one" / "1.txt", "first")
    write(root / "two" / "captions.csv", "file,text\n1.png,second\n")

    assert captions(store.create([root])) == {"one/1.png": "first", "two/1.png": "second"}


def test_a_row_that_could_mean_two_pictures_is_not_guessed(store: DatasetStore, paint: Paint) -> None:
    root = paint("one/1.png").parent.parent
    paint("two/1.png")
    write(root / "captions.csv", "file,text\n1.png,which\n")

    dataset = store.create([root])

    assert set(captions(dataset).values()) == {""}
    assert "2 pictures are called that" in dataset.skipped[0].reason


def test_a_row_with_an_unstorable_name_is_reported(store: DatasetStore, paint: Paint) -> None:
    picture = paint("a.png")
    write(picture.parent / "m.jsonl", '{"file_name": "\\ud800' + "x" * 5000 + '", "text": "x"}')

    assert len(store.create([picture.parent]).skipped[0].name) < 250


def test_captions_are_one_clean_line(store: DatasetStore, paint: Paint) -> None:
    picture = paint("a.png")
    write(picture.parent / "a.txt", "  a\x00 cat\n\u202eand\ta dog\n")

    assert captions(store.create([picture.parent])) == {"a.png": "a cat and a dog"}


def test_an_endless_caption_is_cut_with_a_note(store: DatasetStore, paint: Paint) -> None:
    picture = paint("a.png")
    write(picture.parent / "a.txt", "cat " * 5000)

    example = store.create([picture.parent]).examples[0]

    assert len(example.caption) <= 1000
    assert example.notes == ("The caption was cut to 1000 characters.",)
