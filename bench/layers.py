#!/usr/bin/env python3
"""The layers of networks beside PyTorch, in the states that a network leaves the caches in.

A benchmark that repeats one call finds everything in cache. In a network the input of a layer was
just written, the rest was last used long ago, and the output is new memory or is read next. So each
case is measured in four states:

  resident   the call is repeated
  evicted    another 64 MB were read since
  fresh      the outputs are memory that was never touched (a process of its own)
  sequence   a copy writes the input, and a sum reads the output: the time of the three

All contestants allocate their outputs, and take turns in random order:

  evenkeel, torch   called as operators below autograd, or both through autograd where PyTorch has
                    a backward only there
  onednn            BatchNorm, channels-first: PyTorch's operators on oneDNN's tensors
  stream            the bytes alone: PyTorch's sums of what is read first, if that is a pass of its
                    own, and then a copy, or an addition of the gradient and x

    make bench-layers                              # builds and installs the package, runs this and
                                                   # bench/layers_report.py
    build/venv/bin/python bench/layers.py --filter 'batch_norm/.*nhwc/f32' --threads 2
"""

import argparse
import datetime
import json
import os
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# Freed memory is kept, so that outputs cost no new pages, or every output is new. glibc reads this
# when the process starts.
KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "4294967296"}
FRESH = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
STATES = ("resident", "evicted", "fresh", "sequence")
CHILD = "--fresh-process"  # measures the state "fresh" and prints JSON
if __name__ == "__main__":
    wanted = FRESH if CHILD in sys.argv else KEPT
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
        os.execve(sys.executable, [sys.executable, *sys.argv], {**kept, **wanted})

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

from evenkeel_norm import functional as ours  # noqa: E402  and defines the operators

OURS = torch.ops.evenkeel_norm
THEIRS = torch.ops.aten
EPS = 1e-5
EVICTING = 64 * 2**20
NONE = ("", 0.0, 0.0)  # no activation

# Channels and height of the BatchNorm layers of torchvision's networks, for images of 224 x 224.
BATCH_NORM = {
    "resnet50": [(64, 112), (64, 56), (256, 56), (128, 28), (512, 28), (256, 14), (1024, 14),
                 (512, 7), (2048, 7)],
    "mobilenet_v2": [(32, 112), (96, 112), (96, 56), (24, 56), (144, 56), (192, 28), (384, 14),
                     (576, 14), (960, 7)],
    "efficientnet_b0": [(240, 28), (480, 14), (672, 14), (1152, 7)],
    "densenet121": [(128, 56), (256, 28), (512, 14), (1024, 7)],
}  # fmt: skip
# Rows and features: ViT-B and ConvNeXt-T for 8 images, a Llama of a billion parameters for 512 and
# 4096 tokens.
ROWS = [(1576, 768), (25088, 96), (6272, 192), (1568, 384), (392, 768), (512, 2048), (4096, 2048)]
# A U-Net of Stable Diffusion.
GROUP_NORM = [(2, 320, 64), (2, 640, 32), (2, 1280, 16), (2, 1920, 16)]
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Case:
    op: str
    shape: tuple[int, ...]
    channels_last: bool
    dtype: str
    backward: bool
    threads: int

    @property
    def name(self) -> str:
        order = "rows" if len(self.shape) == 2 else "nhwc" if self.channels_last else "nchw"
        direction = "backward" if self.backward else "forward"
        shape = "x".join(map(str, self.shape))
        return f"{self.op}/{direction}/{shape}/{order}/{self.dtype}/{self.threads}"


def all_cases(batches: list[int], threads: list[int]) -> list[Case]:
    layers = sorted({layer for of_network in BATCH_NORM.values() for layer in of_network})
    images = [("batch_norm", (n, c, h, h)) for n in batches for c, h in layers]
    images += [("group_norm", (n, c, h, h)) for n, c, h in GROUP_NORM]
    images += [("instance_norm", (n, c, h, h)) for n, c, h in GROUP_NORM[:2]]
    shapes = [(op, shape, last) for op, shape in images for last in (False, True)]
    shapes += [(op, rows, False) for op in ("layer_norm", "rms_norm") for rows in ROWS]
    return [
        Case(op, shape, last, dtype, backward, count)
        for op, shape, last in shapes
        for dtype in DTYPES
        for backward in (False, True)
        for count in threads
    ]


