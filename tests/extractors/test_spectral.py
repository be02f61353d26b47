from __future__ import annotations

import numpy as np
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from extractors.spectral import LogMelSource


def test_logmel_equals_transformers_spectrogram_for_any_batch() -> None:
    rng = np.random.default_rng(0)
    clips = [rng.standard_normal(n).astype(np.float32) for n in (16_000, 5000, 5123, 400)]
    extractor = LogMelSource().load("cpu", "fp32")
    got: list[np.ndarray] = []
    extractor.forward(
        clips, [0], lambda _, frames, n: got.extend(frames[i, : n[i]].numpy() for i in range(len(n)))
    )
    bank = mel_filter_bank(257, 64, 0.0, 8000.0, 16_000, norm="slaney", mel_scale="slaney")
    for clip, frames in zip(clips, got, strict=True):
        reference = spectrogram(
            clip,
            window_function(400, "hann", periodic=True),
            frame_length=400,
            hop_length=160,
            fft_length=512,
            power=2.0,
            center=False,
            mel_filters=bank,
            mel_floor=1e-10,
            log_mel="log",
        ).T
        assert frames.shape == reference.shape == (extractor.n_frames(len(clip)), 64)
        np.testing.assert_allclose(frames, reference, atol=2e-3, rtol=1e-4)
