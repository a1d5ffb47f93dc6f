"""The public functions, over HTTP, as another program calls them."""

from __future__ import annotations

import json
import urllib.request
import zipfile
from pathlib import Path

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

ENDPOINTS = {
    "/dataset_create", "/dataset_report", "/train_start", "/train_status", "/train_stop", "/runs_list", "/generate", "/compare",
    "/compare_status", "/run_ask", "/run_continue", "/run_best", "/run_note", "/run_delete", "/run_restore", "/run_report",
    "/adapters_list", "/adapter_fetch",
}  # fmt: skip


@pytest.fixture(scope="module")
def client(server: str) -> Client:
    return Client(server, verbose=False)


def refusal(client: Client, endpoint: str, **arguments: object) -> str:
    with pytest.raises(AppError) as refused:
        client.predict(api_name=endpoint, **arguments)
    return str(refused.value)


def test_only_the_documented_functions_are_public(client: Client) -> None:
    assert set(client.view_api(return_format="dict", print_info=False)["named_endpoints"]) == ENDPOINTS


def test_every_function_is_a_tool_with_a_description(server: str) -> None:
    tools = json.loads(urllib.request.urlopen(f"{server}gradio_api/mcp/schema", timeout=30).read())

    assert {tool["name"].removeprefix("sdplay_") for tool in tools} >= {name.strip("/") for name in ENDPOINTS}
    assert all(len(tool["description"]) > 20 for tool in tools)


def test_a_program_makes_a_data_set_trains_and_stops(client: Client, tiny_base: Path, pictures: Path) -> None:
    made = client.predict(sources=[str(pictures)], name="by a program", api_name="/dataset_create")
    run_id = client.predict(
        dataset_id=made["id"],
        preset="quick",
        base_model=str(tiny_base),
        settings={"steps": 5000, "sample_prompts": []},
        api_name="/train_start",
    )

    client.predict(run_id=run_id, api_name="/train_stop")
    while (status := client.predict(run_id=run_id, api_name="/train_status"))["status"] not in ("stopped", "failed", "finished"):
        pass

    assert made["pictures"] == 6
    assert status["status"] == "stopped"
    assert run_id in [row["id"] for row in client.predict(api_name="/runs_list")]


@pytest.mark.parametrize(
    ("endpoint", "arguments", "says"),
    [
        ("/train_start", {"dataset_id": "nothing-0000"}, "data set"),
        ("/train_start", {"dataset_id": "{made}", "preset": "magic"}, "no training preset"),
        ("/train_start", {"dataset_id": "{made}", "settings": {"learning_rate": "nan"}}, "Learning rate"),
        ("/train_start", {"dataset_id": "{made}", "settings": {"stpes": 5}}, "Did you mean 'steps'"),
        ("/train_start", {"dataset_id": "{made}", "settings": {"caption_templates": ["a {toekn}"]}}, "toekn"),
        ("/train_start", {"dataset_id": "{made}", "settings": [1]}, "settings"),
        ("/train_start", {"dataset_id": "{made}", "prompt_set": "nope"}, "no prompt set"),
        ("/train_status", {"run_id": "../../etc/passwd"}, "no run"),
        ("/train_stop", {"run_id": "nothing"}, "no run"),
        ("/dataset_report", {"dataset_id": "../.."}, "data set"),
        ("/dataset_create", {"sources": []}, "."),
        ("/dataset_create", {"sources": ["/no/such/folder"]}, "no/such/folder"),
        ("/compare", {"columns": ["base", "base"], "prompts": ["x"]}, "twice"),
        ("/compare", {"columns": ["nothing"], "prompts": ["x"]}, "no run"),
        ("/compare", {"columns": ["base"], "prompts": []}, "Prompts"),
        ("/generate", {"prompt": "x", "adapter": "missing.safetensors"}, "no file"),
        ("/generate", {"prompt": "x", "steps": 10_000}, "Denoising steps"),
    ],
)
def test_a_bad_call_gets_a_sentence(client: Client, pictures: Path, endpoint: str, arguments: dict[str, object], says: str) -> None:
    filled = {key: _made(client, pictures) if value == "{made}" else value for key, value in arguments.items()}
    before = client.predict(api_name="/runs_list")

    said = refusal(client, endpoint, **filled)

    assert says in said
    assert "Traceback" not in said
    assert client.predict(api_name="/runs_list") == before


def test_an_uploaded_zip_of_text_is_refused_in_a_sentence(client: Client, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "text.zip", "w") as archive:
        archive.writestr("readme.txt", "no pictures here")

    said = refusal(client, "/dataset_create", sources=[str(tmp_path / "text.zip")])

    assert "picture" in said


def _made(client: Client, pictures: Path) -> str:
    return client.predict(sources=[str(pictures)], name="for a bad call", api_name="/dataset_create")["id"]
