from __future__ import annotations

import math
from concurrent.futures import CancelledError
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import soundfile
import soxr
from transformers import Wav2Vec2FeatureExtractor

import extractors.audio.waveform
from extractors.audio.normalising import normalise
from extractors.audio.policy import AudioPolicy
from extractors.audio.waveform import load_clip, load_clips, load_together, scaled, scaled_all
from featurestore.audio.recordings import Recordings
from featurestore.audio.segment import AudioError
from featurestore.errors import ConfigError
from tests.featurestore.audio.decoded import decode

POLICY = AudioPolicy(sample_rate_hz=16_000, normalisation="none")
NAN = math.nan
SIGNAL = np.random.default_rng(0).uniform(-0.5, 0.5, 22_050).astype(np.float32)


@pytest.fixture
def wav(tmp_path: Path) -> str:
    soundfile.write(tmp_path / "a.wav", SIGNAL, 22_050, subtype="FLOAT")
    return str(tmp_path / "a.wav")


def test_a_segment_holds_its_samples_and_no_others(wav: str) -> None:
    samples, rate = decode(wav, 0.1, 0.35, None)
    assert rate == 22_050
    np.testing.assert_array_equal(samples, SIGNAL[2205 : round(0.35 * 22_050)])


@pytest.mark.parametrize("kind", ["MP3", "OGG", "FLAC", "GSM610"])
def test_blocks_and_segments_of_compressed_files_are_exact_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 22_050 * 6).astype(np.float32)
    encoding = {"format": "WAV", "subtype": kind} if kind == "GSM610" else {"format": kind}
    with soundfile.SoundFile(tmp_path / "a", "w", 22_050, 1, **encoding) as file:
        for start in range(0, len(noise), 10_000):  # the Vorbis encoder does not survive more at once
            file.write(noise[start : start + 10_000])
    whole, _ = decode(str(tmp_path / "a"), NAN, NAN, None)
    for start_s, end_s in ((0.3, 0.7), (3.21, 4.0), (5.5, NAN)):
        segment, rate = decode(str(tmp_path / "a"), start_s, end_s, None)
        first = round(start_s * rate)
        np.testing.assert_allclose(segment, whole[first : first + len(segment)], atol=1e-6)
        assert len(segment) == (len(whole) - first if math.isnan(end_s) else round(end_s * rate) - first)
    monkeypatch.setattr("featurestore.audio.blocks.BLOCK_SAMPLES", 8192)
    np.testing.assert_allclose(decode(str(tmp_path / "a"), NAN, NAN, None)[0], whole, atol=1e-6)


def test_resampling_is_soxr_high_quality(wav: str) -> None:
    clip = load_clip(wav, NAN, NAN, None, POLICY)
    np.testing.assert_array_equal(clip.samples, soxr.resample(SIGNAL, 22_050, 16_000, quality="HQ"))
    assert clip.duration_s == 1.0


def test_channels_are_averaged_or_picked(tmp_path: Path) -> None:
    stereo = np.stack([SIGNAL, np.flip(SIGNAL)], axis=1)
    soundfile.write(tmp_path / "s.wav", stereo, 22_050, subtype="FLOAT")
    path = str(tmp_path / "s.wav")
    np.testing.assert_allclose(decode(path, NAN, NAN, None)[0], stereo.mean(1), atol=1e-7)
    np.testing.assert_array_equal(decode(path, NAN, NAN, 1)[0], stereo[:, 1])
    with pytest.raises(AudioError, match="has 2 channels, none numbered 2"):
        decode(path, NAN, NAN, 2)


def test_short_clips_repeat_from_their_start() -> None:
    out = scaled(SIGNAL[:3000], POLICY)
    np.testing.assert_array_equal(out, np.concatenate([SIGNAL[:3000], SIGNAL[:2000]]))
    left = AudioPolicy(sample_rate_hz=16_000, normalisation="none", short_policy="none")
    assert len(scaled(SIGNAL[:3000], left)) == 3000


def test_normalisation_follows_transformers() -> None:
    reference = Wav2Vec2FeatureExtractor(do_normalize=True)(SIGNAL, sampling_rate=16_000).input_values[0]
    np.testing.assert_array_equal(normalise(SIGNAL, "zero-mean-unit-variance"), reference)
    assert np.abs(normalise(SIGNAL, "peak")).max() == 1


def test_the_hash_is_that_of_the_audio_and_not_of_the_file(tmp_path: Path, wav: str) -> None:
    soundfile.write(tmp_path / "b.wav", SIGNAL, 22_050, subtype="FLOAT")
    soundfile.write(tmp_path / "c.wav", SIGNAL * 0.9, 22_050, subtype="FLOAT")
    a, b, c = (
        load_clip(str(tmp_path / f"{n}.wav"), NAN, NAN, None, POLICY).audio_hash for n in ("a", "b", "c")
    )
    assert a == b != c


@pytest.mark.parametrize(
    ("start", "end", "reason"),
    [
        (1.2, NAN, "starts at 1.2 s, after the file's end at 1 s"),
        (
            0.2,
            1.3,
            "ends at 1.3 s, after the file's end at 1 s; correct end_s, or let `fs extract --clip-to-file`",
        ),
        (0.5, 0.50001, "no samples in the segment"),
    ],
)
def test_segments_outside_the_file_say_so(wav: str, start: float, end: float, reason: str) -> None:
    with pytest.raises(AudioError, match=reason):
        decode(wav, start, end, None)


def test_a_rounded_end_just_past_the_file_is_its_end(wav: str) -> None:
    assert len(decode(wav, 0.5, 1.02, None)[0]) == 11_025


