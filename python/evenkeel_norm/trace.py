"""What a module's forward does: a trace by torch.fx in which all that it calls is one step.

torch.fx runs the forward once with stand-ins for tensors and notes what is done to them. What else
the forward does, or looks at, is lost. Forwards that do so are found here and refused.
"""

from __future__ import annotations

import dis
import inspect
import operator
import pickle
import random
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any, NamedTuple

import torch
import torch.utils.checkpoint
from torch import fx, nn


class CannotFollow(Exception):
    """A trace does not tell what this forward does."""


class Trace(NamedTuple):
    """The steps of a forward, and the names of the module's attributes that it looked at."""

    graph: fx.Graph
    reads: frozenset[str]


def trace(module: nn.Module) -> Trace:
    """The trace of a forward, in the mode that the module and those in it are in.

    Raises CannotFollow if there is none, or if it would not be true.
    """
    _check_arguments(module)
    state = _State(module)
    noticed: set[str] = set()
    reads: set[str] = set()
    try:
        with _noticing(module, noticed), _recording(module, reads):
            graph = _Tracer().trace(module)
    except CannotFollow:
        raise
    except Exception as error:  # whatever the forward does with what is not a tensor
        reason = str(error).partition("\n")[0]
        raise CannotFollow(f"torch.fx cannot trace it: {reason}") from error
    finally:
        changes = state.restore()
    if noticed:
        raise CannotFollow(f"its forward calls {', '.join(sorted(noticed))}")
    if changes:
        raise CannotFollow(f"its forward {changes}")
    names = {name for name in reads if not name.startswith("__")}
    return Trace(graph, frozenset(names - vars(nn.Module()).keys()))


def _check_arguments(module: nn.Module) -> None:
    for parameter in inspect.signature(module.forward).parameters.values():
        if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD:
            raise CannotFollow(f"its forward has the {parameter.kind.description} {parameter.name}")
        if parameter.default is not parameter.empty:
            raise CannotFollow(f"its forward has the optional argument {parameter.name}")


class _State:
    """What a forward might change: attributes of all modules, what is in them, random numbers."""

    def __init__(self, module: nn.Module) -> None:
        # Each with a copy.
        self._dicts: list[tuple[dict[Any, Any], dict[Any, Any]]] = []
        self._others: list[tuple[Any, list[Any]]] = []
        tensors: list[torch.Tensor] = [*module.parameters(), *module.buffers()]
        for part in module.modules():
            for value in (vars(part), *vars(part).values()):
                if isinstance(value, dict):
                    self._dicts.append((value, dict(value)))
                elif isinstance(value, (list, set, deque)):
                    self._others.append((value, list(value)))
                elif isinstance(value, torch.Tensor):
                    tensors.append(value)
        self._versions = [
            (t, t._version) for t in tensors if not nn.parameter.is_lazy(t) and not t.is_inference()
        ]
        self._random = [(get, set_to, get()) for get, set_to in _generators()]

    def restore(self) -> str:
        """Undoes changes, but for the values of tensors; says what they were."""
        changes = ""
        for now, before in self._dicts:
            if now.keys() != before.keys() or any(now[k] is not v for k, v in before.items()):
                changes = "changes the module"
                now.clear()
                now.update(before)
        for items, copied in self._others:
            if list(map(id, items)) != list(map(id, copied)):
                changes = "changes the module"
                items.clear()
                (items.update if isinstance(items, set) else items.extend)(copied)
        if any(tensor._version != version for tensor, version in self._versions):
            changes = "changes tensors of the module"
        for get, set_to, before in self._random:
            if _exactly(get()) != _exactly(before):
                changes = "draws random numbers"
                set_to(before)
        return changes


def _generators() -> list[tuple[Callable[[], Any], Callable[[Any], Any]]]:
    found: list[tuple[Callable[[], Any], Callable[[Any], Any]]] = [
        (random.getstate, random.setstate),
        (torch.get_rng_state, torch.set_rng_state),
    ]
    if numpy := sys.modules.get("numpy"):
        found.append((numpy.random.get_state, numpy.random.set_state))
    return found


def _exactly(state: Any) -> bytes:
    return pickle.dumps(state.tolist() if isinstance(state, torch.Tensor) else state)


@contextmanager
def _recording(module: nn.Module, reads: set[str]) -> Iterator[None]:
    """Notes the names of the attributes of the module that are looked at."""
    cls = type(module)

    def read(self: nn.Module, name: str) -> Any:
        reads.add(name)
        return cls.__getattribute__(self, name)

    members = {"__getattribute__": read, "__module__": cls.__module__}
    module.__class__ = type(cls.__name__, (cls,), members)
    try:
        yield
    finally:
        module.__class__ = cls


