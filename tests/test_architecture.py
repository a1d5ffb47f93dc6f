"""Who may import whom, and how long a function may be. The rules are in the README's map of the house."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "sdplay").rglob("*.py"))
HEAVY = {"torch", "numpy", "diffusers", "transformers", "peft", "gradio", "datasets", "accelerate"}
LIGHT = ("errors", "config", "events", "runs", "templates", "engine", "cli", "presets", "prompt_sets", "sample_sets")
LIGHT += (
    "history",
    "library",
    "exports",
    "choice",
    "diagnosis",
    "card",
    "longer",
    "compare",
    "columns",
    "asked",
    "film",
    "png_settings",
    "start",
    "hub",
    "bases",
    "single_file",
    "plan",
    "experiments",
    "lessons",
    "styles",
    "trigger",
    "forecasts",
    "price",
    "wildcards",
    "prompt_files",
)
LEAVES = {
    "errors": set(), "workspace": set(), "quiet": set(), "events": set(),
    "yaml_text": set(), "config": {"errors", "yaml_text"}, "templates": {"errors"}, "device": {"errors"},
    "runs": {"config", "errors", "events", "workspace", "yaml_text"},
}  # fmt: skip
MAX_FUNCTION_LINES, MAX_FILE_LINES = 60, 500


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").as_posix()


def imports(tree: ast.AST, *, module_level_only: bool) -> set[str]:
    """Every module that is imported, outside TYPE_CHECKING blocks."""
    found: set[str] = set()
    nodes = list(getattr(tree, "body", [])) if module_level_only else list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_only_the_ui_imports_gradio(path: Path) -> None:
    used = {module.split(".")[0] for module in imports(ast.parse(path.read_text()), module_level_only=False)}

    assert "gradio" not in used or "ui" in path.relative_to(ROOT).parts


def test_light_modules_import_nothing_heavy() -> None:
    """All in one process: what one of them imported, the next would load in no time."""
    lines = [f"import sdplay.{module}; print({module!r}, *({HEAVY!r} & set(sys.modules)))" for module in LIGHT]

    told = subprocess.run(
        [sys.executable, "-c", "\n".join(["import sys", *lines])], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.splitlines()

    assert told == list(LIGHT)


def test_the_page_is_built_without_torch() -> None:
    code = "import sys, sdplay.ui.app; print('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip() == "False"


@pytest.mark.parametrize("module", LEAVES)
def test_leaves_know_nothing_of_the_rest(module: str) -> None:
    files = [path for path in SOURCES if path.relative_to(ROOT / "sdplay").parts[0].removesuffix(".py") == module]
    used = {name for path in files for name in imports(ast.parse(path.read_text()), module_level_only=False)}
    ours = {name.split(".")[1] for name in used if name.startswith("sdplay.") and len(name.split(".")) > 1}
    modules = {path.relative_to(ROOT / "sdplay").parts[0].removesuffix(".py") for path in SOURCES}

    assert files
    assert (ours & modules) - {"__version__", module} <= LEAVES[module]


@pytest.mark.parametrize("package", ["families", "methods"])
def test_families_and_methods_do_not_know_each_other(package: str) -> None:
    files = [path for path in (ROOT / "sdplay" / package).glob("*.py") if path.stem != "__init__"]
    for path in files:
        used = imports(ast.parse(path.read_text()), module_level_only=False)
        siblings = {f"sdplay.{package}.{other.stem}" for other in files if other != path}
        assert not used & siblings, path


def test_the_ui_asks_the_engine_and_never_reaches_past_it() -> None:
    inner = ("train", "sample", "cache", "checkpoint", "formats", "families", "methods.lora")
    beyond = {f"sdplay.{name}" for name in inner}
    for path in (ROOT / "sdplay" / "ui").rglob("*.py"):
        assert not imports(ast.parse(path.read_text()), module_level_only=False) & beyond, path


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_functions_and_files_stay_readable(path: Path) -> None:
    text = path.read_text()
    lengths = {
        f"{node.name} (line {node.lineno})": (node.end_lineno or 0) - node.lineno + 1
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }

    assert {name: length for name, length in lengths.items() if length > MAX_FUNCTION_LINES} == {}
    assert text.count("\n") <= MAX_FILE_LINES


def test_no_committed_file_is_too_large_for_a_space() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, check=False, cwd=ROOT).stdout.decode().split("\0")
    sizes = {name: (ROOT / name).stat().st_size for name in listed if name and (ROOT / name).is_file()}

    assert {name: size for name, size in sizes.items() if size >= 10_000_000} == {}
