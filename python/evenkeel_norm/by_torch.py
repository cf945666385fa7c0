"""The same operations by PyTorch, for what evenkeel leaves to it: other devices and dtypes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .activation import Activation, apply

_DTYPES = frozenset({torch.float32, torch.float64, torch.bfloat16, torch.float16})


def is_left_to_torch(x: Tensor, eps: float = 1.0, rank: int = 1) -> bool:
    """Whether evenkeel does not have x: on another device, of another dtype, sparse or nested.

    Nor does it have an eps that is not above 0, or fewer than `rank` dimensions.
    """
    return not (
        x.is_cpu
        and x.dtype in _DTYPES
        and x.layout is torch.strided
        and not x.is_nested
        and eps > 0
        and x.dim() >= rank
    )


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float | None,
    eps: float,
    residual: Tensor | None,
    activation: Activation,
    update_running: bool,
    num_batches_tracked: Tensor | None,
) -> Tensor:
    if update_running and num_batches_tracked is not None:
        num_batches_tracked.add_(1)
        if momentum is None:
            momentum = 1.0 / float(num_batches_tracked)
    factor = 0.0 if momentum is None else momentum
    if update_running and not training:
        # Normalize with the statistics as they were before the batch moved them.
        assert running_mean is not None
        assert running_var is not None
        given = running_mean.clone(), running_var.clone()
        with torch.no_grad():
            F.batch_norm(x, running_mean, running_var, None, None, True, factor, eps)
        y = F.batch_norm(x, *given, weight, bias, False, factor, eps)
    else:
        running = (running_mean, running_var) if update_running or not training else (None, None)
        y = F.batch_norm(x, *running, weight, bias, training, factor, eps)
    return apply(activation, y if residual is None else y + residual)


def layer_norm(
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    residual: Tensor | None,
) -> Tensor | tuple[Tensor, Tensor]:
    shape = list(normalized_shape)
    if residual is None:
        return F.layer_norm(x, shape, weight, bias, eps)
    total = x + residual
    return F.layer_norm(total, shape, weight, bias, eps), total


def rms_norm(
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None,
    eps: float | None,
    residual: Tensor | None,
    unit_offset: bool,
) -> Tensor | tuple[Tensor, Tensor]:
    shape = list(normalized_shape)
    if unit_offset and weight is not None:
        weight = 1 + weight
    if residual is None:
        return F.rms_norm(x, shape, weight, eps)
    total = x + residual
    return F.rms_norm(total, shape, weight, eps), total
