"""The examples do what they say, and the pages' Python is theirs or runs."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def example(name: str) -> Any:
    path = ROOT / "examples/python" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_digits() -> None:
    # Without learning it would be a tenth.
    assert example("digits").main() > 0.9


def test_fine_tune(capsys: Any) -> None:
    example("fine_tune").main(steps=2)
    printed = capsys.readouterr().out
    assert "torch.nn.BatchNorm2d  20  evenkeel_norm.BatchNorm2d" in printed
    assert "statistics as before: True" in printed


def test_transformer() -> None:
    first, last = example("transformer").main()
    assert last < first / 4


BLOCKS = [
    pytest.param(block, id=f"{page}-{number}")
    for page in ("README.md", "docs/python.md")
    for number, block in enumerate(
        re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    )
]


@pytest.mark.parametrize("block", BLOCKS)
def test_python_of_the_pages(block: str) -> None:
    exec(compile(block, "page", "exec"), {"__name__": "page"})


def test_there_is_python_on_the_pages() -> None:
    assert len(BLOCKS) >= 5
