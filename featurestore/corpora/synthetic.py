"""A small corpus of made-up, call-like sounds with known answers: the material of `fs demo`.

Every clip is one call of one caller, made by a source-filter model and buried in coloured noise:

* the **call type** sets the source: a frequency trajectory (`sweep_up`, `sweep_down`, `trill`,
  `harmonic`), a train of pulses (`pulse_train`) or noise (`noise_burst`);
* the **caller** sets the timbre: base pitch, two formant-like resonances, harmonic roll-off, and
  the rate and depth of a vibrato;
* the **clip** varies duration (log-normal, 0.15–1.2 s), pitch, extent, rate and envelope;
* the **recording** (five clips of one caller) sets the colour of the background noise and the
  distance of the microphone (a high-frequency loss). It is written as `group`: clips that share a
  recording share its background, so a random split by clip leaks and a split by group does not.

Up- and down-sweeps visit the same frequencies, in opposite order. Statistics that forget time
(mean and standard deviation of a log-mel spectrogram) tell them apart only because calls are
loudest near their beginning; features that look at neighbouring frames can see the direction.

The constants below are chosen, not measured on animals: pitch and resonances lie where a 16 kHz
recording has room for harmonics, and the noise is set so that a linear classifier on log-mel
statistics lands between chance and certainty for both labels (UAR 0.8 to 0.95, chance 1/6).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from featurestore.errors import ConfigError
from featurestore.manifest.table import write_manifest

SAMPLE_RATE_HZ = 16_000
CLIPS_PER_RECORDING = 5
N_CALLERS = 6
MIN_DURATION_S, MEDIAN_DURATION_S, MAX_DURATION_S = 0.15, 0.4, 1.2
DURATION_LOG_SD = 0.45
FADE_S = 0.015
PEAK_LEVEL = 0.5
DEFAULT_SNR_DB = 10.0

Samples = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Caller:
    """The timbre of one caller, the same in all of its calls."""

    name: str
    pitch_hz: float
    formants_hz: tuple[float, float]
    rolloff_db_per_octave: float
    vibrato_hz: float
    vibrato_depth: float

    def gain(self, frequency_hz: npt.NDArray[np.floating]) -> Samples:
        """Amplitude gain of the resonances at `frequency_hz`, same shape, 0.1 far from them."""
        gain = np.full(frequency_hz.shape, 0.1)
        for centre_hz in self.formants_hz:
            # A resonance with quality factor 5: half-width a tenth of its centre frequency.
            gain += 1.0 / (1.0 + ((frequency_hz - centre_hz) / (0.1 * centre_hz)) ** 2)
        return gain


@dataclass(frozen=True, kw_only=True)
class Recording:
    """What the clips of one recording share besides their caller."""

    name: str
    noise_exponent: float
    loss_db_per_khz: float


@dataclass(frozen=True, kw_only=True)
class SyntheticClip:
    """One generated clip: float64 samples `[n]` of the call and of the background, and its labels.

    The written signal is `call + noise`.
    """

    utterance_id: str
    call_type: str
    caller: str
    recording: str
    call: Samples
    noise: Samples


def write_corpus(
    out_dir: str | Path, n_clips: int = 600, seed: int = 0, snr_db: float = DEFAULT_SNR_DB
) -> Path:
    """Write `n_clips` WAV files (16 kHz, mono, 16 bit) and `manifest.csv`; return its path.

    The same arguments give the same bytes with the same NumPy version (generator PCG64). Clip `i`
    depends on `seed` and `i` only, so a smaller corpus is the beginning of a larger one.

    Args:
        out_dir: Folder for `manifest.csv` and `audio/`; made if needed.
        n_clips: Number of clips; call types and callers are balanced to within one clip per pair.
        seed: Not negative; sets callers, recordings and clips.
        snr_db: Power of the call over power of the background in each clip, in dB.

    Raises:
        ConfigError: `n_clips` below 1, a negative `seed` or an `snr_db` that is not finite.
    """
    import soundfile

    if n_clips < 1:
        raise ConfigError(f"n_clips must be at least 1, got {n_clips}; give a positive number")
    out_dir = Path(out_dir)
    rows = []
    for number in range(n_clips):
        clip = make_clip(number, seed=seed, snr_db=snr_db)
        relative = f"audio/{clip.caller}/{clip.utterance_id}.wav"
        target = out_dir / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        pcm = np.round((clip.call + clip.noise) * 32767.0).astype(np.int16)
        soundfile.write(target, pcm, SAMPLE_RATE_HZ, subtype="PCM_16")
        rows.append((clip.utterance_id, relative, clip.call_type, clip.caller, clip.recording))
    columns = ["utterance_id", "path", "call_type", "caller", "group"]
    return write_manifest(pd.DataFrame(rows, columns=columns), out_dir / "manifest.csv")


def make_clip(number: int, *, seed: int = 0, snr_db: float = DEFAULT_SNR_DB) -> SyntheticClip:
    """Make clip `number` of the corpus `seed`; call and noise are scaled to a common peak of 0.5.

    Raises:
        ConfigError: a negative `number` or `seed`, or an `snr_db` that is not finite.
    """
    if number < 0 or seed < 0:
        raise ConfigError(f"number and seed must not be negative, got {number} and {seed}")
    if not np.isfinite(snr_db):
        raise ConfigError(f"snr_db must be a finite number of decibels, got {snr_db}")
    caller_index, call_index = number % N_CALLERS, number // N_CALLERS
    caller = make_caller(caller_index, seed=seed)
    recording = make_recording(caller_index, call_index // CLIPS_PER_RECORDING, seed=seed)
    # Shifting by the caller keeps the totals per call type equal when a caller's calls do not
    # divide by the number of types.
    call_type = list(CALL_TYPES)[(call_index + caller_index) % len(CALL_TYPES)]
    rng = _rng(seed, 2, number)

    duration_s = MEDIAN_DURATION_S * np.exp(DURATION_LOG_SD * rng.standard_normal())
    duration_s = float(np.clip(duration_s, MIN_DURATION_S, MAX_DURATION_S))
    # Whole hundredths of a second: the Fourier transforms then have short factors and are fast.
    n_samples = round(duration_s * 100.0) * (SAMPLE_RATE_HZ // 100)
    call = CALL_TYPES[call_type](caller, n_samples, rng)
    call = _distance(call * _envelope(n_samples, rng), recording.loss_db_per_khz)
    noise = _coloured_noise(n_samples, recording.noise_exponent, rng)
    noise *= np.sqrt(np.mean(call**2) / np.mean(noise**2)) * 10.0 ** (-snr_db / 20.0)
    scale = PEAK_LEVEL / np.max(np.abs(call + noise))
    return SyntheticClip(
        utterance_id=f"{recording.name}-{number:05d}",
        call_type=call_type,
        caller=caller.name,
        recording=recording.name,
        call=call * scale,
        noise=noise * scale,
    )


def make_caller(index: int, *, seed: int = 0) -> Caller:
    """Draw the timbre of caller `index`; pitches are spread over half an octave, then jittered."""
    rng = _rng(seed, 0, index)
    # A permutation of the grid for each property keeps callers apart without making one property
    # predict the others.
    grid = _rng(seed, 3).permuted(np.tile(np.arange(N_CALLERS), (4, 1)), axis=1)[:, index]
    place = (grid + rng.uniform(-0.3, 0.3, size=4)) / (N_CALLERS - 1)
    return Caller(
        name=f"caller_{index + 1}",
        pitch_hz=float(600.0 * 2.0 ** (0.5 * place[0])),
        formants_hz=(float(1500.0 + 350.0 * place[1]), float(3400.0 + 700.0 * place[2])),
        rolloff_db_per_octave=float(5.0 + 11.0 * place[3]),
        vibrato_hz=float(rng.uniform(5.0, 9.0)),
        vibrato_depth=float(rng.uniform(0.0, 0.03)),
    )


def make_recording(caller_index: int, index: int, *, seed: int = 0) -> Recording:
    """Draw recording `index` of a caller: noise power falls as 1/f^exponent, 0.3 to 1.7."""
    rng = _rng(seed, 1, caller_index, index)
    return Recording(
        name=f"c{caller_index + 1}r{index + 1:03d}",
        noise_exponent=float(rng.uniform(0.3, 1.7)),
        loss_db_per_khz=float(rng.uniform(0.0, 3.0)),
    )


def _rng(seed: int, *key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


def _voice(caller: Caller, pitch_hz: Samples) -> Samples:
    """Sum of the harmonics of `pitch_hz` `[n]` below the Nyquist frequency, shaped by the caller."""
    time_s = np.arange(len(pitch_hz)) / SAMPLE_RATE_HZ
    vibrato = np.sin(2.0 * np.pi * caller.vibrato_hz * time_s)
    pitch_hz = pitch_hz * (1.0 + caller.vibrato_depth * vibrato)
    phase = 2.0 * np.pi * np.cumsum(pitch_hz) / SAMPLE_RATE_HZ
    voice = np.zeros_like(pitch_hz)
    for k in range(1, int(0.5 * SAMPLE_RATE_HZ / pitch_hz.min()) + 1):
        level = 10.0 ** (-caller.rolloff_db_per_octave * np.log2(k) / 20.0)
        audible = k * pitch_hz < 0.5 * SAMPLE_RATE_HZ
        voice += np.where(audible, level * caller.gain(k * pitch_hz) * np.sin(k * phase), 0.0)
    return voice


def _pitch(caller: Caller, rng: np.random.Generator) -> float:
    return float(caller.pitch_hz * 2.0 ** rng.normal(0.0, 0.2))


def _sweep(caller: Caller, n: int, rng: np.random.Generator, direction: float) -> Samples:
    octaves = rng.uniform(0.35, 1.2)
    return _voice(caller, _pitch(caller, rng) * 2.0 ** (direction * octaves * np.linspace(-0.5, 0.5, n)))


def _trill(caller: Caller, n: int, rng: np.random.Generator) -> Samples:
    """A rapid swing of pitch: 12–28 Hz, an eighth to a half of an octave to either side."""
    time_s = np.arange(n) / SAMPLE_RATE_HZ
    swing = np.sin(2.0 * np.pi * (rng.uniform(12.0, 28.0) * time_s + rng.uniform()))
    return _voice(caller, _pitch(caller, rng) * 2.0 ** (rng.uniform(0.125, 0.5) * swing))


def _harmonic(caller: Caller, n: int, rng: np.random.Generator) -> Samples:
    """A steady call; its pitch drifts by at most a sixth of an octave to either side."""
    drift = rng.uniform(-1.0 / 6.0, 1.0 / 6.0) * np.linspace(-1.0, 1.0, n)
    return _voice(caller, _pitch(caller, rng) * 2.0**drift)


def _pulse_train(caller: Caller, n: int, rng: np.random.Generator) -> Samples:
    """Clicks at 15–40 Hz with jitter, each exciting the caller's resonances."""
    period = SAMPLE_RATE_HZ / rng.uniform(15.0, 40.0)
    at = np.arange(0.0, n, period)
    at = np.clip(at + rng.normal(0.0, 0.05 * period, size=len(at)), 0, n - 1).astype(int)
    clicks = np.zeros(n)
    clicks[at] = rng.uniform(0.7, 1.3, size=len(at))
    # A few milliseconds of noise per click widen it: real pulses are not single samples.
    width = np.exp(-np.arange(n) / (0.002 * SAMPLE_RATE_HZ)) * rng.standard_normal(n)
    spectrum = np.fft.rfft(clicks, 2 * n) * np.fft.rfft(width, 2 * n)
    return _resonate(caller, np.fft.irfft(spectrum, 2 * n)[:n])


