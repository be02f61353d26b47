"""WAV files with the notes of recorders: GUANO text, WAMD fields."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np


def guano(*lines: str) -> tuple[bytes, bytes]:
    """A chunk of GUANO, its version first."""
    return b"guan", "\n".join(["GUANO|Version: 1.0", "", *lines]).encode()


def wamd(*fields: tuple[int, bytes]) -> tuple[bytes, bytes]:
    """A chunk of WAMD."""
    return b"wamd", b"".join(struct.pack("<HI", number, len(value)) + value for number, value in fields)


def write_wav(
    path: Path,
    *chunks: tuple[bytes, bytes],
    rate_hz: int = 48_000,
    first: bool = False,
    n_samples: int = 481,
    data_size: int | None = None,
) -> Path:
    """Mono 16-bit noise with these chunks behind (or before) the audio, padded as RIFF asks for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    audio = np.random.default_rng(0).integers(-9, 9, n_samples, dtype="<i2").tobytes()
    size = len(audio) if data_size is None else data_size
    sound = b"data" + struct.pack("<I", size) + audio
    extra = b"".join(n + struct.pack("<I", len(c)) + c + b"\0" * (len(c) % 2) for n, c in chunks)
    form = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, rate_hz, 2 * rate_hz, 2, 16)
    body = b"WAVE" + form + (extra + sound if first else sound + extra)
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path
