"""The run that is prepared for a GPU goes through on a CPU, and keeps what it has when a section fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"
SECTIONS = ["parity", "peak", "rates", "peers", "files", "probes", "fits"]


def run(out: Path, *options: str) -> dict[str, dict[str, object]]:
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--small", "--out", str(out), *options]
    # Threads that share busy cores wait for each other longer than they work.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    for name in (out / "gpu.json", out / "gpu.md"):
        assert name.exists()
    found: dict[str, dict[str, object]] = json.loads((out / "gpu.json").read_text())["sections"]
    return found


@pytest.mark.slow
def test_every_section_goes_through(tmp_path: Path) -> None:
    found = run(tmp_path)
    assert list(found) == SECTIONS
    for name, content in found.items():
        assert "failed" not in content, (name, content["failed"])
    assert "TOO" not in json.dumps(found)


@pytest.mark.slow
def test_a_section_without_time_leaves_the_others(tmp_path: Path) -> None:
    found = run(tmp_path, "--sections", "peak,fits", "--minutes", "0.0001")
    assert set(found) == {"peak", "fits"}
    assert all("not run" in content for content in found.values())
