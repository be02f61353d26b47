"""A sound corpus of 60 calls, and how to write clips of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

RATE_HZ = 16_000
N = 60


def call(seed: int, n: int = 12_000, rate_hz: int = RATE_HZ) -> np.ndarray:
    """Harmonics with vibrato in noise, below full scale, unlike any other seed's."""
    rng = np.random.default_rng(seed)
    t = np.arange(n) / rate_hz
    phase = (
        2 * np.pi * np.cumsum(rng.uniform(250, 900) * (1 + 0.1 * np.sin(rng.uniform(20, 60) * t))) / rate_hz
    )
    envelope = np.interp(t, np.linspace(0, t[-1], 8), rng.uniform(0.1, 1, 8))
    tone = sum(rng.uniform(0.2, 1) * np.sin(k * phase) for k in (1, 2, 3))
    return (0.2 * envelope * tone + 0.01 * rng.standard_normal(n)).astype(np.float32)


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `corpus` copies."""
    folder = tmp_path_factory.mktemp("audited")
    rows = []
    for i in range(N):
        soundfile.write(folder / f"clip{i:02d}.wav", call(i, 9000 + 200 * (i * 7 % 31)), RATE_HZ)
        rows.append(
            {
                "utterance_id": f"u{i:02d}",
                "path": f"clip{i:02d}.wav",
                "start_s": "",
                "end_s": "",
                "channel": "",
                "group": f"night-{i % 6}",
                "call": ("phee", "trill", "twitter")[i % 3],
                "caller": ("ana", "bo")[i % 2],
            }
        )
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return folder


@pytest.fixture
def corpus(written: Path, tmp_path: Path) -> Path:
    """Folder with clip00.wav … clip59.wav (16 bit) and manifest.csv with two labels."""
    return shutil.copytree(written, tmp_path / "audio") / "manifest.csv"
