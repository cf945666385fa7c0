"""Layers that take the number of channels from their first input."""

from __future__ import annotations

from typing import Any

from torch import nn

from .batch_norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from .instance_norm import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d


class _Adopting:
    """Becomes an evenkeel layer, with what that adds, once its sizes are known."""

    def initialize_parameters(self, *args: Any, **kwargs: Any) -> None:
        super().initialize_parameters(*args, **kwargs)  # type: ignore[misc]
        self.cls_to_become._adopt(self)  # type: ignore[attr-defined]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        # Of the first call alone, in which the class has changed already.
        return type(self).forward(self, *args, **kwargs)


class LazyBatchNorm1d(_Adopting, nn.LazyBatchNorm1d):
    """``torch.nn.LazyBatchNorm1d`` that becomes an evenkeel BatchNorm1d."""

    cls_to_become = BatchNorm1d  # type: ignore[assignment]


class LazyBatchNorm2d(_Adopting, nn.LazyBatchNorm2d):
    """``torch.nn.LazyBatchNorm2d`` that becomes an evenkeel BatchNorm2d."""

    cls_to_become = BatchNorm2d  # type: ignore[assignment]


class LazyBatchNorm3d(_Adopting, nn.LazyBatchNorm3d):
    """``torch.nn.LazyBatchNorm3d`` that becomes an evenkeel BatchNorm3d."""

    cls_to_become = BatchNorm3d  # type: ignore[assignment]


class LazyInstanceNorm1d(_Adopting, nn.LazyInstanceNorm1d):
    """``torch.nn.LazyInstanceNorm1d`` that becomes an evenkeel InstanceNorm1d."""

    cls_to_become = InstanceNorm1d  # type: ignore[assignment]


class LazyInstanceNorm2d(_Adopting, nn.LazyInstanceNorm2d):
    """``torch.nn.LazyInstanceNorm2d`` that becomes an evenkeel InstanceNorm2d."""

    cls_to_become = InstanceNorm2d  # type: ignore[assignment]


class LazyInstanceNorm3d(_Adopting, nn.LazyInstanceNorm3d):
    """``torch.nn.LazyInstanceNorm3d`` that becomes an evenkeel InstanceNorm3d."""

    cls_to_become = InstanceNorm3d  # type: ignore[assignment]
