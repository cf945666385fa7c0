"""InstanceNorm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from .. import functional
from .layer import Layer

if TYPE_CHECKING:
    _Base = nn.modules.instancenorm._InstanceNorm
else:
    _Base = object


class InstanceNorm(Layer, _Base):
    """What evenkeel's InstanceNorm layers share."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype)
        if not bias:  # torch.nn takes it from 2.15 on only
            self.register_parameter("bias", None)

    # torch.nn's forward checks the input and calls this one.
    def _apply_instance_norm(self, input: Tensor) -> Tensor:
        return functional.instance_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or not self.track_running_stats,
            self.momentum if self.momentum is not None else 0.0,
            self.eps,
        )


class InstanceNorm1d(InstanceNorm, nn.InstanceNorm1d):
    """``torch.nn.InstanceNorm1d`` by evenkeel: input (N, C, L) or (C, L)."""


class InstanceNorm2d(InstanceNorm, nn.InstanceNorm2d):
    """``torch.nn.InstanceNorm2d`` by evenkeel: input (N, C, H, W) or (C, H, W)."""


class InstanceNorm3d(InstanceNorm, nn.InstanceNorm3d):
    """``torch.nn.InstanceNorm3d`` by evenkeel: input (N, C, D, H, W) or (C, D, H, W)."""
