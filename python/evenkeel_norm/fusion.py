"""Forwards of modules written anew, so that normalization, addition and activation are one pass.

The module that calls the layers gets a class derived from its own, with the new forward. The
layers, their names and their state stay, and whoever calls a layer by itself gets what it always
gave. A new forward looks whether all that it was made for is still so; if not, the original one
is called.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, cast

import torch
from torch import Tensor, fx, nn

from .activation import Activation
from .fusable import FusedSequential, activation_of, pairs_of, takes_activation, takes_residual
from .nn.layer import Fused
from .rewrite import is_identity, rewrite
from .trace import CannotFollow, trace


def fuse(module: nn.Module) -> tuple[str, ...]:
    """Fuses what the forward of this module, not of those in it, calls; says what that was.

    Raises CannotFollow if it holds layers that could be fused, but cannot be followed.
    """
    if not _has_forward(module) or not any(map(takes_activation, _called_by(module))):
        return ()
    _check_class(module)
    cls = type(module)
    members: dict[str, Any] = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    if cls.forward is nn.Sequential.forward:
        sequential = cast(nn.Sequential, module)
        members["_evenkeel_fusions"] = pairs_of(sequential)
        # Without a pair it may still take an addition or an activation for its last layer.
        if not members["_evenkeel_fusions"] and not takes_activation(sequential[-1]):
            return ()
        base: type = FusedSequential
    else:
        base = _known_structure(module) or _Traced
        if base is _Traced:
            members |= _new_forward(module)
            if not members["_evenkeel_fusions"]:
                return ()
    steps = members.pop("_evenkeel_steps", None)
    module.__class__ = type(cls.__name__, (base, cls), members)
    if steps is not None:  # the instance's, so that copies have their own
        vars(module)["_evenkeel_steps"] = steps
    return cast(Fused, module)._evenkeel_fusions


def _has_forward(module: nn.Module) -> bool:
    return getattr(type(module), "forward", None) is not nn.Module.forward


def _called_by(module: nn.Module) -> Iterator[nn.Module]:
    """What the module's forward may call: its children, and those of its lists."""
    for child in module.children():
        if _has_forward(child):
            yield child
        else:
            yield from _called_by(child)


def _check_class(module: nn.Module) -> None:
    if isinstance(module, torch.jit.ScriptModule):
        raise CannotFollow("it is a ScriptModule")
    if isinstance(module, fx.GraphModule):
        raise CannotFollow("it is a GraphModule")
    if "forward" in vars(module):
        raise CannotFollow("its forward was replaced")
    if nn.utils.parametrize.is_parametrized(module):
        raise CannotFollow("it is parametrized")
    if hasattr(module, "__deepcopy__"):
        raise CannotFollow("its class has a __deepcopy__ of its own")


def _known_structure(module: nn.Module) -> type | None:
    """How to fuse a module that a trace cannot follow."""
    cls = type(module)
    if cls.__module__ == "torchvision.models.densenet" and cls.__name__ == "_DenseLayer":
        from .nn.torchvision import FusedDenseLayer, can_be_fused

        return FusedDenseLayer if can_be_fused(module) else None
    return None


# What a layer has taken over ("residual", "activation"), or what a module was taken for.
_Role: TypeAlias = "str | Activation"


@dataclass
class _Steps:
    """What a new forward relies on."""

    # Modules whose children were called, with these.
    holders: list[tuple[nn.Module, list[tuple[str, nn.Module | None]]]]
    roles: list[tuple[nn.Module, _Role]]

    def hold(self) -> bool:
        return all(list(holder._modules.items()) == was for holder, was in self.holders) and all(
            _still(module, role) for module, role in self.roles
        )


def _still(module: nn.Module, role: _Role) -> bool:
    match role:
        case "residual":
            return takes_residual(module)
        case "activation":
            return takes_activation(module)
        case "identity":
            return is_identity(module)
    return activation_of(module) == role


class _Traced(Fused):
    """A module with a new forward, which was traced while it was as it is."""

    _evenkeel_reads: frozenset[str]  # the attributes that the trace looked at
    _evenkeel_steps: dict[bool, _Steps]  # in training and not; the instance's
    _evenkeel_is_stale = False  # an attribute was set that the trace looked at

    def _evenkeel_note(self, name: str) -> None:
        if name in self._evenkeel_reads:
            vars(self)["_evenkeel_is_stale"] = True

    def __setattr__(self, name: str, value: Any) -> None:
        self._evenkeel_note(name)
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        self._evenkeel_note(name)
        super().__delattr__(name)

    def register_buffer(self, name: str, *args: Any, **kwargs: Any) -> None:
        self._evenkeel_note(name)
        cast(Any, super()).register_buffer(name, *args, **kwargs)

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        self._evenkeel_note(name)
        cast(Any, super()).register_parameter(name, param)

    def _evenkeel_is_as_it_was(self) -> bool:
        training: bool = cast(Any, self).training
        return not self._evenkeel_is_stale and self._evenkeel_steps[training].hold()


class _Mode(NamedTuple):
    """What was made of the forward in one mode, train() or eval()."""

    forward: Callable[..., Any]
    code: str
    steps: _Steps
    said: tuple[str, ...]
    reads: frozenset[str]


def _of_mode(module: nn.Module) -> _Mode:
    graph, reads = trace(module)
    try:
        called = [str(n.target) for n in graph.nodes if n.op == "call_module"]
        rewritten = rewrite(module, graph)
        made = fx.GraphModule(module, graph)
    except Exception as error:  # names that a GraphModule has of its own, for example
        raise CannotFollow(f"torch.fx cannot rewrite it: {error}") from error
    holders = [module, *(part for part in module.modules() if not _has_forward(part))]
    for path in called:
        names = path.split(".")
        holders += [module.get_submodule(".".join(names[:i])) for i in range(1, len(names))]
    steps = _Steps(
        [(holder, list(holder._modules.items())) for holder in dict.fromkeys(holders)],
        [(module.get_submodule(path), role) for path, role in rewritten.roles],
    )
    return _Mode(type(made).forward, made.code, steps, rewritten.said, reads)


def _new_forward(module: nn.Module) -> dict[str, Any]:
    """The members of a _Traced class: what is fused may differ between train() and eval()."""
    was = {part: part.training for part in module.modules()}
    modes: dict[bool, _Mode] = {}
    try:
        for training in (True, False):
            for part in was:
                part.training = not training
            module.training = training
            with_others = _of_mode(module)
            for part in was:
                part.training = training
            modes[training] = _of_mode(module)
            if modes[training].code != with_others.code:
                raise CannotFollow("its forward looks at the mode of a module in it")
    finally:
        for part, training in was.items():
            part.training = training
    original = type(module).forward
    train, evaluate = modes[True].forward, modes[False].forward

    @functools.wraps(original)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        # A trace takes all arguments for tensors.
        if not all(isinstance(a, Tensor) for a in (*args, *kwargs.values())):
            return original(self, *args, **kwargs)
        if not self._evenkeel_is_as_it_was():
            return original(self, *args, **kwargs)
        return (train if self.training else evaluate)(self, *args, **kwargs)

    return {
        "forward": forward,
        "_evenkeel_fusions": modes[True].said,
        "_evenkeel_reads": modes[True].reads | modes[False].reads,
        "_evenkeel_steps": {training: mode.steps for training, mode in modes.items()},
    }
