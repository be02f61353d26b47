"""Mel bands in decibels, of windows of one length: the front end of CLAP and of BirdSet's networks.

The same numbers as torchaudio's `Spectrogram(power=2)` and `MelScale`, or transformers' `spectrogram(power=2,
log_mel="dB")`, on the model's device and in float64: what lies 80 dB under the loudest has few digits in
float32. Each window is computed by itself.
"""

from __future__ import annotations

import warnings
from typing import Literal

import torch

# The smallest power that is told from silence, in both of them.
_POWER_FLOOR = 1e-10


class MelSpectrogram:
    """Mel bands in decibels.

    Args:
        sample_rate_hz: of the waveforms.
        n_fft: samples of a frame, under a periodic Hann window.
        hop_samples: from one frame to the next; frame k has sample k · hop in its middle.
        n_mels: bands.
        lowest_hz: where the first begins.
        highest_hz: where the last ends.
        scale: ``htk``, of equal heights, or ``slaney``, of equal areas.
        top_db: what lies further below the loudest of its window is raised to there; None: nothing is.
        device: torch device to compute on.
    """

    def __init__(
        self,
        *,
        sample_rate_hz: int,
        n_fft: int,
        hop_samples: int,
        n_mels: int,
        lowest_hz: float,
        highest_hz: float,
        scale: Literal["htk", "slaney"],
        top_db: float | None,
        device: torch.device,
    ) -> None:
        from transformers.audio_utils import mel_filter_bank

        with warnings.catch_warnings():
            # The lowest bands may fall between two bins of the FFT and are empty, as in training.
            warnings.filterwarnings("ignore", message="At least one mel filter")
            bank = mel_filter_bank(
                num_frequency_bins=n_fft // 2 + 1,
                num_mel_filters=n_mels,
                min_frequency=lowest_hz,
                max_frequency=highest_hz,
                sampling_rate=sample_rate_hz,
                norm="slaney" if scale == "slaney" else None,
                mel_scale=scale,
            )
        self._bank = torch.tensor(bank, dtype=torch.float64, device=device)  # [bins, mels]
        self._window = torch.hann_window(n_fft, dtype=torch.float64, device=device)
        self._n_fft, self._hop, self._top_db = n_fft, hop_samples, top_db

    def __call__(self, waveforms: torch.Tensor) -> torch.Tensor:
        """`[b, n]`, more than half a frame long → float64 `[b, t, n_mels]` with t = n // hop + 1."""
        bins = torch.stft(
            waveforms.double(),
            self._n_fft,
            self._hop,
            window=self._window,
            center=True,
            pad_mode="reflect",
            return_complex=True,
        )  # [b, bins, t]
        power = bins.real.square() + bins.imag.square()
        bands = power.transpose(1, 2) @ self._bank
        decibels: torch.Tensor = 10.0 * bands.clamp_min(_POWER_FLOOR).log10()
        if self._top_db is None:
            return decibels
        # Of each window, where BirdSet's own code takes the loudest of all of a batch.
        return decibels.maximum(decibels.amax((1, 2), keepdim=True) - self._top_db)
