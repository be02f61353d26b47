"""Repeats in the batch against the study's rule, and batches of one clip against the product."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel

from extractors import ExtractConfig, extract
from featurestore import open_store
from studies.as_published.batch_repeats import embed_in_batches, repeated_to_longest
from tests.conftest import write_clips
from tests.librosa_rule import librosa_load
from tests.models import save_ssl

LENGTHS = [3000, 7000, 5000, 9000, 6100]


def rule(wav: np.ndarray, longest: int) -> np.ndarray:
    """Whole copies, then the beginning."""
    return np.concatenate([*[wav] * (longest // len(wav)), wav[: longest % len(wav)]])


def test_clips_are_repeated_from_their_start_to_the_longest() -> None:
    waves = [np.random.default_rng(n).standard_normal(n).astype(np.float32) for n in (7, 30, 12)]
    np.testing.assert_array_equal(repeated_to_longest(waves, 10), np.stack([rule(w, 30) for w in waves]))
    np.testing.assert_array_equal(repeated_to_longest(waves, 41), np.stack([rule(w, 41) for w in waves]))


def test_alone_they_are_what_the_preset_stores_and_together_they_are_not(tmp_path: Path) -> None:
    manifest = write_clips(tmp_path / "audio", LENGTHS)
    folder = save_ssl(tmp_path / "tiny", "hubert", "base")
    store = str(tmp_path / "s")
    extract(
        ExtractConfig(manifest=manifest, dataset="d", model=str(folder), store=store, preset="sarkar2025")
    )
    features = open_store(store).features("tiny", "d")
    waves = []
    for i, n in enumerate(LENGTHS):
        wave = librosa_load(str(tmp_path / f"audio/clip{i:03d}.wav"), 0, n / 16_000)
        waves.append(wave / np.abs(wave).max())
    model = AutoModel.from_pretrained(folder).eval()
    alone = embed_in_batches(model, waves, batch_clips=1)
    position = [features.index["utterance_id"].tolist().index(f"clip{i:03d}") for i in range(len(LENGTHS))]
    for k, layer in enumerate(features.layers):
        stored = features.layer(layer).numpy()[position].reshape(len(LENGTHS), -1)
        np.testing.assert_allclose(alone[:, k], stored, atol=1e-5 * np.abs(stored).max())
    together = embed_in_batches(model, waves, batch_clips=3)
    longest = [3, 4]  # of their batches: nothing was repeated
    np.testing.assert_allclose(together[longest[0], -1], alone[longest[0], -1], atol=1e-4)
    assert np.abs(together[0] - alone[0]).max() > 1e-3
    batch = torch.from_numpy(np.stack([rule(w, 7000) for w in waves[:3]]))
    with torch.no_grad():
        states = model(batch, output_hidden_states=True).hidden_states
    np.testing.assert_allclose(together[:3, 2, :24], states[2].mean(1).numpy(), atol=1e-5)
