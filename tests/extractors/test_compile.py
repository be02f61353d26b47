"""Compiled blocks: the same values to rounding, another fingerprint, refused where it cannot be."""

from __future__ import annotations

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


def test_what_cannot_be_compiled_is_refused_before_anything_is_made(
    clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"manifest": clips([6000]), "dataset": "d", "store": str(tmp_path / "s"), "compile": True}
    with pytest.raises(ConfigError, match="--compile: logmel has no transformer blocks"):
        extract(ExtractConfig(**options, model="logmel"))  # type: ignore[arg-type]
    # No compiler to be found.
    monkeypatch.setenv("CXX", str(tmp_path / "no-such-compiler"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (str(tmp_path / "no-such-compiler"),))
    model = save_ssl(tmp_path / "tiny", "hubert", "base")
    with pytest.raises(ConfigError, match="--compile: PyTorch cannot compile for cpu here") as error:
        extract(ExtractConfig(**options, model=str(model), device="cpu"))  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
    assert not (tmp_path / "s").exists()
