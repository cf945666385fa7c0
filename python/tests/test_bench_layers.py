"""The tables of bench/layers_report.py, from results written by hand."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPORT = Path(__file__).parents[2] / "bench/layers_report.py"
NAME = "batch_norm/forward/8x256x14x14/nchw/f32/"  # 1.6 MB


def report(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPORT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    one = {"evenkeel": 200e-6, "torch": 300e-6, "stream": 100e-6, "onednn": 400e-6}
    two = {"evenkeel": 125e-6, "torch": 150e-6, "stream": 50e-6}
    path = tmp_path / "layers.json"
    seconds = {"resident": {NAME + "1": one, NAME + "2": two}}
    document = {"machine": "M", "torch": "T", "date": "D", "rounds": 3, "seconds": seconds}
    path.write_text(json.dumps(document))
    return path


def test_ratios(results: Path, tmp_path: Path) -> None:
    text = report(tmp_path, str(results)).stdout
    kind = "| batch_norm forward, nchw, f32 |"
    assert f"{kind} 1 | 1 | 1.50 / 1.50 |" in text  # PyTorch
    assert f"{kind} 2 | 1 | 1.20 / 1.20 |" in text
    assert f"{kind} 1 | 50% / 33% |" in text  # the bytes alone
    assert f"{kind} 1 | 1 | 2.00 / 2.00 |" in text  # oneDNN
    # 0.02 + 0.98 / (0.75 * 8) of 200 us, and 6 us: 42.7 us. For 16 threads 26.3 us.
    assert f"{kind} 1 | 1.60 / 1.60 | 2.00 / 2.00 | 2.00 / 2.00 | 4.7 | 7.6 |" in text


def test_blocks_of_a_page(results: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    names = ("layers", "layers-stream", "layers-onednn", "layers-gains")
    page.write_text("".join(f"<!-- begin: {n} -->\nold\n<!-- end: {n} -->\n" for n in names))
    assert report(tmp_path, str(results), "--page", str(page)).returncode == 0
    assert "old" not in page.read_text()
    assert "1.50 / 1.50" in page.read_text()


def test_a_state_that_was_not_measured(results: Path, tmp_path: Path) -> None:
    document = json.loads(results.read_text())
    document["seconds"] = {"sequence": document["seconds"]["resident"]}
    results.write_text(json.dumps(document))
    done = report(tmp_path, str(results))
    assert done.returncode == 0
    assert "`resident` was not measured" in done.stdout


def test_other_cases_from_another_file(results: Path, tmp_path: Path) -> None:
    document = json.loads(results.read_text())
    times = {"evenkeel": 2e-3, "torch": 5e-3, "stream": 1e-3}
    document["rounds"] = 4
    document["seconds"] = {"resident": {NAME.replace("8x256", "32x256") + "2": times}}
    other = tmp_path / "layers-32.json"
    other.write_text(json.dumps(document))
    text = report(tmp_path, str(results), str(other)).stdout
    assert "medians of 3 and 4 rounds" in text
    assert "| batch_norm forward, nchw, f32 | 2 | 1 | 1.20 / 1.20 |" in text
    assert "| batch_norm forward, nchw, f32, 32 images | 2 | 1 | 2.50 / 2.50 |" in text


def test_no_results(tmp_path: Path) -> None:
    failed = report(tmp_path, "missing.json")
    assert failed.returncode == 2
    assert "bench/layers.py writes it" in failed.stderr