def test_unusable_clips_say_why(tmp_path: Path) -> None:
    cases = {
        "zeros": (np.zeros(8000, np.float32), "all samples are zero"),
        "nan": (np.where(np.arange(8000) == 5, np.nan, SIGNAL[:8000]), "NaN or infinite"),
        "empty": (np.zeros(0, np.float32), "no samples in the file"),
    }
    for name, (samples, reason) in cases.items():
        soundfile.write(tmp_path / f"{name}.wav", samples, 16_000, subtype="FLOAT")
        with pytest.raises(AudioError, match=reason):
            load_clip(str(tmp_path / f"{name}.wav"), NAN, NAN, None, POLICY)
    (tmp_path / "text.wav").write_text("not audio at all")
    with pytest.raises(AudioError, match="cannot be decoded"):
        load_clip(str(tmp_path / "text.wav"), NAN, NAN, None, POLICY)
    with pytest.raises(AudioError, match="constant signal"):
        normalise(np.full(100, 0.2, np.float32), "zero-mean-unit-variance")


def test_policies_are_checked_where_they_are_made() -> None:
    with pytest.raises(ConfigError, match="normalisation: expected one of none, peak"):
        AudioPolicy(sample_rate_hz=16_000, normalisation="loud")  # type: ignore[arg-type]


def test_clips_that_are_loaded_together_are_what_they_are_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for name, rate in (("a", 44_100), ("b", 22_050), ("c", 16_000)):
        soundfile.write(tmp_path / f"{name}.wav", rng.uniform(-0.5, 0.5, (3 * rate, 2)), rate)
    (tmp_path / "text.wav").write_text("no audio")
    names = [*"abc", "text", "gone"]
    places = [
        (
            str(tmp_path / f"{names[i % 5]}.wav"),
            0.07 * i % 2,
            0.07 * i % 2 + 0.2 + 0.01 * (i % 3),
            (None, 1)[i % 2],
        )
        for i in range(40)
    ]
    places += [(places[0][0], NAN, NAN, None), (places[0][0], 1.0, 9.0, None), (places[0][0], 1.0, 1.5, 7)]
    policies = [
        POLICY,
        AudioPolicy(sample_rate_hz=16_000, normalisation="zero-mean-unit-variance"),
        AudioPolicy(sample_rate_hz=48_000, normalisation="peak", short_policy="none"),
        AudioPolicy(sample_rate_hz=16_000, normalisation="none", rate_policy="expand"),
    ]
    with Recordings() as recordings:
        together = load_together(places, policies, recordings)
    for place, found in zip(places, together, strict=True):
        assert list(found) == policies
        for policy, clip in found.items():
            alone = load_clips(*place, [policy])[policy]
            if isinstance(alone, AudioError):
                assert str(clip) == str(alone)
                continue
            np.testing.assert_array_equal(clip.samples, alone.samples)
            np.testing.assert_equal(vars(clip) | {"samples": 0}, vars(alone) | {"samples": 0})


def test_no_clip_is_begun_once_it_is_to_stop(wav: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stop, begun = Event(), []
    real = extractors.audio.waveform.open_stretch

    def stopping(*place: object) -> object:
        begun.append(place)
        stop.set()
        return real(*place)  # type: ignore[arg-type]

    monkeypatch.setattr(extractors.audio.waveform, "open_stretch", stopping)
    with pytest.raises(CancelledError):
        load_together([(wav, 0.0, 0.5, None)] * 3, [POLICY], None, stop)
    assert len(begun) == 1


def test_scaling_is_that_of_numpy_to_the_last_bit() -> None:
    rng = np.random.default_rng(4)
    for n in (2, 399, 5000, 70_001):
        x = rng.normal(0.01, 0.2, n).astype(np.float32)
        expected = (x - x.mean()) / np.sqrt(x.var() + 1e-7)
        np.testing.assert_array_equal(normalise(x, "zero-mean-unit-variance"), expected)


@pytest.mark.parametrize("value", [0.1, -0.7, 1e-3, 1.0])
def test_a_constant_is_refused_and_what_is_next_to_one_is_not(value: float) -> None:
    x = np.full(100_003, value, dtype=np.float32)
    with pytest.raises(AudioError, match="constant signal"):
        normalise(x, "zero-mean-unit-variance")
    x[5] = np.nextafter(x[5], np.float32(2))
    assert np.isfinite(normalise(x, "zero-mean-unit-variance")).all()


@pytest.mark.parametrize("how", ["none", "peak", "zero-mean-unit-variance"])
def test_clips_that_are_scaled_together_are_what_they_are_alone_to_the_last_bit(how: str) -> None:
    policy = AudioPolicy(sample_rate_hz=16_000, normalisation=how, min_samples=5000)  # type: ignore[arg-type]
    rng = np.random.default_rng(5)
    lengths = [*rng.integers(1, 5000, 30), 4999, 5000, 5001, 70_001, 0, 1, 2]
    clips: list[np.ndarray | AudioError] = [rng.normal(0.01, 0.2, n).astype(np.float32) for n in lengths]
    clips[3:3] = [np.full(700, 0.1, np.float32), np.zeros(12, np.float32), AudioError("no samples")]

    def alone(clip: np.ndarray | AudioError) -> np.ndarray | str:
        try:
            return str(clip) if isinstance(clip, AudioError) else scaled(clip, policy)
        except AudioError as error:
            return str(error)

    for clip, found in zip(clips, scaled_all(clips, policy), strict=True):
        expected = alone(clip)
        if isinstance(expected, str):
            assert str(found) == expected
        else:
            np.testing.assert_array_equal(found, expected)
            if how == "none" and isinstance(clip, np.ndarray) and len(clip) < 5000:
                np.testing.assert_array_equal(found, np.resize(clip, 5000))
