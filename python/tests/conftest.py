"""Every test starts from the same random numbers, and compiles afresh."""

from __future__ import annotations

import os

# The compiler's cache knows an operator by its name alone, so code from before a change of its
# results would be taken for today's.
os.environ["TORCHINDUCTOR_FORCE_DISABLE_CACHES"] = "1"

import pytest
import torch


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
