"""Models and comparisons for the tests of optimize."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from evenkeel_norm.nn.layer import Fused

CHANNELS = 6


def fusions(model: nn.Module) -> dict[str, tuple[str, ...]]:
    return {
        name: module._evenkeel_fusions
        for name, module in model.named_modules()
        if isinstance(module, Fused) and module._evenkeel_fusions
    }


def step(model: nn.Module, *args: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """The output of a training step, the gradients and the buffers after it."""
    model.train()
    model.zero_grad()
    args = tuple(a.detach().clone().requires_grad_() for a in args)
    y = model(*args)
    weights = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).reshape(y.shape).to(y.dtype)
    (y * weights).sum().backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    inputs = {f"input {i}": a.grad for i, a in enumerate(args) if a.grad is not None}
    return y, gradients | inputs | dict(model.named_buffers())


def assert_same(ours: nn.Module, theirs: nn.Module, *args: Any, fused: bool = True) -> None:
    """In train() and eval(). In double: a wrong fusion is wrong by far more than rounding is.

    fused: that the new forwards run; else, that one or more do not.
    """
    ours, theirs = ours.double(), theirs.double()
    args = tuple(a.double() for a in args)
    traced = [m for m in ours.modules() if hasattr(m, "_evenkeel_is_as_it_was")]
    actual, expected = step(ours, *args), step(theirs, *args)
    for training in (True, False):
        ours.train(training)
        assert all(m._evenkeel_is_as_it_was() for m in traced) == (fused or not traced)
    torch.testing.assert_close(actual[0], expected[0], rtol=1e-8, atol=1e-10)
    scale = max(float(g.double().abs().max()) for g in expected[1].values())
    for name, gradient in expected[1].items():
        torch.testing.assert_close(actual[1][name], gradient, rtol=1e-6, atol=1e-9 * scale)
    ours.eval(), theirs.eval()
    with torch.no_grad():
        torch.testing.assert_close(ours(*args), theirs(*args), rtol=1e-8, atol=1e-10)


class WeightedAddition(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + 2 * b


class Block(nn.Module):
    """One normalization, its forward given."""

    def __init__(self, forward: Callable[..., Tensor], layer: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.bn = layer or nn.BatchNorm2d(CHANNELS)
        self.relu = nn.ReLU(inplace=True)
        self.identity = nn.Identity()
        self.dropout = nn.Dropout(0.0)
        self.add = WeightedAddition()
        self.body = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)
