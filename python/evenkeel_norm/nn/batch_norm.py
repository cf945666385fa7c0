"""BatchNorm, with its three switches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from .. import functional
from ..activation import NONE, Activation, ActivationLike, apply, as_activation
from .layer import Activated

Self = TypeVar("Self", bound="BatchNorm")

if TYPE_CHECKING:
    _Base = nn.modules.batchnorm._BatchNorm
else:
    _Base = object


class BatchNorm(Activated, _Base):
    """What evenkeel's BatchNorm layers add to torch.nn's.

    Attributes:
        activation: computed in the same pass, behind the residual.
        normalize_with: ``"batch"`` or ``"running"`` statistics; None follows train() and eval().
        update_running: whether a batch moves the running statistics; None follows them too.
        skipped_batches: how many batches moved nothing, since their statistics were not finite. A
            buffer that is not saved.
    """

    normalize_with: Literal["batch", "running"] | None = None
    update_running: bool | None = None
    skipped_batches: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
        activation: ActivationLike = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype)
        if not bias:  # torch.nn takes it from 2.15 on only
            self.register_parameter("bias", None)
        if activation is not None:
            self.activation = as_activation(activation)
        self._adopt()

    def _adopt(self) -> None:
        if self.track_running_stats and "skipped_batches" not in self._buffers:
            beside = self.num_batches_tracked
            counter = torch.zeros(
                (), dtype=torch.long, device=beside.device if beside is not None else None
            )
            self.register_buffer("skipped_batches", counter, persistent=False)

    def _release(self) -> None:
        super()._release()
        self._buffers.pop("skipped_batches", None)
        self._non_persistent_buffers_set.discard("skipped_batches")
        for name in ("normalize_with", "update_running"):
            self.__dict__.pop(name, None)

    def freeze(self: Self) -> Self:
        """Normalizes with the running statistics and leaves them as they are, in train() too.

        weight and bias go on learning, unless requires_grad_(False) says otherwise.
        """
        self.normalize_with = "running"
        self.update_running = False
        return self

    def unfreeze(self: Self) -> Self:
        """Follows train() and eval() again."""
        self.normalize_with = None
        self.update_running = None
        return self

    def forward(
        self,
        input: Tensor,
        residual: Tensor | None = None,
        activation: Activation | None = None,
    ) -> Tensor:
        """``activation(BN(input) + residual)``, by default with the layer's own activation.

        A residual of another shape than the input's, or a number, is broadcast by PyTorch.
        """
        self._check_input_dim(input)
        if activation is None:
            activation = self.activation
        if residual is not None and not (
            isinstance(residual, Tensor) and residual.shape == input.shape
        ):
            return apply(activation, self._normalize(input, None, NONE) + residual)
        return self._normalize(input, residual, activation)

    def _normalize(self, x: Tensor, residual: Tensor | None, activation: Activation) -> Tensor:
        running_mean = self.running_mean
        by_batch = self.training or (running_mean is None and self.running_var is None)
        if self.normalize_with is not None:
            by_batch = self.normalize_with == "batch"
        updates = self.training and self.track_running_stats and running_mean is not None
        if self.update_running is not None:
            updates = self.update_running
        return functional.batch_norm(
            x,
            running_mean,
            self.running_var,
            self.weight,
            self.bias,
            by_batch,
            self.momentum,
            self.eps,
            residual=residual,
            activation=activation,
            update_running=updates,
            num_batches_tracked=self.num_batches_tracked,
            skipped_batches=self._buffers.get("skipped_batches"),
        )


class BatchNorm1d(BatchNorm, nn.BatchNorm1d):
    """``torch.nn.BatchNorm1d`` by evenkeel: input (N, C) or (N, C, L)."""


class BatchNorm2d(BatchNorm, nn.BatchNorm2d):
    """``torch.nn.BatchNorm2d`` by evenkeel: input (N, C, H, W)."""


class BatchNorm3d(BatchNorm, nn.BatchNorm3d):
    """``torch.nn.BatchNorm3d`` by evenkeel: input (N, C, D, H, W)."""
