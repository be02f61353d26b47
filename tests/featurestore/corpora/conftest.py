"""Miniature corpora: empty files stand in for audio, since a manifest needs names and no sound."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

Touch = Callable[..., Path]
Listing = Callable[..., list[tuple[object, ...]]]


@pytest.fixture
def touch() -> Touch:
    """Make empty files below a folder."""

    def make(root: Path, *names: str) -> Path:
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return root

    return make


@pytest.fixture
def write() -> Callable[[Path, str], Path]:
    """Write a text file, folders included."""

    def make(path: Path, text: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return make


@pytest.fixture
def sound() -> Callable[[Path, float], Path]:
    """Write a silent 16 kHz file of so many seconds."""

    def make(path: Path, duration_s: float, sample_rate_hz: int = 16_000) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.zeros(int(duration_s * sample_rate_hz)), sample_rate_hz)
        return path

    return make


@pytest.fixture
def listing() -> Listing:
    """Rows of a table as tuples, missing values as None, to compare with rows written out in a test."""

    def make(table: pd.DataFrame, columns: Iterable[str] | None = None) -> list[tuple[object, ...]]:
        part = table if columns is None else table[list(columns)]
        cells = part.astype(object).where(part.notna(), None)
        return list(cells.itertuples(index=False, name=None))

    return make
