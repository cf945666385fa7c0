"""The layers beside torch.nn's of the same name."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
from typing import Any

import pytest
import torch
from layers import IMAGES, LAYER_IDS, LAYERS, LayerCase, buffers_of_torch, randomize, run
from torch import nn
from torch.utils.checkpoint import checkpoint

import evenkeel_norm as ek

every_layer = pytest.mark.parametrize("case", LAYERS, ids=LAYER_IDS)
TORCH = tuple(int(part) for part in torch.__version__.split(".")[:2])


def twins(case: LayerCase) -> tuple[Any, Any]:
    """Evenkeel's layer and torch.nn's with the same state."""
    ours, theirs = case.ours(), case.theirs()
    randomize(theirs)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize("name", sorted(ek.nn.__all__))
def test_signature(name: str) -> None:
    ours = inspect.signature(getattr(ek.nn, name)).parameters
    theirs = inspect.signature(getattr(nn, name)).parameters
    added = {"activation", "unit_offset", "convention"} | ({"bias"} if TORCH < (2, 15) else set())
    assert issubclass(getattr(ek.nn, name), getattr(nn, name))
    assert [p for p in ours if p not in added - set(theirs)] == list(theirs)
    for parameter in theirs.values():
        assert ours[parameter.name].default == parameter.default
        assert ours[parameter.name].kind == parameter.kind


@every_layer
def test_text_and_state_are_those_of_torch(case: LayerCase) -> None:
    ours, theirs = case.ours(), case.theirs()
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value)
        assert ours.state_dict()[name].dtype == value.dtype
    theirs.load_state_dict(ours.state_dict())
    ours.load_state_dict(theirs.state_dict())
    assert repr(case.ours(dtype=torch.float64) if case.name != "LocalResponseNorm" else ours)


@every_layer
def test_training_and_evaluation_follow_torch(case: LayerCase) -> None:
    ours, theirs = twins(case)
    for training in (True, True, False):
        ours.train(training)
        theirs.train(training)
        x = torch.randn(case.shape) * 2 + 0.5
        for a, e in zip(run(ours, ours, x), run(theirs, theirs, x), strict=True):
            # Both round some ten times in float; sums of some hundred terms of size 10.
            torch.testing.assert_close(a, e, rtol=1e-5, atol=2e-4 if a.dim() == 1 else 2e-5)
        for (name, a), e in zip(
            buffers_of_torch(ours).items(), buffers_of_torch(theirs).values(), strict=True
        ):
            torch.testing.assert_close(a, e, msg=name)


@every_layer
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_other_dtypes_of_the_whole_layer(case: LayerCase, dtype: torch.dtype) -> None:
    ours, theirs = twins(case)
    ours.to(dtype)
    theirs.to(dtype)
    x = torch.randn(case.shape).to(dtype)
    if case.name == "LocalResponseNorm" and dtype != torch.float64:
        theirs, x_theirs = theirs.float(), x.float()  # PyTorch's own has no 16 bits
    else:
        x_theirs = x
    # Each rounds to the dtype once, PyTorch in places more often: by four roundings.
    eps = 4 * torch.finfo(dtype).eps
    torch.testing.assert_close(ours(x), theirs(x_theirs).to(dtype), rtol=eps, atol=eps)
    for a, e in zip(
        buffers_of_torch(ours).values(), buffers_of_torch(theirs).values(), strict=True
    ):
        assert a.dtype == e.dtype
        torch.testing.assert_close(a, e, rtol=eps, atol=eps)


@every_layer
def test_copies(case: LayerCase) -> None:
    ours, _ = twins(case)
    x = torch.randn(case.shape)
    ours(x)
    saved = io.BytesIO()
    torch.save(ours, saved)
    saved.seek(0)
    copies = [
        copy.deepcopy(ours),
        pickle.loads(pickle.dumps(ours)),
        torch.load(saved, weights_only=False),
    ]
    expected = run(ours, ours, x)
    for twin in copies:
        assert type(twin) is type(ours)
        for a, e in zip(run(twin, twin, x), expected, strict=True):
            assert torch.equal(a, e)
        for a, e in zip(twin.buffers(), ours.buffers(), strict=True):
            assert torch.equal(a, e)
            assert a.data_ptr() != e.data_ptr()


@every_layer
def test_functional_call(case: LayerCase) -> None:
    ours, theirs = twins(case)
    x = torch.randn(case.shape)
    state = {n: t.clone() for n, t in (*theirs.named_parameters(), *theirs.named_buffers())}
    other = case.ours()
    y = torch.func.functional_call(other, state, (x,))
    assert torch.equal(y, ours(x))
    for name, buffer in buffers_of_torch(ours).items():
        assert torch.equal(state[name], buffer), name
    # The layer's own buffers have not moved.
    for name, buffer in buffers_of_torch(other).items():
        assert torch.equal(buffer, case.ours().state_dict()[name]), name


@pytest.mark.parametrize(
    "case", [c for c in LAYERS if [*c.ours().parameters()]], ids=lambda c: c.id
)
def test_gradients_of_a_functional_call(case: LayerCase) -> None:
    ours, _ = twins(case)
    parameters = {n: p.detach() for n, p in ours.named_parameters()}
    x = torch.randn(case.shape)

    def loss(parameters: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.func.functional_call(ours, parameters, (x,)).square().sum()

    gradients = torch.func.grad(loss)(parameters)
    ours(x).square().sum().backward()
    for name, parameter in ours.named_parameters():
        assert torch.equal(gradients[name], parameter.grad), name


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_checkpointing_moves_running_statistics_once(
    use_reentrant: bool, compiled: bool, momentum: float | None
) -> None:
    def make() -> Any:
        torch.manual_seed(0)
        return nn.Sequential(
            ek.nn.BatchNorm2d(6, momentum=momentum),
            nn.Conv2d(6, 6, 1),
            ek.nn.InstanceNorm2d(6, track_running_stats=True),
        )

    plain, checkpointed = make(), make()
    torch._dynamo.reset()

    def call(x: torch.Tensor) -> torch.Tensor:
        return checkpoint(checkpointed, x, use_reentrant=use_reentrant)

    through = torch.compile(call, backend="aot_eager") if compiled else call
    for _ in range(2):
        x = torch.randn(4, 6, 5, 5)
        for a, e in zip(run(checkpointed, through, x), run(plain, plain, x), strict=True):
            torch.testing.assert_close(a, e)
    assert checkpointed[0].num_batches_tracked == 2
    for (name, a), e in zip(checkpointed.named_buffers(), plain.buffers(), strict=True):
        assert torch.equal(a, e), name


def test_data_parallel_without_a_gpu() -> None:
    layer = nn.DataParallel(ek.nn.BatchNorm2d(3))
    layer(torch.randn(4, 3, 2, 2)).sum().backward()
    assert layer.module.num_batches_tracked == 1
    assert layer.module.weight.grad is not None


def test_hooks_run() -> None:
    layer, seen = ek.nn.LayerNorm(5), []
    layer.register_forward_pre_hook(lambda *_: seen.append("before"))
    layer.register_forward_hook(lambda *_: seen.append("after"))
    layer.register_full_backward_hook(lambda *_: seen.append("backward"))
    layer(torch.randn(2, 5).requires_grad_()).sum().backward()
    assert seen == ["before", "after", "backward"]


@pytest.mark.parametrize(
    ("activation", "module"),
    [
        ("relu", nn.ReLU()),
        ("relu6", nn.ReLU6()),
        ("silu", nn.SiLU()),
        ("hardswish", nn.Hardswish()),
        ("leaky_relu", nn.LeakyReLU()),
        ("hardtanh", nn.Hardtanh()),
        (nn.LeakyReLU(0.3), nn.LeakyReLU(0.3)),
        (nn.Hardtanh(-0.5, 0.25), nn.Hardtanh(-0.5, 0.25)),
        (ek.Activation("hardtanh", -0.5, 0.25), nn.Hardtanh(-0.5, 0.25)),
        (nn.Identity(), nn.Identity()),
    ],
    ids=str,
)
def test_activations(activation: Any, module: nn.Module) -> None:
    x = torch.randn(IMAGES["2d"])
    for fused, plain in (
        (ek.nn.BatchNorm2d(6, activation=activation), ek.nn.BatchNorm2d(6)),
        (ek.nn.GroupNorm(2, 6, activation=activation), ek.nn.GroupNorm(2, 6)),
    ):
        randomize(fused)
        plain.load_state_dict(fused.state_dict())
        expected = run(plain, lambda x, plain=plain: module(plain(x)), x)
        for a, e in zip(run(fused, fused, x), expected, strict=True):
            torch.testing.assert_close(a, e, rtol=1e-5, atol=1e-4)
        assert (", activation=" in repr(fused)) == (type(module) is not nn.Identity)


def test_residuals() -> None:
    x, residual = torch.randn(2, *IMAGES["2d"]).unbind()
    batch = ek.nn.BatchNorm2d(6, activation="relu")
    expected = nn.functional.relu(nn.BatchNorm2d(6)(x) + residual)
    torch.testing.assert_close(batch(x, residual), expected)
    for layer, theirs in (
        (ek.nn.LayerNorm(4), nn.LayerNorm(4)),
        (ek.nn.RMSNorm(4), nn.RMSNorm(4)),
        (ek.nn.RMSNorm(4, unit_offset=True), nn.RMSNorm(4)),
    ):
        y, total = layer(x, residual)
        assert torch.equal(total, x + residual)
        torch.testing.assert_close(y, theirs(x + residual))


def statistics(layer: Any) -> list[torch.Tensor]:
    return [t.clone() for t in buffers_of_torch(layer).values()]


def test_three_switches() -> None:
    x = torch.randn(IMAGES["2d"]) + 1
    for by in ("batch", "running"):
        for updates in (False, True):
            for training in (False, True):
                layer = ek.nn.BatchNorm2d(6).train(training)
                layer.normalize_with, layer.update_running = by, updates
                before = statistics(layer)
                expected = nn.functional.batch_norm(
                    x, layer.running_mean.clone(), layer.running_var.clone(), training=by == "batch"
                )
                torch.testing.assert_close(layer(x), expected)
                moved = [
                    not torch.equal(a, b) for a, b in zip(statistics(layer), before, strict=True)
                ]
                assert moved == [updates] * 3


def test_frozen_stays_frozen() -> None:
    layer = ek.nn.BatchNorm2d(6)
    layer(torch.randn(IMAGES["2d"]))
    before = statistics(layer)
    assert layer.freeze() is layer
    layer.train()
    x = torch.randn(IMAGES["2d"]).requires_grad_()
    y = layer(x)
    assert torch.equal(y, copy.deepcopy(layer).unfreeze().eval()(x))
    y.sum().backward()
    assert layer.weight.grad is not None
    assert all(torch.equal(a, b) for a, b in zip(statistics(layer), before, strict=True))
    layer.unfreeze()(x)
    assert layer.num_batches_tracked == 2


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_batch_that_is_not_finite_is_skipped(value: float) -> None:
    layer = ek.nn.BatchNorm1d(3)
    before = statistics(layer)
    x = torch.randn(5, 3)
    x[2, 1] = value
    layer(x)
    assert all(torch.equal(a, b) for a, b in zip(statistics(layer), before, strict=True))
    assert layer.skipped_batches == 1
    assert "skipped_batches" not in layer.state_dict()


@pytest.mark.parametrize("kind", ["BatchNorm", "InstanceNorm"])
@pytest.mark.parametrize("dimensions", ["1d", "2d", "3d"])
def test_lazy(kind: str, dimensions: str) -> None:
    layer = getattr(ek.nn, f"Lazy{kind}{dimensions}")(affine=True, track_running_stats=True)
    x = torch.randn(IMAGES[dimensions])
    y = layer(x)
    cls = getattr(ek.nn, f"{kind}{dimensions}")
    assert type(layer) is cls
    expected = cls(6, affine=True, track_running_stats=True)
    assert torch.equal(y, expected(x))
    assert [n for n, _ in layer.named_buffers()] == [n for n, _ in expected.named_buffers()]


@pytest.mark.parametrize("name", ["BatchNorm2d", "InstanceNorm2d", "GroupNorm"])
def test_without_bias(name: str) -> None:
    args = (2, 6) if name == "GroupNorm" else (6,)
    kwargs = {"affine": True} if name == "InstanceNorm2d" else {}
    layer = getattr(ek.nn, name)(*args, bias=False, **kwargs)
    assert layer.bias is None
    assert layer.weight is not None
    layer(torch.randn(IMAGES["2d"])).sum().backward()


@every_layer
def test_what_is_left_to_torch_behaves_as_torch(case: LayerCase) -> None:
    """The result, or the error, for inputs that evenkeel does not have."""
    ours, theirs = twins(case)
    x = torch.randn(case.shape)
    inputs = [x.int(), x.to(torch.complex64), x.to_sparse(), x.to("meta"), x.bool()]
    for given in inputs:
        outcomes = []
        for layer in (ours, theirs):
            if given.is_meta:
                layer = copy.deepcopy(layer).to("meta")
            try:
                y = layer(given)
                outcomes.append((y.shape, y.dtype, y.device, y.layout))
            except Exception as error:
                outcomes.append(type(error))
        assert outcomes[0] == outcomes[1], given.dtype


def test_on_the_meta_device() -> None:
    with torch.device("meta"):
        layer = ek.nn.BatchNorm2d(6)
    assert layer.skipped_batches.is_meta
    layer.to_empty(device="cpu").reset_parameters()
    layer(torch.randn(IMAGES["2d"]))
    assert layer.num_batches_tracked == 1
