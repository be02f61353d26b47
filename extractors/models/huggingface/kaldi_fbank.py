"""Kaldi's log-mel filter bank, batched: the front end of wav2vec2-BERT and of AST.

The same numbers as transformers' `spectrogram(..., remove_dc_offset=True, preemphasis=0.97,
mel_scale="kaldi")`, which loops over frames in Python; here all frames of a batch go through one FFT on the
model's device. Frames are whole windows of one clip, so a batch cannot change them.
"""

from __future__ import annotations

import warnings
from typing import Literal

import torch

SAMPLE_RATE_HZ = 16_000
WINDOW_SAMPLES = 400
HOP_SAMPLES = 160
# Constants of `SeamlessM4TFeatureExtractor` and `ASTFeatureExtractor` (transformers), which are Kaldi's.
_FFT_SIZE = 512
_PREEMPHASIS = 0.97
_LOWEST_HZ = 20.0
_MEL_FLOOR = 1.192092955078125e-07


def n_mel_frames(n_samples: int) -> int:
    """Whole windows in `n_samples` samples."""
    return max(0, (n_samples - WINDOW_SAMPLES) // HOP_SAMPLES + 1)


class KaldiFilterBank:
    """Log-mel energies of waveforms at 16 kHz.

    Args:
        n_mels: bands between 20 Hz and 8 kHz.
        window: ``povey`` or ``hann``, symmetric.
        scale: factor on the waveform; 32,768 where a model expects 16-bit integers.
        device: torch device to compute on.
    """

    def __init__(
        self, *, n_mels: int, window: Literal["povey", "hann"], scale: float, device: torch.device
    ) -> None:
        from transformers.audio_utils import mel_filter_bank, window_function

        with warnings.catch_warnings():
            # Of 128 bands the lowest fall between two bins of the FFT and are empty, as in training.
            warnings.filterwarnings("ignore", message="At least one mel filter")
            bank = mel_filter_bank(
                num_frequency_bins=_FFT_SIZE // 2 + 1,
                num_mel_filters=n_mels,
                min_frequency=_LOWEST_HZ,
                max_frequency=SAMPLE_RATE_HZ / 2,
                sampling_rate=SAMPLE_RATE_HZ,
                norm=None,
                mel_scale="kaldi",
                triangularize_in_mel_space=True,
            )
        # float64, as the reference: float32 loses digits where the offset is large against the signal.
        self._bank = torch.tensor(bank, dtype=torch.float64, device=device)  # [bins, mels]
        shape = window_function(WINDOW_SAMPLES, window, periodic=False)
        self._window = torch.tensor(shape, dtype=torch.float64, device=device)
        self._scale = scale

    def __call__(self, waveforms: torch.Tensor) -> torch.Tensor:
        """`[b, n]`, at least one window long → float64 `[b, t, n_mels]`, natural logarithm."""
        x = waveforms.double() * self._scale
        frames = x.unfold(1, WINDOW_SAMPLES, HOP_SAMPLES)  # [b, t, window]
        frames = frames - frames.mean(dim=2, keepdim=True)
        previous = torch.cat([frames[..., :1], frames[..., :-1]], dim=2)
        frames = (frames - _PREEMPHASIS * previous) * self._window
        power = torch.fft.rfft(frames, n=_FFT_SIZE).abs().square()
        bands: torch.Tensor = power @ self._bank
        return bands.clamp_min(_MEL_FLOOR).log()
