"""Sketches of samples and similar embeddings: copies are found, strangers are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.duplicates import near_embeddings
from featurestore.duplicates.waveform_sketch import REACH, alike, sketch
from tests.featurestore.made_key import key


@given(st.integers(0, 50), st.integers(0, 3000), st.integers(0, 3000), st.integers(500, 5000))
def test_the_same_samples_are_recognised_at_any_shift(seed: int, before: int, after: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(6000).astype(np.float32)
    shifted = np.concatenate(
        [np.zeros(before, np.float32), x[before // 2 :], 0.1 * rng.standard_normal(after).astype(np.float32)]
    )
    strangers = [sketch([rng.standard_normal(6000).astype(np.float32)]) for _ in range(5)]
    # block borders change nothing
    in_blocks = sketch(shifted[i : i + block] for i in range(0, len(shifted), block))
    assert in_blocks.tobytes() == sketch([shifted]).tobytes()
    assert alike([sketch([x]), *strangers, in_blocks]).tolist() == [[0, 6]]


def in_16_bits(x: np.ndarray) -> np.ndarray:
    return (np.clip(np.round(x * 32768), -32768, 32767) / 32768).astype(np.float32)


def speech(seed: int, n: int = 8000) -> np.ndarray:
    """Harmonics with vibrato and a little noise at 16 kHz, in 16 bits."""
    rng = np.random.default_rng(seed)
    t = np.arange(n) / 16_000
    phase = np.cumsum(rng.uniform(150, 400) * (1 + 0.1 * np.sin(rng.uniform(10, 40) * t))) / 16_000
    tone = sum(rng.uniform(0.2, 1) / k * np.sin(2 * np.pi * k * phase) for k in range(1, 9))
    return in_16_bits(0.15 * tone + 0.01 * rng.standard_normal(n))


@pytest.mark.parametrize("gain", [0.5, 0.1, -1.0, 1.6, -0.3])
def test_a_copy_at_another_level_or_upside_down_is_recognised(gain: float) -> None:
    clips = [speech(seed) for seed in range(30)]
    copies = [in_16_bits(gain * x[1000 + 50 * i :]) for i, x in enumerate(clips)]
    found = alike([sketch([x]) for x in clips + copies]).tolist()
    assert found == [[i, 30 + i] for i in range(30)]


def test_a_piece_of_a_long_recording_is_recognised() -> None:
    long = np.concatenate([speech(seed, 32_000) for seed in range(60)])  # two minutes
    pieces = [in_16_bits(0.5 * long[s : s + 80_000]) for s in range(10_000, 1_500_000, 300_000)]
    assert alike([sketch([long]), *(sketch([x]) for x in pieces)]).tolist() == [[0, 1 + i] for i in range(5)]


@pytest.mark.parametrize("snr_db", [20, 40])
@pytest.mark.parametrize("hz", [300, 1000, 3100])
def test_steady_tones_of_one_pitch_are_no_copies(hz: int, snr_db: int) -> None:
    t = np.arange(16_000) / 16_000
    sketches = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        noise = 10 ** (-snr_db / 20) / np.sqrt(2) * rng.standard_normal(len(t))
        tone = np.sin(2 * np.pi * hz * t + rng.uniform(0, 6))
        sketches.append(sketch([in_16_bits(0.3 * (tone + noise))]))
    assert alike(sketches).tolist() == []


def test_a_sound_that_many_clips_have_joins_neighbours_and_not_all_with_all() -> None:
    beep = speech(0, 4000)
    clips = [np.concatenate([speech(100 + i, 2000), beep]) for i in range(40)]
    pairs = alike([sketch([x]) for x in clips])
    assert set(map(tuple, pairs.tolist())) >= {(i, i + 1) for i in range(39)}
    assert len(pairs) <= 8 * 40


def test_silence_clipping_and_short_clips_have_nothing_to_compare() -> None:
    square = np.sign(np.sin(np.arange(8000) / 20)).astype(np.float32)
    quiet = [
        np.zeros(8000, np.float32),
        square,
        np.full(8000, 0.5, np.float32),
        np.ones(2 * REACH, np.float32),
    ]
    assert [len(sketch([x])) for x in quiet] == [0, 0, 0, 0]
    assert alike([sketch([x]) for x in quiet]).shape == (0, 2)


@pytest.mark.parametrize("d", [24, 600])
def test_near_copies_among_clusters_are_found_and_strangers_are_not(tmp_path: Path, d: int) -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((5, d)) * 2
    x = 50 + centres[rng.integers(0, 5, 300)] + 0.5 * rng.standard_normal((300, d))
    x[7], x[200] = x[33], x[150] + 0.01 * rng.standard_normal(d)
    found = near_embeddings.similar_pairs(key(tmp_path, x).layer(0), np.arange(300))
    assert sorted(map(tuple, found.pairs.tolist())) == [(7, 33), (150, 200)]
    assert found.pairs[0].tolist() == [7, 33]  # nearest first
    assert found.cosine[0] == pytest.approx(1, abs=1e-5)
    assert (found.n_rows, found.n_queried, found.truncated) == (300, 300, False)


def test_too_many_rows_are_sampled_and_that_is_said(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 8))
    x[101] = x[0]  # the first row is always among those asked
    found = near_embeddings.similar_pairs(key(tmp_path, x).layer(0), np.arange(200), max_products=2000)
    assert found.n_queried == 10
    assert [0, 101] in found.pairs.tolist()


def test_rows_that_are_all_the_same_are_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_embeddings, "MAX_PAIRS", 100)
    x = np.random.default_rng(0).standard_normal((80, 8))
    x[:60] = x[0]
    found = near_embeddings.similar_pairs(key(tmp_path, x).layer(0), np.arange(80))
    assert found.truncated
    assert len(found.pairs) == 100


@pytest.mark.parametrize("n_copies", [0, 1, 3])
def test_the_scale_does_not_depend_on_copies(tmp_path: Path, n_copies: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((80, 24))
    copies = [x + 0.02 * rng.standard_normal(x.shape) for _ in range(n_copies)]
    found = near_embeddings.similar_pairs(
        key(tmp_path, np.concatenate([x, *copies])).layer(0), np.arange(80 * (1 + n_copies))
    )
    alone = 0.53  # median distance to the nearest of 80 such rows
    assert 1 - found.typical == pytest.approx(alone, rel=0.25)
    assert {(int(a) % 80, int(b) % 80) for a, b in found.pairs} == {
        (i, i) for i in range(80 if n_copies else 0)
    }
