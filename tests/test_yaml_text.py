"""One loader for every YAML file: safe, and the same values as PyYAML's own."""

from __future__ import annotations

import pytest
import yaml

from sdplay.workspace import PRESETS
from sdplay.yaml_text import parse_yaml

FILES = sorted(PRESETS.rglob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PRESETS).as_posix())
def test_every_shipped_file_reads_as_with_the_loader_in_python(path) -> None:  # noqa: ANN001
    text = path.read_text(encoding="utf-8")

    assert parse_yaml(text) == yaml.safe_load(text)


@pytest.mark.parametrize("text", ["!!python/object/apply:os.getcwd []", "a: [1, 2", "a: b: c", "\tx: 1"])
def test_what_is_not_plain_yaml_is_an_error(text: str) -> None:
    with pytest.raises(yaml.YAMLError):
        parse_yaml(text)
