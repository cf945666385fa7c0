"""The operations under test: how to call evenkeel's and PyTorch's, and inputs that fit.

Each test takes this table, so that an operation that is added here is tested everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import evenkeel_norm.functional as ours

EPS = 1e-5


@dataclass(frozen=True)
class Operation:
    """A call of one operation on (x, weight, bias), of which it may ignore some."""

    name: str
    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    has_weight: bool = True
    has_bias: bool = True
    # The dimensions of the parameters: the channels, or the trailing dimensions.
    per_feature: bool = False
    # The results of PyTorch's operations around the call, rounded to the dtype of x.
    roundings_around: int = 0

    def parameters(self, x: Tensor, dtype: torch.dtype | None = None) -> list[Tensor | None]:
        size = x.shape[2:] if self.per_feature else x.shape[1:2]
        dtype = dtype or x.dtype
        weight = (torch.rand(size) + 0.5).to(dtype) if self.has_weight else None
        bias = torch.randn(size).to(dtype) if self.has_bias else None
        return [weight, bias]


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Given ones for normalization, the same in every dtype."""
    channels = torch.arange(x.shape[1], dtype=torch.float64)
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    return (channels / 8 - 0.25).to(dtype), (channels / 4 + 0.5).to(dtype)


def _activated(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda x, w, b: F.leaky_relu(function(x, w, b), 0.25)


def _batch(x: Tensor, w: Any, b: Any, functions: Any = F, **more: Any) -> Tensor:
    return functions.batch_norm(x, None, None, w, b, training=True, eps=EPS, **more)


def _given(x: Tensor, w: Any, b: Any, functions: Any = F, **more: Any) -> Tensor:
    return functions.batch_norm(x, *_statistics(x), w, b, eps=EPS, **more)


def _layer(x: Tensor, w: Any, b: Any, functions: Any = F) -> Tensor:
    return functions.layer_norm(x, x.shape[2:], w, b, EPS)


def _rms(x: Tensor, w: Any, b: Any, functions: Any = F) -> Tensor:
    return functions.rms_norm(x, x.shape[2:], w, EPS)


def _group(x: Tensor, w: Any, b: Any, functions: Any = F, **more: Any) -> Tensor:
    return functions.group_norm(x, 2, w, b, EPS, **more)


def _instance(x: Tensor, w: Any, b: Any, functions: Any = F) -> Tensor:
    return functions.instance_norm(x, weight=w, bias=b, eps=EPS)


def _lrn(x: Tensor, w: Any, b: Any, functions: Any = F) -> Tensor:
    return functions.local_response_norm(x, 3, alpha=0.5, beta=0.75, k=1.5)


def _pair(name: str, function: Callable[..., Tensor], **more: Any) -> Operation:
    return Operation(name, lambda x, w, b: function(x, w, b, functions=ours), function, **more)


def _pair_activated(name: str, function: Callable[..., Tensor]) -> Operation:
    slope = torch.nn.LeakyReLU(0.25)
    return Operation(
        name,
        lambda x, w, b: function(x, w, b, functions=ours, activation=slope),
        _activated(function),
    )


def _pair_residual(name: str, function: Callable[..., Tensor], **more: Any) -> Operation:
    """The reversed channels (or features) serve as a residual that depends on x."""

    def theirs(x: Tensor, w: Any, b: Any) -> Tensor:
        total = x + x.flip(-1)
        return function(total, w, b) + total.tanh()

    def fused(x: Tensor, w: Any, b: Any) -> Tensor:
        operation = getattr(ours, name.removeprefix("add_"))
        args = (w, b) if name == "add_layer_norm" else (w,)
        y, total = operation(x, x.shape[2:], *args, eps=EPS, residual=x.flip(-1))
        return y + total.tanh()

    return Operation(name, fused, theirs, per_feature=True, roundings_around=4, **more)


def _batch_residual() -> Operation:
    def theirs(x: Tensor, w: Any, b: Any) -> Tensor:
        return F.silu(_batch(x, w, b) + x.flip(-1))

    def fused(x: Tensor, w: Any, b: Any) -> Tensor:
        return _batch(x, w, b, functions=ours, residual=x.flip(-1), activation="silu")

    return Operation("batch_norm_residual", fused, theirs, roundings_around=4)


OPERATIONS = [
    _pair("batch_norm", _batch),
    _pair_activated("batch_norm_activated", _batch),
    _batch_residual(),
    _pair("batch_norm_given", _given),
    _pair_activated("batch_norm_given_activated", _given),
    _pair("layer_norm", _layer, per_feature=True),
    _pair_residual("add_layer_norm", _layer),
    _pair("rms_norm", _rms, per_feature=True, has_bias=False),
    _pair_residual("add_rms_norm", _rms, has_bias=False),
    _pair("group_norm", _group),
    _pair_activated("group_norm_activated", _group),
    _pair("instance_norm", _instance),
    _pair("local_response_norm", _lrn, has_weight=False, has_bias=False),
]
IDS = [operation.name for operation in OPERATIONS]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]

