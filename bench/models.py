#!/usr/bin/env python3
"""Whole models, PyTorch's beside evenkeel's: training step, inference, and normalization's part.

A user sees the step of a network, most of which convolutions and products take. What a library of
normalization can gain is *normalization's part*: norms, activations, additions, what the optimizer
and the allocator do. It is the profiler's self time of all but convolutions, products,
attention, concatenation and pooling, less that of the same network without the modules of
normalization and activation (`bare`), of whose additions those do not count that evenkeel has fused.

Contestants, each a copy of the same model, a step each by turns in random order:

  torch      as it is
  evenkeel   after ek.optimize(model)
  bare       without modules of normalization and of the activations that can be fused
  compiled, evenkeel compiled    by torch.compile, with --compile: minutes for each model

    make bench-python        # builds and installs the package, runs this and bench/models_report.py
    build/venv/bin/python bench/models.py --models resnet50,mobilenet_v2 --layouts channels_last
"""

import argparse
import copy
import ctypes
import datetime
import gc
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

import evenkeel_norm as ek

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
# What is not normalization's, by the names of PyTorch's operators.
OTHER = ("convolution", "mm", "cat", "pool", "linear", "attention")
LAYER_NORM = ("native_layer_norm", "evenkeel_norm::layer_norm")
ADDITIONS = ("aten::add", "aten::add_")
PROFILED = 2  # steps of each contestant, beside those that are timed


class ResidualBlock(nn.Module):
    """Of a U-Net: GroupNorm, SiLU, convolution, twice."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(32, inputs), nn.GroupNorm(32, channels)
        self.conv1 = nn.Conv2d(inputs, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.act = nn.SiLU()
        self.skip = nn.Conv2d(inputs, channels, 1) if inputs != channels else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(self.act(self.norm1(x)))
        return self.skip(x) + self.conv2(self.act(self.norm2(h)))


class UNet(nn.Module):
    def __init__(self, channels: tuple[int, ...] = (64, 128, 256)) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, channels[0], 3, padding=1)
        self.down = nn.ModuleList(
            ResidualBlock(a, b) for a, b in zip((channels[0], *channels), channels, strict=False)
        )
        self.middle = ResidualBlock(channels[-1], channels[-1])
        widths = channels[::-1]
        self.up = nn.ModuleList(
            ResidualBlock(a + b, b) for a, b in zip((widths[0], *widths), widths, strict=False)
        )
        self.last = nn.Sequential(
            nn.GroupNorm(32, channels[0]), nn.SiLU(), nn.Conv2d(channels[0], 4, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        kept = []
        for block in self.down:
            x = block(x)
            kept.append(x)
            x = F.avg_pool2d(x, 2)
        x = self.middle(x)
        for block in self.up:
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0), kept.pop()], 1))
        return self.last(x)


class DecoderBlock(nn.Module):
    """Of a language model: RMSNorm, attention, RMSNorm, gated layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(width, eps=1e-6), nn.RMSNorm(width, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.gate, self.up = (nn.Linear(width, 2 * width, bias=False) for _ in range(2))
        self.down = nn.Linear(2 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            t.unflatten(-1, (8, -1)).transpose(1, 2) for t in self.qkv(self.norm1(x)).chunk(3, -1)
        )
        h = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(h.transpose(1, 2).flatten(2))
        h = self.norm2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class SignalBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (
            nn.Conv1d(channels, channels, 7, padding=3, bias=False) for _ in range(2)
        )
        self.bn1, self.bn2 = nn.BatchNorm1d(channels), nn.BatchNorm1d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))) + x)


def vision(name: str) -> Callable[[], nn.Module]:
    return lambda: getattr(torchvision.models, name)(weights=None)


# How to make the model, and its input.
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "resnet50": (vision("resnet50"), (8, 3, 224, 224)),
    "mobilenet_v2": (vision("mobilenet_v2"), (16, 3, 224, 224)),
    "mobilenet_v3_large": (vision("mobilenet_v3_large"), (8, 3, 224, 224)),
    "densenet121": (vision("densenet121"), (8, 3, 224, 224)),
    "efficientnet_b0": (vision("efficientnet_b0"), (4, 3, 224, 224)),
    "convnext_tiny": (vision("convnext_tiny"), (2, 3, 224, 224)),
    "vit_b_16": (vision("vit_b_16"), (2, 3, 224, 224)),
    "swin_t": (vision("swin_t"), (2, 3, 224, 224)),
    "unet": (UNet, (2, 4, 64, 64)),
    "decoder": (
        lambda: nn.Sequential(*(DecoderBlock(1024) for _ in range(4)), nn.RMSNorm(1024)),
        (1, 512, 1024),
    ),
    "resnet1d": (
        lambda: nn.Sequential(
            nn.Conv1d(12, 64, 15, padding=7), *(SignalBlock(64) for _ in range(6))
        ),
        (16, 12, 2048),
    ),
}
NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish)


