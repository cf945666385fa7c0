#!/usr/bin/python3
"""Writes what `make bench` measured into docs/performance.md, between its markers, and draws
docs/performance.png."""

import argparse
import json
import re
from pathlib import Path

import goals
import picture
import tables

ROOT = Path(__file__).resolve().parent.parent


def fill(page, blocks):
    """Replaces what stands between `<!-- begin: NAME -->` and `<!-- end: NAME -->`."""
    for name, text in blocks.items():
        pattern = rf"(<!-- begin: {name} -->\n).*?(<!-- end: {name} -->)"
        page, count = re.subn(pattern, lambda m: f"{m[1]}\n{text}\n\n{m[2]}", page, flags=re.DOTALL)
        if count != 1:
            raise SystemExit(f"report.py: the page has {count} blocks '{name}', expected 1")
    return page


def read(path):
    if not path.exists():
        raise SystemExit(f"report.py: no {path}; `make bench` writes it")
    return json.loads(path.read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=ROOT / "bench/results.json")
    parser.add_argument("--modules", type=Path, default=ROOT / "bench/modules.json")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/performance.md")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs/performance.png")
    options = parser.parse_args()

    results = read(options.results)
    modules = read(options.modules)
    page = fill(options.page.read_text(), {
        "machine": tables.machine(results),
        "summary": tables.summary(results["cases"]),
        "goals": goals.goals(results["cases"]),
        "two-passes": goals.two_passes(results["cases"]),
        "layouts": goals.layouts(results["cases"]),
        "table": tables.cases(results["cases"]),
        "peers": tables.peers(results["cases"]),
        "fused": tables.fused(results["cases"]),
        "sixteen": tables.sixteen(results["cases"]),
        "modules": tables.modules(modules),
        "memory": tables.memory(modules),
    })
    options.page.write_text(page)
    picture.draw(results["cases"], options.picture)


if __name__ == "__main__":
    main()
