"""What the layers share: how torch.nn's become evenkeel's and back."""

from __future__ import annotations

from ..activation import NONE, Activation


class Layer:
    """An evenkeel layer. All others derive from it, and from the layer of torch.nn they replace."""

    def _adopt(self) -> None:
        """Adds what torch.nn's layer does not have."""

    def _release(self) -> None:
        """Takes it away again."""


class Activated(Layer):
    """A layer that computes an activation in the same pass."""

    activation: Activation = NONE

    def _release(self) -> None:
        super()._release()
        self.__dict__.pop("activation", None)

    def extra_repr(self) -> str:
        described: str = super().extra_repr()  # type: ignore[misc]
        return (
            described if self.activation == NONE else f"{described}, activation={self.activation}"
        )
