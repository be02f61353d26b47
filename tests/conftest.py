"""Fixtures that every package's tests share: tiny corpora, tiny models, bounded threads."""

from __future__ import annotations

import os

# Before torch, BLAS and libraries built on them are imported: tests run beside each other.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
# Tests kill processes and never the machine: what is written needs not be on disk, where waiting for it would
# take most of their time. Those that are about a disk that refuses set what `fsync` does themselves.
os.fsync = lambda descriptor: None

import gc
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import hypothesis
import numpy as np
import pandas as pd
import pytest
import soundfile

# How long an example takes says how busy the machine is. CI runs the properties once more with many examples:
# `pytest -m hypothesis --hypothesis-profile thorough`.
hypothesis.settings.register_profile("tests", deadline=None, max_examples=20)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=150)
hypothesis.settings.load_profile("tests")

SAMPLE_RATE_HZ = 16_000


def pytest_collection_finish() -> None:
    """What is imported stays until the end: it need not be looked through for garbage again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or writes the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def write_clips(
    folder: Path,
    lengths: Sequence[int],
    *,
    rate: int = SAMPLE_RATE_HZ,
    seed: int = 0,
    labels: bool = True,
) -> Path:
    """Write one noise-and-tone WAV per length (in samples) and a manifest; return the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    rows = []
    for i, n in enumerate(lengths):
        tone = np.sin(2 * np.pi * (300 + 40 * (i % 7)) * np.arange(n) / rate)
        signal = 0.3 * tone + 0.1 * rng.standard_normal(n)
        soundfile.write(folder / f"clip{i:03d}.wav", signal.astype(np.float32), rate, subtype="FLOAT")
        rows.append({"path": f"clip{i:03d}.wav", "kind": "ab"[i % 2], "caller": f"c{i % 3}"})
    table = pd.DataFrame(rows)
    if not labels:
        table = table[["path"]]
    table.to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


def heed_ctrl_c() -> None:
    """`preexec_fn` of a process that is to be interrupted: what a shell starts with ``&`` ignores SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def clips(tmp_path: Path) -> Callable[..., Path]:
    """`write_clips` into this test's folder."""

    def make(lengths: Sequence[int], name: str = "audio", **options: object) -> Path:
        return write_clips(tmp_path / name, lengths, **options)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def shared() -> Path:
    """The development data beside the checkout, where there is any."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("development data is not at hand")
    return folder
