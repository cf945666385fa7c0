"""Rewrites the trace of a forward, so that layers compute what follows them.

``y = relu(bn(x) + r)`` becomes ``y = bn(x, residual=r, activation=relu)``, where the trace proves
that the result is the same: nothing else uses what lies between, and nothing that happens in
between could change it.
"""

from __future__ import annotations

import operator
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from .activation import Activation
from .fusable import activation_of, is_itself, takes_activation, takes_residual
from .nn.batch_norm import BatchNorm

_FUNCTIONS: dict[Any, str] = {
    F.relu: "relu",
    torch.relu: "relu",
    F.relu6: "relu6",
    F.silu: "silu",
    F.hardswish: "hardswish",
}
_METHODS = {"relu": "relu", "relu_": "relu"}


class Rewritten(NamedTuple):
    """What was fused in words, and the modules by the addition or activation they stand for."""

    said: tuple[str, ...]
    roles: tuple[tuple[str, str | Activation], ...]


def _module_of(node: fx.Node, module: nn.Module) -> nn.Module | None:
    return module.get_submodule(cast(str, node.target)) if node.op == "call_module" else None


def is_identity(module: nn.Module) -> bool:
    return type(module) is nn.Identity and is_itself(module)


def _only_user(node: fx.Node, module: nn.Module) -> tuple[fx.Node | None, list[fx.Node]]:
    """The node that alone uses this one's value, and the identities between them."""
    between: list[fx.Node] = []
    while len(node.users) == 1:
        (node,) = node.users
        user = _module_of(node, module)
        if user is None or not is_identity(user):
            return node, between
        between.append(node)
    return None, between


def _activation_at(node: fx.Node | None, module: nn.Module) -> Activation | None:
    if node is None or len(node.args) != 1:
        return None
    called = _module_of(node, module)
    if called is not None:
        return activation_of(called)
    if set(node.kwargs) - {"inplace"}:
        return None
    known: dict[Any, str] = _FUNCTIONS if node.op == "call_function" else _METHODS
    name = known.get(node.target)
    return None if name is None else Activation(name)


def _summand(addition: fx.Node | None, value: fx.Node) -> fx.Node | None:
    """What is added to the value, if this is a plain addition that changes nothing else."""
    if addition is None or addition.kwargs or len(addition.args) != 2:
        return None
    first, second = addition.args
    if first is value and (_adds(addition) or _adds_in_place(addition)):
        other = second
    elif second is value and _adds(addition):
        other = first
    else:
        return None
    return other if isinstance(other, fx.Node) and other is not value else None


def _adds(node: fx.Node) -> bool:
    return (node.op == "call_function" and node.target in (operator.add, torch.add)) or (
        node.op == "call_method" and node.target == "add"
    )


def _adds_in_place(node: fx.Node) -> bool:
    return (node.op == "call_function" and node.target is operator.iadd) or (
        node.op == "call_method" and node.target == "add_"
    )


def in_dtype_of(summand: Any, x: Tensor) -> Any:
    """What ``y += summand`` adds, y having the dtype of x, which stays."""
    if isinstance(summand, Tensor) and summand.dtype != x.dtype:
        return summand.to(x.dtype)
    return summand


def _may_wait(call: fx.Node, until: fx.Node, module: nn.Module) -> bool:
    """Whether a layer can be called at a later place with the same result."""
    between = []
    node = call.next
    while node is not until:
        if node.op not in ("placeholder", "get_attr"):
            between.append(node)
        node = node.next
    if not between:
        return True
    # What a convolution has just made, and nothing else uses, cannot change in between; and the
    # layer's running statistics move in the same order if nothing in between has them.
    layer = _module_of(call, module)
    (x,) = call.all_input_nodes
    made_by = _module_of(x, module)
    return (
        isinstance(layer, BatchNorm)
        and isinstance(made_by, (nn.modules.conv._ConvNd, nn.Linear))
        and is_itself(made_by)
        and len(x.users) == 1
        and not any(
            called is not None and any(part is layer for part in called.modules())
            for called in (_module_of(node, module) for node in between)
        )
    )


def rewrite(module: nn.Module, graph: fx.Graph) -> Rewritten:
    """Fuses what can be in the graph, which is one of the module's forward."""
    said: list[str] = []
    roles: list[tuple[str, str | Activation]] = []
    for call in list(graph.nodes):
        layer = _module_of(call, module)
        if layer is None or len(call.args) != 1 or call.kwargs or not takes_activation(layer):
            continue
        end = place = call
        options: dict[str, Any] = {}
        erased: list[fx.Node] = []
        words = str(call.target)
        role = "activation"
        user, between = _only_user(end, module)
        value = between[-1] if between else end
        residual = _summand(user, value) if takes_residual(layer) else None
        if user is not None and residual is not None and _may_wait(call, user, module):
            if _adds_in_place(user):
                with graph.inserting_before(user):
                    residual = graph.call_function(in_dtype_of, (residual, call.args[0]))
            options["residual"] = residual
            words += " + addition"
            role = "residual"
            erased += [*between, user]
            end = place = user
            user, between = _only_user(end, module)
        found = _activation_at(user, module)
        if user is not None and found is not None:
            options["activation"] = found
            words += f" + {found.name}"
            erased += [*between, user]
            if user.op == "call_module":
                roles.append((str(user.target), found))
            end = user
        if end is call:
            continue
        with graph.inserting_before(place):
            fused = graph.call_module(str(call.target), call.args, options)
        end.replace_all_uses_with(fused)
        for node in reversed([call, *erased]):
            between_them = _module_of(node, module)
            if between_them is not None and is_identity(between_them):
                roles.append((str(node.target), "identity"))
            graph.erase_node(node)
        said.append(words)
        roles.append((str(call.target), role))
    graph.lint()
    return Rewritten(tuple(said), tuple(roles))
