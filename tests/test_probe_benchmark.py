"""The probes' benchmark runs and writes what it measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_small_run(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "benchmarks" / "probe.py"
    command = [
        sys.executable,
        str(script),
        "--small",
        "--folder",
        str(tmp_path),
        "--out",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "probe.json").read_text())
    assert found["training"]["plain / fused"] > 0
    assert [c["fits"] for c in found["fits"]] == [1, 2]
    assert 0 < found["rows"][0]["train_resident_gigabytes"] < 1.5
    assert found["study"]["paper / ours"] > 0
    assert (
        "| plain PyTorch loop, DataLoader / fused, per fit |" in (tmp_path / "out" / "probe.md").read_text()
    )
    assert [p.name for p in tmp_path.iterdir()] == ["out"], "its test data is gone"
