"""The store's benchmark runs, and what it counts is what is promised."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_small_run(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "benchmarks" / "store.py"
    done = subprocess.run(
        [sys.executable, str(script), "--small", "--folder", str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "fs ls of 20 keys" in done.stdout
    # Two layers: documents and columns, as docs/store.md counts them.
    line = next(x for x in done.stdout.splitlines() if "objects_beyond_layers_times_units" in x)
    assert float(line.split()[1]) == 20 + 2
