"""Freed memory stays with the process."""

from __future__ import annotations

import ctypes
from typing import Any

# mallopt's parameters in malloc.h, and their defaults.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_DEFAULT_TRIM_THRESHOLD = 128 * 1024
_DEFAULT_MMAP_MAX = 65536


def keep_memory(keep: bool = True) -> bool:
    """Makes the C library keep freed memory for the next tensors, instead of the system.

    A network allocates and frees tensors of many megabytes in every step. glibc takes such blocks
    from the system and gives them back, and the system clears each page again when it is touched
    first: that may take longer than the layer that writes the tensor. After this call glibc serves
    blocks of every size from its heap (``M_MMAP_MAX`` 0) and returns nothing of it
    (``M_TRIM_THRESHOLD`` off). Call it early, before the first step. The process then stays as
    large as it once was, and a heap in which sizes vary may grow beyond that.

    ``keep_memory(False)`` undoes it: the defaults again, and unused memory goes back.

    Returns whether it took effect: False, and nothing is changed, where the C library is not glibc
    or another allocator (jemalloc, tcmalloc, mimalloc) serves the process. Those have settings of
    their own, for example ``MALLOC_CONF=dirty_decay_ms:-1,muzzy_decay_ms:-1`` of jemalloc.
    """
    library = _glibc()
    if library is None:
        return False
    done = [
        library.mallopt(_M_MMAP_MAX, 0 if keep else _DEFAULT_MMAP_MAX),
        library.mallopt(_M_TRIM_THRESHOLD, -1 if keep else _DEFAULT_TRIM_THRESHOLD),
    ]
    if not keep:
        library.malloc_trim(0)
    return all(done)


def _glibc() -> Any:
    """The process's C library, or None if it does not serve allocations as glibc does."""
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):  # no such thing as the process's own symbols, as on Windows
        return None
    others = ("mallctl", "tc_malloc", "MallocExtension_ReleaseFreeMemory", "mi_malloc")
    if not hasattr(library, "gnu_get_libc_version") or any(hasattr(library, o) for o in others):
        return None
    return library
