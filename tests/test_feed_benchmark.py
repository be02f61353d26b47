"""The feed's benchmark runs: every clip gets to the model that costs nothing, and every step is measured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_quick_run(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "benchmarks" / "feed.py"
    done = subprocess.run(
        [sys.executable, str(script), "--quick", "--out", str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(" | ")[0] for line in lines[:2]] == ["| wav", "| flac"]
    steps = {line.split("|")[1].strip(): line.split("|")[2] for line in lines if line.count("|") == 4}
    assert float(steps["all of it"]) > float(steps["resample"]) > 0
    assert lines[-1].startswith("Mean and std of all layers take ")
    assert not list(tmp_path.iterdir())  # a smoke run's numbers are not kept
