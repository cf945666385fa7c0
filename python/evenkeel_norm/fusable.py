"""Which modules take an addition and an activation into their pass, and which can be taken."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from . import activation as activations
from .activation import NONE, Activation
from .nn.batch_norm import BatchNorm
from .nn.layer import Fused
from .nn.normalization import GroupNorm


def is_watched(module: nn.Module) -> bool:
    """Whether hooks see what goes in or comes out."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def is_itself(module: nn.Module) -> bool:
    """Whether a call is the forward of its class, and nothing else."""
    return not is_watched(module) and "forward" not in vars(module)


def activation_of(module: nn.Module) -> Activation | None:
    """The activation that this module is, if a layer before it can compute it."""
    if not is_itself(module):
        return None
    found = activations.of_module(module)
    return None if found == NONE else found


def takes_residual(module: nn.Module) -> bool:
    return _computes(_last_layer(module), BatchNorm)


def takes_activation(module: nn.Module) -> bool:
    last = _last_layer(module)
    return _computes(last, BatchNorm) or _computes(last, GroupNorm)


def _computes(layer: nn.Module, cls: type[BatchNorm] | type[GroupNorm]) -> bool:
    return (
        isinstance(layer, cls)
        and type(layer).forward is cls.forward
        and layer.activation == NONE
        and is_itself(layer)
    )


def _last_layer(module: nn.Module) -> nn.Module:
    """The layer that gives the module's output, as far as it is known."""
    while isinstance(module, FusedSequential) and len(module) > 0 and is_itself(module):
        module = module[-1]
    return module


class FusedSequential(Fused, nn.Sequential):
    """A Sequential that takes a layer and the activation behind it as one.

    It looks at its modules in each call, so it may be changed as any Sequential.
    """

    def forward(
        self, input: Any, residual: Tensor | None = None, activation: Activation | None = None
    ) -> Any:
        """``activation(self(input) + residual)``, both of which the last layer computes."""
        modules = list(self)
        last = len(modules) - 1
        done = -1
        for i, module in enumerate(modules):
            if i == done:
                continue
            options: dict[str, Any] = {}
            if i == last:
                if residual is not None and takes_residual(module):
                    options["residual"], residual = residual, None
                if activation is not None and residual is None and takes_activation(module):
                    options["activation"], activation = activation, None
            elif takes_activation(module):
                behind = activation_of(modules[i + 1])
                if behind is not None:
                    options["activation"] = behind
                    done = i + 1
            input = module(input, **options)
        if residual is not None:
            input = input + residual
        return input if activation is None else activations.apply(activation, input)


def pairs_of(module: nn.Sequential) -> tuple[str, ...]:
    """What a FusedSequential of these modules takes as one."""
    modules = list(module)
    return tuple(
        f"{i} + {found.name}"
        for i, layer in enumerate(modules[:-1])
        if takes_activation(layer) and (found := activation_of(modules[i + 1])) is not None
    )
