"""Compiled blocks: the same values to rounding, another fingerprint, refused where it cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from extractors import ExtractConfig, extract
from featurestore import open_store
from featurestore.errors import ConfigError, FingerprintMismatch
from tests.models import save_ssl

Clips = Callable[..., Path]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # PyTorch's compiler over its own modules
def test_compiled_blocks_give_the_same_values_under_a_fingerprint_of_their_own(
    clips: Clips, tmp_path: Path
) -> None:
    manifest = clips([9000, 5000, 7000, 5000])
    model = save_ssl(tmp_path / "tiny", "hubert", "base")
    options = {"manifest": manifest, "dataset": "d", "model": str(model), "store": str(tmp_path / "s")}
    extract(ExtractConfig(**options))  # type: ignore[arg-type]
    with pytest.raises(FingerprintMismatch, match="compiled: stored"):
        extract(ExtractConfig(**options, compile=True))  # type: ignore[arg-type]
    summary = extract(ExtractConfig(**options, compile=True, name="compiled", layers="0-2"))  # type: ignore[arg-type]
    assert summary.selfcheck is not None
    assert summary.selfcheck.beyond is None
    store = open_store(tmp_path / "s")
    plain, compiled = store.features("tiny", "d"), store.features("compiled", "d")
    for layer in compiled.layers:
        a, b = compiled.layer(layer).numpy(), plain.layer(layer).numpy()
        assert np.abs(a - b).max() / np.abs(b).max() < 1e-5


def test_models_without_blocks_are_refused_before_anything_is_made(clips: Clips, tmp_path: Path) -> None:
    options = {"manifest": clips([6000]), "dataset": "d", "store": str(tmp_path / "s"), "compile": True}
    with pytest.raises(ConfigError, match="--compile: logmel has no transformer blocks"):
        extract(ExtractConfig(**options, model="logmel"))  # type: ignore[arg-type]
    assert not (tmp_path / "s").exists()


@pytest.mark.slow
def test_without_a_compiler_it_is_one_line(clips: Clips, tmp_path: Path) -> None:
    model = save_ssl(tmp_path / "tiny", "hubert", "base")
    command = [
        sys.executable,
        "-m",
        "cli",
        "extract",
        "-m",
        str(clips([6000])),
        "--dataset",
        "d",
        "--compile",
    ]
    command += ["--model", str(model), "--store", str(tmp_path / "s"), "--device", "cpu", "-q"]
    # In a process of its own: this one may have compiled the same before.
    environment = {"CXX": str(tmp_path / "no-compiler"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        command,
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "error: --compile: PyTorch cannot compile for cpu here" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "s").exists()
