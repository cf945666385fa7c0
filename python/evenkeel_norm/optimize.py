"""A model's normalization by evenkeel, with additions and activations in the same pass."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .fusion import fuse
from .nn.layer import Fused
from .replace import (
    Change,
    Summary,
    class_of,
    describe,
    replace_normalization,
    restore_layer,
)
from .trace import CannotFollow


def optimize(
    model: nn.Module,
    example_input: Any = None,
    *,
    except_for: Collection[str | type | nn.Module] | Callable[[str, nn.Module], bool] = (),
) -> Summary:
    """Makes normalization, activation and residual addition one pass each, in place.

    First :func:`replace_normalization`. Then, for each module that calls normalization layers, the
    activation behind a BatchNorm or GroupNorm, and the addition behind a BatchNorm, become part of
    the layer's pass, in training and in inference: ``relu(bn(x) + r)`` is then one operation
    instead of three. The module gets a class derived from its own; layers, names, parameters and
    state_dict stay, and the model trains, saves and loads as before.

    Something is fused only where a trace of the module's forward (torch.fx) shows that the result
    is the same. Modules with such layers whose forward cannot be traced are left, and listed with
    the reason. So are layers and activations with hooks. If modules, hooks or attributes are
    changed later, the module calls its original forward again.

    ``example_input``, a tensor or a tuple of arguments, is put through the model before and after,
    in eval(). If the outputs differ by more than rounding may, all is undone, and RuntimeError
    says by how much.

    ``except_for`` is that of :func:`replace_normalization`. Returns its summary, with what was
    fused; ``restore_normalization`` undoes both.
    """
    args = example_input if isinstance(example_input, tuple) else (example_input,)
    expected = None if example_input is None else _outputs(model, args)
    was = {module: class_of(module) for module in model.modules()}
    try:
        summary = replace_normalization(model, except_for=except_for)
        # Modules before those that hold them: a Sequential then takes what its last layer takes.
        for name, module in reversed(list(model.named_modules())):
            if isinstance(module, Fused):
                continue
            kind = describe(type(module))
            try:
                fusions = fuse(module)
            except CannotFollow as error:
                summary.left.append(Change(name, kind, f"not fused, since {error}"))
                continue
            if fusions:
                summary.changed.append(Change(name, kind, f"fused: {', '.join(fusions)}"))
        if expected is not None:
            difference = _difference(_outputs(model, args), expected)
            if not difference <= _ROUNDING:
                raise RuntimeError(
                    f"optimize changed the outputs by {difference:.2g} of the largest one; the"
                    " model is as it was. Please report it with the model, and use"
                    " replace_normalization instead"
                )
    except BaseException:
        for module, cls in was.items():
            if class_of(module) is not cls:
                restore_layer(module)
        raise
    return summary


# Of the largest output. Rounding grows from layer to layer: usual are 1e-5 in float, and 1e-2 in 16
# bits.
_ROUNDING = 0.05


def _outputs(model: nn.Module, args: tuple[Any, ...]) -> Any:
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            return model(*copy.deepcopy(args))
    finally:
        for module, was in training.items():
            module.training = was


def _difference(actual: Any, expected: Any) -> float:
    """The largest difference in a tensor of the outputs, over the largest finite value of it."""
    if isinstance(expected, Tensor):
        if actual.shape != expected.shape or actual.dtype != expected.dtype:
            return math.inf
        finite = expected.isfinite()
        others = [torch.where(finite, 0, t) for t in (actual, expected)]
        if not torch.equal(others[0].nan_to_num(), others[1].nan_to_num()) or not torch.equal(
            finite, actual.isfinite()
        ):
            return math.inf
        differences = (actual[finite].double() - expected[finite].double()).abs()
        scale = expected[finite].double().abs().max() if differences.numel() else 1.0
        return float(differences.max() / scale) if differences.any() else 0.0
    if isinstance(expected, Mapping):
        actual, expected = list(actual.values()), list(expected.values())
    if isinstance(expected, (list, tuple)):
        pairs = zip(actual, expected, strict=True)
        return max((_difference(a, e) for a, e in pairs), default=0.0)
    if expected is None or isinstance(expected, (bool, int, float, str)):
        return 0.0 if actual == expected else math.inf
    raise TypeError(
        f"optimize cannot compare outputs of type {type(expected).__name__}; leave the example out"
    )