class Problem:
    """The tensors of a case, and the call of each side."""

    def __init__(self, case: Case):
        torch.manual_seed(1)
        dtype = DTYPES[case.dtype]
        memory = torch.channels_last if case.channels_last else torch.contiguous_format
        self.case = case
        self.source = torch.randn(case.shape).to(dtype).contiguous(memory_format=memory)
        self.x, self.dy = self.source.clone(), torch.randn_like(self.source)
        channels = case.shape[1]
        # Parameters of PyTorch's kernels have the dtype of the input, as in a model of that dtype.
        self.weight = torch.linspace(0.5, 1.5, channels).to(dtype)
        self.bias = torch.linspace(-1, 1, channels).to(dtype)
        self.statistics = self.forward_ours()[1:]
        self.their_statistics = self.forward_theirs()[1:]

    @property
    def written(self) -> torch.Tensor:
        """What a network has just computed before the call."""
        return self.dy if self.case.backward else self.x

    def groups(self) -> int:
        return 32 if self.case.op == "group_norm" else self.case.shape[1]

    def forward_ours(self) -> tuple[torch.Tensor, ...]:
        x, w, b = self.x, self.weight, self.bias
        if self.case.op == "batch_norm":
            return OURS.batch_norm(x, w, b, None, None, None, None, None, 0.1, EPS, *NONE)
        if self.case.op == "group_norm":
            return OURS.group_norm(x, 32, w, b, EPS, *NONE)
        if self.case.op == "instance_norm":
            return OURS.instance_norm(x, w, b, None, None, 0.1, EPS)
        if self.case.op == "layer_norm":
            return OURS.layer_norm(x, 1, w, b, EPS)
        return OURS.rms_norm(x, 1, w, EPS, False)

    def forward_theirs(self) -> tuple[torch.Tensor, ...]:
        x, w, b = self.x, self.weight, self.bias
        n, c = self.case.shape[:2]
        if self.case.op == "batch_norm":
            return THEIRS.native_batch_norm(x, w, b, None, None, True, 0.1, EPS)
        if self.case.op == "group_norm":
            return THEIRS.native_group_norm(x, w, b, n, c, x[0, 0].numel(), 32, EPS)
        if self.case.op == "instance_norm":
            return (F.instance_norm(x, weight=w, bias=b, eps=EPS),)
        if self.case.op == "layer_norm":
            return THEIRS.native_layer_norm(x, [c], w, b, EPS)
        return (F.rms_norm(x, (c,), w, EPS),)

    def backward_ours(self) -> object:
        dy, x, w, s = self.dy, self.x, self.weight, self.statistics
        if self.case.op == "batch_norm":
            return OURS.batch_norm_backward(dy, x, w, None, None, *s, False, *NONE, 7)
        if self.case.op == "group_norm":
            return OURS.group_norm_backward(dy, x, 32, w, None, *s, *NONE, 7)
        return OURS.layer_norm_backward(dy, x, 1, w, *s, None, 7)

    def their_backward(self) -> tuple[torch.Tensor, ...]:
        dy, x, w, b, s = self.dy, self.x, self.weight, self.bias, self.their_statistics
        n, c = self.case.shape[:2]
        wanted = [True] * 3
        if self.case.op == "batch_norm":
            return THEIRS.native_batch_norm_backward(dy, x, w, None, None, *s, True, EPS, wanted)
        if self.case.op == "group_norm":
            size = x[0, 0].numel()
            return THEIRS.native_group_norm_backward(dy, x, *s, w, n, c, size, 32, wanted)
        return THEIRS.native_layer_norm_backward(dy, x, [c], *s, w, b, wanted)

    def through_autograd(self) -> dict[str, Callable[[], object]]:
        x, w, b = (t.detach().requires_grad_() for t in (self.x, self.weight, self.bias))
        if self.case.op == "instance_norm":
            inputs: tuple[torch.Tensor, ...] = (x, w, b)
            results = {
                "evenkeel": ours.instance_norm(x, weight=w, bias=b, eps=EPS),
                "torch": F.instance_norm(x, weight=w, bias=b, eps=EPS),
            }
        else:
            inputs, shape = (x, w), (self.case.shape[1],)
            results = {
                "evenkeel": ours.rms_norm(x, shape, w, EPS),
                "torch": F.rms_norm(x, shape, w, EPS),
            }
        return {
            name: lambda y=y: torch.autograd.grad(y, inputs, self.dy, retain_graph=True)
            for name, y in results.items()
        }

    def onednn(self) -> Callable[[], object]:
        x, dy = (t.to_mkldnn() for t in (self.x, self.dy))
        w, b = self.weight.float(), self.bias.float()
        mean, variance = torch.zeros_like(b), torch.ones_like(b)
        _, *s = THEIRS.native_batch_norm(x, w, b, mean, variance, True, 0.1, EPS)
        if not self.case.backward:
            return lambda: THEIRS.native_batch_norm(x, w, b, mean, variance, True, 0.1, EPS)
        return lambda: THEIRS.native_batch_norm_backward(
            dy, x, w, mean, variance, *s, True, EPS, [True] * 3
        )

    def stream(self) -> object:
        """Its result is memory of the size of the output."""
        x, dy = (t.permute(0, 2, 3, 1) if self.case.channels_last else t for t in (self.x, self.dy))
        x, dy = (t.view(-1).view(torch.float32) for t in (x, dy))
        if len(self.case.shape) > 2:  # rows stay in L1 between their two passes
            x.sum()
            if self.case.backward:
                dy.sum()
        return x + dy if self.case.backward else x.clone()

    def contestants(self, state: str) -> dict[str, Callable[[], object]]:
        op, backward = self.case.op, self.case.backward
        found: dict[str, Callable[[], object]] = (
            {"evenkeel": self.forward_ours, "torch": self.forward_theirs}
            if not backward
            else self.through_autograd()
            if op in ("instance_norm", "rms_norm")
            else {"evenkeel": self.backward_ours, "torch": self.their_backward}
        )
        found["stream"] = self.stream
        # PyTorch takes bfloat16 to oneDNN on processors with AVX-512 alone, and has no sum there.
        serves = op == "batch_norm" and not self.case.channels_last and self.case.dtype == "f32"
        if serves and state != "sequence":
            found["onednn"] = self.onednn()
        return found


