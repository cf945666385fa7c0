"""The operations as functions, with the signatures of ``torch.nn.functional``.

Each also takes, as keywords, what evenkeel computes in the same pass. What evenkeel does not have
(another device, a complex dtype, a sparse tensor, an eps that is not above 0) goes to PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import overload

import torch
from torch import Tensor
from torch.nn import functional as F

from . import by_torch, ops
from .activation import ActivationLike, apply, as_activation

__all__ = [
    "batch_norm",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "local_response_norm",
    "rms_norm",
]


def _is_recomputation() -> bool:
    """Whether a backward is running: a forward within it repeats one, as checkpointing does."""
    # A compiled function is recomputed without its effects already.
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def _summands(x: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the dtype of their sum: under autocast x may have 16 bits and the residual 32."""
    if x is residual:  # the compiler cannot trace a function that gets the same tensor twice
        residual = x.view_as(x)
    if x.dtype == residual.dtype:
        return x, residual
    dtype = torch.promote_types(x.dtype, residual.dtype)
    return x.to(dtype), residual.to(dtype)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
    *,
    residual: Tensor | None = None,
    activation: ActivationLike = None,
    update_running: bool | None = None,
    num_batches_tracked: Tensor | None = None,
    skipped_batches: Tensor | None = None,
) -> Tensor:
    """Batch normalization (Ioffe & Szegedy 2015, arXiv:1502.03167) of each channel.

    ``y = activation((x - mean) / sqrt(var + eps) * weight + bias + residual)``, with the mean and
    the biased variance of the batch if ``training``, else with the running ones.

    The running statistics move if ``update_running``, by default if ``training``: by a moving
    average with ``momentum`` as the weight of the new batch, or, if that is None, to the average of
    all ``num_batches_tracked`` batches. The variance that they get is the unbiased one. A batch
    whose statistics are not finite does not move them; ``skipped_batches`` counts it. Nor do they
    move within a backward, where checkpointing computes a forward for the second time.

    Shapes: input (N, C, ...), as residual and the result; all others (C,).

    Raises ValueError if ``training`` and there is one value per channel, RuntimeError if a shape
    or dtype does not fit.
    """
    act = as_activation(activation)
    if update_running is None:
        update_running = training and running_mean is not None
    is_factor = momentum is None or not update_running or 0 <= momentum <= 1
    if by_torch.is_left_to_torch(input, eps, rank=2) or not is_factor:
        return by_torch.batch_norm(
            input,
            running_mean,
            running_var,
            weight,
            bias,
            training,
            momentum,
            eps,
            residual,
            act,
            update_running,
            num_batches_tracked,
        )
    if training and input.numel() == input.shape[1] > 0:
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size {input.shape}"
        )
    if residual is not None:
        input, residual = _summands(input, residual)
    if (running_mean is None or running_var is None) and (update_running or not training):
        raise RuntimeError(
            "batch_norm: running statistics are needed to normalize with or to update, but"
            " running_mean or running_var is None; pass both, or training=True"
        )
    moves = update_running and not _is_recomputation()
    running = (running_mean, running_var, num_batches_tracked, skipped_batches)
    if training:
        statistics = running if moves else (None, None, None, None)
        return ops.batch_norm(input, weight, bias, residual, statistics, momentum, eps, act)
    assert running_mean is not None
    assert running_var is not None
    y = ops.batch_norm_inference(input, weight, bias, residual, running_mean, running_var, eps, act)
    if moves:
        ops.track(input.detach(), *running, momentum)
    return y


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Instance normalization (Ulyanov et al. 2016, arXiv:1607.08022) of each channel of a sample.

    ``y = (x - mean) / sqrt(var + eps) * weight + bias`` over the positions, or, unless
    ``use_input_stats``, with the running statistics, which otherwise move by the averages over the
    samples.

    Shapes: input (N, C, ...), as the result; all others (C,).

    Raises ValueError if there is one position, RuntimeError if a shape or dtype does not fit.
    """
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    is_factor = running_mean is None or 0 <= momentum <= 1
    if by_torch.is_left_to_torch(input, eps, rank=2) or not is_factor:
        return F.instance_norm(
            input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps
        )
    if math.prod(input.shape[2:]) == 1:
        raise ValueError(
            f"Expected more than 1 spatial element when training, got input size {input.shape}"
        )
    running = (None, None) if _is_recomputation() else (running_mean, running_var)
    return ops.instance_norm(input, weight, bias, running, momentum, eps)


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *,
    activation: ActivationLike = None,
) -> Tensor:
    """Group normalization (Wu & He 2018, arXiv:1803.08494) of each group of channels of a sample.

    ``y = activation((x - mean) / sqrt(var + eps) * weight + bias)``, over the positions of C /
    num_groups neighboring channels.

    Shapes: input (N, C, ...), as the result; weight and bias (C,).

    Raises RuntimeError if a shape or dtype does not fit, or num_groups does not divide C.
    """
    act = as_activation(activation)
    if by_torch.is_left_to_torch(input, eps, rank=2):
        return apply(act, F.group_norm(input, num_groups, weight, bias, eps))
    return ops.group_norm(input, num_groups, weight, bias, eps, act)


def _axes(op: str, input: Tensor, normalized_shape: Sequence[int]) -> int:
    axes = len(normalized_shape)
    if axes == 0 or input.shape[-axes:] != tuple(normalized_shape):
        raise RuntimeError(
            f"{op}: input has shape {tuple(input.shape)}, expected its trailing dimensions to be"
            f" normalized_shape {tuple(normalized_shape)}, which has one or more"
        )
    return axes


@overload
def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *,
    residual: None = None,
) -> Tensor: ...
@overload
def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *,
    residual: Tensor,
) -> tuple[Tensor, Tensor]: ...
def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *,
    residual: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Layer normalization (Ba, Kiros & Hinton 2016, arXiv:1607.06450) of the trailing dimensions.

    ``y = (x - mean) / sqrt(var + eps) * weight + bias``. With a residual it is the sum x + residual
    that is normalized, and the result is (y, sum), both differentiable.

    Shapes: input (..., *normalized_shape), as residual and the results; weight and bias
    normalized_shape.

    Raises RuntimeError if a shape or dtype does not fit.
    """
    if by_torch.is_left_to_torch(input, eps):
        return by_torch.layer_norm(input, normalized_shape, weight, bias, eps, residual)
    axes = _axes("layer_norm", input, normalized_shape)
    if residual is None:
        return ops.layer_norm(input, axes, weight, bias, eps)
    input, residual = _summands(input, residual)
    return ops.add_layer_norm(input, residual, axes, weight, bias, eps)


