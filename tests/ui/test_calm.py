"""What an open page costs: the queue looks for work at a walking pace, and a script comes first in each page (its effect: test_page.py)."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from fastapi.responses import HTMLResponse, StreamingResponse
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from sdplay.engine import Engine
from sdplay.ui import app
from sdplay.ui.calm import CalmPages, calm, rest_when_free

PAGE = "<!doctype html><head><script>first()</script></head><body>\u00e4</body>"


@pytest.fixture
def client() -> TestClient:
    server = FastAPI(middleware=[Middleware(CalmPages)])
    pages = {"/page": PAGE, "/bare": "<p>no head</p>"}
    for path, page in pages.items():
        server.get(path)(lambda page=page: HTMLResponse(page))
    server.get("/parts")(lambda: StreamingResponse(iter(PAGE), media_type="text/html; charset=utf-8"))
    server.get("/data")(lambda: {"page": PAGE})
    return TestClient(server)


@pytest.mark.parametrize("path", ["/page", "/parts"])
def test_the_script_comes_before_a_pages_own(client: TestClient, path: str) -> None:
    answer, plain = client.get(path), client.get(path, headers={"accept-encoding": "identity"})

    assert answer.content == plain.content == calm(PAGE.encode())
    assert answer.text.index("requestAnimationFrame") < answer.text.index("first()")
    assert int(plain.headers["content-length"]) == len(plain.content)
    assert answer.headers["content-encoding"] == "br"
    assert "content-encoding" not in plain.headers


def test_what_is_no_page_stays(client: TestClient) -> None:
    assert client.get("/bare").text == "<p>no head</p>"
    assert client.get("/data").json() == {"page": PAGE}
    assert client.head("/page").status_code == 405


def test_the_queue_looks_fifty_times_a_second(engine: Engine) -> None:
    blocks = app.build(engine).queue()
    before = blocks._queue.sleep_when_free

    rest_when_free(blocks)

    assert before < blocks._queue.sleep_when_free <= 0.02
