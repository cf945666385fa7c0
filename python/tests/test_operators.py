"""Every operation: results, gradients, layouts, dtypes, and what PyTorch asks of an operator."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from operations import (
    DTYPES,
    IDS,
    LAYOUTS,
    OPERATIONS,
    SHAPES,
    Operation,
    assert_near,
    laid_out,
    with_gradients,
)

import evenkeel_norm.functional as ours

every_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=IDS)


def compare(operation: Operation, x: torch.Tensor, parameters: list[Any]) -> None:
    dy = torch.randn(x.shape, dtype=torch.float64).to(x.dtype)
    actual = with_gradients(operation.ours, x, parameters, dy)
    doubles = [None if p is None else p.double() for p in parameters]
    expected = with_gradients(operation.theirs, x.double(), doubles, dy.double())
    present = [p for p in parameters if p is not None]
    for given, result in zip([x, x, *present], actual, strict=True):
        assert result.dtype == given.dtype
    # A gradient adds up as many terms as there are values to a statistic. In blocks these are
    # merged in double, so that the error grows with the terms' size and not with their number.
    count = x.numel() / x.shape[1]
    around = operation.roundings_around * torch.finfo(x.dtype).eps / 2
    assert_near(actual[0], expected[0], around=around)
    for a, e in zip(actual[1:], expected[1:], strict=True):
        terms = max(1.0, float(e.abs().max())) + float(dy.abs().max()) * count**0.5
        assert_near(a, e, magnitude=4 * terms, around=around)


@every_operation
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_results_and_gradients(operation: Operation, layout: str, dtype: torch.dtype) -> None:
    x = laid_out(torch.randn(SHAPES[4]).to(dtype), layout)
    compare(operation, x, operation.parameters(x))


@every_operation
@pytest.mark.parametrize("rank", SHAPES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_every_rank(operation: Operation, rank: int, layout: str) -> None:
    x = laid_out(torch.randn(SHAPES[rank]), layout)
    compare(operation, x, operation.parameters(x))


@every_operation
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_float_parameters_beside_16_bits(operation: Operation, dtype: torch.dtype) -> None:
    x = torch.randn(SHAPES[4]).to(dtype)
    compare(operation, x, operation.parameters(x, torch.float32))


@every_operation
def test_absent_parameters(operation: Operation) -> None:
    compare(operation, torch.randn(SHAPES[4]), [None, None])


@pytest.mark.parametrize("rank", SHAPES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_the_layout_is_kept(layout: str, rank: int) -> None:
    x = laid_out(torch.randn(SHAPES[rank]), layout)
    for operation in OPERATIONS:
        if operation.per_feature:
            continue
        y, dx, *_ = with_gradients(operation.ours, x, operation.parameters(x), torch.ones_like(x))
        assert y.stride() == x.stride(), operation.name
        assert dx.stride() == x.stride(), operation.name


@every_operation
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradcheck(operation: Operation, layout: str) -> None:
    x = laid_out(torch.randn(2, 4, 3, 3, dtype=torch.float64), layout)
    if layout == "overlapping":  # finite differences of memory that elements share mean nothing
        x = x.clone()
    inputs = [t.requires_grad_() if t is not None else None for t in (x, *operation.parameters(x))]
    assert torch.autograd.gradcheck(operation.ours, inputs)


@every_operation
def test_only_the_wanted_gradients(operation: Operation) -> None:
    x = torch.randn(SHAPES[4])
    parameters = operation.parameters(x)
    everything = with_gradients(operation.ours, x, parameters, torch.ones_like(x))[1:]
    leaves = [x, *(p for p in parameters if p is not None)]
    for wanted in range(len(leaves)):
        inputs = [
            None if t is None else t.detach().requires_grad_(t is leaves[wanted])
            for t in (x, *parameters)
        ]
        operation.ours(*inputs).backward(torch.ones_like(x))
        gradients = [t.grad for t in inputs if t is not None]
        assert [g is not None for g in gradients] == [i == wanted for i in range(len(leaves))]
        assert torch.equal(gradients[wanted], everything[wanted])


@every_operation
def test_no_gradient_changes_no_bit(operation: Operation) -> None:
    x = torch.randn(SHAPES[4])
    parameters = operation.parameters(x)
    recorded = operation.ours(x.detach().requires_grad_(), *parameters)
    assert torch.equal(operation.ours(x, *parameters), recorded)
    with torch.inference_mode():
        assert torch.equal(operation.ours(x, *parameters), recorded)


@pytest.mark.parametrize("function", [ours.layer_norm, ours.rms_norm])
def test_only_the_sum_used(function: Any) -> None:
    x, residual = (torch.randn(2, 3, 5).requires_grad_() for _ in range(2))
    function(x, (5,), residual=residual)[1].sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))
    assert torch.equal(residual.grad, torch.ones_like(x))


@every_operation
def test_second_derivatives_are_refused(operation: Operation) -> None:
    x = torch.randn(SHAPES[4]).requires_grad_()
    y = operation.ours(x, *operation.parameters(x)).square().sum()
    (dx,) = torch.autograd.grad(y, x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"no second derivative.*torch\.nn"):
        dx.square().sum().backward()
    with pytest.raises(RuntimeError, match=r"no second derivative.*torch\.nn"):
        torch.func.grad(
            lambda x: torch.func.grad(lambda x: operation.ours(x, None, None).sum())(x).sum()
        )(x)


@every_operation
def test_forward_mode_is_refused(operation: Operation) -> None:
    x = torch.randn(SHAPES[4])
    parameters = operation.parameters(x)
    with pytest.raises(NotImplementedError, match=r"no forward-mode.*torch\.nn"):
        torch.func.jvp(lambda x: operation.ours(x, *parameters), (x,), (x,))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, x)
        with pytest.raises(NotImplementedError, match=r"no forward-mode.*torch\.nn"):
            operation.ours(dual, *parameters)
        # Without a tangent it is an ordinary call.
        assert torch.equal(operation.ours(x, *parameters), operation.ours(x, *parameters))


@every_operation
def test_vmap_is_refused(operation: Operation) -> None:
    x = torch.randn(4, *SHAPES[4])
    parameters = operation.parameters(x[0])
    with pytest.raises(NotImplementedError, match=r"no vmap rule.*torch\.nn"):
        torch.func.vmap(lambda x: operation.ours(x, *parameters))(x)


@every_operation
def test_reverse_mode_transform(operation: Operation) -> None:
    x = torch.randn(SHAPES[4])
    parameters = operation.parameters(x)
    expected = with_gradients(operation.ours, x, parameters, torch.ones_like(x))[1]
    actual = torch.func.grad(lambda x: operation.ours(x, *parameters).sum())(x)
    assert torch.equal(actual, expected)


def operator_samples(operation: Operation) -> list[tuple[Any, tuple[Any, ...]]]:
    """The calls of raw operators that a forward and a backward of this operation make."""
    calls: list[tuple[Any, tuple[Any, ...]]] = []

    class Recorder(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):
            if func.namespace == "evenkeel_norm":
                copies = [a.detach().clone() if isinstance(a, torch.Tensor) else a for a in args]
                calls.append((func, tuple(copies)))
            return func(*args, **(kwargs or {}))

    for layout in LAYOUTS[:-1]:
        for dtype in DTYPES:
            x = laid_out(torch.randn(SHAPES[4]).to(dtype), layout)
            with Recorder():
                with_gradients(
                    operation.ours, x, operation.parameters(x), torch.randn_like(x, dtype=dtype)
                )
    return calls


@every_operation
def test_opcheck(operation: Operation) -> None:
    calls = operator_samples(operation)
    assert len(calls) >= 2 * len(DTYPES) * (len(LAYOUTS) - 1)
    for operator, args in calls:
        torch.library.opcheck(operator, args)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_opcheck_of_running_statistics(dtype: torch.dtype) -> None:
    operators = torch.ops.evenkeel_norm
    x = torch.randn(SHAPES[4]).to(dtype)
    channels = x.shape[1]

    def running() -> tuple[torch.Tensor, ...]:
        return torch.zeros(channels, dtype=dtype), torch.ones(channels, dtype=dtype)

    def counters() -> tuple[torch.Tensor, ...]:
        return torch.tensor(3), torch.tensor(0)

    for momentum in (0.1, None):
        torch.library.opcheck(
            operators.batch_norm.default,
            (x, None, None, None, *running(), *counters(), momentum, 1e-5, "relu", 0.0, 0.0),
        )
        torch.library.opcheck(
            operators.batch_norm_track.default, (x, *running(), *counters(), momentum)
        )
    torch.library.opcheck(operators.instance_norm.default, (x, None, None, *running(), 0.1, 1e-5))


@pytest.mark.parametrize("activation", [("", 0.0, 0.0), ("silu", 0.0, 0.0)], ids=["none", "silu"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_halves_of_a_batch_norm(layout: str, activation: tuple[Any, ...]) -> None:
    """Two uneven parts of a batch give the results and the gradients of the whole."""
    operators = torch.ops.evenkeel_norm
    x = laid_out(torch.randn(5, 6, 4, 3), layout)
    dy, residual, weight = torch.randn_like(x), torch.randn_like(x), torch.rand(6)
    parts = [slice(0, 2), slice(2, 5)]
    states = [operators.batch_norm_moments(x[part]) for part in parts]
    for state, part in zip(states, parts, strict=True):
        values = x[part].double().transpose(0, 1).flatten(1)
        expected = torch.cat(
            [
                torch.tensor([values.shape[1]], dtype=torch.float64),
                values.mean(1),
                values.var(1, correction=0) * values.shape[1],
            ]
        )
        torch.testing.assert_close(state, expected, rtol=1e-6, atol=1e-6)

    def running() -> tuple[torch.Tensor, ...]:
        return torch.zeros(6), torch.ones(6), torch.tensor(3), torch.tensor(0)

    expected_running = running()
    y, mean, rstd = operators.batch_norm(
        x, weight, None, residual, *expected_running, 0.1, 1e-5, *activation
    )
    for part in parts:
        actual_running = running()
        args = (x[part], weight, None, residual[part], torch.stack(states))
        actual = operators.batch_norm_of_moments(*args, *actual_running, 0.1, 1e-5, *activation)
        for a, e in zip(
            (*actual, *actual_running), (y[part], mean, rstd, *expected_running), strict=True
        ):
            torch.testing.assert_close(a, e, rtol=1e-6, atol=1e-6)
    torch.library.opcheck(
        operators.batch_norm_of_moments.default, (*args, *running(), 0.1, 1e-5, *activation)
    )
    with pytest.raises(RuntimeError, match=r"moments is expected to have the shape"):
        operators.batch_norm_of_moments(*args[:4], states[0], *running(), 0.1, 1e-5, *activation)
    whole = operators.batch_norm_backward(
        dy, x, weight, None, residual, mean, rstd, False, *activation, 15
    )
    args = [(weight, None, residual[part], mean, rstd) for part in parts]
    sums = [
        operators.batch_norm_gradient_sums(dy[p], x[p], *a, *activation, 15)
        for p, a in zip(parts, args, strict=True)
    ]
    total = [sum(s) for s in zip(*sums, strict=True)]
    results = [
        operators.batch_norm_backward_of_sums(dy[p], x[p], *a, *total[:2], 60.0, *activation, 15)
        for p, a in zip(parts, args, strict=True)
    ]
    dx, dresidual = (torch.cat(r) for r in zip(*results, strict=True))
    for a, e in zip((dx, total[2], total[3], dresidual), whole, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-5, atol=1e-5)
    torch.library.opcheck(operators.batch_norm_moments.default, (x,))
    torch.library.opcheck(
        operators.batch_norm_gradient_sums.default, (dy[:2], x[:2], *args[0], *activation, 15)
    )
    torch.library.opcheck(
        operators.batch_norm_backward_of_sums.default,
        (dy[:2], x[:2], *args[0], *total[:2], 60.0, *activation, 15),
    )


def test_autocast_keeps_the_dtypes() -> None:
    for operation in OPERATIONS:
        for dtype in (torch.float32, torch.bfloat16):
            x = torch.randn(SHAPES[4]).to(dtype)
            parameters = operation.parameters(x, torch.float32)
            expected = with_gradients(operation.ours, x, parameters, torch.ones_like(x))
            with torch.autocast("cpu", dtype=torch.bfloat16):
                actual = with_gradients(operation.ours, x, parameters, torch.ones_like(x))
            for a, e in zip(actual, expected, strict=True):
                assert a.dtype == e.dtype
                assert torch.equal(a, e)


def test_a_wider_residual_widens_the_sum() -> None:
    x, residual = torch.randn(2, 3, 8).bfloat16(), torch.randn(2, 3, 8)
    weight = torch.rand(8)
    y, total = ours.layer_norm(x, (8,), weight, residual=residual)
    assert torch.equal(total, x + residual)
    assert torch.equal(y, ours.layer_norm(x + residual, (8,), weight))
    y = ours.batch_norm(x, None, None, training=True, residual=residual)
    assert torch.equal(y, ours.batch_norm(x.float(), None, None, training=True, residual=residual))


def batch(x: torch.Tensor, **more: Any) -> torch.Tensor:
    return ours.batch_norm(x, None, None, training=True, **more)


ERRORS: list[tuple[Any, str]] = [
    (lambda x: batch(x, weight=torch.ones(5)), r"weight has shape \(5\), expected \(6\)"),
    (lambda x: batch(x, weight=torch.ones(6).double()), r"dtype Double, expected Float.*\.to\("),
    (lambda x: batch(x, residual=x[:1]), r"residual has shape .*expand_as"),
    (lambda x: ours.batch_norm(x, None, None), "running statistics are needed"),
    (lambda x: ours.group_norm(x, 4), "groups is 4, expected a divisor of the 6 channels"),
    (lambda x: ours.layer_norm(x, (5,)), r"trailing dimensions to be normalized_shape \(5,\)"),
    (lambda x: ours.layer_norm(x, ()), "one or more"),
    (lambda x: ours.rms_norm(x, (7,), torch.ones(8)), r"weight has shape \(8\)"),
    (lambda x: ours.local_response_norm(x, 4, convention="caffe"), "odd"),
]


@pytest.mark.parametrize(("call", "message"), ERRORS)
def test_errors_name_the_argument_and_the_remedy(call: Any, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        call(torch.randn(SHAPES[4]))


def test_errors_of_one_value_and_of_names() -> None:
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        ours.batch_norm(torch.randn(1, 4), None, None, training=True)
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        ours.instance_norm(torch.randn(2, 4, 1))
    with pytest.raises(ValueError, match="activation is 'gelu', expected one of relu"):
        ours.group_norm(torch.randn(2, 4, 3), 2, activation="gelu")
    with pytest.raises(ValueError, match="expected one of torch, paper"):
        ours.local_response_norm(torch.randn(2, 4, 3), 3, convention="chainer")
