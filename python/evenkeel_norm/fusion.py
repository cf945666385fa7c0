"""Forwards of modules written anew, so that normalization, addition and activation are one pass.

``y = relu(bn(x) + r)`` becomes ``y = bn(x, residual=r, activation=relu)``. The module that calls
the layers gets a class derived from its own, with the new forward. The layers, their names and
their state stay, and whoever calls a layer by itself gets what it always gave.

What a forward does is read from a trace by torch.fx, in which every module that it calls is one
step. Something is fused only where the trace proves that the result is the same: nothing else uses
what lies between, and nothing that happens in between could change it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from . import activation as activations
from .activation import NONE, Activation
from .nn.batch_norm import BatchNorm
from .nn.layer import Fused
from .nn.normalization import GroupNorm
from .trace import CannotFollow, trace


def fuse(module: nn.Module) -> tuple[str, ...]:
    """Fuses what the forward of this module, not of those in it, calls; says what that was.

    Raises CannotFollow if it holds layers that could be fused, but cannot be followed.
    """
    if isinstance(module, _LISTS) or not any(map(takes_activation, _called_by(module))):
        return ()
    reason = _reason_to_leave(module)
    if reason is not None:
        raise CannotFollow(reason)
    cls = type(module)
    members: dict[str, Any] = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    if cls.forward is nn.Sequential.forward:
        # Without a pair it still takes an addition or an activation for its last layer.
        pairs = vars(module)["_pairs"] = _pairs_of(cast(nn.Sequential, module))
        vars(module)["_last"] = (cast(nn.Sequential, module)[-1],)
        members["fusions"] = tuple(f"{i} + {found.name}" for i, (_, _, found) in pairs.items())
        base: type = FusedSequential
    else:
        base = _known_structure(module) or _Traced
        if base is _Traced:
            members["forward"], members["fusions"] = _new_forward(module)
            if not members["fusions"]:
                return ()
    module.__class__ = type(cls.__name__, (base, cls), members)
    return cast(Fused, module).fusions


_LISTS = (nn.ModuleList, nn.ModuleDict)


def _called_by(module: nn.Module) -> Iterator[nn.Module]:
    """What the module's forward may call: its children, and those of its lists."""
    for child in module.children():
        if isinstance(child, _LISTS):
            yield from _called_by(child)
        else:
            yield child


def _reason_to_leave(module: nn.Module) -> str | None:
    if isinstance(module, (torch.jit.ScriptModule, fx.GraphModule)):
        return f"a {type(module).__mro__[-3].__name__} has a forward of its own"
    if "forward" in vars(module):
        return "its forward was replaced"
    if nn.utils.parametrize.is_parametrized(module):
        return "it is parametrized"
    return None


# Which modules take an addition and an activation.


def _is_watched(module: nn.Module) -> bool:
    """Whether hooks see what goes in or comes out."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def _last_layer(module: nn.Module) -> nn.Module:
    """The layer that gives the module's output, as far as it is known."""
    while isinstance(module, FusedSequential) and len(module) > 0 and not _is_watched(module):
        module = module[-1]
    return module


def _computes(layer: nn.Module, cls: type[BatchNorm] | type[GroupNorm]) -> bool:
    return (
        isinstance(layer, cls)
        and type(layer).forward is cls.forward
        and "forward" not in vars(layer)
        and layer.activation == NONE
        and not _is_watched(layer)
    )


def takes_residual(module: nn.Module) -> bool:
    return _computes(_last_layer(module), BatchNorm)


def takes_activation(module: nn.Module) -> bool:
    return takes_residual(module) or _computes(_last_layer(module), GroupNorm)


def _activation_of(module: nn.Module) -> Activation | None:
    found = None if _is_watched(module) else activations.of_module(module)
    return None if found == NONE else found


class FusedSequential(Fused, nn.Sequential):
    """A Sequential that takes a layer and the activation behind it as one.

    It knows the modules that this was found for, so that others which take their places later are
    called as they are.
    """

    # The instance's, so that copies have their own. By the place of a layer: itself, what is behind
    # it, and the activation that this is.
    _pairs: dict[int, tuple[nn.Module, nn.Module, Activation]]
    _last: tuple[nn.Module]

    def restore(self) -> None:
        del self._pairs, self._last
        super().restore()

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
            layer, behind, found = self._pairs.get(i, (None, None, None))
            if module is layer and i < last and modules[i + 1] is behind:
                input = module(input, activation=found)
                done = i + 1
            elif i == last and module is self._last[0]:
                input = module(input, **_given(residual=residual, activation=activation))
                residual = activation = None
            else:
                input = module(input)
        if residual is not None:
            input = input + residual
        return input if activation is None else activations.apply(activation, input)


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


