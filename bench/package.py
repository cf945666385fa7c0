#!/usr/bin/env python3
"""What the Python package costs and gains beside PyTorch: per call, per layer, and in accuracy.

scripts/test-python            # builds and installs the package
build/venv/bin/python bench/package.py
"""

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch.nn import functional as F

import evenkeel_norm.functional as ours

ROUNDS = 15


def seconds(call: Callable[[], object]) -> float:
    """The median of rounds of some 20 ms."""
    call()
    start = time.perf_counter()
    call()
    repeats = max(1, int(0.02 / max(time.perf_counter() - start, 1e-7)))
    rounds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        rounds.append((time.perf_counter() - start) / repeats)
    return statistics.median(rounds)


def backward_too(function: Callable[..., torch.Tensor], *args: object) -> Callable[[], object]:
    def call() -> None:
        y = function(*args)
        y.backward(torch.ones_like(y))

    return call


def overhead() -> None:
    print(f"µs a call, x of 1 x 64, one thread, PyTorch {torch.__version__}")
    print(f"{'':34}{'PyTorch':>9}{'evenkeel':>9}")
    torch.set_num_threads(1)
    x, weight, bias = torch.randn(1, 64), torch.ones(64), torch.zeros(64)
    leaves = [t.clone().requires_grad_() for t in (x, weight, bias)]
    channels = torch.zeros(64), torch.ones(64)
    for name, args in (
        ("layer_norm", lambda x, w, b: (x, (64,), w, b)),
        ("rms_norm", lambda x, w, b: (x, (64,), w)),
        ("group_norm", lambda x, w, b: (x, 8, w, b)),
        ("batch_norm", lambda x, w, b: (x, *channels, w, b)),
    ):
        rows = []
        for functions in (F, ours):
            f = getattr(functions, name)
            plain, recorded = args(x, weight, bias), args(*leaves)
            with torch.no_grad():
                rows.append([seconds(partial(f, *plain))])
            rows[-1] += [seconds(partial(f, *recorded)), seconds(backward_too(f, *recorded))]
        for what, theirs, own in zip(
            ("forward, no gradient", "forward", "forward and backward"), *rows, strict=True
        ):
            print(f"{name + ', ' + what:34}{theirs * 1e6:9.1f}{own * 1e6:9.1f}")


def accuracy() -> None:
    print("\nlargest error at mean 1e6, standard deviation 1, 16 x 64 x 32 x 32")
    print(f"{'':34}{'PyTorch':>9}{'evenkeel':>9}")
    torch.manual_seed(0)
    x = (torch.randn(16, 64, 32, 32, dtype=torch.float64) + 1e6).float()
    for layout in (torch.contiguous_format, torch.channels_last):
        x = x.contiguous(memory_format=layout)
        exact = x.double().contiguous()
        for name, call in (
            ("batch_norm", lambda f, x: f.batch_norm(x, None, None, training=True)),
            ("group_norm", lambda f, x: f.group_norm(x, 32)),
        ):
            expected = call(F, exact)
            errors = [float((call(f, x) - expected).abs().max()) for f in (F, ours)]
            print(f"{f'{name}, {layout}'.replace('torch.', ''):34}{errors[0]:9.1e}{errors[1]:9.1e}")


if __name__ == "__main__":
    accuracy()
    print()
    overhead()
