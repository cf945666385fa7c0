"""torchvision's layers by evenkeel. Imports torchvision: loaded only where a model has them."""

from __future__ import annotations

from torch import Tensor
from torchvision.models.convnext import LayerNorm2d as TheirLayerNorm2d
from torchvision.ops.misc import FrozenBatchNorm2d as TheirFrozenBatchNorm2d

from .. import functional
from .layer import Layer


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
