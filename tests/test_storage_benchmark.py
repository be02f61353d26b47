"""The benchmark of codecs goes through on the demo's corpus, and its bytes are those of the codecs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "storage.py"


@pytest.mark.slow
def test_every_codec_is_measured() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), "--without-times"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=290, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    found = {name: (float(share), float(change)) for name, share, _, _, change, *_ in rows}
    assert found["fast"] == (pytest.approx(1, abs=0.01), 0)
    assert found["half"][0] == pytest.approx(0.5, abs=0.01)
    assert found["small"][1] == found["pcodec"][1] == 0
    rounded = [found[f"bitround{n}"] for n in (12, 10, 8, 6, 4, 2)]
    assert [share for share, _ in rounded] == sorted((share for share, _ in rounded), reverse=True)
    assert [change for _, change in rounded] == sorted(change for _, change in rounded)
    assert all(row[2:4] == ["–", "–"] for row in rows)
