"""The activation that may follow a normalization within the same pass."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Activation(NamedTuple):
    """An activation by name, with its parameters: bounds of hardtanh, the slope of leaky_relu.

    The name is ``relu``, ``relu6``, ``silu``, ``hardswish``, ``leaky_relu`` or ``hardtanh``, or
    empty for none at all.
    """

    name: str = ""
    first: float = 0.0
    second: float = 0.0

    def __str__(self) -> str:
        if self.name == "leaky_relu":
            return f"leaky_relu({self.first})"
        if self.name == "hardtanh":
            return f"hardtanh({self.first}, {self.second})"
        return self.name


NONE = Activation()
_NAMED = {
    "relu": Activation("relu"),
    "relu6": Activation("relu6"),
    "silu": Activation("silu"),
    "hardswish": Activation("hardswish"),
    "leaky_relu": Activation("leaky_relu", 0.01),
    "hardtanh": Activation("hardtanh", -1.0, 1.0),
}
_PLAIN: dict[type[nn.Module], Activation] = {
    nn.Identity: NONE,
    nn.ReLU: _NAMED["relu"],
    nn.ReLU6: _NAMED["relu6"],
    nn.SiLU: _NAMED["silu"],
    nn.Hardswish: _NAMED["hardswish"],
}
ActivationLike: TypeAlias = str | Activation | nn.Module | None


def of_module(module: nn.Module) -> Activation | None:
    """The activation that a module of torch.nn computes; None if it cannot be fused."""
    # By the exact type: a subclass may compute something else.
    if type(module) is nn.LeakyReLU:
        return Activation("leaky_relu", float(module.negative_slope))
    if type(module) is nn.Hardtanh:
        return Activation("hardtanh", float(module.min_val), float(module.max_val))
    return _PLAIN.get(type(module))


def as_activation(value: ActivationLike) -> Activation:
    """An activation from its name, from a module of torch.nn, or from None.

    Raises ValueError for what cannot be fused.
    """
    if value is None:
        return NONE
    if isinstance(value, Activation):
        return value
    found = _NAMED.get(value) if isinstance(value, str) else of_module(value)
    if found is None:
        raise ValueError(
            f"activation is {value!r}, expected one of {', '.join(_NAMED)}, an"
            " evenkeel_norm.Activation, or the torch.nn module of one of these"
        )
    return found


def apply(activation: Activation, y: Tensor) -> Tensor:
    """The activation by PyTorch, for what evenkeel leaves to it."""
    match activation.name:
        case "":
            return y
        case "relu":
            return F.relu(y)
        case "relu6":
            return F.relu6(y)
        case "silu":
            return F.silu(y)
        case "hardswish":
            return F.hardswish(y)
        case "leaky_relu":
            return F.leaky_relu(y, activation.first)
        case "hardtanh":
            return torch.clamp(y, activation.first, activation.second)
    raise ValueError(f"there is no activation {activation.name!r}")
