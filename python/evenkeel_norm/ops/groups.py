"""GroupNorm and InstanceNorm: statistics of each sample."""

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

GROUP, INSTANCE = "group_norm", "instance_norm"


def _gradients(x: Tensor, wanted: int) -> tuple[Tensor, Tensor, Tensor]:
    x = dense(x)
    channels = (x.shape[1],)
    return (
        result(x, wanted, Want.DX),
        parameter_gradient(x, channels, wanted, Want.DWEIGHT),
        parameter_gradient(x, channels, wanted, Want.DBIAS),
    )


@operator(
    "group_norm(Tensor x, int groups, Tensor? weight, Tensor? bias, float eps, str activation,"
    " float first, float second) -> (Tensor y, Tensor mean, Tensor rstd)"
)
def _group_norm(x: Tensor, groups: int, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    size = x.shape[0] * groups
    return torch.empty_like(dense(x)), saved(x, size), saved(x, size)


@operator(
    "group_norm_backward(Tensor dy, Tensor x, int groups, Tensor? weight, Tensor? bias,"
    " Tensor mean, Tensor rstd, str activation, float first, float second, int wanted)"
    " -> (Tensor dx, Tensor dweight, Tensor dbias)"
)
def _group_norm_backward(dy: Tensor, x: Tensor, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _gradients(x, args[-1])


@operator(
    "instance_norm(Tensor x, Tensor? weight, Tensor? bias, Tensor(a!)? running_mean,"
    " Tensor(b!)? running_var, float momentum, float eps)"
    " -> (Tensor y, Tensor mean, Tensor rstd)"
)
def _instance_norm(x: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    size = x.shape[0] * x.shape[1]
    return torch.empty_like(dense(x)), saved(x, size), saved(x, size)


@operator(
    "instance_norm_backward(Tensor dy, Tensor x, Tensor? weight, Tensor mean, Tensor rstd,"
    " int wanted) -> (Tensor dx, Tensor dweight, Tensor dbias)"
)
def _instance_norm_backward(dy: Tensor, x: Tensor, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _gradients(x, args[-1])


def _wanted(ctx: Any) -> int:
    needs_x, needs_weight, needs_bias = ctx.needs_input_grad[:3]
    return needs_x * Want.DX | needs_weight * Want.DWEIGHT | needs_bias * Want.DBIAS


def _only_needed(ctx: Any, gradients: tuple[Tensor, ...]) -> tuple[Tensor | None, ...]:
    needs = ctx.needs_input_grad
    return tuple(g if needs[i] else None for i, g in enumerate(gradients))


class _GroupNorm(Operation):
    @staticmethod
    def forward(
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        groups: int,
        eps: float,
        activation: Activation,
    ) -> Any:
        return _group_norm(x, groups, weight, bias, eps, *activation)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, weight, bias, groups, _, activation = inputs
        _, mean, rstd = output
        ctx.mark_non_differentiable(mean, rstd)
        ctx.set_materialize_grads(False)
        # The backward computes the value before the activation again, for which it needs the bias.
        ctx.save_for_backward(x, weight, None if activation == NONE else bias, mean, rstd)
        ctx.groups = groups
        ctx.activation = activation

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        if gradients[0] is None:
            return (None,) * 6
        x, weight, bias, mean, rstd = ctx.saved_tensors
        results = _group_norm_backward(
            gradients[0], x, ctx.groups, weight, bias, mean, rstd, *ctx.activation, _wanted(ctx)
        )
        results = first_derivatives(
            GROUP, _only_needed(ctx, results), gradients[0], x, weight, bias
        )
        return *results, None, None, None


class _InstanceNorm(Operation):
    @staticmethod
    def forward(
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running: tuple[Tensor | None, Tensor | None],
        momentum: float,
        eps: float,
    ) -> Any:
        return _instance_norm(x, weight, bias, *running, momentum, eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, weight = inputs[:2]
        _, mean, rstd = output
        ctx.mark_non_differentiable(mean, rstd)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, weight, mean, rstd)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        if gradients[0] is None:
            return (None,) * 6
        x, weight, mean, rstd = ctx.saved_tensors
        results = _instance_norm_backward(gradients[0], x, weight, mean, rstd, _wanted(ctx))
        results = first_derivatives(INSTANCE, _only_needed(ctx, results), gradients[0], x, weight)
        return *results, None, None, None


_recorded_group_norm = differentiable(_GroupNorm)
_recorded_instance_norm = differentiable(_InstanceNorm)


def group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    activation: Activation,
) -> Tensor:
    if must_record(GROUP, x, weight, bias):
        return _recorded_group_norm(x, weight, bias, groups, eps, activation)[0]
    return _group_norm(x, groups, weight, bias, eps, *activation)[0]


def instance_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running: tuple[Tensor | None, Tensor | None],
    momentum: float,
    eps: float,
) -> Tensor:
    if must_record(INSTANCE, x, weight, bias):
        return _recorded_instance_norm(x, weight, bias, running, momentum, eps)[0]
    return _instance_norm(x, weight, bias, *running, momentum, eps)[0]