# Sizes that are no multiple of a vector, with a position count of several vectors.
SHAPES = {3: (3, 6, 37), 4: (3, 6, 5, 7), 5: (2, 6, 3, 4, 5), 6: (2, 4, 2, 3, 2, 3)}


def laid_out(x: Tensor, layout: str) -> Tensor:
    """x in another memory order: channels_last of any rank, or strides that are not dense."""
    if layout == "channels_last":
        return x.movedim(1, -1).contiguous().movedim(-1, 1)
    if layout == "transposed":
        return x.transpose(0, -1).contiguous().transpose(0, -1)
    if layout == "strided":
        wide = torch.zeros(*x.shape[:-1], 2 * x.shape[-1], dtype=x.dtype)
        wide[..., ::2] = x
        return wide[..., ::2]
    if layout == "overlapping":
        # Neighboring samples share memory.
        flat = torch.randn(x[0].numel() + x.shape[0], dtype=torch.float64).to(x.dtype)
        return flat.as_strided(x.shape, (1, *x.stride()[1:]))
    assert layout == "contiguous"
    return x.contiguous()


LAYOUTS = ["contiguous", "channels_last", "transposed", "strided", "overlapping"]


def with_gradients(
    function: Callable[..., Tensor], x: Tensor, parameters: list[Tensor | None], dy: Tensor
) -> list[Tensor]:
    """The result, and the gradients of x and of the parameters that there are."""
    leaves = [t.detach().requires_grad_() if t is not None else None for t in (x, *parameters)]
    y = function(*leaves)
    y.backward(dy)
    return [y.detach(), *(t.grad for t in leaves if t is not None)]  # type: ignore[misc]


def assert_near(
    actual: Tensor, expected: Tensor, magnitude: Any = None, steps: int = 16, around: float = 0
) -> None:
    """Compares with a result in float64.

    The result is rounded to its dtype once: half an ulp, of which one may differ. Before that
    `steps` roundings of the arithmetic's dtype may each have lost half an ulp of `magnitude`, the
    largest number that is added up to an element (by default that of the expected values, or 1).
    Operations around may have lost the fraction `around` of it.
    """
    assert actual.shape == expected.shape
    wide = torch.float64 if actual.dtype == torch.float64 else torch.float32
    if magnitude is None:
        magnitude = max(1.0, float(expected.abs().max())) if expected.numel() else 1.0
    rounding = torch.finfo(actual.dtype).eps * expected.abs()
    # Below the smallest normal number the spacing is constant.
    rounding = rounding.clamp(min=torch.finfo(actual.dtype).smallest_normal)
    bound = rounding + (steps * torch.finfo(wide).eps / 2 + around) * magnitude
    error = (actual.double() - expected).abs()
    assert bool((error <= bound).all()), f"off by {error.max():.3g}, {(error / bound).max():.3g} x"
