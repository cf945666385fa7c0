"""Forwards of modules written anew, so that normalization, addition and activation are one pass.

The module that calls the layers gets a class derived from its own, with the new forward. The
layers, their names and their state stay, and whoever calls a layer by itself gets what it always
gave. A new forward looks whether all that it was made for is still so; if not, the original one
is called.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from .activation import Activation
from .fusable import FusedSequential, activation_of, pairs_of, takes_activation, takes_residual
from .nn.layer import Fused
from .rewrite import Rewritten, rewrite
from .trace import CannotFollow, trace


def fuse(module: nn.Module) -> tuple[str, ...]:
    """Fuses what the forward of this module, not of those in it, calls; says what that was.

    Raises CannotFollow if it holds layers that could be fused, but cannot be followed.
    """
    cls = type(module)
    if cls.forward is nn.Module.forward or not any(map(takes_activation, _called_by(module))):
        return ()
    _check_forward(module)
    members: dict[str, Any] = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    if cls.forward is nn.Sequential.forward:
        sequential = cast(nn.Sequential, module)
        members["fusions"] = pairs_of(sequential)
        # Without a pair it may still take an addition or an activation for its last layer.
        if not members["fusions"] and not takes_activation(sequential[-1]):
            return ()
        base: type = FusedSequential
    else:
        base = _known_structure(module) or _Traced
        if base is _Traced:
            members |= _new_forward(module)
            if not members["fusions"]:
                return ()
    module.__class__ = type(cls.__name__, (base, cls), members)
    return cast(Fused, module).fusions


def _called_by(module: nn.Module) -> Iterator[nn.Module]:
    """What the module's forward may call: its children, and those of its lists."""
    for child in module.children():
        if type(child).forward is nn.Module.forward:
            yield from _called_by(child)
        else:
            yield child


def _check_forward(module: nn.Module) -> None:
    if isinstance(module, torch.jit.ScriptModule):
        raise CannotFollow("it is a ScriptModule")
    if isinstance(module, fx.GraphModule):
        raise CannotFollow("it is a GraphModule")
    if "forward" in vars(module):
        raise CannotFollow("its forward was replaced")
    if nn.utils.parametrize.is_parametrized(module):
        raise CannotFollow("it is parametrized")


def _known_structure(module: nn.Module) -> type | None:
    """How to fuse a module that a trace cannot follow."""
    cls = type(module)
    if cls.__module__ == "torchvision.models.densenet" and cls.__name__ == "_DenseLayer":
        from .nn.torchvision import FusedDenseLayer, can_be_fused

        return FusedDenseLayer if can_be_fused(module) else None
    return None


# A place in the module, what stood there, and what it was taken for: a layer that computes its
# "residual" or "activation" too, an Activation, or just that module (None).
_Step = tuple[tuple[str, ...], nn.Module, "str | Activation | None"]


class _Traced(Fused):
    """A module with a new forward, which was traced while it was as it is."""

    _reads: frozenset[str]  # the attributes that the trace looked at
    _steps: dict[bool, list[_Step]]  # in training and not; the instance's
    _is_stale = False  # an attribute was set that a trace looked at

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._reads:
            vars(self)["_is_stale"] = True
        super().__setattr__(name, value)

    def restore(self) -> None:
        for name in ("_steps", "_is_stale"):
            vars(self).pop(name, None)
        super().restore()

    def _is_as_it_was(self) -> bool:
        return not self._is_stale and all(
            _at(self, path) is module and _still(module, role)
            for path, module, role in self._steps[cast(Any, self).training]
        )


def _at(module: Any, path: tuple[str, ...]) -> nn.Module | None:
    for name in path:
        module = module._modules.get(name)
        if module is None:
            return None
    return cast(nn.Module, module)


def _still(module: nn.Module, role: str | Activation | None) -> bool:
    if role is None:
        return True
    if role == "residual":
        return takes_residual(module)
    if role == "activation":
        return takes_activation(module)
    return activation_of(module) == role


def _new_forward(module: nn.Module) -> dict[str, Any]:
    """The members of a _Traced class: what is fused may differ between train() and eval()."""
    modes = {part: part.training for part in module.modules()}
    made: dict[bool, tuple[Callable[..., Any], Rewritten]] = {}
    reads: frozenset[str] = frozenset()
    steps: dict[bool, list[_Step]] = {}
    try:
        for training in (True, False):
            for part in modes:
                part.training = training
            graph, looked_at = trace(module)
            reads |= looked_at
            called = dict.fromkeys(str(n.target) for n in graph.nodes if n.op == "call_module")
            rewritten = rewrite(module, graph)
            roles = called | dict(rewritten.roles)
            steps[training] = [
                (tuple(path.split(".")), module.get_submodule(path), role)
                for path, role in roles.items()
            ]
            made[training] = (type(fx.GraphModule(module, graph)).forward, rewritten)
    finally:
        for part, was in modes.items():
            part.training = was
    original = type(module).forward
    train, evaluate = made[True][0], made[False][0]

    @functools.wraps(original)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        # A trace takes all arguments for tensors.
        if not all(isinstance(a, Tensor) for a in (*args, *kwargs.values())):
            return original(self, *args, **kwargs)
        if not self._is_as_it_was():
            return original(self, *args, **kwargs)
        return (train if self.training else evaluate)(self, *args, **kwargs)

    if made[True][1].said:
        vars(module)["_steps"] = steps
    return {"forward": forward, "fusions": made[True][1].said, "_reads": reads}
