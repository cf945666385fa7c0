"""BatchNorm: by the batch's statistics or by given ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..activation import NONE, Activation
from .library import (
    Operation,
    Want,
    dense,
    differentiable,
    first_derivatives,
    must_record,
    operator,
    parameter_gradient,
    result,
    saved,
)

OP = "batch_norm"


@operator(
    "batch_norm(Tensor x, Tensor? weight, Tensor? bias, Tensor? residual,"
    " Tensor(a!)? running_mean, Tensor(b!)? running_var, Tensor(c!)? batches, Tensor(d!)? skipped,"
    " float? momentum, float eps, str activation, float first, float second)"
    " -> (Tensor y, Tensor mean, Tensor rstd)"
)
def _forward(x: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    channels = x.shape[1]
    return torch.empty_like(dense(x)), saved(x, channels), saved(x, channels)


@operator(
    "batch_norm_inference(Tensor x, Tensor? weight, Tensor? bias, Tensor? residual, Tensor mean,"
    " Tensor var, float eps, str activation, float first, float second)"
    " -> (Tensor y, Tensor mean, Tensor rstd)"
)
def _inference(x: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    channels = x.shape[1]
    return torch.empty_like(dense(x)), saved(x, channels), saved(x, channels)


@operator(
    "batch_norm_backward(Tensor dy, Tensor x, Tensor? weight, Tensor? bias, Tensor? residual,"
    " Tensor mean, Tensor rstd, bool given, str activation, float first, float second, int wanted)"
    " -> (Tensor dx, Tensor dweight, Tensor dbias, Tensor dresidual)"
)
def _backward(dy: Tensor, x: Tensor, *args: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    wanted = args[-1]
    x = dense(x)
    channels = (x.shape[1],)
    return (
        result(x, wanted, Want.DX),
        parameter_gradient(x, channels, wanted, Want.DWEIGHT),
        parameter_gradient(x, channels, wanted, Want.DBIAS),
        result(x, wanted, Want.DRESIDUAL),
    )


@operator(
    "batch_norm_track(Tensor x, Tensor(a!) running_mean, Tensor(b!) running_var,"
    " Tensor(c!)? batches, Tensor(d!)? skipped, float? momentum) -> ()"
)
def track(*_: Any) -> None:
    """Moves running statistics by a batch that is normalized with other ones."""


class _BatchNorm(Operation):
    @staticmethod
    def forward(
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        residual: Tensor | None,
        statistics: tuple[Any, ...],
        eps: float,
        activation: Activation,
        given: bool,
    ) -> Any:
        run = _inference if given else _forward
        return run(x, weight, bias, residual, *statistics, eps, *activation)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, weight, bias, residual, _, _, activation, given = inputs
        _, mean, rstd = output
        ctx.mark_non_differentiable(mean, rstd)
        ctx.set_materialize_grads(False)
        # The backward computes the value before the activation again, from all that it depends on.
        if activation == NONE:
            ctx.save_for_backward(x, weight, mean, rstd)
        else:
            ctx.save_for_backward(x, weight, mean, rstd, bias, residual)
        ctx.activation = activation
        ctx.given = given

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        dy = gradients[0]
        if dy is None:
            return (None,) * 8
        x, weight, mean, rstd, *rest = ctx.saved_tensors
        bias, residual = rest or (None, None)
        needs_x, needs_weight, needs_bias, needs_residual = ctx.needs_input_grad[:4]
        plain = ctx.activation == NONE  # then the residual's gradient is dy as it came
        wanted = (
            needs_x * Want.DX
            | needs_weight * Want.DWEIGHT
            | needs_bias * Want.DBIAS
            | (needs_residual and not plain) * Want.DRESIDUAL
        )
        dx, dweight, dbias, dresidual = _backward(
            dy, x, weight, bias, residual, mean, rstd, ctx.given, *ctx.activation, wanted
        )
        results: tuple[Tensor | None, ...] = (
            dx if needs_x else None,
            dweight if needs_weight else None,
            dbias if needs_bias else None,
            (dy if plain else dresidual) if needs_residual else None,
        )
        results = first_derivatives(OP, results, dy, x, weight, bias, residual)
        return *results, None, None, None, None


_recorded_batch_norm = differentiable(_BatchNorm)


def batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    running: tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None],
    momentum: float | None,
    eps: float,
    activation: Activation,
) -> Tensor:
    """By the statistics of x, which move the running ones (mean, var, batches, skipped)."""
    statistics = (*running, momentum)
    if must_record(OP, x, weight, bias, residual):
        args = (x, weight, bias, residual, statistics, eps, activation, False)
        return _recorded_batch_norm(*args)[0]
    return _forward(x, weight, bias, residual, *statistics, eps, *activation)[0]


def batch_norm_inference(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    mean: Tensor,
    var: Tensor,
    eps: float,
    activation: Activation,
) -> Tensor:
    """By given statistics, through which no gradient flows."""
    if must_record(OP, x, weight, bias, residual):
        return _recorded_batch_norm(x, weight, bias, residual, (mean, var), eps, activation, True)[
            0
        ]
    return _inference(x, weight, bias, residual, mean, var, eps, *activation)[0]
