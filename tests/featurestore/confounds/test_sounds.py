"""What is measured of a clip, against scipy, closed forms and planted answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from featurestore.confounds.frames import Framer
from featurestore.confounds.pitch import Pitch
from featurestore.confounds.sounds import Sound, measure_sound
from featurestore.confounds.spectrum_shape import NoiseEstimate, SpectrumShape

NAN = float("nan")


def write(path: Path, x: np.ndarray, rate: int = 16_000, **options: str) -> Path:
    soundfile.write(path, x, rate, **(options or {"subtype": "FLOAT"}))
    return path


def tone(hz: float, seconds: float, rate: int, amplitude: float = 1.0) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)


def pitch(x: np.ndarray, rate: int) -> float:
    meter = Pitch(rate)
    meter.add(x)
    return meter.result()


def snr(x: np.ndarray, rate: int) -> float:
    meter = NoiseEstimate(rate)
    meter.add(x)
    return meter.result()


@given(st.integers(2, 9), st.lists(st.integers(0, 25), max_size=6), st.data())
def test_frames_of_blocks_are_those_of_the_whole(size: int, lengths: list[int], data: st.DataObject) -> None:
    hop = data.draw(st.integers(1, size))
    x = np.arange(float(sum(lengths)))
    framer, found = Framer(size, hop), []
    for block in np.split(x, np.cumsum(lengths)[:-1]):
        found.append(framer.frames(block).copy())
    starts = range(0, len(x) - size + 1, hop)
    expected = np.array([x[s : s + size] for s in starts]).reshape(-1, size)
    np.testing.assert_array_equal(np.concatenate([np.empty((0, size)), *found]), expected)
    assert framer.n_frames == len(expected)
    np.testing.assert_array_equal(framer.rest, x[len(expected) * hop :])


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 96_000])
@pytest.mark.parametrize("seconds", [0.01, 0.032, 0.5])
def test_the_spectrum_is_that_of_welch(rate: int, seconds: float) -> None:
    rng = np.random.default_rng(rate)
    x = 0.3 + scipy.signal.lfilter([1], [1, -0.9], rng.standard_normal(round(seconds * rate)))
    meter = SpectrumShape(rate)
    for block in np.array_split(x, 3):
        meter.add(block)
    size = 2 * round(0.016 * rate)
    hz, power = scipy.signal.welch(
        x, rate, nperseg=min(size, len(x)), noverlap=min(size, len(x)) // 2, nfft=size
    )
    peak_hz, centroid_hz = meter.result()
    assert peak_hz == pytest.approx(hz[1 + power[1:].argmax()])
    assert centroid_hz == pytest.approx(hz @ power / power.sum(), rel=1e-9)


@pytest.mark.parametrize("rate", [16_000, 44_100, 192_000])
@pytest.mark.parametrize("hz", [90.0, 440.0, 1234.5, 3900.0])
def test_f0_of_a_tone_and_of_harmonics_without_their_fundamental(rate: int, hz: float) -> None:
    assert pitch(tone(hz, 0.3, rate), rate) == pytest.approx(hz, rel=1e-3)
    harmonics = sum(tone(hz * k, 0.3, rate) for k in range(2, 6) if hz * k < rate / 2)
    assert pitch(np.asarray(harmonics), rate) == pytest.approx(hz, rel=1e-3)


def test_f0_is_the_median_of_a_glide_and_only_of_the_loud_frames() -> None:
    rate, t = 16_000, np.arange(16_000) / 16_000
    glide = np.sin(2 * np.pi * (400 * t + 200 * t**2))  # 400 to 800 Hz
    assert pitch(glide, rate) == pytest.approx(600, rel=0.01)
    quiet_hum = tone(100, 3, rate, 0.01)
    assert pitch(np.concatenate([quiet_hum, glide]), rate) == pytest.approx(600, rel=0.01)


@pytest.mark.parametrize("seconds", [0.02, 0.05, 0.5, 2])
def test_noise_and_silence_have_no_f0(seconds: float) -> None:
    rng = np.random.default_rng(1)
    found = [pitch(rng.standard_normal(round(16_000 * seconds)), 16_000) for _ in range(10)]
    assert np.isnan(found).all()
    assert np.isnan(pitch(np.zeros(16_000), 16_000))
    assert np.isnan(pitch(tone(440, 0.003, 16_000), 16_000))  # under 64 samples


@pytest.mark.parametrize("planted", [30, 20, 10, 5])
def test_a_planted_signal_to_noise_ratio_is_found(planted: float) -> None:
    rate, rng = 16_000, np.random.default_rng(planted)
    x = 0.01 * rng.standard_normal(2 * rate)
    call = slice(10_000, 18_000)
    x[call] += tone(1000, 0.5, rate, 0.01 * np.sqrt(2) * 10 ** (planted / 20))
    # The 95th and the 10th percentile of frames of 256 samples stray by about a tenth from their mean.
    assert snr(x, rate) == pytest.approx(planted, abs=1.5)
    assert snr(1e-3 * x, rate) == pytest.approx(snr(x, rate), abs=0.05)  # whatever the level


def test_steady_noise_has_no_signal_and_digital_silence_is_bounded() -> None:
    rng = np.random.default_rng(0)
    assert snr(rng.standard_normal(32_000), 16_000) < -4
    x = np.zeros(16_000)
    x[4000:8000] = tone(1000, 0.25, 16_000, np.sqrt(2))
    assert snr(x, 16_000) == pytest.approx(120, abs=0.1)
    assert np.isnan(snr(np.zeros(16_000), 16_000))
    assert np.isnan(snr(rng.standard_normal(700), 16_000))  # four frames


def test_levels_are_those_of_closed_form(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", 0.1 + tone(500, 1.0, 16_000, 0.5))
    sound = measure_sound((str(path), NAN, NAN, None))
    assert sound.problem == ""
    assert sound.duration_s == 1.0
    assert sound.level_dbfs == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=1e-4)  # without the offset
    assert sound.peak_dbfs == pytest.approx(20 * np.log10(0.6), abs=1e-4)
    assert sound.peak_hz == 500
    assert sound.f0_hz == pytest.approx(500, rel=1e-3)
    assert sound.recorder == "WAV FLOAT 16000 Hz 1 ch"


def test_a_stretch_of_one_channel_is_measured_and_not_the_file(tmp_path: Path) -> None:
    left, right = tone(400, 2.0, 8_000, 0.1), tone(1000, 2.0, 8_000, 0.4)
    path = write(tmp_path / "b.flac", np.stack([left, right], axis=1), 8_000, subtype="PCM_24")
    sound = measure_sound((str(path), 0.5, 1.25, 1))
    assert sound.duration_s == 0.75
    assert sound.peak_hz == 1000
    assert sound.level_dbfs == pytest.approx(20 * np.log10(0.4 / np.sqrt(2)), abs=0.01)
    assert sound.recorder == "FLAC PCM_24 8000 Hz 2 ch"


def test_a_clip_longer_than_what_meters_get_at_once_is_one_clip(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = (0.1 * rng.standard_normal(200_001) + tone(700, 200_001 / 16_000, 16_000, 0.3)).astype(np.float32)
    sound = measure_sound((str(write(tmp_path / "c.wav", x)), NAN, NAN, None))
    hz, power = scipy.signal.welch(x.astype(float), 16_000, nperseg=512)
    assert sound.centroid_hz == pytest.approx(hz @ power / power.sum(), rel=1e-6)
    assert sound.level_dbfs == pytest.approx(20 * np.log10(x.std(dtype=float)), abs=1e-5)
    assert sound.f0_hz == pytest.approx(700, rel=0.005)


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no sound")
    write(tmp_path / "nan.wav", np.array([0.1, np.nan, 0.2], np.float32))
    path = write(tmp_path / "short.wav", np.zeros(1000))
    problems = [
        measure_sound((str(tmp_path / "gone.wav"), NAN, NAN, None)).problem,
        measure_sound((str(tmp_path / "text.wav"), NAN, NAN, None)).problem,
        measure_sound((str(tmp_path / "nan.wav"), NAN, NAN, None)).problem,
        measure_sound((str(path), 1.0, 2.0, None)).problem,
        measure_sound((str(path), NAN, NAN, 3)).problem,
    ]
    assert problems[0] == "no such file"
    assert "cannot be decoded" in problems[1]
    assert "NaN" in problems[2]
    assert "after the file's end" in problems[3]
    assert "none numbered 3" in problems[4]
    silent = measure_sound((str(path), NAN, NAN, None))
    assert silent.duration_s == 1000 / 16_000
    assert np.isnan(
        [getattr(silent, c) for c in ("level_dbfs", "peak_dbfs", "snr_db", "peak_hz", "f0_hz")]
    ).all()
    assert isinstance(silent, Sound)
