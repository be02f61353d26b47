"""Baselines without weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from extractors.base import Extractor, ModelCard, OnLayer, Precision

# 25 ms windows every 10 ms, 64 mel bands up to the Nyquist frequency: the usual log-mel front end.
SAMPLE_RATE_HZ = 16_000
WINDOW_SAMPLES = 400
HOP_SAMPLES = 160
FFT_SIZE = 512
N_MELS = 64
# Power floor before the logarithm, far below 16-bit quantisation noise.
LOG_FLOOR = 1e-10


class LogMelSource:
    """``logmel``: log-mel bands as the only layer."""

    card = ModelCard(
        name="logmel",
        family="logmel",
        n_layers=1,
        n_features=N_MELS,
        sample_rate_hz=SAMPLE_RATE_HZ,
        hop_samples=HOP_SAMPLES,
        normalisation="none",
        normalisation_source="log-mel needs none",
        trained=False,
    )

    def fingerprint(self) -> Mapping[str, Any]:
        """See `ModelSource.fingerprint`."""
        return {
            "family": "logmel",
            "window_samples": WINDOW_SAMPLES,
            "hop_samples": HOP_SAMPLES,
            "fft_size": FFT_SIZE,
            "mels": f"{N_MELS}, Slaney, 0-{SAMPLE_RATE_HZ // 2} Hz",
            "log_floor": LOG_FLOOR,
        }

    def load(self, device: str, precision: Precision) -> Extractor:
        """See `ModelSource.load`; precision is always float32."""
        return LogMelExtractor(self.card, device)


class LogMelExtractor:
    """Log-mel energies, natural logarithm."""

    def __init__(self, card: ModelCard, device: str) -> None:
        import torch
        from transformers.audio_utils import mel_filter_bank

        self.card = card
        self._device = torch.device(device)
        bank = mel_filter_bank(
            num_frequency_bins=FFT_SIZE // 2 + 1,
            num_mel_filters=N_MELS,
            min_frequency=0.0,
            max_frequency=SAMPLE_RATE_HZ / 2,
            sampling_rate=SAMPLE_RATE_HZ,
            norm="slaney",
            mel_scale="slaney",
        )
        self._bank = torch.tensor(bank, dtype=torch.float32, device=self._device)  # [bins, mels]
        self._window = torch.hann_window(WINDOW_SAMPLES, device=self._device)

    def n_frames(self, n_samples: int) -> int:
        """Whole windows in `n_samples` samples."""
        return max(0, (n_samples - WINDOW_SAMPLES) // HOP_SAMPLES + 1)

    def forward(self, clips: Sequence[np.ndarray], layers: Sequence[int], on_layer: OnLayer) -> None:
        """See `Extractor.forward`."""
        import torch

        frames = [self.n_frames(len(c)) for c in clips]
        batch = np.zeros((len(clips), max(len(c) for c in clips)), dtype=np.float32)
        for i, clip in enumerate(clips):
            batch[i, : len(clip)] = clip
        with torch.inference_mode():
            x = torch.from_numpy(batch).to(self._device)
            # [b, frames, window] by strides: no frame holds padding unless it lies past the clip's end.
            windows = x.unfold(1, WINDOW_SAMPLES, HOP_SAMPLES) * self._window
            power = torch.fft.rfft(windows, n=FFT_SIZE).abs().square()
            on_layer(0, (power @ self._bank).clamp_min(LOG_FLOOR).log(), frames)
