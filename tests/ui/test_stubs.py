"""Gradio imported by the page writes no type stubs; its components are the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

COMPONENT = '''
from gradio.components.base import Component

class Loud(Component):
    """A component with an event."""

    EVENTS = ["change"]
'''


@pytest.mark.parametrize(("first", "written"), [("import sdplay.ui", False), ("import gradio", True)], ids=["the page", "gradio alone"])
def test_a_component_has_its_events_and_only_gradio_alone_writes_a_stub(tmp_path: Path, first: str, written: bool) -> None:
    (tmp_path / "loud.py").write_text(COMPONENT)
    code = f"import sys; sys.path.append({str(tmp_path)!r}); {first}; import loud; print(callable(loud.Loud.change))"

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()

    assert said == "True"
    assert (tmp_path / "loud.pyi").exists() == written


def test_what_is_asked_for_twice_is_done_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from sdplay.ui import stubs

    monkeypatch.setattr(stubs, "MODULE", "a_module_that_nobody_imports")
    others = [finder for finder in sys.meta_path if not isinstance(finder, stubs._Finder)]
    monkeypatch.setattr(sys, "meta_path", list(others))

    stubs.leave_stubs_alone()
    stubs.leave_stubs_alone()

    assert len(sys.meta_path) == len(others) + 1


def test_a_gradio_without_the_writer_is_imported_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text("value = 5")
    code = (
        f"import sys; sys.path.append({str(tmp_path)!r}); from sdplay.ui import stubs; stubs.MODULE = 'other'; "
        "stubs.leave_stubs_alone(); import other; print(other.value, hasattr(other, stubs.WRITER))"
    )

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == ["5", "False"]