def _noise_burst(caller: Caller, n: int, rng: np.random.Generator) -> Samples:
    """Breath noise through the caller's resonances."""
    return _resonate(caller, rng.standard_normal(n))


def _resonate(caller: Caller, source: Samples) -> Samples:
    """Filter `source` `[n]` by the caller's resonances and roll-off, with zero phase."""
    frequency_hz = np.fft.rfftfreq(len(source), 1.0 / SAMPLE_RATE_HZ)
    octaves = np.log2(np.maximum(frequency_hz, caller.pitch_hz) / caller.pitch_hz)
    rolloff = 10.0 ** (-caller.rolloff_db_per_octave * octaves / 20.0)
    return np.fft.irfft(np.fft.rfft(source) * caller.gain(frequency_hz) * rolloff, len(source))


def _distance(call: Samples, loss_db_per_khz: float) -> Samples:
    """Lose `loss_db_per_khz` with frequency, as air and foliage do."""
    frequency_khz = np.fft.rfftfreq(len(call), 1.0 / SAMPLE_RATE_HZ) / 1000.0
    loss = 10.0 ** (-loss_db_per_khz * frequency_khz / 20.0)
    return np.fft.irfft(np.fft.rfft(call) * loss, len(call))


def _coloured_noise(n: int, exponent: float, rng: np.random.Generator) -> Samples:
    """Noise whose power falls as 1/f^exponent above 50 Hz and is flat below."""
    frequency_hz = np.fft.rfftfreq(n, 1.0 / SAMPLE_RATE_HZ)
    shape = (np.maximum(frequency_hz, 50.0) / 50.0) ** (-exponent / 2.0)
    return np.fft.irfft(np.fft.rfft(rng.standard_normal(n)) * shape, n)


def _envelope(n: int, rng: np.random.Generator) -> Samples:
    """A bump with its maximum at 10–40 % of the clip, faded over 15 ms at either end."""
    position = (np.arange(n) + 0.5) / n
    top = rng.uniform(0.1, 0.4)
    bump = np.where(position < top, position / top, (1.0 - position) / (1.0 - top))
    n_fade = round(FADE_S * SAMPLE_RATE_HZ)
    fade = np.minimum(1.0, np.minimum(np.arange(n), np.arange(n)[::-1]) / n_fade)
    return np.sqrt(bump) * fade


CALL_TYPES: dict[str, Callable[[Caller, int, np.random.Generator], Samples]] = {
    "sweep_up": partial(_sweep, direction=1.0),
    "sweep_down": partial(_sweep, direction=-1.0),
    "trill": _trill,
    "pulse_train": _pulse_train,
    "noise_burst": _noise_burst,
    "harmonic": _harmonic,
}
"""Every call type and its source; the order is part of the corpus."""
