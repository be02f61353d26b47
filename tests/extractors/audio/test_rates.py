"""Sample rates: resampling, time expansion, what a rate cannot carry, and clips too long for memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from extractors import ExtractConfig, extract
from extractors.audio.policy import AudioPolicy
from extractors.audio.spill import scratch
from extractors.audio.waveform import PreparedClip, load_clip, load_clips
from extractors.run.clip_tally import energy_note
from featurestore import open_store
from featurestore.errors import ConfigError, FingerprintMismatch
from tests.conftest import write_clips

NAN = math.nan
NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 50_000).astype(np.float32)


def policy(**changes: object) -> AudioPolicy:
    return AudioPolicy(**({"sample_rate_hz": 16_000, "normalisation": "none"} | changes))  # type: ignore[arg-type]


def save(folder: Path, samples: np.ndarray, rate: int, name: str = "a.wav") -> str:
    soundfile.write(folder / name, samples, rate, subtype="FLOAT")
    return str(folder / name)


def load(path: str, **changes: object) -> PreparedClip:
    return load_clip(path, NAN, NAN, None, policy(**changes))


@pytest.mark.parametrize("rate", [600, 2000, 11_025, 44_100, 96_000, 166_600, 250_000, 500_000])
def test_any_rate_is_resampled_by_soxr(tmp_path: Path, rate: int) -> None:
    path = save(tmp_path, NOISE, rate)
    for quality in ("qq", "vhq"):
        clip = load(path, resample_quality=quality)
        expected = soxr.resample(NOISE, rate, 16_000, quality=quality.upper())
        np.testing.assert_array_equal(clip.samples[: len(expected)], expected)
        assert clip.duration_s == len(NOISE) / rate


def test_expansion_takes_native_samples_as_they_are(tmp_path: Path) -> None:
    clip = load(save(tmp_path, NOISE, 250_000), rate_policy="expand")
    np.testing.assert_array_equal(clip.samples, NOISE)
    assert clip.duration_s == 0.2  # seconds of sound, not of what the model hears


def test_expanded_clips_are_planned_by_their_samples(tmp_path: Path) -> None:
    manifest = write_clips(tmp_path / "audio", [16_000, 8000])
    save(tmp_path / "audio", NOISE, 250_000, "bat.wav")  # the shortest in seconds, the longest for the model
    manifest.write_text("path,start_s,end_s\nclip000.wav,,\nclip001.wav,0,0.4\nbat.wav,,\n")
    common = {"manifest": manifest, "dataset": "d", "model": "logmel"}
    options = {"unit_rows": 1, "frames": True, "rate_policy": "expand"}
    extract(ExtractConfig(**common, store=str(tmp_path / "s"), **options))  # type: ignore[arg-type]
    features = open_store(tmp_path / "s").features("logmel", "d")
    assert features.index["utterance_id"].tolist() == ["bat", "clip000", "clip001:0-0.4"]
    assert features.index["n_frames"].tolist() == [(50_000 - 400) // 160 + 1, 98, 38]
    assert features.attrs["fingerprint"]["input"]["resampler"].startswith("none: native samples")
    # The same samples in a file that says 16 kHz are the same clip.
    save(tmp_path, NOISE, 16_000, "slow.wav")
    (tmp_path / "slow.csv").write_text("path\nslow.wav\n")
    extract(
        ExtractConfig(
            manifest=tmp_path / "slow.csv", dataset="slow", model="logmel", store=str(tmp_path / "s")
        )
    )
    slow = open_store(tmp_path / "s").features("logmel", "slow").layer(0).numpy()
    np.testing.assert_allclose(features.layer(0).numpy()[:1], slow, rtol=1e-5)
    with pytest.raises(FingerprintMismatch, match=r"input.resampler: stored none: native samples"):
        extract(ExtractConfig(**common, store=str(tmp_path / "s"), frames=True))  # type: ignore[arg-type]


def test_the_share_of_energy_above_the_models_nyquist_frequency(tmp_path: Path) -> None:
    n, rate = 96_000, 96_000
    time = np.arange(n) / rate
    # 3 kHz and 30 kHz, powers 1 to 9; both on bins of a spectrum over the whole second.
    mixed = (0.1 * np.sin(2 * np.pi * 3000 * time) + 0.3 * np.sin(2 * np.pi * 30_000 * time)).astype(
        np.float32
    )
    clip = load(save(tmp_path, mixed, rate))
    power = np.abs(np.fft.rfft(mixed.astype(np.float64))) ** 2
    assert clip.above_nyquist == pytest.approx(power[8000:].sum() / power.sum(), abs=0.002)
    assert clip.above_nyquist == pytest.approx(0.9, abs=0.002)
    assert load(str(tmp_path / "a.wav"), rate_policy="expand").above_nyquist == clip.above_nyquist
    assert math.isnan(load(save(tmp_path, mixed[:9000], 16_000)).above_nyquist)
    both = load_clips(save(tmp_path, mixed, rate), NAN, NAN, None, [policy(), policy(sample_rate_hz=48_000)])
    # 24 kHz is below the upper tone as well.
    assert [c.above_nyquist for c in both.values()] == pytest.approx([0.9, 0.9], abs=0.002)  # type: ignore[union-attr]


def test_a_run_tells_what_the_rate_cost(clips: Callable[..., Path], tmp_path: Path) -> None:
    manifest = clips([20_000, 9000], rate=48_000)
    clips([9000], name="slow")
    for rate_policy, verb in (("resample", "lost to resampling"), ("expand", "kept by --rate-policy expand")):
        summary = extract(
            ExtractConfig(
                manifest=manifest,
                dataset="d",
                model="logmel",
                store=str(tmp_path / rate_policy),
                rate_policy=rate_policy,  # type: ignore[arg-type]
            )
        )
        [note] = [n for n in summary.notes if n.startswith("energy above")]
        assert f"8,000 Hz, {verb}" in note
        assert "of 2 clips recorded above the model's rate; 0 of them" in note
    assert energy_note([NAN, NAN], policy()) == []
    [note] = energy_note([NAN, 0.25, 0.75], policy())
    assert "50.0 % (median) and 75.0 % (most) of 2 clips" in note
    assert note.endswith("1 of them has more than half of its there")
    [note] = energy_note([0.25], policy())
    assert "of 1 clip recorded above" in note


@pytest.mark.parametrize("normalisation", ["none", "peak", "zero-mean-unit-variance"])
@pytest.mark.parametrize("rate", [16_000, 22_050, 250_000])
def test_long_clips_stream_to_what_they_would_be_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: int, normalisation: str
) -> None:
    path = save(tmp_path, NOISE + np.float32(0.1), rate)
    at_once = load(path, normalisation=normalisation)
    monkeypatch.setattr("extractors.audio.waveform.STREAM_SAMPLES", 6000)
    monkeypatch.setattr("extractors.audio.normalising._BLOCK_SAMPLES", 6000)
    monkeypatch.setattr("featurestore.audio.blocks.BLOCK_SAMPLES", 4096)
    streamed = load(path, normalisation=normalisation)
    np.testing.assert_allclose(streamed.samples, at_once.samples, atol=2e-6)
    assert (streamed.audio_hash, streamed.duration_s) == (at_once.audio_hash, at_once.duration_s)
    if rate > 16_000:
        assert streamed.above_nyquist == pytest.approx(at_once.above_nyquist, abs=1e-3)
    expanded = load(path, normalisation=normalisation, rate_policy="expand").samples
    monkeypatch.undo()
    np.testing.assert_allclose(
        expanded, load(path, normalisation=normalisation, rate_policy="expand").samples, atol=2e-6
    )


def test_what_outgrows_memory_lives_in_a_file_that_vanishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    room = scratch((10, 7), in_memory_bytes=100)
    assert isinstance(room, np.memmap)
    room[:] = 3
    assert (room == 3).all()
    assert list(tmp_path.iterdir()) == []
    assert not isinstance(scratch((10, 7)), np.memmap)


def test_words_that_mean_no_policy_are_refused(tmp_path: Path) -> None:
    common = {"manifest": tmp_path / "m.csv", "dataset": "d", "model": "logmel", "store": "s"}
    for option, value in (("rate_policy", "stretch"), ("resample_quality", "best")):
        with pytest.raises(ConfigError, match=f"--{option.replace('_', '-')}: expected one of"):
            ExtractConfig(**common, **{option: value})  # type: ignore[arg-type]
