"""Prints the contract as a table, families across, after its tests have run."""

from __future__ import annotations

import re

import pytest

CONTRACT = re.compile(r"families/test_contract\.py::test_(?P<promise>\w+)\[(?P<case>[^]]+)\]$")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    cells: dict[str, dict[str, str]] = {}
    for outcome, mark in (("passed", "yes"), ("failed", "NO"), ("skipped", "-")):
        for report in terminalreporter.stats.get(outcome, []):
            found = CONTRACT.search(report.nodeid)
            if found:
                cells.setdefault(found["promise"].replace("_", " "), {})[found["case"]] = mark
    cases = sorted({case for row in cells.values() for case in row})
    if not cases:
        return
    terminalreporter.section("contract of the families")
    terminalreporter.write_line(" | ".join([f"{'':72}", *cases]))
    for promise, row in cells.items():
        terminalreporter.write_line(" | ".join([f"{promise:72}", *(f"{row.get(case, ''):{len(case)}}" for case in cases)]))
