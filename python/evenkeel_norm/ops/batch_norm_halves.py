"""The halves of BatchNorm, for a batch that is spread over several processes.

Each process takes the moments of its part, and those of all normalize each part; in the backward
the sums of all are added up.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .library import Want, dense, operator, parameter_gradient, result, saved


@operator("batch_norm_moments(Tensor x) -> Tensor")
def moments(x: Tensor) -> Tensor:
    """As 2C + 1 numbers: the count of values per channel, the means, the sums of squares."""
    return x.new_empty((2 * x.shape[1] + 1,), dtype=torch.float64)


@operator(
    "batch_norm_of_moments(Tensor x, Tensor? weight, Tensor? bias, Tensor? residual,"
    " Tensor moments, Tensor(a!)? running_mean, Tensor(b!)? running_var, Tensor(c!)? batches,"
    " Tensor(d!)? skipped, float? momentum, float eps, str activation, float first, float second)"
    " -> (Tensor y, Tensor mean, Tensor rstd)"
)
def forward_of_moments(x: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    """By the moments of all processes, (processes, 2C + 1), merged in the order of the rows."""
    channels = x.shape[1]
    return torch.empty_like(dense(x)), saved(x, channels), saved(x, channels)


@operator(
    "batch_norm_gradient_sums(Tensor dy, Tensor x, Tensor? weight, Tensor? bias, Tensor? residual,"
    " Tensor mean, Tensor rstd, str activation, float first, float second, int wanted)"
    " -> (Tensor sum_dy, Tensor sum_dy_x, Tensor dweight, Tensor dbias)"
)
def gradient_sums(dy: Tensor, x: Tensor, *args: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    wanted = args[-1]
    channels = (x.shape[1],)
    return (
        x.new_empty(channels, dtype=torch.float64),
        x.new_empty(channels, dtype=torch.float64),
        parameter_gradient(x, channels, wanted, Want.DWEIGHT),
        parameter_gradient(x, channels, wanted, Want.DBIAS),
    )


@operator(
    "batch_norm_backward_of_sums(Tensor dy, Tensor x, Tensor? weight, Tensor? bias,"
    " Tensor? residual, Tensor mean, Tensor rstd, Tensor sum_dy, Tensor sum_dy_x, float count,"
    " str activation, float first, float second, int wanted) -> (Tensor dx, Tensor dresidual)"
)
def backward_of_sums(dy: Tensor, x: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
    wanted = args[-1]
    x = dense(x)
    return result(x, wanted, Want.DX), result(x, wanted, Want.DRESIDUAL)
