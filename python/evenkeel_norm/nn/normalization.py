"""LayerNorm, RMSNorm, GroupNorm and LocalResponseNorm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

from torch import Tensor, nn

from .. import functional
from ..activation import Activation, ActivationLike, as_activation
from .layer import Activated, Layer


class LayerNorm(Layer, nn.LayerNorm):
    """``torch.nn.LayerNorm`` by evenkeel: input (..., *normalized_shape)."""

    @overload
    def forward(self, input: Tensor, residual: None = None) -> Tensor: ...
    @overload
    def forward(self, input: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]: ...
    def forward(
        self, input: Tensor, residual: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """LN(input), or with a residual LN(input + residual) and that sum."""
        shape, weight, bias = self.normalized_shape, self.weight, self.bias
        if residual is None:
            return functional.layer_norm(input, shape, weight, bias, self.eps)
        return functional.layer_norm(input, shape, weight, bias, self.eps, residual=residual)


class RMSNorm(Layer, nn.RMSNorm):
    """``torch.nn.RMSNorm`` by evenkeel: input (..., *normalized_shape).

    With ``unit_offset`` the weight is stored as its difference from 1, as in Gemma.
    """

    unit_offset: bool = False

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        unit_offset: bool = False,
    ) -> None:
        if unit_offset:
            self.unit_offset = True
        super().__init__(normalized_shape, eps, elementwise_affine, device, dtype)  # type: ignore[arg-type]

    def reset_parameters(self) -> None:
        super().reset_parameters()
        if self.unit_offset and self.weight is not None:
            nn.init.zeros_(self.weight)

    def _release(self) -> None:
        super()._release()
        if self.unit_offset:
            raise TypeError(
                "this RMSNorm has unit_offset, which torch.nn's has not; it cannot be restored"
            )

    @overload
    def forward(self, x: Tensor, residual: None = None) -> Tensor: ...
    @overload
    def forward(self, x: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]: ...
    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """RMSNorm(x), or with a residual RMSNorm(x + residual) and that sum."""
        shape, weight, offset = self.normalized_shape, self.weight, self.unit_offset
        if residual is None:
            return functional.rms_norm(x, shape, weight, self.eps, unit_offset=offset)
        return functional.rms_norm(
            x, shape, weight, self.eps, residual=residual, unit_offset=offset
        )

    def extra_repr(self) -> str:
        described = super().extra_repr()
        return f"{described}, unit_offset=True" if self.unit_offset else described


class GroupNorm(Activated, nn.GroupNorm):
    """``torch.nn.GroupNorm`` by evenkeel: input (N, C, ...)."""

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
        activation: ActivationLike = None,
    ) -> None:
        super().__init__(num_groups, num_channels, eps, affine, device, dtype)
        if not bias:  # torch.nn takes it from 2.15 on only
            self.register_parameter("bias", None)
        if activation is not None:
            self.activation = as_activation(activation)

    def forward(self, input: Tensor, activation: Activation | None = None) -> Tensor:
        """``activation(GN(input))``, by default with the layer's own activation."""
        if activation is None:
            activation = self.activation
        return functional.group_norm(
            input, self.num_groups, self.weight, self.bias, self.eps, activation=activation
        )


class LocalResponseNorm(Layer, nn.LocalResponseNorm):
    """``torch.nn.LocalResponseNorm`` by evenkeel: input (N, C, ...) of three or more dimensions.

    The ``convention`` says whose parameters these are, by default PyTorch's; see
    :func:`evenkeel_norm.functional.local_response_norm`.
    """

    convention: str = "torch"

    def __init__(
        self,
        size: int,
        alpha: float = 1e-4,
        beta: float = 0.75,
        k: float = 1.0,
        *,
        convention: str = "torch",
    ) -> None:
        super().__init__(size, alpha, beta, k)
        if convention != "torch":
            self.convention = convention

    def _release(self) -> None:
        super()._release()
        if self.convention != "torch":
            raise TypeError(
                f"this LocalResponseNorm has the convention {self.convention!r}, which torch.nn's"
                " has not; it cannot be restored"
            )

    def forward(self, input: Tensor) -> Tensor:
        return functional.local_response_norm(
            input, self.size, self.alpha, self.beta, self.k, convention=self.convention
        )

    def extra_repr(self) -> str:
        described = super().extra_repr()
        return (
            described
            if self.convention == "torch"
            else f"{described}, convention={self.convention}"
        )
