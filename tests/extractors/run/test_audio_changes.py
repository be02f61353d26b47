"""`--refresh`: what changed is embedded again, what cannot be read now is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from extractors import ExtractConfig, ExtractSummary, extract
from featurestore import open_store
from tests.extractors.run.test_extraction import Clips


def run(manifest: Path, store: Path, *, refresh: bool = False) -> ExtractSummary:
    return extract(
        ExtractConfig(
            manifest=manifest,
            dataset="noise",
            model="logmel",
            store=str(store),
            unit_rows=2,
            min_samples=1,
            normalisation="zero-mean-unit-variance",
            refresh=refresh,
        )
    )


def values(store: Path) -> dict[str, np.ndarray]:
    features = open_store(store).features("logmel", "noise")
    return dict(zip(features.index["utterance_id"], features.layer(0).numpy(), strict=True))


def noise(path: Path, n_samples: int) -> None:
    samples = np.random.default_rng(5).standard_normal(n_samples).astype(np.float32)
    soundfile.write(path, 0.1 * samples, 16_000)


@pytest.mark.slow
def test_refresh_keeps_what_cannot_be_read_now_and_its_unit(clips: Clips, tmp_path: Path) -> None:
    manifest = clips([6000, 6010, 6020, 6030])
    folder, store = manifest.parent, tmp_path / "s"
    run(manifest, store)
    before = values(store)
    audio = (folder / "clip000.wav").read_bytes()
    (folder / "clip000.wav").write_text("the disk is tired")
    noise(folder / "clip001.wav", 6010)  # in the unit of the broken file
    noise(folder / "clip003.wav", 6030)
    summary = run(manifest, store, refresh=True)
    assert summary.failed == {}
    assert any("1 embedded utterances cannot be read now (first 'clip000')" in n for n in summary.notes)
    assert any("1 units with changed audio also hold" in n for n in summary.notes)
    after = values(store)
    for kept in ("clip000", "clip001", "clip002"):
        np.testing.assert_array_equal(after[kept], before[kept])
    assert not np.array_equal(after["clip003"], before["clip003"])
    # Once the file can be read again, what was put off is done.
    (folder / "clip000.wav").write_bytes(audio)
    assert run(manifest, store, refresh=True).n_embedded == 2
    assert not np.array_equal(values(store)["clip001"], before["clip001"])


def test_refresh_tries_a_failed_clip_again_only_if_it_can_be_used_now(clips: Clips, tmp_path: Path) -> None:
    manifest = clips([100, 6000, 6010, 6020])
    folder, store = manifest.parent, tmp_path / "s"
    soundfile.write(folder / "clip001.wav", np.full(6000, 0.5, np.float32), 16_000)
    soundfile.write(folder / "clip002.wav", np.zeros(6010, np.float32), 16_000)
    assert set(run(manifest, store).failed) == {"clip000", "clip001", "clip002"}
    index = open_store(store).features("logmel", "noise").index.set_index("utterance_id")
    assert index["audio_hash"].ne("").to_dict() == {f"clip00{i}": i == 3 for i in range(4)}
    summary = run(manifest, store, refresh=True)
    assert (summary.n_embedded, summary.notes[-1]) == (0, "refresh: all audio is what it was")
    noise(folder / "clip001.wav", 6000)
    summary = run(manifest, store, refresh=True)
    assert set(summary.failed) == {"clip000"}
    assert summary.n_embedded == 2
