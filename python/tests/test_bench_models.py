"""The tables of bench/models_report.py, from results written by hand."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPORT = Path(__file__).parents[2] / "bench/models_report.py"


def report(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPORT), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def contestant(
    seconds: float, part: float, faults: int, peak: float = 0, additions: float = 0.03
) -> dict[str, Any]:
    of = {"seconds": seconds, "least": 0.9 * seconds, "most": 1.2 * seconds, "faults": faults}
    parts = {"part": part, "layer_norm": 0, "additions": additions}
    return {"step": {**of, **parts}, "infer": of, "peak": peak}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    usual = {
        "torch": contestant(0.4, 0.25, 50000, 400e6),
        "evenkeel": contestant(0.3, 0.15, 40000, 300e6, additions=0.01),
        "bare": contestant(0.2, 0.07, 30000),
    }
    kept = {
        "torch": contestant(0.3, 0.11, 5),
        "evenkeel": contestant(0.2, 0.05, 4, additions=0.01),
        "bare": contestant(0.15, 0.03, 3),
    }
    compiled = usual | {
        "compiled": contestant(0.33, 0, 0),
        "evenkeel compiled": contestant(0.22, 0, 0),
    }
    path = tmp_path / "models.json"
    document = {
        "machine": "M",
        "torch": "T",
        "date": "D",
        "rounds": 3,
        "profiled": 2,
        "inputs": {"net": "16x3x8x8", "other": "2x3"},
        "results": {
            "net/channels_last/f32/usual/2": usual,
            "net/channels_last/f32/kept/2": kept,
            "other/contiguous/f32/usual/2": compiled,
        },
    }
    path.write_text(json.dumps(document))
    return path


def test_ratios(results: Path) -> None:
    text = report(str(results)).stdout
    # 200 of 400 ms are beyond the bare network's part; PyTorch's part is twice evenkeel's.
    row = "| net (16), channels_last | usual | 2 | 400 | 300 | 200 | 1.33 | 1.33 | 50% | 2.00 |"
    assert row in text
    assert (
        "| net (16), channels_last | kept | 2 | 300 | 200 | 150 | 1.50 | 1.50 | 33% | 2.50 |"
        in text
    )
    assert (
        "| net (16), channels_last, 2 threads | 50,000 | 40,000 | 5 | 4 | 400 | 300 | 75% |" in text
    )
    assert "| other (2) | usual | 1.10 | 1.50 |" in text  # compiled
    assert "-10% to +20% | -10% to +20% | - |" in text


def test_blocks_of_a_page(results: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    names = ("models", "models-memory", "models-spread", "models-compiled")
    page.write_text("".join(f"<!-- begin: {n} -->\nold\n<!-- end: {n} -->\n" for n in names))
    assert report(str(results), "--page", str(page)).returncode == 0
    assert "old" not in page.read_text()
    assert "| net (16), channels_last | usual |" in page.read_text()


def test_page_faults_that_are_not_counted(results: Path) -> None:
    document = json.loads(results.read_text())
    document["results"]["net/channels_last/f32/usual/2"]["torch"]["step"]["faults"] = 0
    results.write_text(json.dumps(document))
    text = report(str(results)).stdout
    assert "| net (16), channels_last, 2 threads | - | - | - | - | 400 | 300 | 75% |" in text


def test_without_compiled(results: Path) -> None:
    document = json.loads(results.read_text())
    del document["results"]["other/contiguous/f32/usual/2"]
    results.write_text(json.dumps(document))
    assert "`torch.compile` was not measured" in report(str(results)).stdout


def test_no_results(tmp_path: Path) -> None:
    failed = report(str(tmp_path / "missing.json"))
    assert failed.returncode == 2
    assert "bench/models.py writes it" in failed.stderr
