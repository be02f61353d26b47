"""Clips that are resampled together become what each becomes alone."""

from __future__ import annotations

import numpy as np
import pytest
import soxr

from extractors.audio.resampling import MOST_CHANNELS, resample_all
from featurestore.audio.segment import AudioError

RATES = (600, 8000, 11_025, 22_050, 24_000, 44_100, 48_000, 96_000, 166_600, 250_000)


@pytest.mark.parametrize("quality", ["qq", "lq", "mq", "hq", "vhq"])
@pytest.mark.parametrize("rate", RATES)
def test_together_they_are_what_they_are_alone_to_the_last_bit(rate: int, quality: str) -> None:
    rng = np.random.default_rng(rate)
    # More than a group holds, of lengths near each other, far apart, and of next to nothing.
    lengths = [*rng.integers(3000, 3400, 2 * MOST_CHANNELS), 1, 2, 7, 500, 20_000, *rng.integers(1, 9000, 6)]
    clips = [rng.standard_normal(n).astype(np.float32) for n in lengths]
    for clip, found in zip(clips, resample_all(clips, rate, 16_000, quality), strict=True):
        alone = soxr.resample(clip, rate, 16_000, quality=quality.upper())
        np.testing.assert_array_equal(found, alone)


def test_what_soxr_cannot_do_is_told_of_each_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    resample = soxr.resample

    def fails_together(samples: np.ndarray, *given: object, **options: object) -> np.ndarray:
        if samples.ndim > 1 or len(samples) == 500:
            raise RuntimeError("no")
        return resample(samples, *given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(soxr, "resample", fails_together)
    clips = [np.ones(n, dtype=np.float32) for n in (1000, 500, 1000)]
    first, second, third = resample_all(clips, 44_100, 16_000, "hq")
    assert str(second) == "cannot be resampled from 44100 Hz (no)"
    assert isinstance(second, AudioError)
    np.testing.assert_array_equal(first, third)
    np.testing.assert_array_equal(first, resample(clips[0], 44_100, 16_000, quality="HQ"))
