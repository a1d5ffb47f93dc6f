"""Gradio's scripts go out compressed and mended. That a page still works with them is what every browser test shows."""

from __future__ import annotations

import gradio as gr
import pytest
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from sdplay.ui.assets import FOLDER, MENDS, KeptAssets, Mend, mended

MENDED_VERSION = "6.31.0"


@pytest.fixture
def client() -> TestClient:
    server = FastAPI(middleware=[Middleware(KeptAssets)])
    server.get("/{path:path}")(lambda path: PlainTextResponse(f"Gradio's answer for {path}"))
    return TestClient(server)


def _script(mend: Mend) -> str:
    """The name of the script that a mend is for."""
    return next(path.name for path in FOLDER.glob(f"{mend.file_start}*.js") if mend.gradio in path.read_text(encoding="utf-8"))


@pytest.mark.skipif(gr.__version__ != MENDED_VERSION, reason=f"the mends are to Gradio {MENDED_VERSION}; others are sent as they are")
@pytest.mark.parametrize("mend", MENDS, ids=lambda mend: mend.gradio[:24])
@pytest.mark.parametrize("accepted", ["br", "gzip", "identity"])
def test_a_script_goes_out_mended_and_packed(client: TestClient, mend: Mend, accepted: str) -> None:
    name = _script(mend)

    answer = client.get(f"/assets/{name}", headers={"accept-encoding": accepted})

    assert mend.ours in answer.text
    assert mend.gradio not in answer.text
    assert answer.headers.get("content-encoding", "identity") == accepted
    assert "javascript" in answer.headers["content-type"]
    assert "max-age" in answer.headers["cache-control"]


def test_a_script_that_reads_otherwise_stays_whole() -> None:
    first, second, *_ = (mend for mend in MENDS if mend.file_start == "core-")

    assert mended("core-1.js", first.gradio + second.ours) == first.gradio + second.ours
    assert mended("other-1.js", first.gradio) == first.gradio


@pytest.mark.parametrize("path", ["assets/none.js", "assets/../gradio/routes.py", "assets/%2e%2e/index.html", "file/assets/a.js"])
def test_what_is_no_asset_is_left_to_gradio(client: TestClient, path: str) -> None:
    assert client.get(f"/{path}").text.startswith("Gradio's answer")
    assert client.head("/assets/none.js").status_code == 405
