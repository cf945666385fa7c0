"""optimize: what is fused computes the same, and what may not be fused is left."""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

import evenkeel_norm as ek
from evenkeel_norm import fusion
from evenkeel_norm.nn.layer import Fused

CHANNELS = 6


def fusions(model: nn.Module) -> dict[str, tuple[str, ...]]:
    return {
        name: module.fusions
        for name, module in model.named_modules()
        if isinstance(module, Fused) and module.fusions
    }


def step(model: nn.Module, *args: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """The output of a training step, the gradients and the buffers after it."""
    model.train()
    model.zero_grad()
    y = model(*args)
    weights = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).reshape(y.shape).to(y.dtype)
    (y * weights).sum().backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return y, gradients | dict(model.named_buffers())


def assert_same(ours: nn.Module, theirs: nn.Module, *args: Any) -> None:
    """In train() and eval(). In double: a wrong fusion is wrong by far more than rounding is."""
    ours, theirs = ours.double(), theirs.double()
    args = tuple(a.double() for a in args)
    actual, expected = step(ours, *args), step(theirs, *args)
    torch.testing.assert_close(actual[0], expected[0], rtol=1e-8, atol=1e-10)
    scale = max(float(g.double().abs().max()) for g in expected[1].values())
    for name, gradient in expected[1].items():
        torch.testing.assert_close(actual[1][name], gradient, rtol=1e-6, atol=1e-9 * scale)
    ours.eval(), theirs.eval()
    with torch.no_grad():
        torch.testing.assert_close(ours(*args), theirs(*args), rtol=1e-8, atol=1e-10)


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


