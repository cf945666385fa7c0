"""Accurate, fast normalization layers for PyTorch on the CPU.

    import evenkeel_norm as ek
    ek.replace_normalization(model)
"""

from . import functional, nn
from .activation import Activation

__all__ = ["Activation", "functional", "nn"]
