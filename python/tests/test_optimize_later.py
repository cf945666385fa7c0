"""optimize: what is changed, copied, saved or undone afterwards."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from fused_models import CHANNELS, Block, assert_same, fusions
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

import evenkeel_norm as ek
from evenkeel_norm import rewrite

X = torch.randn(3, CHANNELS, 4, 5, generator=torch.Generator().manual_seed(1))


def module(s: Block, x: Tensor) -> Tensor:
    return s.relu(s.bn(x))


def function(s: Block, x: Tensor) -> Tensor:
    return F.silu(s.bn(x))


def set_attribute(model: Any) -> None:
    model.triple = True


def set_module(model: Any) -> None:
    model.bn = nn.PReLU()


def set_below(model: Any) -> None:
    model._modules["relu"] = nn.Tanh()


def set_in_a_list(model: Any) -> None:
    model.acts[0] = nn.Tanh()


def set_second_in_a_list(model: Any) -> None:
    model.acts[1] = nn.Tanh()


def append(model: Any) -> None:
    model.acts.append(nn.Tanh())


def hook(model: Any) -> None:
    model.identity.register_forward_hook(lambda m, args, y: y * 5)


def hook_of_a_layer(model: Any) -> None:
    model.bn.register_forward_hook(lambda m, args, y: y * 5)


def hook_of_an_activation(model: Any) -> None:
    model.relu.register_forward_hook(lambda m, args, y: y * 5)


def buffer(model: Any) -> None:
    model.register_buffer("triple", torch.ones(1))


def set_slope(model: Any) -> None:
    model.acts[0].negative_slope = 0.7


def set_activation_of_the_layer(model: Any) -> None:
    model.bn.activation = ek.Activation("relu6")


def set_forward(model: Any) -> None:
    model.acts[0].forward = torch.tanh


@pytest.mark.parametrize(
    "change",
    [
        set_attribute,
        set_module,
        set_below,
        set_in_a_list,
        set_second_in_a_list,
        append,
        hook,
        hook_of_a_layer,
        hook_of_an_activation,
        buffer,
        set_slope,
        set_activation_of_the_layer,
        set_forward,
    ],
)
def test_what_is_changed_later_counts(change: Callable[[nn.Module], None]) -> None:
    def forward(s: Any, x: Tensor) -> Tensor:
        y = s.relu(s.identity(s.bn(x))) + s.bn2(x)
        for act in s.acts:
            y = act(y)
        y = y + s.acts[0](s.bn2(x))
        return y * 3 if getattr(s, "triple", None) is not None else y

    theirs: Any = Block(forward)
    slope = nn.LeakyReLU(0.1)
    theirs.acts = nn.ModuleList([slope, slope])
    theirs.bn2 = nn.BatchNorm2d(CHANNELS)
    ek.replace_normalization(theirs)
    ours = copy.deepcopy(theirs)
    ek.optimize(ours)
    assert fusions(ours)[""] == ("bn + relu", "bn2 + addition + leaky_relu", "bn2 + leaky_relu")
    assert_same(ours, theirs, X)
    change(ours), change(theirs)
    assert_same(ours, theirs, X, fused=False)


def test_a_layer_of_densenet_that_is_changed_later() -> None:
    theirs = torchvision.models.densenet._DenseLayer(CHANNELS, 4, 2, 0.0)
    ours = copy.deepcopy(theirs)
    ek.optimize(ours)
    assert fusions(ours) == {"": ("norm1 + relu", "norm2 + relu")}
    assert_same(ours, theirs, X)
    for model in (ours, theirs):
        model.relu1 = nn.ELU()
        model.norm2 = nn.Identity()
    assert_same(ours, theirs, X)


def test_dropout_of_a_module_in_it_follows_its_mode() -> None:
    model = Block(lambda s, x: F.dropout(s.relu(s.bn(x)), 0.5, s.dropout.training))
    (left,) = ek.optimize(model.train()).left
    assert "mode of a module in it" in left.result
    assert model.dropout.training
    model = Block(lambda s, x: F.dropout(s.relu(s.bn(x)), 0.5, s.training))
    ek.optimize(model)
    assert fusions(model)
    assert torch.equal(model.eval()(X), model(X))
    assert not torch.equal(model.train()(X), model(X))


def test_a_copy_of_a_compiled_model_is_its_own() -> None:
    ours: Any = Block(module)
    ek.optimize(ours)
    ours.compile(backend="eager")
    copied = copy.deepcopy(ours)
    with torch.no_grad():
        copied.bn.weight.fill_(3.0)
    torch.testing.assert_close(copied(X), 3 * ours(X))


def test_names_of_the_users_class() -> None:
    class Named(Block):
        def __init__(self) -> None:
            super().__init__(module)
            self.fusions = nn.ModuleList([nn.Identity()])
            self.steps = 3

        def restore(self, path: str) -> str:
            return path

    ours: Any = Named()
    ek.optimize(ours)
    assert fusions(ours)
    assert ours.restore("here") == "here"
    assert isinstance(ours.fusions, nn.ModuleList)
    ek.restore_normalization(ours)
    assert set(vars(ours)) == set(vars(Named()))


def test_what_cannot_be_copied_scripted_or_seen_is_left() -> None:
    class Copied(Block):
        def __deepcopy__(self, memo: Any) -> Copied:
            return self

    class Lazy(Block):
        def __init__(self) -> None:
            super().__init__(lambda s, x: s.relu(s.bn(s.lazy(x))))
            self.lazy = nn.LazyConv2d(CHANNELS, 1)

    class Meta(Block):
        def __init__(self) -> None:
            super().__init__(lambda s, x: s.relu(s.bn(s.meta(x))))
            self.meta = nn.Conv2d(CHANNELS, CHANNELS, 1)

    (left,) = ek.optimize(Copied(module)).left
    assert "__deepcopy__" in left.result
    lazy = Lazy()
    ek.optimize(lazy)
    assert fusions(lazy) == {"": ("bn + relu",)}
    lazy(X)
    (left,) = ek.optimize(meta := Meta()).left
    assert "rewrite" in left.result
    meta(X)
    scripted = nn.Sequential(torch.jit.script(nn.Linear(5, 5)), nn.BatchNorm2d(CHANNELS), nn.ReLU())
    ek.optimize(scripted)
    assert fusions(scripted) == {"": ("1 + relu",)}
    scripted(X)


def test_arguments_that_are_no_tensors() -> None:
    class Masked(Block):
        def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:  # type: ignore[override]
            y = self.relu(self.bn(x))
            return y if mask is None else y * mask

    theirs = Masked(module)
    ours = copy.deepcopy(theirs)
    ek.optimize(ours)
    assert fusions(ours)
    torch.testing.assert_close(ours(X, None), theirs(X, None))
    torch.testing.assert_close(ours(X, X), theirs(X, X))
    torch.testing.assert_close(ours(X, mask=X), theirs(X, mask=X))


def test_parametrization_of_a_fused_block() -> None:
    class Weighted(Block):
        def __init__(self) -> None:
            super().__init__(lambda s, x: s.relu(s.bn(x)) * s.weight)
            self.weight = nn.Parameter(torch.tensor(2.0))

    ours, other = Weighted(), Weighted()
    ek.optimize(ours)
    parametrize.register_parametrization(ours, "weight", nn.Tanh())
    torch.testing.assert_close(ours(X), module(ours, X) * torch.tanh(torch.tensor(2.0)))
    torch.testing.assert_close(other(X), module(other, X) * 2)


@pytest.mark.parametrize("watched", ["bn", "relu"])
def test_hooks_go_on_seeing_what_they_saw(watched: str) -> None:
    model = Block(module)
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
        theirs = Block(function, layer)
        ours = copy.deepcopy(theirs)
        ek.optimize(ours)
        assert fusions(ours) == {}
        assert_same(ours, theirs, torch.randn(3, CHANNELS, 4, 5))


def test_exceptions() -> None:
    model = Block(module)
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
    assert_same(ours, theirs, x, fused=False)


def test_slices_and_pickles_of_sequentials() -> None:
    theirs = sequential()
    ours = copy.deepcopy(theirs)
    ek.optimize(ours)
    assert_same(ours[:3], theirs[:3], torch.randn(3, CHANNELS, 4, 5))
    ek.restore_normalization(ours)
    assert type(ours) is nn.Sequential
    assert set(vars(ours)) == set(vars(nn.Sequential()))
    nothing = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Tanh())
    ek.optimize(nothing)
    assert pickle.dumps(nothing)


def test_copies_pickles_and_restore() -> None:
    theirs = Block(lambda s, x: F.hardswish(s.bn(x) + x))
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
    model = Block(function)
    model.train()
    ek.optimize(model, (X,))
    assert model.training
    assert model.bn.num_batches_tracked == 0
    assert fusions(model)
    monkeypatch.setitem(rewrite._FUNCTIONS, F.silu, "relu")
    wrong = Block(function)
    with pytest.raises(RuntimeError, match="changed the outputs by"):
        ek.optimize(wrong, X)
    assert type(wrong) is Block
    assert type(wrong.bn) is nn.BatchNorm2d


def test_all_is_undone_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(ek.optimize.__globals__["fuse"], "__code__", fail.__code__)
    model = nn.Sequential(Block(module), ek.nn.BatchNorm2d(CHANNELS))
    with pytest.raises(MemoryError):
        ek.optimize(model)
    assert type(model[0].bn) is nn.BatchNorm2d
    assert type(model[1]) is ek.nn.BatchNorm2d


@pytest.mark.parametrize("other", [torch.nan, torch.inf, 1.2])
def test_differences(other: float) -> None:
    difference = ek.optimize.__globals__["_difference"]
    expected = {"boxes": torch.tensor([1e3, 2e3]), "scores": (torch.tensor([1.0, torch.inf]),)}
    assert difference(copy.deepcopy(expected), expected) == 0
    actual = {"boxes": torch.tensor([1e3, 2e3]), "scores": (torch.tensor([other, torch.inf]),)}
    assert not difference(actual, expected) < 0.19
    assert not difference({**expected, "boxes": torch.ones(1)}, expected) < 1