class _Traced(Fused):
    """A module whose new forward was traced while its attributes were what they are.

    If one is set, or another module takes a place, its forward is the original again.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "training" or name.startswith("_"):
            super().__setattr__(name, value)
        else:
            self.restore()
            setattr(self, name, value)

    def add_module(self, name: str, module: nn.Module | None) -> None:
        self.restore()
        cast(nn.Module, self).add_module(name, module)


def _pairs_of(module: nn.Sequential) -> dict[int, tuple[nn.Module, nn.Module, Activation]]:
    modules = list(module)
    pairs = {}
    for i, (layer, behind) in enumerate(pairwise(modules)):
        found = _activation_of(behind)
        if found is not None and takes_activation(layer):
            pairs[i] = (layer, behind, found)
    return pairs


def _known_structure(module: Any) -> type | None:
    """How to fuse a module that a trace cannot follow."""
    cls = type(module)
    if cls.__module__ == "torchvision.models.densenet" and cls.__name__ == "_DenseLayer":
        from .nn.torchvision import FusedDenseLayer

        if all(
            takes_activation(layer) and _activation_of(behind) == Activation("relu")
            for layer, behind in ((module.norm1, module.relu1), (module.norm2, module.relu2))
        ):
            return FusedDenseLayer
    return None


# Forwards from traces.


def _new_forward(module: nn.Module) -> tuple[Callable[..., Any], tuple[str, ...]]:
    """The forward with what is fused, which may differ between train() and eval()."""
    was = module.training
    forwards = {}
    try:
        for training in (True, False):
            module.training = training
            graph = trace(module)
            fusions = _fuse_graph(module, graph)
            made = fx.GraphModule(module, graph)
            forwards[training] = (made.code, type(made).forward, fusions)
    finally:
        module.training = was
    (code, train, fusions), (code_of_eval, evaluate, _) = forwards[True], forwards[False]
    if code == code_of_eval:
        return train, fusions

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return (train if self.training else evaluate)(self, *args, **kwargs)

    return forward, fusions


_FUNCTIONS: dict[Any, str] = {
    F.relu: "relu",
    torch.relu: "relu",
    F.relu6: "relu6",
    F.silu: "silu",
    F.hardswish: "hardswish",
}
_ADDITIONS = (operator.add, torch.add, "add")
_ADDITIONS_IN_PLACE = (operator.iadd, "add_")


def _only_user(node: fx.Node, module: nn.Module) -> tuple[fx.Node | None, list[fx.Node]]:
    """The node that alone uses this one's value, and the identities between them."""
    between: list[fx.Node] = []
    while len(node.users) == 1:
        (node,) = node.users
        if node.op != "call_module":
            return node, between
        user = module.get_submodule(cast(str, node.target))
        if type(user) is not nn.Identity or _is_watched(user):
            return node, between
        between.append(node)
    return None, between


def _activation_at(node: fx.Node | None, module: nn.Module) -> Activation | None:
    if node is None or len(node.args) != 1:
        return None
    if node.op == "call_module":
        return _activation_of(module.get_submodule(cast(str, node.target)))
    if set(node.kwargs) - {"inplace"}:
        return None
    name = _FUNCTIONS.get(node.target)
    if node.op == "call_method" and node.target in ("relu", "relu_"):
        name = "relu"
    return None if name is None else Activation(name)


def _summand(addition: fx.Node | None, value: fx.Node) -> fx.Node | None:
    """What is added to the value, if this is a plain addition that changes nothing else."""
    if addition is None or addition.kwargs or len(addition.args) != 2:
        return None
    first, second = addition.args
    if first is value and addition.target in (*_ADDITIONS, *_ADDITIONS_IN_PLACE):
        other = second
    elif second is value and addition.target in _ADDITIONS:
        other = first
    else:
        return None
    return other if isinstance(other, fx.Node) and other is not value else None


def _may_wait(call: fx.Node, until: fx.Node, module: nn.Module) -> bool:
    """Whether a layer can be called at a later place with the same result."""
    node = call.next
    while node is not until and node.op in ("placeholder", "get_attr"):
        node = node.next
    if node is until:
        return True
    # What a convolution has just made, and nothing else uses, cannot change in between.
    (x,) = call.all_input_nodes
    made_by = module.get_submodule(cast(str, x.target)) if x.op == "call_module" else None
    return (
        isinstance(made_by, (nn.modules.conv._ConvNd, nn.Linear))
        and not _is_watched(made_by)
        and len(x.users) == 1
        and isinstance(module.get_submodule(cast(str, call.target)), BatchNorm)
    )


def _fuse_graph(module: nn.Module, graph: fx.Graph) -> tuple[str, ...]:
    fusions = []
    for call in list(graph.nodes):
        if call.op != "call_module" or len(call.args) != 1 or call.kwargs:
            continue
        layer = module.get_submodule(cast(str, call.target))
        if not takes_activation(layer):
            continue
        end = place = call
        options: dict[str, Any] = {}
        said = str(call.target)
        erased: list[fx.Node] = []
        user, between = _only_user(end, module)
        value = between[-1] if between else end
        residual = _summand(user, value) if takes_residual(layer) else None
        if user is not None and residual is not None and _may_wait(call, user, module):
            options["residual"] = residual
            said += " + addition"
            erased += [*between, user]
            end = place = user
            user, between = _only_user(end, module)
        found = _activation_at(user, module)
        if user is not None and found is not None:
            options["activation"] = found
            said += f" + {found.name}"
            erased += [*between, user]
            end = user
        if end is call:
            continue
        with graph.inserting_before(place):
            fused = graph.call_module(cast(str, call.target), call.args, options)
        end.replace_all_uses_with(fused)
        for node in reversed([call, *erased]):
            graph.erase_node(node)
        fusions.append(said)
    graph.lint()
    return tuple(fusions)
