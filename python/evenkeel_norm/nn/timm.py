"""timm's layers by evenkeel. Imports timm, so it is loaded only where a model has such layers."""

from __future__ import annotations

from typing import Any

import timm.layers as theirs
from torch import Tensor, nn

from .. import functional
from ..activation import Activation, of_module
from .batch_norm import BatchNorm
from .layer import Layer


def _fusable(act: Any, drop: Any) -> Activation | None:
    """The activation, if nothing stands before it and nothing watches it."""
    if type(drop) is not nn.Identity or act._forward_hooks or act._forward_pre_hooks:
        return None
    if act._backward_hooks or act._backward_pre_hooks:
        return None
    return of_module(act)


class BatchNormAct2d(BatchNorm, theirs.BatchNormAct2d):
    """timm's BatchNorm with dropout and an activation, which is fused where it can be."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        self._check_input_dim(x)
        activation = _fusable(self.act, self.drop)
        if activation is not None:
            return self._normalize(x, None, activation)
        drop: Any = self.drop
        act: Any = self.act
        return act(drop(self._normalize(x, None, self.activation)))


class GroupNormAct(Layer, theirs.GroupNormAct):
    """timm's GroupNorm with dropout and an activation, which is fused where it can be."""

    def forward(self, x: Tensor) -> Tensor:
        fused = _fusable(self.act, self.drop)
        y = functional.group_norm(
            x, self.num_groups, self.weight, self.bias, self.eps, activation=fused
        )
        return y if fused is not None else self.act(self.drop(y))


class LayerNorm(Layer, theirs.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)


class GroupNorm(Layer, theirs.GroupNorm):
    def forward(self, x: Tensor) -> Tensor:
        return functional.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class LayerNorm2d(Layer, theirs.LayerNorm2d):
    """Over the channels at each position of an image."""

    def forward(self, x: Tensor) -> Tensor:
        shape, weight, bias = self.normalized_shape, self.weight, self.bias
        y = functional.layer_norm(x.permute(0, 2, 3, 1), shape, weight, bias, self.eps)
        return y.permute(0, 3, 1, 2)


class RmsNorm(Layer, theirs.RmsNorm):
    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, self.normalized_shape, self.weight, self.eps)
