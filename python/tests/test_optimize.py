"""optimize: what is fused computes the same, and what may not be fused is left."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import timm
import torch
import torchvision
from fused_models import CHANNELS, Block, assert_same, fusions, step
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import evenkeel_norm as ek


class UNetBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(2, 8), nn.GroupNorm(2, 8)
        self.conv1, self.conv2 = (nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(self.act(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h)))


IMAGE = (2, 3, 64, 64)
# How to make the model, its input, how many layers it has and how many of them are fused.
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int, int]] = {
    "resnet18": (lambda: torchvision.models.resnet18(num_classes=5), IMAGE, 20, 17),
    "resnet50": (lambda: torchvision.models.resnet50(num_classes=5), IMAGE, 53, 49),
    "mobilenet_v2": (
        lambda: torchvision.models.mobilenet_v2(num_classes=5, dropout=0.0),
        IMAGE,
        52,
        45,
    ),
    "mobilenet_v3_small": (
        lambda: torchvision.models.mobilenet_v3_small(num_classes=5, dropout=0.0),
        IMAGE,
        34,
        29,
    ),
    "efficientnet_b0": (
        lambda: torchvision.models.efficientnet_b0(
            num_classes=5, dropout=0.0, stochastic_depth_prob=0.0
        ),
        IMAGE,
        49,
        33,
    ),
    "densenet121": (lambda: torchvision.models.densenet121(num_classes=5), IMAGE, 121, 121),
    "densenet, checkpointed": (
        lambda: torchvision.models.DenseNet(8, (2, 2), 16, num_classes=5, memory_efficient=True),
        IMAGE,
        11,
        11,
    ),
    "googlenet": (
        lambda: torchvision.models.googlenet(
            num_classes=5, aux_logits=False, init_weights=False, dropout=0.0
        ),
        IMAGE,
        57,
        57,
    ),
    "timm's resnet26": (lambda: timm.create_model("resnet26", num_classes=5), IMAGE, 29, 25),
    "unet block": (UNetBlock, (2, 8, 16, 16), 2, 2),
}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_models(name: str, layout: torch.memory_format) -> None:
    make, shape, layers, fused = MODELS[name]
    theirs = make().to(memory_format=layout)
    ours = copy.deepcopy(theirs)
    if "checkpointed" in name:  # torch.nn's running statistics then move twice
        ek.replace_normalization(theirs)
    state, tensors = list(ours.state_dict()), {id(p) for p in ours.parameters()}
    summary = ek.optimize(ours)
    assert not summary.left
    assert sum(isinstance(m, ek.nn.layer.Layer) for m in ours.modules()) == layers
    assert sum(len(f) for f in fusions(ours).values()) == fused
    assert list(ours.state_dict()) == state
    assert {id(p) for p in ours.parameters()} == tensors
    assert_same(ours, theirs, torch.randn(shape).contiguous(memory_format=layout))


def changed_in_place(s: Block, x: Tensor) -> Tensor:
    y = s.relu(s.bn(x)) * 2
    same = y
    y += x
    return same * 3


FUSED: dict[str, tuple[Callable[[Block, Tensor], Tensor], str]] = {
    "what is in place stays so": (changed_in_place, "bn + relu"),
    "module": (lambda s, x: s.relu(s.bn(x)), "bn + relu"),
    "function": (lambda s, x: F.silu(s.bn(x)), "bn + silu"),
    "inplace": (lambda s, x: F.relu6(s.bn(x), inplace=True), "bn + relu6"),
    "torch.relu": (lambda s, x: torch.relu(s.bn(x)), "bn + relu"),
    "method": (lambda s, x: s.bn(x).relu_(), "bn + relu"),
    "identities": (lambda s, x: s.relu(s.identity(s.bn(x))), "bn + relu"),
    "addition": (lambda s, x: s.bn(x) + x, "bn + addition"),
    "addition from the left": (lambda s, x: x + s.bn(x), "bn + addition"),
    "torch.add": (lambda s, x: F.hardswish(torch.add(s.bn(x), x)), "bn + addition + hardswish"),
    "addition in place": (lambda s, x: s.bn(s.conv(x)).add_(x).relu(), "bn + addition + relu"),
    "the residual is computed later": (
        lambda s, x: s.relu(sum_of(s.bn(s.conv(x)), s.dropout(x * 2))),
        "bn + addition + relu",
    ),
    "a number of NumPy": (
        lambda s, x: s.relu(s.bn(x)) * (1 / numpy.sqrt(2.0)),
        "bn + relu",
    ),
    "a residual that is broadcast": (
        lambda s, x: s.relu(s.bn(s.conv(x)) + x.mean((2, 3), keepdim=True)),
        "bn + addition + relu",
    ),
    "an input that is broadcast": (
        lambda s, x: s.relu(s.bn(x.mean((2, 3), keepdim=True)) + x),
        "bn + addition + relu",
    ),
}


def sum_of(a: Tensor, b: Tensor) -> Tensor:
    a += b
    return a


@pytest.mark.parametrize("name", FUSED)
def test_fused(name: str) -> None:
    forward, said = FUSED[name]
    theirs = Block(forward)
    ours = copy.deepcopy(theirs)
    ek.optimize(ours)
    assert fusions(ours) == {"": (said,)}
    assert_same(ours, theirs, torch.randn(3, CHANNELS, 4, 5))


def used_twice(s: Block, x: Tensor) -> Tensor:
    y = s.bn(x)
    return s.relu(y) * y.detach()


def something_happens_in_between(s: Block, x: Tensor) -> Tensor:
    y = s.bn(x)
    return y + x.clone().neg_()


def changed_under_another_name(s: Block, x: Tensor) -> Tensor:
    y = s.bn(s.conv(x))
    same = y
    y += x
    return s.relu(s.dropout(same)) + y


def other_is_mutated(s: Block, x: Tensor) -> Tensor:
    r = x * 2
    r += s.bn(x)
    return r * r


LEFT: dict[str, Callable[[Block, Tensor], Tensor]] = {
    "used twice": used_twice,
    "something happens in between": something_happens_in_between,
    "changed under another name": changed_under_another_name,
    "the other summand is changed": other_is_mutated,
    "scaled addition": lambda s, x: torch.add(s.bn(x), x, alpha=2),
    "a number": lambda s, x: s.bn(x) + 1,
    "itself": lambda s, x: (lambda y: y + y)(s.bn(x)),
    "a module by that name": lambda s, x: s.relu(s.add(s.bn(x), x)),
    "dropout between": lambda s, x: s.relu(s.dropout(s.bn(x))),
    "another activation": lambda s, x: F.gelu(s.bn(x)),
}


@pytest.mark.parametrize("name", LEFT)
def test_left(name: str) -> None:
    theirs = Block(LEFT[name])
    ours = copy.deepcopy(theirs)
    summary = ek.optimize(ours)
    assert not summary.left
    assert fusions(ours) == {}
    assert_same(ours, theirs, torch.randn(3, CHANNELS, 4, 5))


def test_a_layer_that_is_called_twice_moves_in_order() -> None:
    theirs = Block(lambda s, x: s.relu(s.bn(s.conv(x)) + s.bn(s.conv(x * 3))))
    ours = copy.deepcopy(theirs)
    ek.optimize(ours)
    assert fusions(ours) == {"": ("bn + addition + relu",)}
    assert_same(ours, theirs, torch.randn(3, CHANNELS, 4, 5))


def test_in_place_addition_keeps_the_dtype() -> None:
    theirs = Block(lambda s, x: s.relu(sum_of(s.bn(s.conv(x)), x.float()))).bfloat16()
    ours = copy.deepcopy(theirs)
    ek.optimize(ours)
    assert fusions(ours) == {"": ("bn + addition + relu",)}
    x = torch.randn(3, CHANNELS, 4, 5).bfloat16()
    assert ours(x).dtype == theirs(x).dtype == torch.bfloat16
    # bfloat16 has 8 bits, and the sum is rounded once instead of twice.
    torch.testing.assert_close(ours(x), theirs(x), rtol=2**-6, atol=2**-6)


def remembers(s: Any, x: Tensor) -> Tensor:
    s.seen = x
    return s.relu(s.bn(x))


def without_gradient(s: Block, x: Tensor) -> Tensor:
    with torch.no_grad():
        x = s.conv(x)
    return s.relu(s.bn(x))


def in_float(s: Block, x: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=torch.is_grad_enabled()):
        return s.relu(s.bn(x))


def without_autocast(s: Block, x: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return s.relu(s.bn(x))


def sets_data(s: Block, x: Tensor) -> Tensor:
    x.data = x * 2
    return s.relu(s.bn(x))


class Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 1

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:  # type: ignore[override]
        return -dy


def counts(s: Any, x: Tensor) -> Tensor:
    s.list.append(x)
    return s.relu(s.bn(x))


def averages(s: Any, x: Tensor) -> Tensor:
    s.average = 0.9 * s.average + 0.1 * x.mean().detach()
    return s.relu(s.bn(x))


UNKNOWN: dict[str, tuple[Callable[..., Tensor], str]] = {
    "depends on values": (lambda s, x: s.bn(x) if x.sum() > 0 else s.relu(s.bn(x)), "trace"),
    "depends on a buffer": (
        lambda s, x: s.relu(s.bn(x)) if s.average > 0 else x,
        "trace",
    ),
    "isinstance": (
        lambda s, x: s.relu(s.bn(x if isinstance(x, Tensor) else x[0])),
        "isinstance",
    ),
    "is_tensor": (lambda s, x: s.relu(s.bn(x if torch.is_tensor(x) else x[0])), "is_tensor"),
    "random": (lambda s, x: s.relu(s.bn(x)) if random.uniform(0, 1) < 2 else x, "random"),
    "random of torch": (
        lambda s, x: s.relu(s.bn(x)) if torch.rand(1).item() < 2 else x,
        "random",
    ),
    "random of NumPy": (lambda s, x: s.relu(s.bn(x)) if numpy.random.rand() < 2 else x, "random"),
    "changes itself": (remembers, "changes the module"),
    "changes a list": (counts, "changes the module"),
    "changes a buffer": (averages, "changes the module"),
    "constants": (lambda s, x: s.relu(s.bn(x)) + torch.ones(5), "changes the module"),
    "autocast switched off": (without_autocast, "autocast"),
    "the type": (lambda s, x: s.relu(s.bn(x if type(x) is Tensor else x[0])), "type"),
    "sets what a tensor has": (sets_data, "sets data"),
    "the dtype of parameters": (
        lambda s, x: s.relu(s.bn(x)).to(next(s.parameters()).dtype),
        "parameters()",
    ),
    "no gradient": (without_gradient, "gradient or autocast mode"),
    "autocast": (in_float, "gradient or autocast mode"),
    "a gradient of its own": (
        lambda s, x: s.relu(s.bn(Reverse.apply(x))),
        "gradient or autocast mode",
    ),
    "checkpoint": (
        lambda s, x: s.relu(s.bn(checkpoint(lambda t: t * 2, x, use_reentrant=False))),
        "checkpoint",
    ),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_cannot_be_followed_is_listed(name: str) -> None:
    forward, reason = UNKNOWN[name]
    ours: Any = Block(forward)
    ours.list = []
    ours.register_buffer("average", torch.ones(()))
    before = set(vars(ours))
    random.seed(3)
    drawn = random.random()
    random.seed(3)
    (left,) = ek.optimize(ours).left
    assert random.random() == drawn
    assert left.name == ""
    assert "not fused" in left.result
    assert reason in left.result
    assert type(ours) is Block
    assert set(vars(ours)) == before
    assert ours.list == []
    assert ours.average == 1
    assert type(ours.average) is Tensor


def test_optional_arguments_are_listed() -> None:
    class Optional(Block):
        def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:  # type: ignore[override]
            y = self.relu(self.bn(x))
            return y if scale is None else y * scale

    (left,) = ek.optimize(Optional(FUSED["module"][0])).left
    assert "scale" in left.result


def test_train_and_eval_may_differ() -> None:
    def forward(s: Block, x: Tensor) -> Tensor:
        y = s.relu(s.bn(x))
        return y * 2 if s.training else y

    theirs = Block(forward)
    ours = copy.deepcopy(theirs)
    ek.optimize(ours)
    assert fusions(ours) == {"": ("bn + relu",)}
    assert_same(ours, theirs, torch.randn(3, CHANNELS, 4, 5))


def test_autocast() -> None:
    theirs = torchvision.models.resnet18(num_classes=5).to(memory_format=torch.channels_last)
    ours = copy.deepcopy(theirs)
    ek.optimize(ours)
    x = torch.randn(2, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        actual, expected = ours.eval()(x), theirs.eval()(x)
    # bfloat16 has 8 bits; each of some 20 layers rounds its output.
    torch.testing.assert_close(actual, expected, rtol=0.05, atol=0.05 * float(expected.abs().max()))


COMPILED: dict[str, Callable[[], nn.Module]] = {
    "resnet": lambda: torchvision.models.resnet.BasicBlock(8, 8),
    "mobilenet": lambda: torchvision.models.mobilenetv2.InvertedResidual(8, 8, 1, 2),
    "unet": UNetBlock,
}


@pytest.mark.parametrize("name", COMPILED)
def test_compiled(name: str) -> None:
    ours = COMPILED[name]()
    ek.optimize(ours)
    theirs = copy.deepcopy(ours)
    torch._dynamo.reset()
    ours.compile(fullgraph=True)
    x = torch.randn(2, 8, 12, 12)
    actual, expected = step(ours, x), step(theirs, x)
    torch.testing.assert_close(actual[0], expected[0])
    # The sums of the convolutions' gradients may be ordered in another way.
    for key, value in expected[1].items():
        torch.testing.assert_close(actual[1][key], value, rtol=1e-4, atol=1e-4)