_EPSILON = {
    torch.float64: torch.finfo(torch.float64).eps,
    torch.float32: torch.finfo(torch.float32).eps,
    torch.bfloat16: torch.finfo(torch.float32).eps,
    torch.float16: torch.finfo(torch.float32).eps,
}


@overload
def rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
    *,
    residual: None = None,
    unit_offset: bool = False,
) -> Tensor: ...
@overload
def rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
    *,
    residual: Tensor,
    unit_offset: bool = False,
) -> tuple[Tensor, Tensor]: ...
def rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
    *,
    residual: Tensor | None = None,
    unit_offset: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Root mean square normalization (Zhang & Sennrich 2019, arXiv:1910.07467).

    ``y = x / sqrt(mean(x^2) + eps) * weight`` over the trailing dimensions, or ``* (1 + weight)``
    with ``unit_offset``. Without an eps it is the machine epsilon of the dtype that is computed in:
    that of float for 16 bits. With a residual it is the sum x + residual that is normalized, and
    the result is (y, sum), both differentiable.

    Shapes: input (..., *normalized_shape), as residual and the results; weight normalized_shape.

    Raises RuntimeError if a shape or dtype does not fit.
    """
    if by_torch.is_left_to_torch(input, 1.0 if eps is None else eps):
        return by_torch.rms_norm(input, normalized_shape, weight, eps, residual, unit_offset)
    axes = _axes("rms_norm", input, normalized_shape)
    if residual is not None:
        input, residual = _summands(input, residual)
    if eps is None:
        eps = _EPSILON[input.dtype]
    if residual is None:
        return ops.rms_norm(input, axes, weight, eps, unit_offset)
    return ops.add_rms_norm(input, residual, axes, weight, eps, unit_offset)


CONVENTIONS = ("torch", "paper", "onnx", "cudnn", "caffe", "tensorflow")


def local_response_norm(
    input: Tensor,
    size: int,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
    *,
    convention: str = "torch",
) -> Tensor:
    """Local response normalization (Krizhevsky, Sutskever & Hinton 2012) across channels.

    ``y = x * (k + alpha / size * sum of squares over a window of size channels) ^ -beta``. That is
    PyTorch's convention. The ``convention`` says whose parameters these are: ``paper`` and
    ``tensorflow`` do not divide alpha by size, ``tensorflow`` has a window of 2 * size + 1
    channels, ``paper``, ``onnx``, ``cudnn`` and ``caffe`` place an even window differently.

    Shape: input (N, C, ...) of three or more dimensions, as the result.

    Raises ValueError for fewer dimensions or an unknown convention, RuntimeError for an odd size
    where the convention has none.
    """
    if input.dim() < 3:
        raise ValueError(
            f"local_response_norm: input has {input.dim()} dimensions, expected 3 or more"
        )
    if convention not in CONVENTIONS:
        raise ValueError(
            f"local_response_norm: convention is {convention!r}, expected one of"
            f" {', '.join(CONVENTIONS)}"
        )
    if by_torch.is_left_to_torch(input):
        if convention != "torch":
            raise NotImplementedError(
                f"local_response_norm: on {input.device} in {input.dtype} PyTorch computes, which"
                f" has no convention {convention!r}"
            )
        return F.local_response_norm(input, size, alpha, beta, k)
    return ops.local_response_norm(input, (size, alpha, beta, k, convention))
