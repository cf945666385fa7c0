"""Values and shapes at the edges, and threads."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from operations import IDS, OPERATIONS, SHAPES, Operation, assert_near, with_gradients

import evenkeel_norm as ek
import evenkeel_norm.functional as ours

every_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=IDS)
NORMALIZING = [
    operation
    for operation in OPERATIONS
    if operation.roundings_around == 0 and operation.name != "local_response_norm"
]
BY_OWN_STATISTICS = [o for o in NORMALIZING if "given" not in o.name]


@pytest.mark.parametrize("operation", BY_OWN_STATISTICS, ids=lambda o: o.name)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_a_mean_of_a_million(operation: Operation, layout: torch.memory_format) -> None:
    x = (torch.randn(8, 6, 16, 16, dtype=torch.float64) + 1e6).float()
    x = x.contiguous(memory_format=layout)
    # In channels_last PyTorch's GroupNorm loses this mean in double too.
    expected = operation.theirs(x.double().contiguous(), None, None)
    # The values themselves are exact; subtracting a mean that is right to double leaves the error
    # of the last steps alone.
    magnitude = 1e6 if operation.name == "rms_norm" else None
    assert_near(operation.ours(x, None, None), expected, magnitude)


@pytest.mark.parametrize("operation", BY_OWN_STATISTICS, ids=lambda o: o.name)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_gradients_at_a_mean_of_a_million(
    operation: Operation, layout: torch.memory_format
) -> None:
    x = (torch.randn(8, 6, 16, 16, dtype=torch.float64) + 1e6).float()
    x = x.contiguous(memory_format=layout)
    dy = torch.randn_like(x)
    parameters = operation.parameters(x)
    doubles = [None if p is None else p.double() for p in parameters]
    actual = with_gradients(operation.ours, x, parameters, dy)[1:]
    expected = with_gradients(
        operation.theirs, x.double().contiguous(), doubles, dy.double().contiguous()
    )[1:]
    for a, e in zip(actual, expected, strict=True):
        # Sums of up to 2048 terms of size 10 at most, of which the square root adds up.
        assert_near(a, e, magnitude=max(10.0, float(e.abs().max())) * 2048**0.5)


# Of float: their squares leave its range, upward and downward. Of 16 bits: the largest and the
# smallest normal ones, and what is below.
MAGNITUDES = [
    *((torch.float32, scale) for scale in (1e20, 1e37, 1e-20, 1e-30, 1e-37)),
    *((torch.bfloat16, scale) for scale in (1e20, 1e37, 1e-30, 1e-37)),
    *((torch.float16, scale) for scale in (6e4, 1e-4, 1e-6)),
]


@pytest.mark.parametrize("operation", BY_OWN_STATISTICS, ids=lambda o: o.name)
@pytest.mark.parametrize(("dtype", "scale"), MAGNITUDES, ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_any_magnitude(
    operation: Operation, dtype: torch.dtype, scale: float, layout: torch.memory_format
) -> None:
    x = (torch.rand(8, 6, 4, 4, dtype=torch.float64) * 2 - 1).mul(scale).to(dtype)
    x = x.contiguous(memory_format=layout)
    dy = torch.randn_like(x)
    actual = with_gradients(operation.ours, x, [None, None], dy)
    reference = x.double().contiguous(), [None, None], dy.double().contiguous()
    expected = with_gradients(operation.theirs, *reference)
    for a, e in zip(actual, expected, strict=True):
        assert a.isfinite().all()
        assert_near(a, e, magnitude=8 * float(e.abs().max()))


@every_operation
@pytest.mark.parametrize("shape", [(0, 4, 3, 3), (2, 4, 0, 3)], ids=str)
def test_empty(operation: Operation, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    parameters = operation.parameters(x)
    y, dx, *of_parameters = with_gradients(operation.ours, x, parameters, torch.ones_like(x))
    assert y.shape == dx.shape == x.shape
    for gradient in of_parameters:
        assert torch.equal(gradient, torch.zeros_like(gradient))


def test_an_empty_batch_leaves_the_running_statistics() -> None:
    layer = ek.nn.BatchNorm2d(4)
    layer(torch.randn(0, 4, 3, 3))
    assert torch.equal(layer.running_mean, torch.zeros(4))
    assert torch.equal(layer.running_var, torch.ones(4))


def test_one_value_per_channel() -> None:
    layer = ek.nn.BatchNorm1d(4)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        layer(torch.randn(1, 4))
    assert layer.num_batches_tracked == 0
    layer.eval()(torch.randn(1, 4))
    # A group of one value is its own mean.
    y = ours.group_norm(torch.randn(2, 4), 4, bias=torch.arange(4.0))
    assert torch.equal(y, torch.arange(4.0).expand(2, 4))


@every_operation
def test_expanded_inputs_and_gradients(operation: Operation) -> None:
    x = torch.randn(3, 6, 1, 7).expand(SHAPES[4])
    parameters = operation.parameters(x)
    dy = torch.tensor(0.5).expand(SHAPES[4])
    actual = with_gradients(operation.ours, x, parameters, dy)
    expected = with_gradients(operation.ours, x.contiguous(), parameters, dy.contiguous())
    for a, e in zip(actual, expected, strict=True):
        assert torch.equal(a, e)


@every_operation
def test_inputs_are_left_as_they_are(operation: Operation) -> None:
    x = torch.randn(SHAPES[4])
    parameters = operation.parameters(x)
    dy = torch.randn(SHAPES[4])
    given = [t for t in (x, dy, *parameters) if t is not None]
    before = [t.clone() for t in given]
    with_gradients(operation.ours, x, parameters, dy)
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))


@every_operation
def test_threads_change_no_bit(operation: Operation) -> None:
    x = torch.randn(16, 8, 33, 35)
    parameters = operation.parameters(x)
    dy = torch.randn_like(x)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            results.append(with_gradients(operation.ours, x, parameters, dy))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, results[0], strict=True))


def test_a_new_thread_uses_as_many_threads_as_torch() -> None:
    """OpenMP's own setting is per thread, and does not know of torch.set_num_threads in another."""
    x = torch.randn(64, 64, 32, 32)
    expected = ours.batch_norm(x, None, None, training=True)
    before = torch.get_num_threads()
    seen: list[Any] = []

    def work() -> None:
        seen.append(torch.get_num_threads())
        seen.append(ours.batch_norm(x, None, None, training=True))

    try:
        torch.set_num_threads(1)
        worker = threading.Thread(target=work)
        worker.start()
        worker.join()
    finally:
        torch.set_num_threads(before)
    assert seen[0] == 1
    assert torch.equal(seen[1], expected)


def test_many_python_threads_at_once() -> None:
    x = torch.randn(16, 8, 33, 35)
    expected = ours.layer_norm(x, (35,))
    wrong: list[int] = []

    def work() -> None:
        for _ in range(20):
            if not torch.equal(ours.layer_norm(x, (35,)), expected):
                wrong.append(1)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong
