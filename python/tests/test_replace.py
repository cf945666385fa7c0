"""replace_normalization and restore_normalization."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import evenkeel_norm as ek


class Custom(nn.LayerNorm):
    """A subclass that adds something."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + 1


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.GroupNorm(2, 8),
        nn.InstanceNorm2d(8, affine=True),
        nn.LocalResponseNorm(3),
        nn.Flatten(),
        nn.LayerNorm(288),
        nn.RMSNorm(288),
        nn.Linear(288, 4),
        nn.BatchNorm1d(4),
    )


def test_the_same_objects_and_tensors() -> None:
    model = network()
    modules = dict(model.named_modules())
    tensors = {n: id(t) for n, t in (*model.named_parameters(), *model.named_buffers())}
    state = {n: t.clone() for n, t in model.state_dict().items()}
    summary = ek.replace_normalization(model)
    assert len(summary) == 7
    assert not summary.left
    for name, module in model.named_modules():
        assert module is modules[name]
        if name in ["1", "2", "3", "4", "6", "7", "9"]:
            assert type(module) is getattr(ek.nn, type(module).__name__)
    after = {n: id(t) for n, t in (*model.named_parameters(), *model.named_buffers())}
    assert {n: i for n, i in after.items() if not n.endswith("skipped_batches")} == tensors
    assert list(model.state_dict()) == list(state)
    restored = ek.restore_normalization(model)
    assert len(restored) == 7
    assert [type(m) for m in model] == [type(m) for m in network()]
    final = {n: id(t) for n, t in (*model.named_parameters(), *model.named_buffers())}
    assert final == tensors
    assert pickle.dumps(vars(model[1]))  # nothing of evenkeel's is left behind
    assert set(vars(model[1])) == set(vars(nn.BatchNorm2d(8)))


def test_a_second_time_changes_nothing() -> None:
    model = network()
    ek.replace_normalization(model)
    assert len(ek.replace_normalization(model)) == 0
    assert len(ek.restore_normalization(nn.Sequential(nn.BatchNorm2d(2)))) == 0


def test_hooks_flags_and_optimizers_stay() -> None:
    model = network()
    seen: list[str] = []
    model[1].register_forward_hook(lambda *_: seen.append("forward"))
    model[1].register_full_backward_hook(lambda *_: seen.append("backward"))
    model[2].eval()
    model[2].weight.requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = model[1].weight.detach().clone()
    ek.replace_normalization(model)
    (model(torch.randn(4, 3, 8, 8)) * torch.randn(4, 4)).sum().backward()
    optimizer.step()
    assert seen == ["forward", "backward"]
    assert not model[2].training
    assert model[2].weight.grad is None
    assert not torch.equal(model[1].weight, before)


def test_a_shared_layer_and_the_model_itself() -> None:
    shared = nn.LayerNorm(5)
    model = nn.ModuleList([shared, nn.Sequential(shared)])
    assert len(ek.replace_normalization(model)) == 1
    assert model[0] is model[1][0]
    layer = nn.LayerNorm(5)
    assert len(ek.replace_normalization(layer)) == 1
    assert type(layer) is ek.nn.LayerNorm


class Double(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return 2 * weight


@pytest.mark.parametrize("register", [
    lambda layer: parametrize.register_parametrization(layer, "weight", Double()),
    lambda layer: parametrizations.weight_norm(layer),
], ids=["own", "weight_norm"])  # fmt: skip
def test_parametrizations_stay(register: Any) -> None:
    layer = nn.LayerNorm((4, 5))
    register(layer)
    expected_state = list(layer.state_dict())
    x = torch.randn(3, 4, 5)
    expected = layer(x)
    assert len(ek.replace_normalization(layer)) == 1
    assert isinstance(layer, ek.nn.LayerNorm)
    assert parametrize.is_parametrized(layer, "weight")
    assert list(layer.state_dict()) == expected_state
    torch.testing.assert_close(layer(x), expected)
    layer(x).sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
    twin = copy.deepcopy(layer)
    assert torch.equal(twin(x), layer(x))
    # Another layer's class is its own.
    assert not isinstance(parametrized := nn.LayerNorm(5), ek.nn.LayerNorm), parametrized
    ek.restore_normalization(layer)
    assert not isinstance(layer, ek.nn.LayerNorm)
    assert torch.equal(layer(x), expected)
    ek.replace_normalization(layer)
    parametrize.remove_parametrizations(layer, "weight")
    assert type(layer) is ek.nn.LayerNorm
    torch.testing.assert_close(layer(x), expected)


def test_unknown_subclasses_are_left_and_listed() -> None:
    model = nn.Sequential(Custom(5), nn.SyncBatchNorm(3), nn.LayerNorm(5), nn.BatchNorm1d(5))
    model[3].forward = lambda x: x  # type: ignore[method-assign]
    summary = ek.replace_normalization(model)
    assert [change.name for change in summary.changed] == ["2"]
    assert [(left.name, left.result) for left in summary.left] == [
        ("0", "a class that evenkeel does not know"),
        ("1", "evenkeel has no SyncBatchNorm"),
        ("3", "its forward was replaced"),
    ]
    assert type(model[0]) is Custom
    assert str(summary).splitlines() == [
        "torch.nn.LayerNorm        1  evenkeel_norm.LayerNorm",
        "test_replace.Custom 0        left: a class that evenkeel does not know",
        "torch.nn.SyncBatchNorm 1     left: evenkeel has no SyncBatchNorm",
        "torch.nn.BatchNorm1d 3       left: its forward was replaced",
    ]


@pytest.mark.parametrize(
    ("except_for", "left"),
    [
        (["1", "7"], ["1", "7"]),
        ([nn.GroupNorm, "9"], ["2", "9"]),
        (lambda name, layer: isinstance(layer, nn.LocalResponseNorm), ["4"]),
    ],
)
def test_exceptions(except_for: Any, left: list[str]) -> None:
    model = network()
    summary = ek.replace_normalization(model, except_for=except_for)
    assert [change.name for change in summary.left] == left
    assert len(summary) == 7 - len(left)
    assert all(type(model[int(name)]).__module__.startswith("torch.") for name in left)
    model = network()
    assert len(ek.replace_normalization(model, except_for=[model[1]])) == 6


def test_what_torch_has_not_is_not_restored() -> None:
    model = nn.Sequential(
        ek.nn.RMSNorm(5, unit_offset=True), ek.nn.LocalResponseNorm(3, convention="onnx")
    )
    summary = ek.restore_normalization(model)
    assert len(summary) == 0
    assert [type(layer) for layer in model] == [ek.nn.RMSNorm, ek.nn.LocalResponseNorm]
    assert "unit_offset" in summary.left[0].result
    assert "onnx" in summary.left[1].result


@pytest.mark.parametrize("hook", [False, True])
def test_timm_layers_keep_what_they_add(hook: bool) -> None:
    from timm.layers import BatchNormAct2d, GroupNormAct

    seen: list[int] = []
    for layer in (
        BatchNormAct2d(8, act_layer=nn.SiLU),
        BatchNormAct2d(8, act_layer=nn.GELU),
        BatchNormAct2d(8, apply_act=False),
        BatchNormAct2d(8, drop_layer=nn.Dropout),
        GroupNormAct(8, 2),
    ):
        x = torch.randn(4, 8, 5, 5)
        if hook:
            layer.act.register_forward_hook(lambda *_: seen.append(1))
        theirs = copy.deepcopy(layer)
        assert len(ek.replace_normalization(layer)) == 1
        assert isinstance(layer, type(theirs))
        assert list(layer.state_dict()) == list(theirs.state_dict())
        for training in (True, False):
            torch.manual_seed(0)
            y = layer.train(training)(x)
            torch.manual_seed(0)
            torch.testing.assert_close(y, theirs.train(training)(x), rtol=1e-5, atol=1e-5)
        assert pickle.loads(pickle.dumps(ek.restore_normalization(layer))).changed
        assert type(layer) is type(theirs)
    assert bool(seen) == hook


def test_torchvision_layers() -> None:
    frozen = torchvision.ops.FrozenBatchNorm2d(8)
    frozen.running_mean.normal_()
    frozen.running_var.uniform_(0.5, 2)
    norm = torchvision.models.convnext.LayerNorm2d(8)
    for layer in (frozen, norm):
        x = torch.randn(4, 8, 5, 5)
        expected = layer(x)
        assert len(ek.replace_normalization(layer)) == 1
        torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)
        assert pickle.loads(pickle.dumps(layer))(x).equal(layer(x))


def test_a_whole_model_says_what_it_did() -> None:
    model = timm.create_model("efficientnet_b0")
    summary = ek.replace_normalization(model)
    assert str(summary) == "timm.BatchNormAct2d  49  evenkeel_norm.BatchNormAct2d"
    assert not [m for m in model.modules() if type(m).__module__.startswith("timm.layers.norm")]
