"""torch.compile and torch.export: no graph breaks, the same bits as eager."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from operations import IDS, OPERATIONS, SHAPES, Operation, laid_out, with_gradients
from torch import nn

import evenkeel_norm as ek

# Alone, an operation leaves the compiler nothing to generate code for, so its bits must be eager's.
ALONE = [operation for operation in OPERATIONS if operation.roundings_around == 0]


@pytest.fixture(autouse=True)
def _fresh_compiler() -> None:
    torch._dynamo.reset()


@pytest.mark.parametrize("operation", ALONE, ids=[operation.name for operation in ALONE])
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "transposed"])
def test_same_bits(operation: Operation, layout: str, dynamic: bool) -> None:
    compiled = torch.compile(operation.ours, fullgraph=True, dynamic=dynamic)
    for dtype in (torch.float32, torch.bfloat16):
        for samples in (3, 5):
            x = laid_out(torch.randn(samples, *SHAPES[4][1:]).to(dtype), layout)
            parameters = operation.parameters(x)
            dy = torch.randn_like(x)
            expected = with_gradients(operation.ours, x, parameters, dy)
            actual = with_gradients(compiled, x, parameters, dy)
            for a, e in zip(actual, expected, strict=True):
                assert torch.equal(a, e)
                assert a.stride() == e.stride()


def test_dynamic_shapes_compile_once() -> None:
    counter = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(
        lambda x: ek.functional.layer_norm(x, x.shape[-1:]),
        fullgraph=True,
        dynamic=True,
        backend=counter,
    )
    for rows in (3, 5, 9):
        compiled(torch.randn(rows, 16))
    assert counter.frame_count == 1


@pytest.mark.parametrize("operation", OPERATIONS, ids=IDS)
def test_traced_with_what_is_around(operation: Operation) -> None:
    x = torch.randn(SHAPES[4])
    parameters = operation.parameters(x)
    dy = torch.randn_like(x)
    expected = with_gradients(operation.ours, x, parameters, dy)
    compiled = torch.compile(operation.ours, fullgraph=True, backend="aot_eager")
    for a, e in zip(with_gradients(compiled, x, parameters, dy), expected, strict=True):
        assert torch.equal(a, e)


class Network(nn.Module):
    """Every layer that has running statistics, or something fused."""

    def __init__(self) -> None:
        super().__init__()
        self.batch = ek.nn.BatchNorm2d(4, activation="relu")
        self.average = ek.nn.BatchNorm2d(4, momentum=None)
        self.frozen = ek.nn.BatchNorm2d(4).freeze()
        self.tracking = ek.nn.BatchNorm2d(4)
        self.tracking.normalize_with = "running"
        self.instance = ek.nn.InstanceNorm2d(4, track_running_stats=True)
        self.group = ek.nn.GroupNorm(2, 4, activation="silu")
        self.layer = ek.nn.LayerNorm(6)
        self.rms = ek.nn.RMSNorm(6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.average(self.batch(x), residual=x)
        x = self.group(self.instance(self.tracking(self.frozen(x))))
        x, total = self.layer(x, residual=x)
        return self.rms(x, residual=total)[0]


def train(network: nn.Module, call: Any, steps: int = 3) -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        x = torch.randn(3, 4, 5, 6, generator=generator)
        call(x).square().sum().backward()


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_running_statistics_of_a_network(dynamic: bool) -> None:
    eager, compiled = Network(), Network()
    train(eager, eager)
    train(compiled, torch.compile(compiled, fullgraph=True, dynamic=dynamic))
    assert eager.batch.num_batches_tracked == 3
    for (name, a), (_, e) in zip(compiled.named_buffers(), eager.named_buffers(), strict=True):
        assert torch.equal(a, e), name
    # Sums of the gradients of what is around may be added in another order.
    for (name, a), (_, e) in zip(
        compiled.named_parameters(), eager.named_parameters(), strict=True
    ):
        if a.grad is not None:
            torch.testing.assert_close(a.grad, e.grad, msg=name)
    compiled.eval()
    eager.eval()
    x = torch.randn(2, 4, 5, 6)
    torch.testing.assert_close(torch.compile(compiled, fullgraph=True)(x), eager(x))


def test_a_batch_that_is_not_finite_moves_nothing() -> None:
    layer = ek.nn.BatchNorm1d(2)
    compiled = torch.compile(layer, fullgraph=True)
    for x in (torch.randn(4, 2), torch.full((4, 2), torch.nan), torch.randn(4, 2)):
        compiled(x)
    assert layer.num_batches_tracked == 2
    assert layer.skipped_batches == 1
    assert layer.running_var.isfinite().all()


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_export_keeps_the_operators(training: bool) -> None:
    network = Network().train(training)
    x = torch.randn(3, 4, 5, 6)
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(network, (x,), dynamic_shapes=({0: batch},))
    targets = [str(node.target) for node in program.graph.nodes]
    for name in ("batch_norm", "group_norm", "add_layer_norm", "add_rms_norm"):
        assert any(target.startswith(f"evenkeel_norm.{name}") for target in targets), name
    x = torch.randn(5, 4, 5, 6)
    expected = Network().train(training)(x)
    assert torch.equal(program.module()(x), expected)
