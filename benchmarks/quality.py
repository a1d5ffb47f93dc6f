"""Does fine-tuning teach what it should? Measured with ground truth: `python -m benchmarks.quality`.

Icon sets draw the same subjects in several styles. So for what the embedded base draws, and for what it draws after it was
taught an unseen style from sixteen pictures, the true picture exists and can be compared with. Prints a table, writes JSON
with `--json FILE`. Deterministic; nothing else should be running. Needs npm for the icons (kept in .mini).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import yaml

from benchmarks import base_quality, learning
from benchmarks.learning import Bench, Variant
from sdplay.engine import Engine
from sdplay.mini import data
from sdplay.quiet import quiet_environment, quiet_libraries
from sdplay.workspace import open_workspace

VARIANTS = Path(__file__).with_name("variants.yaml")
SHIPPED = ("style", "subject")
Row = dict[str, object]


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--icons", type=Path, default=Path(".mini"), help="folder of the npm icon packages (default: .mini)")
    parser.add_argument("--base", default="mini", help="base model to measure (default: mini)")
    parser.add_argument("--only", nargs="+", choices=("base", "learning"), default=("base", "learning"))
    parser.add_argument("--variants", nargs="+", default=SHIPPED, metavar="NAME", help=f"from {VARIANTS.name}, or `all`")
    parser.add_argument("--adapter", nargs=2, action="append", default=[], metavar=("NAME", "FILE"), help="a style adapter made elsewhere")
    parser.add_argument("--quick", action="store_true", help="a quarter of the prompts: a look, not a figure")
    parser.add_argument("--final-only", action="store_true", help="measure styles at the end only, not at the checkpoints")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    quiet_environment()
    quiet_libraries()
    arguments.icons.mkdir(exist_ok=True)
    data.fetch_icon_sets(arguments.icons)
    started = time.monotonic()
    tables: dict[str, list[Row]] = {}
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(open_workspace(Path(folder)))
        bench = Bench(engine, arguments.icons, arguments.base, quick=arguments.quick, checkpoints=not arguments.final_only)
        if "base" in arguments.only:
            tables["The base model"] = base_quality.measure(bench)
            show("The base model", tables["The base model"])
        if "learning" in arguments.only:
            for title, rows in learning.measure(bench, chosen_variants(arguments.variants), dict(arguments.adapter)).items():
                tables[title] = rows
                show(title, rows)
        engine.close()
    print(f"\n{time.monotonic() - started:.0f} s in all")
    if arguments.json:
        arguments.json.write_text(json.dumps(tables, indent=1) + "\n")


def chosen_variants(names: list[str]) -> list[Variant]:
    """The named ones of variants.yaml, in its order; `all` for all."""
    variants = [Variant(name, **values) for name, values in yaml.safe_load(VARIANTS.read_text(encoding="utf-8")).items()]
    unknown = set(names) - {"all", *(variant.name for variant in variants)}
    if unknown:
        raise SystemExit(f"There is no variant {', '.join(sorted(unknown))}. There are: {', '.join(v.name for v in variants)}.")
    return [variant for variant in variants if "all" in names or variant.name in names]


def show(title: str, rows: list[Row]) -> None:
    """Print a table in Markdown, so that it can go to the README as it is."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    print(f"\n**{title}**\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    for row in rows:
        print(f"| {' | '.join(text(row.get(column)) for column in columns)} |", flush=True)


def text(value: object) -> str:
    """A cell: shares as they are given, other numbers short, nothing for None."""
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
