"""PyTorch's own test inputs, run through evenkeel and compared with PyTorch in float64."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from operations import assert_near
from torch import Tensor, nn
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.common_modules import module_db
from torch.utils._python_dispatch import TorchDispatchMode

import evenkeel_norm as ek

NAMES = ("batch", "layer", "rms", "group", "instance", "local_response")
OPS = [op for op in op_db if op.name in {f"nn.functional.{name}_norm" for name in NAMES}]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
MODULES = [
    module
    for module in module_db
    if module.module_cls.__name__ in ek.nn.__all__ and module.module_cls.__name__[:4] != "Lazy"
]


def as_double(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().double().requires_grad_(value.requires_grad)
    if isinstance(value, (list, tuple)):
        return type(value)(as_double(item) for item in value)
    return {k: as_double(v) for k, v in value.items()} if isinstance(value, dict) else value


def tensors(*values: Any) -> list[Tensor]:
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += tensors(*value)
        elif isinstance(value, dict):
            found += tensors(*value.values())
    return found


def compare(ours: Any, theirs: Any, leaves: list[Tensor], leaves_of_double: list[Tensor]) -> None:
    """Results, gradients and what was moved in place, of a call here and in float64."""
    y, expected = ours(), theirs()
    pairs = [(y.detach(), expected.detach())]
    if y.requires_grad:
        dy = torch.randn(y.shape, dtype=torch.float64).to(y.dtype)
        wanted = [i for i, leaf in enumerate(leaves) if leaf.requires_grad]
        gradients = torch.autograd.grad(y, [leaves[i] for i in wanted], dy)
        doubles = torch.autograd.grad(expected, [leaves_of_double[i] for i in wanted], dy.double())
        pairs += zip(gradients, doubles, strict=True)
    pairs += [(a.detach(), e.detach()) for a, e in zip(leaves, leaves_of_double, strict=True)]
    for actual, reference in pairs:
        nan = reference.isnan()
        assert torch.equal(actual.isnan(), nan)
        finite = reference.masked_fill(nan, 0)
        # Values up to 9 are summed over at most some hundred elements: 64 roundings of the largest
        # result or of 100, in the arithmetic's dtype.
        assert_near(actual.masked_fill(nan, 0), finite, max(100.0, float(finite.abs().sum())), 64)


class Uses(TorchDispatchMode):
    """Whether an operator of evenkeel's is called within."""

    def __init__(self) -> None:
        super().__init__()
        self.evenkeel = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.evenkeel |= func.namespace == "evenkeel_norm"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("op", OPS, ids=lambda op: f"{op.name[14:]}-{op.variant_test_name}")
def test_samples(op: Any, dtype: torch.dtype, record_property: Any) -> None:
    ours = getattr(ek.functional, op.name.removeprefix("nn.functional."))
    samples = [
        *op.sample_inputs("cpu", dtype, requires_grad=True),
        *op.reference_inputs("cpu", dtype, requires_grad=False),
    ]
    left = 0
    for sample in samples:
        copies = copy.deepcopy((sample.input, sample.args, sample.kwargs))
        with Uses() as uses, torch.no_grad():
            y = ours(copies[0], *copies[1], **copies[2])
        if uses.evenkeel:
            doubled = [as_double(v) for v in (sample.input, sample.args, sample.kwargs)]
            compare(
                lambda s=sample: ours(s.input, *s.args, **s.kwargs),
                lambda d=doubled: op.op(d[0], *d[1], **d[2]),
                tensors(sample.input, sample.args, sample.kwargs),
                tensors(*doubled),
            )
            continue
        # Only a negative eps or momentum, and a BatchNorm of no channels at all, are PyTorch's.
        assert min(sample.kwargs.get(n, 0) for n in ("eps", "momentum")) < 0 or y.dim() == 1
        expected = op.op(sample.input, *sample.args, **sample.kwargs)
        assert torch.equal(y.nan_to_num(), expected.nan_to_num())
        left += 1
    assert len(samples) >= 12
    assert left <= len(samples) / 2
    record_property("samples", len(samples))
    record_property("left_to_torch", left)


@pytest.mark.parametrize("op", OPS, ids=lambda op: f"{op.name[14:]}-{op.variant_test_name}")
def test_error_inputs(op: Any) -> None:
    ours = getattr(ek.functional, op.name.removeprefix("nn.functional."))
    for error in op.error_inputs("cpu") if op.error_inputs_func else []:
        sample = error.sample_input
        if op.name.endswith("group_norm") and isinstance(sample.input, Tensor):
            shape, groups = sample.input.shape, sample.args[0]
            if len(shape) > 1 and groups > 0 and shape[1] % groups == 0:
                # One value to a group is no error here: it is the same whatever the batch.
                assert ours(sample.input, *sample.args, **sample.kwargs).shape == shape
                continue
        with pytest.raises(error.error_type):
            ours(sample.input, *sample.args, **sample.kwargs)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_module_inputs(module: Any, dtype: torch.dtype, training: bool) -> None:
    cls = module.module_cls
    inputs = module.module_inputs_func(
        module, device="cpu", dtype=dtype, requires_grad=True, training=training
    )
    assert len(inputs) >= 3
    for given in inputs:
        args, kwargs = given.constructor_input.args, given.constructor_input.kwargs
        ours = getattr(ek.nn, cls.__name__)(*args, **kwargs).to(dtype).train(training)
        theirs = cls(*args, **kwargs).double().train(training)
        assert repr(ours) == repr(theirs)
        theirs.load_state_dict(ours.state_dict())
        x = given.forward_input.args[0]
        double = as_double(x)
        skipped = {"skipped_batches", "num_batches_tracked"}
        buffers = [b for n, b in ours.named_buffers() if n not in skipped]
        doubles = [b for n, b in theirs.named_buffers() if n not in skipped]
        compare(
            lambda ours=ours, x=x: ours(x),
            lambda theirs=theirs, double=double: theirs(double),
            [x, *ours.parameters(), *buffers],
            [double, *theirs.parameters(), *doubles],
        )


@pytest.mark.parametrize(
    "module", [m for m in MODULES if m.module_error_inputs_func], ids=lambda module: module.name
)
def test_module_error_inputs(module: Any) -> None:
    cls: type[nn.Module] = getattr(ek.nn, module.module_cls.__name__)
    errors = module.module_error_inputs_func(
        module, device="cpu", dtype=torch.float32, requires_grad=False, training=True
    )
    assert errors
    for error in errors:
        given = error.module_error_input

        def call(given: Any = given) -> None:
            layer = cls(*given.constructor_input.args, **given.constructor_input.kwargs)
            layer(*given.forward_input.args)

        with pytest.raises(error.error_type, match=error.error_regex):
            call()