def strip(module: nn.Module) -> None:
    for name, child in list(module.named_children()):
        if isinstance(child, (*NORMS, *ACTIVATIONS)):
            setattr(module, name, nn.Identity())
        else:
            strip(child)


@dataclass(frozen=True)
class Setting:
    model: str
    layout: str
    dtype: str
    memory: str  # "usual", or "kept" by ek.keep_memory()
    threads: int

    @property
    def name(self) -> str:
        return "/".join(map(str, asdict(self).values()))


class Contestant:
    def __init__(self, name: str, model: nn.Module, setting: Setting, x: Tensor) -> None:
        if name.startswith("evenkeel"):
            left = ek.optimize(model, x).left
            if left:
                raise SystemExit(f"{setting.name}: evenkeel left {left}")
        if name == "bare":
            strip(model)
        self.model = model.to(memory_format=LAYOUTS[setting.layout])
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.0)
        self.x = x
        self.autocast = setting.dtype == "bf16"
        if name.endswith("compiled"):
            self.model.compile()

    def forward(self) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            return self.model(self.x)

    def step(self) -> None:
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        self.forward().float().square().mean().backward()
        self.optimizer.step()

    def infer(self) -> None:
        self.model.eval()
        with torch.inference_mode():
            self.forward()


def profiled(call: Callable[[], None]) -> dict[str, float]:
    """Self time in seconds: "part", of all that is not OTHER's, and what of it is what."""
    with profile(activities=[ProfilerActivity.CPU]) as p:
        call()
    times = [(event.key.lower(), 1e-6 * event.self_cpu_time_total) for event in p.key_averages()]
    return {
        "part": sum(t for key, t in times if not any(o in key for o in OTHER)),
        "layer_norm": sum(t for key, t in times if any(o in key for o in LAYER_NORM)),
        "additions": sum(t for key, t in times if key in ADDITIONS),
    }


def contestants_of(setting: Setting, names: list[str]) -> dict[str, Contestant]:
    torch.manual_seed(0)
    torch.set_num_threads(setting.threads)
    # Without norms values fade in deep networks, and subnormal ones would be slow.
    torch.set_flush_denormal(True)
    if setting.memory == "kept" and not ek.keep_memory():
        raise SystemExit("keep_memory() has no effect here")
    make, shape = MODELS[setting.model]
    x = torch.randn(shape)
    if x.dim() == 4:
        x = x.contiguous(memory_format=LAYOUTS[setting.layout])
    original = make()
    return {name: Contestant(name, copy.deepcopy(original), setting, x) for name in names}


def measure(setting: Setting, names: list[str], rounds: int) -> dict[str, dict[str, object]]:
    contestants = contestants_of(setting, names)
    results: dict[str, dict[str, object]] = {}
    for what in ("step", "infer"):
        calls = {name: getattr(c, what) for name, c in contestants.items()}
        samples: dict[str, dict[str, list[float]]] = {
            name: {"seconds": [], "faults": []} for name in calls
        }
        for call in calls.values():
            call(), call()
        for _ in range(rounds):
            for name in random.sample(list(calls), len(calls)):
                faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
                start = time.perf_counter()
                calls[name]()
                samples[name]["seconds"].append(time.perf_counter() - start)
                faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
                samples[name]["faults"].append(faults)
        for _ in range(PROFILED if what == "step" else 0):
            eager = [name for name in calls if "compiled" not in name]
            for name in random.sample(eager, len(eager)):
                for key, time_of in profiled(calls[name]).items():
                    samples[name].setdefault(key, []).append(time_of)
        for name, of in samples.items():
            results.setdefault(name, {})[what] = {
                **{key: statistics.median(values) for key, values in of.items()},
                "least": min(of["seconds"]),
                "most": max(of["seconds"]),
            }
    return results


