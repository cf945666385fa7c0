#!/usr/bin/python3
"""Writes what `make bench` measured into docs/performance.md and docs/performance-tables.md, between
their markers, and draws docs/performance.png."""

import argparse
import json
from pathlib import Path

import goals
import pages
import picture
import tables

ROOT = Path(__file__).resolve().parent.parent


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
    written = {
        options.page: pages.fill(options.page, {"machine": machine, "summary": tables.summary(cases)}),
        options.tables: pages.fill(options.tables, {
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
    for path, page in written.items():
        path.write_text(page)
    picture.draw(cases, options.picture)


if __name__ == "__main__":
    main()
