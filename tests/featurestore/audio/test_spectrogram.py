"""Pictures of sounds: frequencies and times are where they belong, and nothing between columns is lost."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from scipy.signal import ShortTimeFFT

from featurestore.audio.spectrogram import data_url, power_spectrogram, spectrogram_png
from featurestore.audio.spectrum import EnergyAbove, shares_above

RATE, WIDTH, HEIGHT = 16_000, 120, 64


def test_a_tone_is_in_its_row_and_a_click_in_its_column() -> None:
    n = 2 * RATE
    tone = np.sin(2 * np.pi * 2000 * np.arange(n) / RATE)
    power = power_spectrogram(tone, WIDTH, HEIGHT)
    row = HEIGHT - round(2000 / (RATE / 2) * HEIGHT)
    assert (np.abs(power.argmax(axis=0) - row) <= 1).all()
    rng = np.random.default_rng(0)
    for at in rng.integers(HEIGHT * 2, n - HEIGHT * 2, 20):
        click = np.zeros(n)
        click[at] = 1.0  # one sample, far shorter than a column
        total = power_spectrogram(click, WIDTH, HEIGHT).sum(axis=0)
        assert abs(total.argmax() - at / n * WIDTH) <= 1.5


def test_power_is_that_of_scipy() -> None:
    x = np.random.default_rng(1).standard_normal(2 * HEIGHT * 5)
    x -= x.mean()
    mine = power_spectrogram(x[: 2 * HEIGHT], 1, HEIGHT)[:, 0][::-1]
    one = x[: 2 * HEIGHT] - x[: 2 * HEIGHT].mean()
    window = ShortTimeFFT(np.hanning(2 * HEIGHT), 2 * HEIGHT, RATE)
    theirs = np.abs(window.stft(one, p0=0, p1=2, k_offset=HEIGHT)) ** 2
    assert mine == pytest.approx(theirs[1:, 0], rel=1e-9)


@pytest.mark.parametrize("x", [np.zeros(4000), np.ones(4000), 1e-30 * np.ones(4000)])
def test_silence_is_paper(x: np.ndarray) -> None:
    image = Image.open(io.BytesIO(spectrogram_png(x, WIDTH, HEIGHT)))
    assert image.size == (WIDTH, HEIGHT)
    assert len(image.getcolors() or []) == 1
    assert image.convert("RGB").getpixel((0, 0)) == (254, 254, 253)


def test_a_short_sound_fills_the_picture() -> None:
    x = np.random.default_rng(2).standard_normal(2 * HEIGHT)
    assert (power_spectrogram(x, WIDTH, HEIGHT) > 0).all()


def test_a_data_url_holds_the_bytes() -> None:
    assert data_url("image/png", b"\x00\xff") == "data:image/png;base64,AP8="


def test_shares_of_sounds_together_are_those_of_each_alone() -> None:
    rng = np.random.default_rng(0)
    lengths = [1, 5, 1023, 1024, 1025, 30_000, 70_000, 66_000, 0, 200, 50_000, (1 << 20) + 77]
    sounds = [(rng.standard_normal(n) + rng.uniform(-2, 2)).astype(np.float32) for n in lengths]
    expected = []
    for sound in sounds:
        energy = EnergyAbove(44_100, 8000)
        for first in range(0, len(sound), 1 << 20):
            energy.add(sound[first : first + (1 << 20)])
        expected.append(energy.share)
    np.testing.assert_allclose(shares_above(sounds, 44_100, 8000), expected, rtol=1e-5)
    assert 0.6 < expected[5] < 0.68  # white noise: 63.7 %
    assert np.isnan(shares_above(sounds[:3], 16_000, 8000)).all()  # none can be there
    assert np.isnan(shares_above([np.zeros(3000, np.float32)], 44_100, 8000)).all()
    assert shares_above([], 44_100, 8000) == []
