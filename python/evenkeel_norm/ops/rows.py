"""LayerNorm and RMSNorm: statistics of each row of features, the trailing `axes` dimensions of x.

With a residual it is the sum x + residual that is normalized, and that is a result of its own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .library import (
    Operation,
    Want,
    differentiable,
    first_derivatives,
    must_record,
    operator,
    parameter_gradient,
    result,
    saved,
)

LAYER, RMS = "layer_norm", "rms_norm"


def _like(x: Tensor) -> Tensor:
    return torch.empty_like(x.contiguous())


def _saved(x: Tensor, axes: int) -> Tensor:
    samples = 1
    for size in x.shape[: x.dim() - axes]:
        samples = samples * size
    return saved(x, samples)


@operator(
    "layer_norm(Tensor x, int axes, Tensor? weight, Tensor? bias, float eps)"
    " -> (Tensor y, Tensor mean, Tensor rstd)"
)
def _layer_norm(x: Tensor, axes: int, *_: Any) -> tuple[Tensor, ...]:
    return _like(x), _saved(x, axes), _saved(x, axes)


@operator(
    "add_layer_norm(Tensor x, Tensor? residual, int axes, Tensor? weight, Tensor? bias, float eps)"
    " -> (Tensor y, Tensor mean, Tensor rstd, Tensor sum)"
)
def _add_layer_norm(x: Tensor, residual: Tensor, axes: int, *_: Any) -> tuple[Tensor, ...]:
    return _like(x), _saved(x, axes), _saved(x, axes), _like(x)


@operator(
    "layer_norm_backward(Tensor dy, Tensor x, int axes, Tensor? weight, Tensor mean, Tensor rstd,"
    " Tensor? dsum, int wanted) -> (Tensor dx, Tensor dweight, Tensor dbias)"
)
def _layer_norm_backward(dy: Tensor, x: Tensor, axes: int, *args: Any) -> tuple[Tensor, ...]:
    wanted = args[-1]
    x, shape = x.contiguous(), x.shape[x.dim() - axes :]
    return (
        result(x, wanted, Want.DX),
        parameter_gradient(x, shape, wanted, Want.DWEIGHT),
        parameter_gradient(x, shape, wanted, Want.DBIAS),
    )


@operator(
    "rms_norm(Tensor x, int axes, Tensor? weight, float eps, bool unit_offset)"
    " -> (Tensor y, Tensor rstd)"
)
def _rms_norm(x: Tensor, axes: int, *_: Any) -> tuple[Tensor, ...]:
    return _like(x), _saved(x, axes)


@operator(
    "add_rms_norm(Tensor x, Tensor? residual, int axes, Tensor? weight, float eps,"
    " bool unit_offset) -> (Tensor y, Tensor rstd, Tensor sum)"
)
def _add_rms_norm(x: Tensor, residual: Tensor, axes: int, *_: Any) -> tuple[Tensor, ...]:
    return _like(x), _saved(x, axes), _like(x)


@operator(
    "rms_norm_backward(Tensor dy, Tensor x, int axes, Tensor? weight, Tensor rstd, Tensor? dsum,"
    " bool unit_offset, int wanted) -> (Tensor dx, Tensor dweight)"
)
def _rms_norm_backward(dy: Tensor, x: Tensor, axes: int, *args: Any) -> tuple[Tensor, ...]:
    wanted = args[-1]
    x, shape = x.contiguous(), x.shape[x.dim() - axes :]
    return result(x, wanted, Want.DX), parameter_gradient(x, shape, wanted, Want.DWEIGHT)


class _LayerNorm(Operation):
    @staticmethod
    def forward(
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        residual: Tensor | None,
        axes: int,
        eps: float,
    ) -> Any:
        if residual is None:
            return _layer_norm(x, axes, weight, bias, eps)
        return _add_layer_norm(x, residual, axes, weight, bias, eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, weight, _, residual, axes, _ = inputs
        _, mean, rstd, *rest = output
        ctx.mark_non_differentiable(mean, rstd)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x if residual is None else rest[0], weight, mean, rstd)
        ctx.axes = axes

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        dy, dsum = gradients[0], gradients[3] if len(gradients) > 3 else None
        if dy is None:  # only the sum was used
            return dsum, None, None, dsum, None, None
        x, weight, mean, rstd = ctx.saved_tensors
        needs_x, needs_weight, needs_bias, needs_residual = ctx.needs_input_grad[:4]
        wanted = (
            (needs_x or needs_residual) * Want.DX
            | needs_weight * Want.DWEIGHT
            | needs_bias * Want.DBIAS
        )
        dx, dweight, dbias = _layer_norm_backward(dy, x, ctx.axes, weight, mean, rstd, dsum, wanted)
        results = (
            dx if needs_x else None,
            dweight if needs_weight else None,
            dbias if needs_bias else None,
            dx if needs_residual else None,
        )
        return *first_derivatives(LAYER, results, dy, x, weight, dsum), None, None


class _RMSNorm(Operation):
    @staticmethod
    def forward(
        x: Tensor,
        weight: Tensor | None,
        residual: Tensor | None,
        axes: int,
        eps: float,
        unit_offset: bool,
    ) -> Any:
        if residual is None:
            return _rms_norm(x, axes, weight, eps, unit_offset)
        return _add_rms_norm(x, residual, axes, weight, eps, unit_offset)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, weight, residual, axes, _, unit_offset = inputs
        _, rstd, *rest = output
        ctx.mark_non_differentiable(rstd)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x if residual is None else rest[0], weight, rstd)
        ctx.axes = axes
        ctx.unit_offset = unit_offset

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        dy, dsum = gradients[0], gradients[2] if len(gradients) > 2 else None
        if dy is None:  # only the sum was used
            return dsum, None, dsum, None, None, None
        x, weight, rstd = ctx.saved_tensors
        needs_x, needs_weight, needs_residual = ctx.needs_input_grad[:3]
        wanted = (needs_x or needs_residual) * Want.DX | needs_weight * Want.DWEIGHT
        dx, dweight = _rms_norm_backward(
            dy, x, ctx.axes, weight, rstd, dsum, ctx.unit_offset, wanted
        )
        results = (
            dx if needs_x else None,
            dweight if needs_weight else None,
            dx if needs_residual else None,
        )
        return *first_derivatives(RMS, results, dy, x, weight, dsum), None, None, None


_recorded_layer_norm = differentiable(_LayerNorm)
_recorded_rms_norm = differentiable(_RMSNorm)


def layer_norm(
    x: Tensor, axes: int, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    if must_record(LAYER, x, weight, bias):
        return _recorded_layer_norm(x, weight, bias, None, axes, eps)[0]
    return _layer_norm(x, axes, weight, bias, eps)[0]


def add_layer_norm(
    x: Tensor,
    residual: Tensor,
    axes: int,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """LayerNorm of x + residual, and that sum."""
    if must_record(LAYER, x, weight, bias, residual):
        y, _, _, total = _recorded_layer_norm(x, weight, bias, residual, axes, eps)
    else:
        y, _, _, total = _add_layer_norm(x, residual, axes, weight, bias, eps)
    return y, total


def rms_norm(x: Tensor, axes: int, weight: Tensor | None, eps: float, unit_offset: bool) -> Tensor:
    if must_record(RMS, x, weight):
        return _recorded_rms_norm(x, weight, None, axes, eps, unit_offset)[0]
    return _rms_norm(x, axes, weight, eps, unit_offset)[0]


def add_rms_norm(
    x: Tensor, residual: Tensor, axes: int, weight: Tensor | None, eps: float, unit_offset: bool
) -> tuple[Tensor, Tensor]:
    """RMSNorm of x + residual, and that sum."""
    if must_record(RMS, x, weight, residual):
        y, _, total = _recorded_rms_norm(x, weight, residual, axes, eps, unit_offset)
    else:
        y, _, total = _add_rms_norm(x, residual, axes, weight, eps, unit_offset)
    return y, total
