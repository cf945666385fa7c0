"""Accurate, fast normalization layers for PyTorch on the CPU.

import evenkeel_norm as ek
ek.replace_normalization(model)
"""

from importlib.metadata import PackageNotFoundError, version

from . import functional, nn
from .activation import Activation
from .memory import keep_memory
from .optimize import optimize
from .replace import Summary, replace_normalization, restore_normalization

try:
    __version__ = version("evenkeel-norm")
except PackageNotFoundError:  # the folder itself, not installed
    __version__ = "0"

__all__ = [
    "Activation",
    "Summary",
    "functional",
    "keep_memory",
    "nn",
    "optimize",
    "replace_normalization",
    "restore_normalization",
]
