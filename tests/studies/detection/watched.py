"""Long recordings, and how much memory `fs detect` holds on one."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import soundfile

from tests.studies.detection.planted import World, recording

RATE_HZ = 48_000


def write_noise(path: Path, minutes: int) -> None:
    """The same minute of noise, again and again."""
    minute = np.round(recording(60.0, [], 0, RATE_HZ) * 32767).astype(np.int16)
    with soundfile.SoundFile(path, "w", RATE_HZ, 1, "PCM_16") as file:
        for _ in range(minutes):
            file.write(minute)


def peak_bytes(world: World, recording: Path | str, out: Path, *options: str) -> int:
    """Most memory that `fs detect` holds on a recording, in a process of its own."""
    words = [sys.executable, "-m", "cli", "detect", str(recording), "--probe", str(world.probe)]
    words += ["--out", str(out), "--window", "1", "--hop", "1", *options, "-q"]
    process = subprocess.Popen(words)
    peak, seen = 0, psutil.Process(process.pid)
    while process.poll() is None:
        try:
            peak = max(peak, seen.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.05)
    assert process.wait() == 0
    return peak