def peak(setting: Setting, name: str) -> float:
    """Bytes that the process grew by at most, over three training steps."""
    contestant = contestants_of(setting, [name])[name]
    contestant.infer()  # as ek.optimize has done: the libraries have what they keep
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed goes back
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what is used now
    before = kilobytes("VmRSS")
    for _ in range(3):
        contestant.step()
    return (kilobytes("VmHWM") - before) * 1024


def kilobytes(name: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(name)).split()[1])


def child(task: str) -> None:
    options = json.loads(task)
    setting = Setting(**options["setting"])
    if options["peak"]:
        print(json.dumps(peak(setting, options["names"][0])))
    else:
        print(json.dumps(measure(setting, options["names"], options["rounds"])))


def in_process(setting: Setting, names: list[str], rounds: int, peak: bool = False) -> object:
    """Each setting has a process of its own, whose memory starts as the system gives it."""
    task = {"setting": asdict(setting), "names": names, "rounds": rounds, "peak": peak}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    command = [sys.executable, __file__, "--child", json.dumps(task)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise SystemExit(f"{run.stderr}{setting.name}: the process ended with {run.returncode}")
    return json.loads(run.stdout.splitlines()[-1])


def settings_of(options: argparse.Namespace) -> list[Setting]:
    def chosen(text: str, known: list[str], what: str) -> list[str]:
        names = text.split(",")
        for name in names:
            if name not in known:
                raise SystemExit(f"there is no {what} {name!r}; known: {', '.join(known)}")
        return names

    models = chosen(options.models, list(MODELS), "model")
    layouts = chosen(options.layouts, list(LAYOUTS), "layout")
    dtypes = chosen(options.dtypes, ["f32", "bf16"], "type")
    memory = chosen(options.memory, ["usual", "kept"], "kind of memory")
    return [
        Setting(model, layout, dtype, kind, int(threads))
        for model in models
        for layout in (layouts if len(MODELS[model][1]) == 4 else ["contiguous"])
        for dtype in dtypes
        for kind in memory
        for threads in options.threads.split(",")
    ]


def main() -> None:
    if len(sys.argv) == 3 and sys.argv[1] == "--child":
        return child(sys.argv[2])
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default=",".join(MODELS), help="some of " + ",".join(MODELS))
    parser.add_argument("--layouts", default=",".join(LAYOUTS), help="some of " + ",".join(LAYOUTS))
    parser.add_argument("--dtypes", default="f32", help="f32, or bf16 by autocast, or f32,bf16")
    parser.add_argument("--memory", default="usual,kept", help="usual,kept or one of them")
    parser.add_argument("--threads", default=str(torch.get_num_threads()), help="e.g. 1,2")
    parser.add_argument("--rounds", type=int, default=5, help="of each contestant")
    parser.add_argument("--compile", action="store_true", help="torch.compile too")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("models.json"),
                        help="file for the results (default: bench/models.json)")  # fmt: skip
    options = parser.parse_args()
    names = ["torch", "evenkeel", "bare"]
    if options.compile:
        names += ["compiled", "evenkeel compiled"]
    settings = settings_of(options)
    results: dict[str, object] = {}
    document = {
        "machine": machine(),
        "torch": torch.__version__,
        "date": datetime.date.today().isoformat(),
        "rounds": options.rounds,
        "profiled": PROFILED,
        "inputs": {name: "x".join(map(str, shape)) for name, (_, shape) in MODELS.items()},
        "results": results,
    }
    for done, setting in enumerate(settings):
        of: dict = in_process(setting, names, options.rounds)  # type: ignore[assignment]
        if setting.memory == "usual":
            for name in ("torch", "evenkeel"):
                of[name]["peak"] = in_process(setting, [name], 0, peak=True)
        results[setting.name] = of
        seconds = {name: of[name]["step"]["seconds"] for name in names}
        print(
            f"{done + 1:3} of {len(settings)}  {setting.name:50}"
            + "".join(f"  {name} {s:.3f} s" for name, s in seconds.items()),
            file=sys.stderr,
            flush=True,
        )
        new = options.out.with_suffix(".new")  # what is measured stays, whatever comes after
        new.write_text(json.dumps(document, indent=1) + "\n")
        new.rename(options.out)


def machine() -> str:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "unknown processor",
    )
    return f"{model}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}"


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
