"""Extraction's benchmark runs: every variant and every peer of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_small_run(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "benchmarks" / "extract.py"
    options = ["--small", "--clips", "12", "--parts", "speed", "--out", str(tmp_path)]
    done = subprocess.run([sys.executable, str(script), *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    measured = [line.split()[0] for line in done.stdout.splitlines() if "clips/s" in line]
    assert {"ours", "bare", "batch_one", "papers_loop"} <= set(measured)
    assert "rate, of a bare forward's" in done.stdout
    assert not list(tmp_path.iterdir())  # a smoke run's numbers are not kept
