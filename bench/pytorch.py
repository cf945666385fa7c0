#!/usr/bin/env python3
"""Times evenkeel's core beside a current PyTorch, eager and compiled, in one process.

For each case all contestants run in turns, in random order, so that a slow spell of the machine
meets all of them. What is printed is the median of the rounds, as the other's time over ours: above
1 evenkeel is faster.

    make bench-pytorch                                   # builds what is needed, then runs this
    build/venv/bin/python bench/pytorch.py --filter '^group_norm' --threads 1
    build/venv/bin/python bench/pytorch.py --page docs/performance-tables.md
"""

import argparse
import ctypes
import datetime
import json
import os
import random
import re
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# Freed memory stays with the process, so that outputs that PyTorch allocates anew in every call
# cost it no page faults. glibc reads these when the process starts.
MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "4294967296"}
if any(os.environ.get(name) != value for name, value in MALLOC.items()):
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **MALLOC})

import pages  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

EPS = 1e-5
LIBRARY = Path(__file__).parent.parent / "build/bench-pytorch/bin/libevenkeel_core_c.so"
POINTERS = ("x", "dy", "weight", "bias", "mean", "rstd", "out", "dweight", "dbias")
SIZES = ("n", "c", "s", "groups", "statistics")
FLAGS = ("channels_last", "backward", "threads")


class CoreCase(ctypes.Structure):
    """EvenkeelCase of bench/pytorch/core_c.cc."""

    _fields_ = (
        [(name, ctypes.c_void_p) for name in POINTERS]
        + [(name, ctypes.c_int64) for name in SIZES]
        + [(name, ctypes.c_int32) for name in FLAGS]
    )


@dataclass(frozen=True)
class Case:
    op: str
    shape: tuple[int, ...]
    channels_last: bool
    backward: bool
    threads: int

    @property
    def name(self) -> str:
        order = "rows" if len(self.shape) == 2 else "nhwc" if self.channels_last else "nchw"
        direction = "backward" if self.backward else "forward"
        shape = "x".join(map(str, self.shape))
        return f"{self.op}/{direction}/{shape}/{order}/f32/{self.threads}"

    @property
    def groups(self) -> int:
        return {"group_norm": 32, "instance_norm": self.shape[1]}.get(self.op, 1)


LAYER_SHAPES = [(256, 768), (4096, 768), (4096, 1024), (8192, 4096), (65536, 64), (1, 4096)]
BATCH_SHAPES = [(50, 64, 112, 112), (50, 256, 56, 56), (50, 512, 28, 28), (50, 2048, 7, 7)]
SHAPES = {
    "batch_norm": [*BATCH_SHAPES, (8192, 256), (100000, 32)],
    "layer_norm": LAYER_SHAPES,
    "rms_norm": LAYER_SHAPES,
    "group_norm": [(2, 320, 96, 96), (1, 128, 256, 256)],
    "instance_norm": [(2, 32, 64, 64, 64), (16, 64, 128, 128)],
}


def all_cases(threads: list[int]) -> list[Case]:
    return [
        Case(op, shape, channels_last, backward, count)
        for op, shapes in SHAPES.items()
        for shape in shapes
        for channels_last in ([False] if len(shape) == 2 else [False, True])
        for backward in (False, True)
        for count in threads
    ]


def layout_of(tensor: torch.Tensor, channels_last: bool) -> torch.Tensor:
    if not channels_last:
        return tensor.contiguous()
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return tensor.contiguous(memory_format=formats[tensor.dim()])


def torch_operation(case: Case) -> Callable[..., torch.Tensor]:
    """f(x, weight, bias), as a user writes it."""
    features = case.shape[1:]
    operations: dict[str, Callable[..., torch.Tensor]] = {
        "batch_norm": lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True, eps=EPS),
        "layer_norm": lambda x, w, b: F.layer_norm(x, features, w, b, EPS),
        "rms_norm": lambda x, w, b: F.rms_norm(x, features, w, EPS),
        "group_norm": lambda x, w, b: F.group_norm(x, case.groups, w, b, EPS),
        "instance_norm": lambda x, w, b: F.instance_norm(x, weight=w, bias=b, eps=EPS),
    }
    return operations[case.op]


class Problem:
    """The tensors of a case, and its contestants."""

    def __init__(self, case: Case):
        self.case = case
        torch.manual_seed(1)
        self.x = layout_of(torch.randn(case.shape) + 0.3, case.channels_last)
        self.dy = layout_of(torch.randn(case.shape) + 0.1, case.channels_last)
        channels = case.shape[1]
        self.weight, self.bias = torch.linspace(0.5, 1.5, channels), torch.linspace(-1, 1, channels)
        self.out = torch.empty_like(self.x)
        self.dweight, self.dbias = torch.empty(channels), torch.empty(channels)
        of_rows = case.op in ("layer_norm", "rms_norm")
        count = channels if case.op == "batch_norm" else case.shape[0] * case.groups
        self.mean = torch.empty(count, dtype=torch.float64)
        self.rstd = torch.empty_like(self.mean)
        positions = self.x.numel() // (case.shape[0] * channels)
        self.arguments = CoreCase(
            **{name: getattr(self, name).data_ptr() for name in POINTERS},
            n=case.shape[0],
            c=channels,
            s=1 if of_rows else positions,
            groups=case.groups,
            statistics=count,
            channels_last=int(case.channels_last),
            backward=0,
            threads=case.threads,
        )
        # InstanceNorm is GroupNorm with as many groups as channels.
        self.core_op = case.op.replace("instance", "group").encode()
        self.run_core()  # the statistics that a backward needs
        self.arguments.backward = int(case.backward)

    def run_core(self) -> None:
        if CORE.evenkeel_run(self.core_op, ctypes.byref(self.arguments)):
            raise RuntimeError(self.case.name)

    def peer(self, operation: Callable[..., torch.Tensor]) -> Callable[[], list[torch.Tensor]]:
        if not self.case.backward:

            def forward() -> list[torch.Tensor]:
                with torch.no_grad():
                    return [operation(self.x, self.weight, self.bias)]

            return forward
        inputs = [self.x, self.weight] + ([] if self.case.op == "rms_norm" else [self.bias])
        inputs = [t.detach().requires_grad_() for t in inputs]
        y = operation(*(inputs if len(inputs) == 3 else [*inputs, None]))
        return lambda: list(torch.autograd.grad([y], inputs, [self.dy], retain_graph=True))

    def outputs(self) -> list[torch.Tensor]:
        if not self.case.backward:
            return [self.out]
        return [self.out, self.dweight] + ([] if self.case.op == "rms_norm" else [self.dbias])


