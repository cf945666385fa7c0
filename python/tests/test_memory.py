"""keep_memory, each time in a process of its own, since it is the process that it changes."""

import os
import subprocess
import sys

import pytest

import evenkeel_norm as ek
from evenkeel_norm import memory

# Touches a new 64 MB again and again, and prints how many pages the system had to bring. `before`
# runs first.
PROGRAM = """
import resource, torch
import evenkeel_norm as ek
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step():
    x = torch.ones(16 * 2**20); y = x + 1; del x, y
{before}
for _ in range(3): step()
start = faults()
for _ in range(10): step()
print(faults() - start)
"""


def page_faults(before: str) -> int:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC", "GLIBC_T"))}
    command = [sys.executable, "-c", PROGRAM.format(before=before)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return int(run.stdout)


@pytest.mark.skipif(memory._glibc() is None, reason="another C library or allocator")
def test_the_system_brings_no_pages_again() -> None:
    # Ten steps of two tensors of 64 MB: 327,680 pages of 4 KB, or 640 huge ones of 2 MB. The heap
    # that is kept may still grow once.
    usual = page_faults("")
    if usual == 0:
        pytest.skip("the system does not count page faults")
    assert usual >= 600
    assert page_faults("assert ek.keep_memory()") * 4 < usual
    assert page_faults("ek.keep_memory(); assert ek.keep_memory(False)") * 2 > usual


def test_nothing_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    class Jemalloc:
        gnu_get_libc_version = mallctl = None

        def mallopt(self, *_: int) -> int:
            raise AssertionError("called though another allocator serves the process")

    class Musl:
        mallopt = Jemalloc.mallopt

    for library in (Jemalloc(), Musl()):
        monkeypatch.setattr(memory.ctypes, "CDLL", lambda _, library=library: library)
        assert not ek.keep_memory()
