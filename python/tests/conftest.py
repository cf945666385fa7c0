"""Every test starts from the same random numbers, and the compiler from an empty cache."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _empty_compiler_cache() -> Iterator[None]:
    # What was compiled with an operator of another version of the package may not fit this one's.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        yield