def output(results: object) -> torch.Tensor:
    first = results[0] if isinstance(results, (tuple, list)) else results
    return first.to_dense() if first.is_mkldnn else first  # type: ignore[union-attr]


def seconds(
    problem: Problem, state: str, call: Callable[[], object], evicting: torch.Tensor
) -> float:
    if state == "resident":
        call()
    elif state == "evicted":
        torch.sum(evicting)
    elif state == "fresh":
        problem.written.copy_(problem.source)
    start = time.perf_counter()
    if state == "sequence":
        problem.written.copy_(problem.source)
        torch.sum(output(call()))
    else:
        results = call()  # kept until the clock stands: freeing is not measured
    elapsed = time.perf_counter() - start
    if state != "sequence":
        del results
    return elapsed


def check(case: Case, contestants: dict[str, Callable[[], object]]) -> None:
    """That all compute the same."""
    results = {
        name: output(call()).float() for name, call in contestants.items() if name != "stream"
    }
    evenkeel = results.pop("evenkeel")
    for name, theirs in results.items():
        error = float((evenkeel - theirs).norm() / theirs.norm())
        if not error < (2e-2 if case.dtype == "bf16" else 1e-3):
            raise SystemExit(f"{case.name}: evenkeel and {name} differ by {error:.2g}")


def measure(case: Case, state: str, rounds: int) -> dict[str, float]:
    """Medians, in seconds."""
    torch.set_num_threads(case.threads)
    problem = Problem(case)
    contestants = problem.contestants(state)
    check(case, contestants)
    evicting = torch.ones(EVICTING // 4)
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name in random.sample(list(contestants), len(contestants)):
            times[name].append(seconds(problem, state, contestants[name], evicting))
    return {name: statistics.median(values) for name, values in times.items()}


def run(
    cases: list[Case], states: list[str], rounds: int
) -> dict[str, dict[str, dict[str, float]]]:
    results: dict[str, dict[str, dict[str, float]]] = {}
    for state in states:
        results[state] = {}
        for done, case in enumerate(cases):
            times = measure(case, state, rounds)
            results[state][case.name] = times
            ratio = times["torch"] / times["evenkeel"]
            print(
                f"{state:9} {done + 1:4} of {len(cases)}  {case.name:52}"
                f" {times['evenkeel'] * 1e6:9.0f} us {ratio:6.2f}",
                file=sys.stderr,
                flush=True,
            )
    return results


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--filter", default="", help="only cases whose name matches this pattern")
    parser.add_argument("--threads", default="1,2", help="numbers of threads, e.g. 1,2")
    parser.add_argument("--batches", default="8", help="images of the BatchNorm layers, e.g. 8,32")
    parser.add_argument("--rounds", type=int, default=15, help="of each contestant, case and state")
    parser.add_argument("--states", default=",".join(STATES), help="some of " + ",".join(STATES))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("layers.json"),
                        help="file for the medians (default: bench/layers.json)")  # fmt: skip
    parser.add_argument(CHILD, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    numbers = [[int(n) for n in text.split(",")] for text in (options.batches, options.threads)]
    cases = [case for case in all_cases(*numbers) if re.search(options.filter, case.name)]
    if not cases:
        raise SystemExit(f"--filter '{options.filter}' matches no case")
    states = options.states.split(",")
    if unknown := set(states) - set(STATES):
        raise SystemExit(f"--states: there is no {sorted(unknown)[0]}, expected some of {STATES}")
    if options.fresh_process:
        print(json.dumps(run(cases, ["fresh"], options.rounds)))
        return
    results = run(cases, [state for state in states if state != "fresh"], options.rounds)
    if "fresh" in states:
        command = [sys.executable, __file__, CHILD, "--filter", options.filter,
                   "--threads", options.threads, "--batches", options.batches,
                   "--rounds", str(options.rounds)]  # fmt: skip
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
        fresh = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
        results |= json.loads(fresh.stdout)
    models = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    processor = models[0] if models else "unknown processor"
    document = {
        "machine": f"{processor}, {os.cpu_count()} cores,"
        f" {torch.backends.cpu.get_cpu_capability()}",
        "torch": torch.__version__,
        "date": str(datetime.date.today()),
        "rounds": options.rounds,
        "seconds": results,
    }
    beside = options.out.with_suffix(".new")
    beside.write_text(json.dumps(document, indent=1))
    beside.rename(options.out)
    print(f"{options.out}: written; bench/layers_report.py {options.out} prints its tables")


if __name__ == "__main__":
    main()
