#!/usr/bin/python3
"""Runs evenkeel_bench_modules for every case and allocator setting, each in a process of its own,
and writes bench/modules.json."""

import argparse
import json
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Name -> environment and arguments of the process.
ALLOCATORS = {
    "default": ({}, []),
    "hugetlb": ({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}, []),
    "no mmap": ({}, ["--no-mmap"]),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", type=Path,
                        default=ROOT / "build/bench/bin/evenkeel_bench_modules")
    parser.add_argument("--out", type=Path, default=ROOT / "bench/modules.json")
    parser.add_argument("--rounds", type=int, default=15, help="calls per process, default 15")
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, os.cpu_count()}))
    options = parser.parse_args()

    names = subprocess.run([options.program, "--list"], check=True, capture_output=True, text=True)
    results = []
    for name in names.stdout.splitlines():
        what, how = name.split("/")
        # A step of training is measured for its memory, which the other settings only blur.
        allocators = ["default"] if what.endswith("_step") else ALLOCATORS
        for threads in options.threads:
            for allocator in allocators:
                environment, arguments = ALLOCATORS[allocator]
                print(f"{name}, {threads} threads, {allocator}", flush=True)
                command = [options.program, name, "--threads", str(threads),
                           "--rounds", str(options.rounds), *arguments]
                run = subprocess.run(command, check=True, capture_output=True, text=True,
                                     env={**os.environ, **environment})
                results.append({"what": what, "how": how, "allocator": allocator,
                                "threads": threads, **json.loads(run.stdout)})
    options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
