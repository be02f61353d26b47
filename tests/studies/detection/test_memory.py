"""What `fs detect` holds does not grow with the recording."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

from tests.studies.detection.planted import World, recording

HOURS, RATE_HZ = 2, 48_000


def peak_bytes(world: World, path: Path, out: Path) -> int:
    """Most memory that `fs detect` holds on a recording, in a process of its own."""
    words = [sys.executable, "-m", "cli", "detect", str(path), "--probe", str(world.probe), "--out", str(out)]
    process = subprocess.Popen([*words, "--window", "1", "--hop", "1", "--scores", "-q"])
    peak, seen = 0, psutil.Process(process.pid)
    while process.poll() is None:
        try:
            peak = max(peak, seen.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.05)
    assert process.wait() == 0
    return peak


@pytest.mark.slow
def test_two_hours_take_no_more_memory_than_two_minutes(tmp_path: Path) -> None:
    world = World(tmp_path / "world")
    minute = np.round(recording(60.0, [], 0, RATE_HZ) * 32767).astype(np.int16)
    peaks = []
    for name, minutes in (("short", 2), ("long", 60 * HOURS)):
        with soundfile.SoundFile(tmp_path / f"{name}.wav", "w", RATE_HZ, 1, "PCM_16") as file:
            for _ in range(minutes):
                file.write(minute)
        peaks.append(peak_bytes(world, tmp_path / f"{name}.wav", tmp_path / name))
    # The samples of two hours are 1.4 GB as the model's numbers.
    assert peaks[1] - peaks[0] < 150e6
    assert peaks[1] < 1.5e9