def check(name: str, theirs: list[torch.Tensor], ours: list[torch.Tensor]) -> None:
    """That the contestants compute the same: far above rounding, far below leaving something out."""
    for i, (a, b) in enumerate(zip(theirs, ours, strict=True)):
        error = ((a - b).norm() / b.norm()).item()
        if not error < 1e-3:
            raise SystemExit(f"{name}: output {i} differs by {error:.2g}, expected below 1e-3")


def measure(contestants: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Medians, in seconds. In a round a contestant runs for a millisecond or more."""
    repeats = {}
    for name, run in contestants.items():
        run()
        start = time.perf_counter()
        run()
        repeats[name] = max(1, int(1e-3 / max(time.perf_counter() - start, 1e-7)))
    rounds: dict[str, list[float]] = {name: [] for name in contestants}
    order = list(contestants)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(rounds[order[0]]) < 5:
        random.shuffle(order)
        for name in order:
            run = contestants[name]
            run()
            start = time.perf_counter()
            for _ in range(repeats[name]):
                run()
            rounds[name].append((time.perf_counter() - start) / repeats[name])
    return {name: statistics.median(values) for name, values in rounds.items()}


def run(case: Case, seconds: float, compiled: bool) -> dict[str, float]:
    torch.set_num_threads(case.threads)
    problem = Problem(case)
    problem.run_core()
    operation = torch_operation(case)
    contestants: dict[str, Callable[[], object]] = {"evenkeel": problem.run_core}
    peers = {"torch": operation}
    if compiled:
        torch.compiler.reset()
        peers["compiled"] = torch.compile(operation, dynamic=False)
    for name, peer in peers.items():
        contestant = problem.peer(peer)
        check(f"{case.name}: {name}", contestant(), problem.outputs())
        contestants[name] = contestant
    return measure(contestants, seconds)


def machine() -> str:
    models = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    capability = torch.backends.cpu.get_cpu_capability()
    return (
        f"{models[0] if models else 'unknown processor'}, {os.cpu_count()} cores, {capability}; "
        f"PyTorch {torch.__version__}; measured on {datetime.date.today()}."
    )


def page(results: dict[str, dict[str, float]]) -> str:
    """The medians as a Markdown table, a row for each case without its number of threads."""
    threads = sorted({int(name.rsplit("/", 1)[1]) for name in results})
    columns = ["ms, 1 thread" if n == 1 else f"ms, {n} threads" for n in threads]
    heads = [h for column in columns for h in (column, "eager", "compiled")]
    lines = [machine(), "", "| case | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
    for case in dict.fromkeys(name.rsplit("/", 1)[0] for name in results):
        cells = []
        for n in threads:
            times = results.get(f"{case}/{n}", {})
            ours = times.get("evenkeel")
            cells.append(f"{ours * 1e3:.3f}" if ours else "-")
            for peer in ("torch", "compiled"):
                cells.append(f"{times[peer] / ours:.2f}x" if ours and peer in times else "-")
        lines.append(f"| {case.removesuffix('/f32')} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--filter", default="", help="only cases whose name matches this pattern")
    parser.add_argument("--threads", default="1,2", help="numbers of threads, e.g. 1,2")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each case, at least")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--out", type=Path, help="also write the medians to this file, as JSON")
    parser.add_argument("--page", type=Path, help="also rewrite the block `pytorch` of this page")
    options = parser.parse_args()
    threads = [int(count) for count in options.threads.split(",")]
    cases = [case for case in all_cases(threads) if re.search(options.filter, case.name)]
    if not cases:
        raise SystemExit(f"--filter '{options.filter}' matches no case")
    print(f"PyTorch {torch.__version__}; its time over ours (above 1: evenkeel is faster)")
    print(f"{'case':50} {'ms':>9} {'torch':>7} {'compiled':>9}")
    results = {}
    for case in cases:
        times = run(case, options.seconds, not options.no_compile)
        ours = times["evenkeel"]
        ratios = {name: value / ours for name, value in times.items()}
        compiled = f"{ratios['compiled']:9.2f}" if "compiled" in ratios else ""
        print(f"{case.name:50} {ours * 1e3:9.3f} {ratios['torch']:7.2f} {compiled}", flush=True)
        results[case.name] = times
        if options.out:
            beside = options.out.with_suffix(".new")
            beside.write_text(json.dumps({"torch": torch.__version__, "seconds": results}, indent=1))
            beside.rename(options.out)
    if options.page:
        options.page.write_text(pages.fill(options.page, {"pytorch": page(results)}))


if __name__ == "__main__":
    CORE = ctypes.CDLL(str(LIBRARY))
    main()
