from __future__ import annotations

import numpy as np
import pytest
from scipy.fft import dct
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from extractors import find_model
from extractors.models.logmel_mfcc import LogMelSource
from featurestore.errors import ModelError
from tests.extractors.models.test_conformance import embed, make_clips


def test_logmel_equals_transformers_spectrogram_for_any_batch() -> None:
    rng = np.random.default_rng(0)
    clips = [rng.standard_normal(n).astype(np.float32) for n in (16_000, 5000, 5123, 400)]
    extractor = LogMelSource().load("cpu", "fp32")
    bank = mel_filter_bank(257, 64, 0.0, 8000.0, 16_000, norm="slaney", mel_scale="slaney")
    for clip, frames in zip(clips, embed(extractor, clips)[0], strict=True):
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


def mfcc_121(clip: np.ndarray, rate: int, window: int, hop: int, fft: int) -> np.ndarray:
    """The 121 numbers, written out with NumPy and SciPy."""
    padded = np.concatenate([np.zeros(window // 2), clip, np.zeros(window)])
    n_frames = len(clip) // hop + 1
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    bank = mel_filter_bank(fft // 2 + 1, 64, 0.0, rate / 2, rate, norm="slaney", mel_scale="slaney")
    bands = np.stack(
        [
            np.abs(np.fft.rfft(hann * padded[t * hop : t * hop + window], fft)) ** 2 @ bank
            for t in range(n_frames)
        ]
    )
    static = dct(np.log(np.maximum(bands, 1e-10)), type=2, norm="ortho", axis=1)[:, :20]

    def delta(x: np.ndarray) -> np.ndarray:
        ends = np.concatenate([x[:1], x[:1], x, x[-1:], x[-1:]])
        n = len(x)
        return (ends[3 : n + 3] - ends[1 : n + 1] + 2 * (ends[4 : n + 4] - ends[:n])) / 10

    every = np.concatenate([static, delta(static), delta(delta(static))], axis=1)
    return np.concatenate([every.mean(0), every.std(0, ddof=1), [np.log(len(clip) / rate)]])


@pytest.mark.parametrize(
    ("spec", "rate", "window", "hop", "fft"),
    [("mfcc", 16_000, 400, 160, 512), ("mfcc:44100", 44_100, 1102, 441, 2048)],
)
def test_mfcc_gives_the_121_numbers(spec: str, rate: int, window: int, hop: int, fft: int) -> None:
    source = find_model(spec)
    assert (source.card.sample_rate_hz, source.card.n_features, source.card.pooled) == (rate, 121, True)
    assert source.card.name == ("mfcc" if rate == 16_000 else "mfcc-44100")
    clips = make_clips((16_000, 500, 5123, 9000))
    for clip, [vector] in zip(clips, embed(source.load("cpu", "fp32"), clips)[0], strict=True):
        expected = mfcc_121(clip, rate, window, hop, fft)
        assert vector.shape == expected.shape == (121,)
        np.testing.assert_allclose(vector, expected, rtol=1e-4, atol=1e-4)


def test_duration_is_that_of_the_clip_so_short_clips_are_not_to_be_repeated() -> None:
    source = find_model("mfcc")
    assert not source.card.repeat_short
    found = embed(source.load("cpu", "fp32"), make_clips((1600, 3200)))[0]
    assert [float(v[0, -1]) for v in found] == pytest.approx([np.log(0.1), np.log(0.2)])


def test_catch22_gives_the_features_of_the_package_whatever_the_scale() -> None:
    pycatch22 = pytest.importorskip("pycatch22")
    clips = make_clips((3000, 1200))
    extractor = find_model("catch22").load("cpu", "fp32")
    found = embed(extractor, clips)[0]
    for clip, [vector] in zip(clips, found, strict=True):
        expected = pycatch22.catch22_all(clip.astype(np.float64).tolist())["values"]
        np.testing.assert_allclose(vector, expected, rtol=1e-6)
    louder = embed(extractor, [3 * c + 1 for c in clips])[0]
    np.testing.assert_allclose(louder[0], found[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("spec", ["mfcc:fast", "logmel:100", "catch22:44.1k", "mfcc:"])
def test_rates_that_are_none_are_one_line(spec: str) -> None:
    pytest.importorskip("pycatch22")
    with pytest.raises(ModelError, match="expected a sample rate in Hz"):
        find_model(spec)


def test_a_rate_is_part_of_the_fingerprint() -> None:
    assert find_model("logmel").fingerprint() != find_model("logmel:44100").fingerprint()
    assert find_model("mfcc:16000").fingerprint() == find_model("mfcc").fingerprint()
