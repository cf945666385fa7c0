"""What all operators share: how they are defined, and what autograd must know of them.

An operator is defined in Python (its schema, and the shapes and strides of its results) and
implemented in C++ (``csrc/``). The operators are private: called directly they have no gradient.
The ``autograd.Function`` beside each has, and calls the operator alone where none is wanted, which
takes half the time of a registered gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntFlag
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

NAMESPACE = "evenkeel_norm"

_library = torch.library.Library(NAMESPACE, "DEF")
# The C++ code takes tensors by their strides, so the compiler must not change those.
_TAGS = (torch.Tag.needs_exact_strides, torch.Tag.pt2_compliant_tag)


def operator(schema: str) -> Callable[[Callable[..., Any]], Any]:
    """Defines an operator by its schema; the decorated function makes its results for tracing.

    Such results have the right shape, strides and dtype, and no values. The name then stands for
    the operator itself.
    """
    name = schema.partition("(")[0]

    def define(fake: Callable[..., Any]) -> Any:
        _library.define(schema, tags=_TAGS)
        torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=_library)
        return getattr(getattr(torch.ops, NAMESPACE), name).default

    return define


def load() -> None:
    """Loads the implementations; after all operators are defined."""
    path = Path(__file__).parent.parent / "_operators.so"
    torch.ops.load_library(str(path))


class Want(IntFlag):
    """Which gradients a backward is asked for. As in csrc/tensors.h."""

    DX = 1
    DWEIGHT = 2
    DBIAS = 4
    DRESIDUAL = 8


# The conversions of tensors, as csrc/tensors.cc does them.


def dense(x: Tensor) -> Tensor:
    """x itself if it is dense channels-first or channels-last, else a contiguous copy."""
    if x.is_contiguous() or (x.dim() > 2 and x.movedim(1, -1).is_contiguous()):
        return x
    return x.contiguous()


def wide_dtype(x: Tensor) -> torch.dtype:
    """The dtype of parameters' gradients beside x, and of all arithmetic."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


# What a forward hands to its backward, mean and rstd: a rounded mean would limit the gradients.
SAVED_DTYPE = torch.float64


def saved(x: Tensor, size: Any) -> Tensor:
    return x.new_empty((size,), dtype=SAVED_DTYPE)


def result(x: Tensor, wanted: int, want: Want) -> Tensor:
    """A gradient of the shape of x, if it is wanted."""
    return torch.empty_like(x) if wanted & want else x.new_empty((0,))


def parameter_gradient(x: Tensor, sizes: Any, wanted: int, want: Want) -> Tensor:
    return x.new_empty(sizes, dtype=wide_dtype(x)) if wanted & want else x.new_empty((0,))


def must_record(op: str, *tensors: Tensor | None) -> bool:
    """Whether a call on these tensors must go through its autograd.Function.

    Refuses forward-mode derivatives, which would be lost without a word.
    """
    if forward_ad._current_level >= 0:  # type: ignore[attr-defined]
        for tensor in tensors:
            if tensor is not None and forward_ad.unpack_dual(tensor).tangent is not None:
                raise NotImplementedError(
                    f"evenkeel_norm.{op} has no forward-mode derivative; use reverse mode, or"
                    f" torch.nn for this layer (evenkeel_norm.restore_normalization)"
                )
    if torch._C._are_functorch_transforms_active():
        return True
    if torch.is_grad_enabled():
        for tensor in tensors:
            if tensor is not None and tensor.requires_grad:
                return True
    return False


class _FirstDerivative(torch.autograd.Function):
    """A gradient that is not to be differentiated again, though it depends on other tensors."""

    @staticmethod
    def forward(op: str, gradient: Tensor, *depends_on: Tensor | None) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.op = inputs[0]

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> Any:
        raise RuntimeError(
            f"evenkeel_norm.{ctx.op} has no second derivative; call backward without create_graph,"
            " or use torch.nn for this layer (evenkeel_norm.restore_normalization)"
        )


def first_derivatives(
    op: str, gradients: tuple[Tensor | None, ...], *depend_on: Tensor | None
) -> tuple[Tensor | None, ...]:
    """The gradients as a backward returns them.

    Where autograd records the backward, as for a second derivative, taking that one is an error:
    these have no history, and would make it wrong without a word.
    """
    # A compiled backward has no second derivative either, and says so itself.
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return gradients
    return tuple(
        None if gradient is None else _FirstDerivative.apply(op, gradient, *depend_on)
        for gradient in gradients
    )


class Operation(torch.autograd.Function):
    """Base of the operations' autograd functions."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> Any:
        raise NotImplementedError(
            "the operations of evenkeel_norm have no vmap rule; give the batch as a dimension of"
            " x, or use torch.nn for these layers (evenkeel_norm.restore_normalization)"
        )


def differentiable(operation: type[Operation]) -> Callable[..., Any]:
    """The function that applies an operation.

    An autograd function in two parts, forward and setup_context, is what torch.func asks for, but
    costs four times as much a call as one in one part. So there is such a twin for all other calls.
    """
    forward, setup_context = operation.forward, operation.setup_context

    class InOnePart(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Any:
            output = forward(*inputs)
            setup_context(ctx, inputs, output)
            return output

        backward = operation.backward

    InOnePart.__name__ = operation.__name__

    def apply(*args: Any) -> Any:
        if torch._C._are_functorch_transforms_active():
            return operation.apply(*args)
        return InOnePart.apply(*args)

    return apply
