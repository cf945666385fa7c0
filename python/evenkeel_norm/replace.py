"""Turns the normalization layers of a model into evenkeel's, in place, and back.

A layer stays the object that it is and only changes its class. So its parameters, buffers, hooks,
flags and parametrizations stay, as does every reference to it.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from . import nn as ours
from .nn.layer import Fused, Layer

# The layers of other packages that evenkeel knows: where they are defined, and here.
_FOREIGN = {
    "timm.layers.norm_act": ("timm", ("BatchNormAct2d", "GroupNormAct")),
    "timm.layers.norm": ("timm", ("LayerNorm", "GroupNorm", "LayerNorm2d", "RmsNorm")),
    "torchvision.models.convnext": ("torchvision", ("LayerNorm2d",)),
    "torchvision.ops.misc": ("torchvision", ("FrozenBatchNorm2d",)),
}
_NORMALIZATIONS = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.RMSNorm,
    nn.GroupNorm,
    nn.LocalResponseNorm,
)


@dataclass(frozen=True)
class Change:
    """A layer of the model: its name, its class, and what was done."""

    name: str
    layer: str
    result: str


@dataclass
class Summary:
    """What replace_normalization or restore_normalization did; prints as a table."""

    changed: list[Change] = field(default_factory=list)
    left: list[Change] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.changed)

    def __str__(self) -> str:
        rows = Counter((c.layer, c.result) for c in self.changed)
        lines = [(layer, str(count), result) for (layer, result), count in rows.items()]
        lines += [(f"{c.layer} {c.name}", "", f"left: {c.result}") for c in self.left]
        if not lines:
            return "no normalization layers"
        widths = [max(len(line[column]) for line in lines) for column in (0, 1)]
        return "\n".join(
            f"{layer:{widths[0]}}  {count:>{widths[1]}}  {result}" for layer, count, result in lines
        )


def class_of(layer: Any) -> type:
    """The class as it was written: torch.nn.utils.parametrize derives one of its own from it."""
    return torch.nn.utils.parametrize.type_before_parametrizations(layer)


def _set_class(layer: Any, cls: type) -> None:
    if torch.nn.utils.parametrize.is_parametrized(layer):
        type(layer).__bases__ = (cls,)
    else:
        layer.__class__ = cls


def _replacement(theirs: type) -> type | None:
    """Evenkeel's class for exactly this one."""
    module, name = theirs.__module__, theirs.__qualname__
    if module.startswith("torch.nn.modules."):
        found = getattr(ours, name, None)
        return found if found is not None and issubclass(found, theirs) else None
    package, names = _FOREIGN.get(module, ("", ()))
    if name not in names:
        return None
    return getattr(importlib.import_module(f"{ours.__name__}.{package}"), name, None)


def _original(cls: type) -> type:
    """The class that one of evenkeel's replaces: the first of its bases that is not evenkeel's."""
    return next(base for base in cls.__mro__ if not base.__module__.startswith(f"{__package__}."))


def describe(cls: type) -> str:
    package = cls.__module__.partition(".")[0]
    return f"{'torch.nn' if package == 'torch' else package}.{cls.__qualname__}"


def _reason_to_leave(layer: nn.Module) -> str:
    if "forward" in vars(layer):
        return "its forward was replaced"
    if isinstance(layer, nn.SyncBatchNorm):
        return "evenkeel has no SyncBatchNorm"
    return "a class that evenkeel does not know"


def replace_normalization(
    model: nn.Module,
    *,
    except_for: Collection[str | type | nn.Module] | Callable[[str, nn.Module], bool] = (),
) -> Summary:
    """Turns every normalization layer of the model that evenkeel knows into evenkeel's, in place.

    These are the layers of torch.nn, ``BatchNormAct2d``, ``GroupNormAct`` and the plain
    normalizations of timm, and ``FrozenBatchNorm2d`` and ``LayerNorm2d`` of torchvision. Subclasses
    that evenkeel does not know are left as they are and listed, since it could not keep what they
    add.

    ``except_for`` names layers to leave: by name, by class, as modules, or by a function of name
    and module.

    Returns a summary that prints as a table. ``restore_normalization`` undoes it.
    """
    summary = Summary()
    if callable(except_for):
        is_exception = except_for
    else:
        exceptions = list(except_for)
        types = tuple(e for e in exceptions if isinstance(e, type))

        def is_exception(name: str, layer: nn.Module) -> bool:
            return (
                name in (e for e in exceptions if isinstance(e, str))
                or isinstance(layer, types)
                or any(layer is e for e in exceptions)
            )

    for name, layer in model.named_modules():
        if isinstance(layer, Layer):
            continue
        theirs = class_of(layer)
        cls = _replacement(theirs)
        if cls is None and not isinstance(layer, _NORMALIZATIONS):
            continue
        if is_exception(name, layer):
            summary.left.append(Change(name, describe(theirs), "an exception of the caller"))
        elif cls is None or "forward" in vars(layer):
            summary.left.append(Change(name, describe(theirs), _reason_to_leave(layer)))
        else:
            _set_class(layer, cls)
            layer._adopt()  # type: ignore[operator]
            summary.changed.append(Change(name, describe(theirs), describe(cls)))
    return summary


def restore_normalization(model: nn.Module) -> Summary:
    """Turns evenkeel's layers of the model back into those that they replace, in place.

    What torch.nn's do not have is lost: an activation of the layer, the switches of a BatchNorm. A
    layer with a convention or offset of its own is left and listed. Modules that ``optimize`` fused
    are what they were.
    """
    summary = Summary()
    for name, layer in model.named_modules():
        if isinstance(layer, (Layer, Fused)):
            cls = class_of(layer)
            try:
                restore_layer(layer)
            except TypeError as error:
                summary.left.append(Change(name, describe(cls), str(error)))
            else:
                summary.changed.append(Change(name, describe(cls), describe(class_of(layer))))
    return summary


def restore_layer(layer: Any) -> None:
    """One of evenkeel's layers, or a fused module, is again what it was. TypeError says why not."""
    cls = class_of(layer)
    if isinstance(layer, Fused):
        for name in ("_evenkeel_steps", "_evenkeel_is_stale"):
            vars(layer).pop(name, None)
        _set_class(layer, layer._evenkeel_original())
        return
    layer._release()
    _set_class(layer, _original(cls))
