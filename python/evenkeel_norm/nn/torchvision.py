"""torchvision's layers by evenkeel. Imports torchvision: loaded only where a model has them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.convnext import LayerNorm2d as TheirLayerNorm2d
from torchvision.models.densenet import _DenseLayer
from torchvision.ops.misc import FrozenBatchNorm2d as TheirFrozenBatchNorm2d

from .. import functional
from ..activation import Activation
from ..fusable import activation_of, takes_activation
from .layer import Fused, Layer

_RELU = Activation("relu")


class FrozenBatchNorm2d(Layer, TheirFrozenBatchNorm2d):
    """BatchNorm with statistics and parameters that are fixed."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


class LayerNorm2d(Layer, TheirLayerNorm2d):
    """Over the channels at each position of an image."""

    def forward(self, x: Tensor) -> Tensor:
        shape, weight, bias = self.normalized_shape, self.weight, self.bias
        y = functional.layer_norm(x.permute(0, 2, 3, 1), shape, weight, bias, self.eps)
        return y.permute(0, 3, 1, 2)


def can_be_fused(layer: Any) -> bool:
    """Whether this layer of DenseNet has what FusedDenseLayer is for."""
    return all(
        takes_activation(norm) and activation_of(behind) == _RELU
        for norm, behind in ((layer.norm1, layer.relu1), (layer.norm2, layer.relu2))
    )


class FusedDenseLayer(Fused, _DenseLayer):
    """A layer of DenseNet whose ReLUs are in the normalizations before them."""

    _evenkeel_fusions = ("norm1 + relu", "norm2 + relu")

    def bn_function(self, inputs: list[Tensor]) -> Tensor:
        if not can_be_fused(self):
            return super().bn_function(inputs)
        return self.conv1(self.norm1(torch.cat(inputs, 1), activation=_RELU))

    def forward(self, input: Any) -> Tensor:
        if not can_be_fused(self):
            return super().forward(input)
        features = [input] if isinstance(input, Tensor) else input
        if self.memory_efficient and self.any_requires_grad(features):
            bottleneck = self.call_checkpoint_bottleneck(features)
        else:
            bottleneck = self.bn_function(features)
        added = self.conv2(self.norm2(bottleneck, activation=_RELU))
        if self.drop_rate > 0:
            added = F.dropout(added, self.drop_rate, self.training)
        return added
