"""Only pictures and results of the workspace can be fetched."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from sdplay.engine import Engine
from sdplay.ui.files import add_file_route, file_url


@pytest.fixture
def client(engine: Engine) -> TestClient:
    app = FastAPI()
    add_file_route(app, engine, lambda request: request.headers.get("who") != "stranger")
    return TestClient(app)


def test_a_picture_of_a_data_set_is_served_small_or_whole(client: TestClient, engine: Engine, pictures: Path) -> None:
    made = engine.datasets.create([pictures])
    name = made.examples[0].path.name

    whole = client.get("/" + file_url("datasets", made.id, name))

    assert whole.content == made.examples[0].path.read_bytes()
    assert "immutable" in whole.headers["cache-control"]


def test_a_large_sample_picture_is_made_smaller(client: TestClient) -> None:
    answer = client.get("/" + file_url("samples", "fxemoji-style", "frog.png", width=160))

    assert answer.headers["content-type"] == "image/webp"


@pytest.mark.parametrize(
    "address",
    [
        "datasets/../dataset.json",
        "samples/fxemoji-style/sample.yaml",
        "samples/..%2F..%2Fprompts/style.yaml",
        "runs/last/config.yaml",
        "runs/x/samples/..%2F..%2Fevents.jsonl",
        "pictures/drawn/..%2F..%2Fruns%2Fx.png",
        "cache/latents/x.png",
    ],
)
def test_nothing_else_is_served(client: TestClient, address: str) -> None:
    assert client.get(f"/sdplay/files/{address}").status_code == 404


def test_a_visitor_who_has_not_logged_in_gets_nothing(client: TestClient) -> None:
    assert client.get("/" + file_url("samples", "fxemoji-style", "frog.png"), headers={"who": "stranger"}).status_code == 401
