"""Baselines without weights: ``logmel[:RATE]`` and ``mfcc[:RATE]``.

Both rest on the same frames: 25 ms Hann windows every 10 ms, 64 mel bands (Slaney's) from 0 Hz to the
Nyquist frequency, natural logarithm. The rate is 16 kHz unless one is given; windows follow it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.fft import dct

from extractors.models.interface import Extractor, ModelCard, OnLayer, Precision
from extractors.models.torch_tools import PaddedInput, count_frames, padded_batch
from featurestore.errors import ModelError
from featurestore.names import is_whole_number

SAMPLE_RATE_HZ = 16_000
# Below, mel bands would share the bins of a 25 ms window; above, no recorder goes.
RATES_HZ = range(8_000, 1_000_001)
WINDOW_S = 0.025
HOP_S = 0.010
N_MELS = 64
# Power floor before the logarithm, far below 16-bit quantisation noise.
LOG_FLOOR = 1e-10
N_MFCC = 20
# Frames on each side that a Δ looks at.
DELTA_WIDTH = 2
# MFCC, Δ and ΔΔ, their mean and std, and the logarithm of the duration.
N_MFCC_FEATURES = 2 * 3 * N_MFCC + 1


def parse_rate(name: str, argument: str | None) -> int:
    """The rate of ``NAME:RATE``.

    Raises:
        ModelError: not a whole number of hertz within reason.
    """
    if argument is None:
        return SAMPLE_RATE_HZ
    if not is_whole_number(argument) or int(argument) not in RATES_HZ:
        raise ModelError(
            f"--model {name}:{argument}: expected a sample rate in Hz between {RATES_HZ.start} and "
            f"{RATES_HZ.stop - 1}, such as {name}:44100"
        )
    return int(argument)


def baseline_card(
    name: str,
    sample_rate_hz: int,
    *,
    n_features: int,
    hop_samples: int | None,
    source: str | None,
    receptive_samples: int | None = None,
) -> ModelCard:
    """The card of a baseline: pooled without a hop; the rate is part of its name unless it is the default."""
    return ModelCard(
        name=name if sample_rate_hz == SAMPLE_RATE_HZ else f"{name}-{sample_rate_hz}",
        family=name,
        n_layers=1,
        n_features=n_features,
        sample_rate_hz=sample_rate_hz,
        hop_samples=hop_samples or sample_rate_hz,  # one vector, however long
        receptive_samples=receptive_samples,
        normalisation="none",
        normalisation_source=f"{name} needs none",
        trained=False,
        pooled=hop_samples is None,
        # Repeating changes a clip's duration and spectrum, which pooled baselines measure.
        repeat_short=hop_samples is not None,
        source=source,
    )


class MelFrames:
    """The log-mel frames at one sample rate: samples of a window, from one to the next, and of its FFT."""

    def __init__(self, sample_rate_hz: int) -> None:
        self.sample_rate_hz = sample_rate_hz
        self.window_samples = round(WINDOW_S * sample_rate_hz)
        self.hop_samples = round(HOP_S * sample_rate_hz)
        self.fft_size = 1 << (self.window_samples - 1).bit_length()  # the next power of two

    def bank(self, device: torch.device) -> torch.Tensor:
        """Mel filters float32 `[bins, mels]`."""
        from transformers.audio_utils import mel_filter_bank

        bank = mel_filter_bank(
            num_frequency_bins=self.fft_size // 2 + 1,
            num_mel_filters=N_MELS,
            min_frequency=0.0,
            max_frequency=self.sample_rate_hz / 2,
            sampling_rate=self.sample_rate_hz,
            norm="slaney",
            mel_scale="slaney",
        )
        return torch.tensor(bank, dtype=torch.float32, device=device)

    def fingerprint(self) -> Mapping[str, Any]:
        """Readable values for the key's fingerprint."""
        return {
            "window_samples": self.window_samples,
            "hop_samples": self.hop_samples,
            "fft_size": self.fft_size,
            "mels": f"{N_MELS}, Slaney, 0-{self.sample_rate_hz / 2:g} Hz",
            "log_floor": LOG_FLOOR,
        }


class _MelExtractor(PaddedInput):
    """What both baselines share: filters and window on the device, clips in one array."""

    def __init__(self, card: ModelCard, mel: MelFrames, device: str) -> None:

        self.card = card
        self.mel = mel
        self.device = torch.device(device)
        self._bank = mel.bank(self.device)
        self._window = torch.hann_window(mel.window_samples, device=self.device)

    def _log_mel(self, waveforms: torch.Tensor) -> torch.Tensor:
        """`[b, n]` → `[b, t, mels]`, whole windows only."""
        # By strides: no frame holds padding unless it lies past the clip's end.
        windows = waveforms.unfold(1, self.mel.window_samples, self.mel.hop_samples) * self._window
        power = torch.fft.rfft(windows, n=self.mel.fft_size).abs().square()
        bands: torch.Tensor = power @ self._bank
        return bands.clamp_min(LOG_FLOOR).log()


