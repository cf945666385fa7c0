"""What a module's forward does: a trace by torch.fx in which all that it calls is one step.

torch.fx runs the forward once with stand-ins for tensors and notes what is done to them. Whatever
else the forward does, and whatever it decides by anything but their values, it takes for granted.
Such forwards are found here and refused, as far as they can be.
"""

from __future__ import annotations

import inspect
import operator
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from torch import fx, nn


class CannotFollow(Exception):
    """A trace does not tell what this forward does."""


class _Proxy(fx.Proxy):
    """With ``a += b`` as what it is: torch.fx takes it for ``a = a + b``."""


def _in_place(function: Callable[..., Any]) -> Callable[[_Proxy, Any], Any]:
    def method(self: _Proxy, other: Any) -> Any:
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
    setattr(_Proxy, f"__{_function.__name__}__", _in_place(_function))


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True

    def proxy(self, node: fx.Node) -> _Proxy:
        return _Proxy(node, self)


_TRUSTED = {*sys.stdlib_module_names, "torch"}


@contextmanager
def _seeing_calls(seen: set[str]) -> Iterator[None]:
    """Notes what a forward asks for that a trace would take for granted."""

    def look(frame: FrameType, event: str, arg: Any) -> None:
        if event != "c_call":
            return
        package = frame.f_globals.get("__name__", "").partition(".")[0]
        if package in _TRUSTED:
            return
        if arg is isinstance or isinstance(getattr(arg, "__self__", None), random.Random):
            seen.add(arg.__name__)

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        yield
    finally:
        sys.setprofile(before)


def trace(module: nn.Module) -> fx.Graph:
    """The trace of a forward. Raises CannotFollow if there is none, or if it would not be true."""
    for parameter in inspect.signature(module.forward).parameters.values():
        if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD or (
            parameter.default is not parameter.empty
        ):
            raise CannotFollow(f"its forward has the optional argument {parameter.name}")
    before = dict(vars(module))
    seen: set[str] = set()
    try:
        with _seeing_calls(seen):
            graph = _Tracer().trace(module)
    except Exception as error:  # whatever the forward does with what is not a tensor
        reason = str(error).partition("\n")[0]
        raise CannotFollow(f"torch.fx cannot trace it: {reason}") from error
    finally:
        after = dict(vars(module))
        vars(module).update(before)
        for name in after.keys() - before.keys():
            del vars(module)[name]
    if seen:
        raise CannotFollow(f"its forward calls {', '.join(sorted(seen))}")
    if any(after.get(name) is not value for name, value in before.items()) or after.keys() - before:
        raise CannotFollow("its forward changes the module")
    return graph
