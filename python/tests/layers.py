"""The layers under test: how to make evenkeel's and torch.nn's, and an input that fits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import evenkeel_norm as ek


@dataclass(frozen=True)
class LayerCase:
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    shape: tuple[int, ...]

    def ours(self, **more: Any) -> Any:
        return getattr(ek.nn, self.name)(*self.args, **self.kwargs, **more)

    def theirs(self, **more: Any) -> Any:
        return getattr(nn, self.name)(*self.args, **self.kwargs, **more)

    @property
    def id(self) -> str:
        options = ",".join(f"{k}={v}" for k, v in self.kwargs.items())
        return f"{self.name}({options})"


def _case(name: str, *args: Any, shape: tuple[int, ...], **kwargs: Any) -> LayerCase:
    return LayerCase(name, args, kwargs, shape)


CHANNELS = 6
IMAGES = {
    "1d": (4, CHANNELS, 9),
    "2d": (4, CHANNELS, 5, 4),
    "3d": (4, CHANNELS, 3, 5, 4),
}
LAYERS = [
    *(_case(f"BatchNorm{d}", CHANNELS, shape=shape) for d, shape in IMAGES.items()),
    _case("BatchNorm1d", CHANNELS, shape=(8, CHANNELS)),
    _case("BatchNorm2d", CHANNELS, shape=IMAGES["2d"], momentum=None),
    _case("BatchNorm2d", CHANNELS, shape=IMAGES["2d"], affine=False),
    _case("BatchNorm2d", CHANNELS, shape=IMAGES["2d"], track_running_stats=False),
    _case("BatchNorm2d", CHANNELS, shape=IMAGES["2d"], eps=1e-3, momentum=0.01),
    *(_case(f"InstanceNorm{d}", CHANNELS, shape=shape) for d, shape in IMAGES.items()),
    _case("InstanceNorm2d", CHANNELS, shape=IMAGES["2d"][1:], affine=True),
    _case("InstanceNorm2d", CHANNELS, shape=IMAGES["2d"], affine=True, track_running_stats=True),
    _case("LayerNorm", 9, shape=IMAGES["1d"]),
    _case("LayerNorm", (5, 4), shape=IMAGES["2d"], bias=False),
    _case("LayerNorm", 9, shape=IMAGES["1d"], elementwise_affine=False),
    _case("RMSNorm", 9, shape=IMAGES["1d"]),
    _case("RMSNorm", (5, 4), shape=IMAGES["2d"], eps=1e-3, elementwise_affine=False),
    _case("GroupNorm", 3, CHANNELS, shape=IMAGES["2d"]),
    _case("GroupNorm", 2, CHANNELS, shape=IMAGES["3d"], affine=False),
    _case("LocalResponseNorm", 3, shape=IMAGES["2d"]),
]
LAYER_IDS = [case.id for case in LAYERS]


def randomize(layer: nn.Module) -> None:
    """Other parameters than those that change nothing."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.rand(parameter.shape) + 0.5)


def buffers_of_torch(layer: nn.Module) -> dict[str, torch.Tensor]:
    return {n: b for n, b in layer.named_buffers() if not n.endswith("skipped_batches")}


def run(layer: nn.Module, call: Callable[..., Any], x: torch.Tensor) -> list[torch.Tensor]:
    """The result of a call, and the gradients of its input and of the layer's parameters."""
    x = x.detach().requires_grad_()
    layer.zero_grad()
    y = call(x)
    y.square().sum().backward()
    assert x.grad is not None
    return [y.detach(), x.grad, *(p.grad for p in layer.parameters() if p.grad is not None)]
