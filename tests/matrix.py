"""Every family x every method x every layout of their files, as a table: `python -m tests.matrix`.

The tests are in test_matrix.py; a cell says in which layouts what was learned drew the same picture again.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping

import pytest

FAMILIES = {"sd15": "tiny_base", "sd2": "tiny_sd2", "sdxl": "tiny_sdxl", "sd3": "tiny_sd3"}
"""The tiny base of each."""
WORD = {"token": "ohwx", "class_word": "dog", "vectors": 2}
METHODS: dict[str, dict[str, object]] = {
    "LoRA": {"rank": 4, "alpha": 2},
    "DoRA": {"kind": "dora", "rank": 4, "alpha": 2},
    "rsLoRA": {"kind": "rslora", "rank": 4, "alpha": 2},
    "LoHa": {"kind": "loha", "rank": 2, "alpha": 2},
    "LoKr": {"kind": "lokr", "rank": 2, "alpha": 2},
    "DreamBooth": {"method": "dreambooth", "learning_rate": 1e-2, "save_dtype": "float32"},
    "textual inversion": {"method": "textual_inversion", "learning_rate": 1e-1, **WORD},
    "pivotal tuning": {"method": "pivotal", "pivot": 0.34, **WORD},
}
NOTES = {
    "LoHa, LoKr": "diffusers 0.42 loads neither, so its layout, peft's, is read by sdplay and peft alone.",
    "DreamBooth": "whole weights have no LoRA layout; `sdplay export --merge` makes a model of them, for diffusers here.",
    "textual inversion, sdxl": "one file has the vectors of both encoders, as A1111 and ComfyUI read it; diffusers takes it in two calls.",
    "sd3": "diffusers' pipeline for it loads no words: the LoRA is read there, the word by sdplay and ComfyUI.",
}
"""Why a layout is missing in a cell."""
CELL = re.compile(r"test_matrix\.py::test_\w+\[(?P<family>\w+)-(?P<method>[\w ]+)\]$")


def table(reports: Mapping[str, Iterable[object]]) -> list[str]:
    """Markdown lines from pytest's reports by outcome; empty when no cell has run."""
    cells: dict[tuple[str, str], str] = {}
    for outcome in ("passed", "failed"):
        for report in reports.get(outcome, []):
            if isinstance(report, pytest.TestReport) and (found := CELL.search(report.nodeid)):
                place = found["method"], found["family"]
                layouts = str(dict(report.user_properties).get("layouts", ""))
                cells[place] = "FAILED" if outcome == "failed" else layouts or cells.get(place, "resumes")
    if not cells:
        return []
    lines = ["| method | " + " | ".join(FAMILIES) + " |", "|---|" + "---|" * len(FAMILIES)]
    lines += [f"| {name} | " + " | ".join(cells.get((name, family), "not run") for family in FAMILIES) + " |" for name in METHODS]
    return [*lines, "", *(f"- {about}: {why}" for about, why in NOTES.items())]


if __name__ == "__main__":
    sys.exit(pytest.main(["-q", "--no-header", "tests/test_matrix.py"]))
