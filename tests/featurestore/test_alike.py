"""Sketches of samples and similar embeddings: copies are found, strangers are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore import similar
from featurestore.sketch import REACH, alike, sketch
from tests.featurestore.made_key import key


@given(st.integers(0, 50), st.integers(0, 3000), st.integers(0, 3000), st.integers(500, 5000))
@settings(deadline=None, max_examples=60)
def test_the_same_samples_are_recognised_at_any_shift(seed: int, before: int, after: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(6000).astype(np.float32)
    shifted = np.concatenate(
        [np.zeros(before, np.float32), x[before // 2 :], 0.1 * rng.standard_normal(after).astype(np.float32)]
    )
    strangers = [sketch([rng.standard_normal(6000).astype(np.float32)]) for _ in range(5)]
    # block borders change nothing
    in_blocks = sketch(shifted[i : i + block] for i in range(0, len(shifted), block))
    assert in_blocks.tolist() == sketch([shifted]).tolist()
    assert alike([sketch([x]), *strangers, in_blocks]).tolist() == [[0, 6]]


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
    found = similar.similar_pairs(key(tmp_path, x).layer(0), np.arange(300))
    assert sorted(map(tuple, found.pairs.tolist())) == [(7, 33), (150, 200)]
    assert found.pairs[0].tolist() == [7, 33]  # nearest first
    assert found.cosine[0] == pytest.approx(1, abs=1e-5)
    assert (found.n_rows, found.n_queried, found.truncated) == (300, 300, False)


def test_too_many_rows_are_sampled_and_that_is_said(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 8))
    x[101] = x[0]  # the first row is always among those asked
    found = similar.similar_pairs(key(tmp_path, x).layer(0), np.arange(200), max_products=2000)
    assert found.n_queried == 10
    assert [0, 101] in found.pairs.tolist()


def test_rows_that_are_all_the_same_are_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similar, "MAX_PAIRS", 100)
    x = np.random.default_rng(0).standard_normal((80, 8))
    x[:60] = x[0]
    found = similar.similar_pairs(key(tmp_path, x).layer(0), np.arange(80))
    assert found.truncated
    assert len(found.pairs) == 100
