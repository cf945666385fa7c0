"""The operators, private. See library.py."""

from .batch_norm import batch_norm, batch_norm_inference, track
from .batch_norm_halves import backward_of_sums, forward_of_moments, gradient_sums, moments
from .groups import group_norm, instance_norm
from .library import load
from .local_response_norm import local_response_norm
from .rows import add_layer_norm, add_rms_norm, layer_norm, rms_norm

load()

__all__ = [
    "add_layer_norm",
    "add_rms_norm",
    "backward_of_sums",
    "batch_norm",
    "batch_norm_inference",
    "forward_of_moments",
    "gradient_sums",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "local_response_norm",
    "moments",
    "rms_norm",
    "track",
]
