"""What was typed is kept: cheaply for each change, before anyone is asked, and all of it."""

from __future__ import annotations

from sdplay.engine import Engine
from sdplay.ui.app import build
from sdplay.ui.keeping import GROUP


def test_each_change_is_heard_first_by_a_listener_that_takes_nothing(engine: Engine) -> None:
    handlers = build(engine).get_config_file()["dependencies"]
    (gathers,) = (handler for handler in handlers if [event for _, event in handler["targets"]] == ["keep"])
    first: dict[int, dict[str, object]] = {}
    for handler in handlers:
        for target, event in handler["targets"]:
            if event == "change":
                first.setdefault(target, handler)

    listening = [first[control] for control in gathers["inputs"]]

    assert len(gathers["inputs"]) > 100
    assert all("sdplayKeep" in str(handler["js"]) for handler in listening)
    assert all(not handler["inputs"] and not handler["outputs"] and not handler["backend_fn"] for handler in listening)
    assert max(len(handler["targets"]) for handler in listening) <= GROUP  # type: ignore[arg-type]