# What a stand-in cannot answer, asked by a forward itself.
_ASKED = (
    isinstance,
    issubclass,
    callable,
    hasattr,
    torch.is_grad_enabled,
    torch.is_inference_mode_enabled,
    torch.is_autocast_enabled,
)
# What a trace does not have, done by a forward or by what it calls.
_MODES = (torch._C._set_grad_enabled, torch.set_autocast_enabled)
_CALLED = {
    inspect.unwrap(function).__code__: name
    for function, name in (
        (torch.is_tensor, "torch.is_tensor"),
        (torch.utils.checkpoint.checkpoint, "checkpoint"),
        (torch.inference_mode.__enter__, "inference_mode"),
        (nn.Module.parameters, "parameters()"),
        (nn.Module.buffers, "buffers()"),
        (nn.Module.state_dict, "state_dict()"),
    )
}
_OF_THE_MACHINERY = {*sys.stdlib_module_names, "torch", __package__}


def _asks_for_types(code: CodeType) -> bool:
    return any(
        step.opname == "MATCH_CLASS" or (step.opname == "LOAD_GLOBAL" and step.argval == "type")
        for step in dis.get_instructions(code)
    )


@contextmanager
def _noticing(module: nn.Module, noticed: set[str]) -> Iterator[None]:
    """Notes calls of functions whose result or effect a trace would lose."""

    def look(frame: FrameType, event: str, arg: Any) -> None:
        package = frame.f_globals.get("__name__", "").partition(".")[0]
        is_users = package not in _OF_THE_MACHINERY
        if event == "call":
            code = frame.f_code
            if code in _CALLED:
                noticed.add(_CALLED[code])
            if is_users and _asks_for_types(code):
                noticed.add("type")
            owner = frame.f_locals.get("self")
            if is_users and isinstance(owner, nn.Module) and owner is not module:
                noticed.add(f"{type(owner).__name__}.{code.co_name}")
        elif event == "c_call":
            owner = getattr(arg, "__self__", None)
            if isinstance(owner, type) and issubclass(owner, torch.autograd.Function):
                noticed.add(f"{owner.__name__}.{arg.__name__}")
            elif arg in _MODES or (is_users and arg in _ASKED):
                noticed.add(arg.__name__)

    before = sys.getprofile()
    if before is not None and not callable(before):
        raise CannotFollow("a profiler is running, which optimize cannot give back")
    sys.setprofile(look)
    try:
        yield
    finally:
        sys.setprofile(before)


class _Proxy(fx.Proxy):
    """With ``a += b`` as what it is: torch.fx takes it for ``a = a + b``."""

    def __getattr__(self, name: str) -> fx.proxy.Attribute:
        return _Attribute(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in ("tracer", "node"):
            raise CannotFollow(f"its forward sets {name} of a tensor")
        super().__setattr__(name, value)


class _Attribute(fx.proxy.Attribute):
    """The same, of a stand-in's attribute."""


def _in_place(function: Callable[..., Any]) -> Callable[[fx.Proxy, Any], Any]:
    def method(self: fx.Proxy, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    return method


for _function in (
    operator.iadd,
    operator.iand,
    operator.ifloordiv,
    operator.ilshift,
    operator.imatmul,
    operator.imod,
    operator.imul,
    operator.ior,
    operator.ipow,
    operator.irshift,
    operator.isub,
    operator.itruediv,
    operator.ixor,
):
    for _cls in (_Proxy, _Attribute):
        setattr(_cls, f"__{_function.__name__}__", _in_place(_function))


def _modes() -> tuple[Any, ...]:
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cpu"),
    )


class _Tracer(fx.Tracer):
    proxy_buffer_attributes = True  # else buffers are read, and changed, while tracing

    def __init__(self) -> None:
        super().__init__()
        self._modes = _modes()

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True

    def proxy(self, node: fx.Node) -> _Proxy:
        return _Proxy(node, self)

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        if _modes() != self._modes:
            raise CannotFollow("its forward changes the gradient or autocast mode")
        return super().create_node(*args, **kwargs)

    def create_arg(self, a: Any) -> Any:
        if isinstance(a, (int, float)) and type(a) not in (bool, int, float):
            a = a.item() if hasattr(a, "item") else a  # of NumPy, whose text is no Python
        if isinstance(a, dict) and type(a) is not dict:
            raise CannotFollow(f"its forward makes a {type(a).__name__}")
        return super().create_arg(a)