class Block(nn.Module):
    """One normalization, its forward given."""

    def __init__(self, forward: Callable[..., Tensor], layer: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.bn = layer or nn.BatchNorm2d(CHANNELS)
        self.relu = nn.ReLU(inplace=True)
        self.identity = nn.Identity()
        self.dropout = nn.Dropout(0.0)
        self.body = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


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


def remembers(s: Any, x: Tensor) -> Tensor:
    s.seen = x
    return s.relu(s.bn(x))


UNKNOWN: dict[str, tuple[Callable[..., Tensor], str]] = {
    "depends on values": (lambda s, x: s.bn(x) if x.sum() > 0 else s.relu(s.bn(x)), "trace"),
    "isinstance": (
        lambda s, x: s.relu(s.bn(x if isinstance(x, Tensor) else x[0])),
        "isinstance",
    ),
    "random": (lambda s, x: s.relu(s.bn(x)) if random.random() < 2 else x, "random"),
    "changes itself": (remembers, "changes the module"),
    "constants": (lambda s, x: s.relu(s.bn(x)) + torch.ones(5), "changes the module"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_cannot_be_followed_is_listed(name: str) -> None:
    forward, reason = UNKNOWN[name]
    ours = Block(forward)
    before = set(vars(ours))
    summary = ek.optimize(ours)
    (left,) = summary.left
    assert left.name == ""
    assert "not fused" in left.result
    assert reason in left.result
    assert type(ours) is Block
    assert set(vars(ours)) == before


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


def test_attributes_that_are_set_later_count() -> None:
    def forward(s: Block, x: Tensor) -> Tensor:
        y = s.relu(s.bn(x))
        return y * 3 if getattr(s, "triple", False) else y

    def change(model: Block) -> Block:
        model.triple = True
        return model

    def exchange(model: Block) -> Block:
        model.add_module("bn", nn.PReLU())
        return model

    x = torch.randn(3, CHANNELS, 4, 5)
    for later in (change, exchange):
        theirs = Block(forward)
        ours = copy.deepcopy(theirs)
        ek.optimize(ours)
        assert fusions(ours)
        assert_same(later(ours), later(theirs), x)


@pytest.mark.parametrize("watched", ["bn", "relu"])
def test_hooks_go_on_seeing_what_they_saw(watched: str) -> None:
    model = Block(FUSED["module"][0])
    seen = []
    model.get_submodule(watched).register_forward_hook(lambda *args: seen.append(args[-1].clone()))
    x = torch.randn(3, CHANNELS, 4, 5)
    model(x)
    ek.optimize(model)
    assert fusions(model) == {}
    model(x)
    torch.testing.assert_close(seen[1], seen[0])


def test_layers_with_an_activation_or_forward_of_their_own() -> None:
    class Custom(ek.nn.BatchNorm2d):
        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(x) + 1

    for layer in (ek.nn.BatchNorm2d(CHANNELS, activation="relu"), Custom(CHANNELS)):
        theirs = Block(FUSED["function"][0], layer)
        ours = copy.deepcopy(theirs)
        ek.optimize(ours)
        assert fusions(ours) == {}
        assert_same(ours, theirs, torch.randn(3, CHANNELS, 4, 5))


def test_exceptions() -> None:
    model = Block(FUSED["module"][0])
    summary = ek.optimize(model, except_for=["bn"])
    assert type(model.bn) is nn.BatchNorm2d
    assert fusions(model) == {}
    assert [c.name for c in summary.left] == ["bn"]


def sequential() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(CHANNELS, CHANNELS, 1),
        nn.BatchNorm2d(CHANNELS),
        nn.SiLU(),
        nn.Conv2d(CHANNELS, CHANNELS, 1),
        nn.GroupNorm(2, CHANNELS),
        nn.LeakyReLU(0.2),
        nn.BatchNorm2d(CHANNELS),
    )


def test_a_sequential_that_is_changed_later() -> None:
    x = torch.randn(3, CHANNELS, 4, 5)

    def change(model: nn.Sequential) -> nn.Sequential:
        model[2] = nn.Tanh()
        model.insert(0, nn.ReLU())
        model.append(nn.Sigmoid())
        return model

    theirs = sequential()
    ours = copy.deepcopy(theirs)
    ek.optimize(ours)
    assert fusions(ours) == {"": ("1 + silu", "4 + leaky_relu")}
    assert_same(ours, theirs, x)
    assert_same(change(ours), change(theirs), x)


def test_a_sequential_takes_what_follows_it() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Identity(), sequential())

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(x + self.body(x))

    theirs = Outer()
    ours = copy.deepcopy(theirs)
    ek.optimize(ours)
    assert fusions(ours)[""] == ("body + addition + relu",)
    x = torch.randn(3, CHANNELS, 4, 5)
    assert_same(ours, theirs, x)
    for model in (ours, theirs):
        model.body[1][-1] = nn.Tanh()
    assert_same(ours, theirs, x)


def test_a_copy_of_a_sequential_is_fused_too() -> None:
    ours = sequential()
    ek.optimize(ours)
    copied = copy.deepcopy(ours)
    copied.pop(0)
    copied.insert(0, nn.Identity())
    for place, (layer, behind, _) in copied._pairs.items():
        assert copied[place] is layer
        assert copied[place + 1] is behind
        assert ours[place] is not layer
    ek.restore_normalization(ours)
    assert type(ours) is nn.Sequential
    assert set(vars(ours)) == set(vars(nn.Sequential()))
    assert fusions(copied)


def test_copies_pickles_and_restore() -> None:
    theirs = Block(FUSED["torch.add"][0])
    ours = copy.deepcopy(theirs)
    ek.optimize(ours)
    assert isinstance(ours, Block)
    copied = copy.deepcopy(ours)
    assert fusions(copied) == fusions(ours) != {}
    assert copied.bn is not ours.bn
    x = torch.randn(3, CHANNELS, 4, 5)
    assert_same(copied, copy.deepcopy(theirs), x)
    with pytest.raises(TypeError, match="restore_normalization"):
        pickle.dumps(ours)
    assert len(ek.optimize(ours)) == 0
    ek.restore_normalization(ours)
    assert type(ours) is Block
    assert type(ours.bn) is nn.BatchNorm2d
    assert_same(ours, theirs, x)


def test_the_example_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(3, CHANNELS, 4, 5)
    model = Block(FUSED["function"][0])
    model.train()
    ek.optimize(model, (x,))
    assert model.training
    assert model.bn.num_batches_tracked == 0
    assert fusions(model)
    monkeypatch.setitem(fusion._FUNCTIONS, F.silu, "relu")
    wrong = Block(FUSED["function"][0])
    with pytest.raises(RuntimeError, match="changed the outputs by up to"):
        ek.optimize(wrong, x)
    assert type(wrong) is Block
    assert type(wrong.bn) is nn.BatchNorm2d


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
