"""The base models that the page offers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from sdplay import families
from sdplay.bases import load_bases
from sdplay.cli import main
from sdplay.hub import HUB_ID, MINI


def test_the_embedded_base_comes_first_and_needs_nothing() -> None:
    first = next(iter(load_bases().values()))

    assert (first.id, first.download_gb, first.lora_gb, first.gated) == (MINI, 0, None, False)


def test_every_other_offer_is_a_hub_id_of_a_known_family() -> None:
    others = [base for base in load_bases().values() if base.id != MINI]

    assert all(HUB_ID.fullmatch(base.id) and base.lora_gb and base.download_gb > 1 for base in others)
    assert {base.family for base in others} == set(families.NAMES)


def test_a_gated_base_says_what_to_do() -> None:
    gated = load_bases()["stabilityai/stable-diffusion-3-medium-diffusers"]

    assert gated.gated
    assert "accept its licence" in gated.facts


def test_a_wrong_entry_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bases.yaml").write_text("a/b: {title: x, family: sd9, licence: y, download_gb: 1, lora_gb: 1, note: z}")

    with pytest.raises(ValidationError, match="family"):
        load_bases(tmp_path / "bases.yaml")


def test_the_command_line_lists_them(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SDPLAY_HOME", str(tmp_path))

    assert main(["bases", "--json"]) == 0

    listed = json.loads(capsys.readouterr().out)
    assert [entry["id"] for entry in listed] == list(load_bases())
    assert main(["bases"]) == 0
    assert "stabilityai/stable-diffusion-xl-base-1.0" in capsys.readouterr().out
