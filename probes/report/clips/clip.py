"""One utterance to be heard and seen: read strictly, cut, slowed where it is ultrasound, encoded."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np

from featurestore.arrays import FloatArray
from featurestore.audio.ogg import with_serial
from featurestore.audio.segment import AudioError, SampleHash, open_stretch
from featurestore.audio.spectrogram import data_url, spectrogram_png
from featurestore.audio.spectrum import EnergyAbove
from featurestore.errors import AudioUnreachable
from featurestore.manifest.location import Location

PLAYED_S = 4.0  # longer clips are cut to this, where they are loudest
# 134 MB of samples: twelve minutes at 44.1 kHz, two at 250 kHz.
MOST_SAMPLES = 1 << 25
WIDTH, HEIGHT = 300, 110
# What adults hardly hear begins here. Recorders of ultrasound sample at 50 kHz and more: there a hundredth of
# the energy, in noise of wind and traffic, is enough of a call; elsewhere a tenth.
AUDIBLE_HZ, ULTRASOUND_RATE_HZ = 15_000, 50_000
_LEAST_SHARE, _LEAST_SHARE_AUDIBLE_RATE = 0.01, 0.1
# Slowed until the frequency below which 95 % of the energy lies is where ears are good.
_COMFORTABLE_HZ, _MOST_SLOWED = 8000, 20
_PEAK = 0.9  # of full scale, for every clip
_OPUS_RATES_HZ = (8000, 12_000, 16_000, 24_000, 48_000)
# libsndfile's scale from 0 (best) to 1; noise takes some 70 kbit/s, a voice less.
_COMPRESSION = 0.75


@dataclass(frozen=True, kw_only=True)
class Clip:
    """An utterance on the page.

    Attributes:
        audio, picture: ``data:`` URLs.
        shown_s: Seconds of the recording that are played.
        from_s: Where they begin in the utterance.
        whole_s: Length of the utterance.
        slowed: How many times slower than recorded it is played; 1 for as recorded.
        top_hz: Highest frequency of the picture, half the file's rate.
        band_hz: Between these lie 90 % of the energy.
    """

    audio: str
    picture: str
    shown_s: float
    from_s: float
    whole_s: float
    slowed: int
    top_hz: float
    band_hz: tuple[float, float]

    @property
    def n_bytes(self) -> int:
        """What it takes of the page."""
        return len(self.audio) + len(self.picture)


def make_clip(place: Location, audio_hash: str) -> Clip:
    """Read an utterance and make a clip of it.

    Args:
        place: File, times and channel.
        audio_hash: Of the samples that were embedded.

    Raises:
        AudioError: it cannot be read, is another sound than was embedded, or too long or short to be shown.
    """
    x, rate = _samples(place, audio_hash)
    slowed = _slowdown(x, rate)
    first, stop = _loudest(x, rate, PLAYED_S / slowed, ultrasound=slowed > 1)
    shown = x[first:stop] - x[first:stop].mean(dtype=np.float64).astype(np.float32)
    if len(shown) < 2 * HEIGHT:
        raise AudioError(f"is too short to be shown ({len(x)} samples)")
    audio, kind = _encoded(shown * (_PEAK / max(float(np.abs(shown).max()), 1e-9)), rate / slowed)
    return Clip(
        audio=data_url(kind, audio),
        picture=data_url("image/png", spectrogram_png(shown, WIDTH, HEIGHT)),
        shown_s=len(shown) / rate,
        from_s=first / rate,
        whole_s=len(x) / rate,
        slowed=slowed,
        top_hz=rate / 2,
        band_hz=_band(shown, rate),
    )


def _samples(place: Location, audio_hash: str) -> tuple[FloatArray, int]:
    """All samples `[n]` and their rate in Hz; they are those of the hash."""
    try:
        with open_stretch(*place) as stretch:
            rate = stretch.sample_rate_hz
            if stretch.n_samples > MOST_SAMPLES:
                raise AudioError(f"is too long to be shown ({stretch.n_samples / rate:.0f} s)")
            blocks = list(stretch.blocks())
    except AudioUnreachable as error:
        raise AudioError(f"cannot be fetched ({error})") from error
    found = SampleHash(rate)
    for block in blocks:
        found.add(block)
    if found.text != audio_hash:
        raise AudioError("holds other audio now than was embedded")
    return np.concatenate(blocks), rate


def _slowdown(x: FloatArray, rate: int) -> int:
    """How many times slower a sound has to be played to be heard; 1 where it is audible."""
    above = EnergyAbove(rate, AUDIBLE_HZ)
    above.add(x)
    least = _LEAST_SHARE if rate >= ULTRASOUND_RATE_HZ else _LEAST_SHARE_AUDIBLE_RATE
    if not above.share >= least:  # NaN: the rate is too low for any
        return 1
    _, high = _band(x, rate, AUDIBLE_HZ)
    return min(max(2, math.ceil(high / _COMFORTABLE_HZ)), _MOST_SLOWED)


def _band(x: FloatArray, rate: int, from_hz: float = 0.0) -> tuple[float, float]:
    """Frequencies between which 90 % of the energy above `from_hz` lies, 5 % on each side."""
    from scipy.signal import welch

    frequency, power = welch(x, rate, nperseg=min(len(x), 1024))
    power = np.where(frequency < max(from_hz, frequency[1]), 0.0, power)
    share = np.cumsum(power) / max(float(power.sum()), 1e-300)
    low, high = (float(frequency[min(np.searchsorted(share, s), len(share) - 1)]) for s in (0.05, 0.95))
    return low, high


def _loudest(x: FloatArray, rate: int, seconds: float, *, ultrasound: bool) -> tuple[int, int]:
    """The stretch with the most energy, of ultrasound that above hearing: first sample, and past the last."""
    n = max(1, round(seconds * rate))
    if n >= len(x):
        return 0, len(x)
    heard = x - x.mean(dtype=np.float64)
    if ultrasound:
        from scipy.signal import butter, sosfilt

        heard = sosfilt(butter(4, AUDIBLE_HZ, "highpass", fs=rate, output="sos"), heard)
    total = np.concatenate([[0.0], np.cumsum(np.square(heard, dtype=np.float64))])
    first = int((total[n:] - total[:-n]).argmax())
    return first, first + n


def _encoded(x: FloatArray, rate: float) -> tuple[bytes, str]:
    """A sound in as few bytes as this machine's libsndfile can, and its media type."""
    import soundfile
    import soxr

    kinds = soundfile.available_subtypes("OGG")
    buffer = io.BytesIO()
    if "OPUS" in kinds:
        to_rate = next((r for r in _OPUS_RATES_HZ if r >= rate), _OPUS_RATES_HZ[-1])
        sound = np.clip(soxr.resample(x, rate, to_rate), -1, 1)
        soundfile.write(buffer, sound, to_rate, "OPUS", format="OGG", compression_level=_COMPRESSION)
        return with_serial(buffer.getvalue()), "audio/ogg; codecs=opus"
    to_rate = min(round(rate), _OPUS_RATES_HZ[-1])
    sound = np.clip(soxr.resample(x, rate, to_rate), -1, 1)
    if "VORBIS" in kinds:
        soundfile.write(buffer, sound, to_rate, "VORBIS", format="OGG", compression_level=_COMPRESSION)
        return with_serial(buffer.getvalue()), "audio/ogg; codecs=vorbis"
    soundfile.write(buffer, sound, to_rate, "PCM_16", format="WAV")
    return buffer.getvalue(), "audio/wav"
