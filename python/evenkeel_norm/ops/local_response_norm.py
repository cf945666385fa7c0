"""Local response normalization."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .library import Operation, dense, differentiable, first_derivatives, must_record, operator

OP = "local_response_norm"


@operator(
    "local_response_norm(Tensor x, int size, float alpha, float beta, float k, str convention)"
    " -> Tensor"
)
def _forward(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(dense(x))


@operator(
    "local_response_norm_backward(Tensor dy, Tensor x, int size, float alpha, float beta, float k,"
    " str convention) -> Tensor"
)
def _backward(dy: Tensor, x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(dense(x))


class _LocalResponseNorm(Operation):
    @staticmethod
    def forward(x: Tensor, window: tuple[int, float, float, float, str]) -> Tensor:
        return _forward(x, *window)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.window = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        dx = _backward(gradients[0], x, *ctx.window)
        return *first_derivatives(OP, (dx,), gradients[0], x), None


_recorded_local_response_norm = differentiable(_LocalResponseNorm)


def local_response_norm(x: Tensor, window: tuple[int, float, float, float, str]) -> Tensor:
    """The window is size, alpha, beta and k, and the convention that says what these mean."""
    if must_record(OP, x):
        return _recorded_local_response_norm(x, window)
    return _forward(x, *window)
