"""What a user sends in tells us what we need, and nobody their secrets."""

from __future__ import annotations

from pathlib import Path

from sdplay.config import LoraConfig
from sdplay.diagnosis import run_report, scrubbed
from sdplay.events import Failed, Started, Submitted, fold
from sdplay.runs import create_run


def test_a_report_has_cause_versions_settings_and_the_end_of_the_log(tmp_path: Path) -> None:
    run = create_run(tmp_path, LoraConfig(dataset="my-cats-1234", token="sks", negative_prompt="my neighbour", rank=16), name="cats")
    (run.folder / "log.txt").write_text("\n".join(f"line {number}" for number in range(100)))
    state = fold([Submitted(steps=9), Started(step=0, device="CPU, 2 threads"), Failed(message="No memory.", hint="Buy some.")])

    report = run_report(run, state)

    assert all(text in report for text in ("No memory. Buy some.", "rank: 16", "torch: ", "line 99", "CPU, 2 threads", "step 0 of 9"))
    assert "line 10\n" not in report
    assert "neighbour" not in report
    assert "my-cats-1234" not in report


def test_secrets_and_paths_are_not_in_it() -> None:
    text = scrubbed("HF hf_abcdefghijkl at /home/ann smith/cats/1.png, C:\\Users\\ann\\x.txt, token=abc, password: xyz")

    assert all(secret not in text for secret in ("hf_abc", "ann", "abc", "xyz"))
    assert "1.png" in text


def test_shares_and_addresses_are_no_paths() -> None:
    text = "step 3/4 and/or https://huggingface.co/owner/name/file"

    assert scrubbed(text) == text
