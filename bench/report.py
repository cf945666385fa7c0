#!/usr/bin/python3
"""Writes what `make bench` measured into docs/performance.md and docs/performance-tables.md, between
their markers, and draws docs/performance.png."""

import argparse
import json
import re
from pathlib import Path

import goals
import picture
import tables

ROOT = Path(__file__).resolve().parent.parent


def fill(path, blocks):
    """Replaces what stands between `<!-- begin: NAME -->` and `<!-- end: NAME -->` in a page, and
    returns the new page."""
    page = path.read_text()
    for name, text in blocks.items():
        pattern = rf"(<!-- begin: {name} -->\n).*?(<!-- end: {name} -->)"
        page, count = re.subn(pattern, lambda m: f"{m[1]}\n{text}\n\n{m[2]}", page, flags=re.DOTALL)
        if count != 1:
            raise SystemExit(f"report.py: {path} has {count} blocks '{name}', expected 1")
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
    parser.add_argument("--tables", type=Path, default=ROOT / "docs/performance-tables.md")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs/performance.png")
    options = parser.parse_args()

    results = read(options.results)
    modules = read(options.modules)
    cases = results["cases"]
    machine = tables.machine(results)
    # Both before either is written, so that a page without its markers leaves the other alone.
    pages = {
        options.page: fill(options.page, {"machine": machine, "summary": tables.summary(cases)}),
        options.tables: fill(options.tables, {
            "machine": machine,
            "goals": goals.goals(cases),
            "two-passes": goals.two_passes(cases),
            "layouts": goals.layouts(cases),
            "table": tables.cases(cases),
            "peers": tables.peers(cases),
            "fused": tables.fused(cases),
            "sixteen": tables.sixteen(cases),
            "modules": tables.modules(modules),
            "memory": tables.memory(modules),
        }),
    }
    for path, page in pages.items():
        path.write_text(page)
    picture.draw(cases, options.picture)


if __name__ == "__main__":
    main()
