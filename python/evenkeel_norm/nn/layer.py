"""What the layers share: how torch.nn's become evenkeel's and back."""

from __future__ import annotations

import copy
from typing import Any, cast

from torch import nn

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


class Fused:
    """A module whose forward was written anew. The base behind this one is the class it had.

    Its names begin with _evenkeel, since they stand beside those of the user's class.
    """

    # What was fused, for example "bn1 + relu".
    _evenkeel_fusions: tuple[str, ...] = ()

    @classmethod
    def _evenkeel_original(cls) -> type[nn.Module]:
        mro = cls.__mro__
        return cast("type[nn.Module]", mro[mro.index(Fused) + 1])

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(
            f"a {type(self).__name__} with fused layers cannot be pickled: save its state_dict(),"
            " or call restore_normalization(model) first"
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copied = cast(Any, type(self)).__new__(type(self))
        memo[id(self)] = copied
        state = dict(self.__dict__)
        state.pop("_compiled_call_impl", None)  # it would call this module
        copied.__dict__.update(copy.deepcopy(state, memo))
        return copied