class LogMelSource:
    """``logmel``: log-mel bands as the only layer."""

    def __init__(self, argument: str | None = None) -> None:
        self._mel = MelFrames(parse_rate("logmel", argument))
        self.card = baseline_card(
            "logmel",
            self._mel.sample_rate_hz,
            n_features=N_MELS,
            hop_samples=self._mel.hop_samples,
            receptive_samples=self._mel.window_samples,
            source=None,
        )

    def fingerprint(self) -> Mapping[str, Any]:
        """See `ModelSource.fingerprint`."""
        return {"family": "logmel", **self._mel.fingerprint()}

    def load(self, device: str, precision: Precision) -> Extractor:
        """See `ModelSource.load`; precision is always float32."""
        return LogMelExtractor(self.card, self._mel, device)


class LogMelExtractor(_MelExtractor):
    """Log-mel energies of whole windows, natural logarithm."""

    def n_frames(self, n_samples: int) -> int:
        """Whole windows in `n_samples` samples."""
        return max(0, (n_samples - self.mel.window_samples) // self.mel.hop_samples + 1)

    def forward(self, clips: Sequence[np.ndarray], layers: Sequence[int], on_layer: OnLayer) -> None:
        """See `Extractor.forward`."""
        frames = count_frames(self, clips)
        with torch.inference_mode():
            x = padded_batch(clips, self.device)
            if 0 in layers:
                on_layer(0, self._log_mel(x), frames)


class MfccSource:
    """``mfcc``: the 121 numbers of the usual bioacoustic baseline, one vector per clip.

    The 20 cepstral coefficients, their Δ and ΔΔ: means (60), then unbiased standard deviations (60), then
    the natural logarithm of the clip's duration in seconds. Frames are centred, so that a clip of 10 ms
    has two of them; Δ is the regression over two frames on each side, with the first and last frame
    repeated (HTK's).
    """

    def __init__(self, argument: str | None = None) -> None:
        self._mel = MelFrames(parse_rate("mfcc", argument))
        self.card = baseline_card(
            "mfcc",
            self._mel.sample_rate_hz,
            n_features=N_MFCC_FEATURES,
            hop_samples=None,
            source="Davis & Mermelstein 1980; Δ after the HTK Book, eq. 5.16",
        )

    def fingerprint(self) -> Mapping[str, Any]:
        """See `ModelSource.fingerprint`."""
        return {
            "family": "mfcc",
            **self._mel.fingerprint(),
            "coefficients": f"{N_MFCC} of an orthonormal DCT-II, with Δ and ΔΔ over ±{DELTA_WIDTH} frames",
            "features": "mean, unbiased std, log of the duration in s",
            "frames": "centred, zeros past the clip's ends",
        }

    def load(self, device: str, precision: Precision) -> Extractor:
        """See `ModelSource.load`; precision is always float32."""
        return MfccExtractor(self.card, self._mel, device)


class MfccExtractor(_MelExtractor):
    """MFCC statistics and duration."""

    def __init__(self, card: ModelCard, mel: MelFrames, device: str) -> None:
        super().__init__(card, mel, device)
        basis = dct(np.eye(N_MELS), type=2, norm="ortho", axis=1)[:, :N_MFCC]  # [mels, coefficients]
        self._dct = torch.tensor(basis, dtype=torch.float32, device=self.device)

    def n_frames(self, n_samples: int) -> int:
        """One vector per clip, if it has the two frames a standard deviation needs."""
        return int(self._n_windows(n_samples) >= 2)

    def forward(self, clips: Sequence[np.ndarray], layers: Sequence[int], on_layer: OnLayer) -> None:
        """See `Extractor.forward`."""
        frames = count_frames(self, clips)
        lengths = torch.tensor([len(c) for c in clips], device=self.device)
        counts = torch.tensor([self._n_windows(len(c)) for c in clips], device=self.device)
        half = self.mel.window_samples // 2
        with torch.inference_mode():
            x = padded_batch(clips, self.device)
            # The zeros behind a shorter clip of the batch are the ones it would be padded with alone.
            padded = torch.nn.functional.pad(x, (half, self.mel.window_samples - half))
            static = self._log_mel(padded)[:, : int(counts.max())] @ self._dct  # [b, t, coefficients]
            delta = _delta(static, counts)
            every = torch.cat([static, delta, _delta(delta, counts)], dim=2)
            valid = (torch.arange(every.shape[1], device=self.device) < counts[:, None])[:, :, None]
            n = counts[:, None].float()
            mean = every.masked_fill(~valid, 0.0).sum(1) / n
            spread = (every - mean[:, None]).masked_fill(~valid, 0.0).square().sum(1)
            duration = torch.log(lengths[:, None].float() / self.card.sample_rate_hz)
            vector = torch.cat([mean, torch.sqrt(spread / (n - 1)), duration], dim=1)
            if 0 in layers:
                on_layer(0, vector[:, None, :], frames)

    def _n_windows(self, n_samples: int) -> int:
        return n_samples // self.mel.hop_samples + 1 if n_samples > 0 else 0


def _delta(x: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Regression slope over time of `[b, t, d]`, each clip's end frames repeated beyond its own ends."""
    time = torch.arange(x.shape[1], device=x.device)
    out = torch.zeros_like(x)
    for k in range(1, DELTA_WIDTH + 1):
        later = torch.minimum(time + k, counts[:, None] - 1)  # [b, t]
        earlier = (time - k).clamp_min(0).expand_as(later)
        for index, sign in ((later, k), (earlier, -k)):
            out += sign * x.gather(1, index[:, :, None].expand(-1, -1, x.shape[2]))
    return out / (2 * sum(k * k for k in range(1, DELTA_WIDTH + 1)))
