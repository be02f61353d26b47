"""Windows over a recording: where they lie, and that each is a clip of its times, to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from extractors.audio import recording_windows
from extractors.audio.policy import AudioPolicy
from extractors.audio.recording_windows import Heard, SilentWindow, WindowGrid, windows_of
from extractors.audio.waveform import PreparedClip, load_clip
from featurestore.audio import blocks
from featurestore.audio.segment import AudioError
from featurestore.errors import ConfigError


@given(
    n=st.integers(1, 5000),
    window=st.integers(1, 900),
    hop=st.floats(0.05, 1.0),
    rate=st.sampled_from([100, 1000]),
)
def test_every_sample_is_in_a_window_and_windows_are_about_all_of_it(
    n: int, window: int, hop: float, rate: int
) -> None:
    grid = WindowGrid(window_s=window / rate, hop_s=hop * window / rate)
    count = grid.count(n, rate)
    which = np.arange(count)
    length, step = grid.samples(rate)
    starts = grid.starts(which, n, rate)
    ends = np.minimum(starts + length, n)
    assert starts[0] == 0
    assert ends[-1] == n
    assert (np.diff(starts) > 0).all()
    assert (np.diff(starts) <= step).all()
    assert (starts[1:] <= ends[:-1]).all()
    start_s, end_s = grid.stretches(which, n, rate)
    assert start_s[0] == 0
    assert end_s[-1] == n / rate
    np.testing.assert_allclose(start_s[1:], end_s[:-1])
    middle_s = (starts + ends) / 2 / rate
    assert (start_s <= middle_s + 1e-9).all()
    assert (middle_s <= end_s + 1e-9).all()


@pytest.mark.parametrize("file", ["x.wav", "x.flac"])
@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize("channel", [None, 1])
def test_a_window_is_a_clip_of_its_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, rate: int, channel: int | None
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_SAMPLES", 5000)
    monkeypatch.setattr(recording_windows, "GROUP_SAMPLES", 20_000)
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / file, 0.1 * rng.standard_normal((2 * rate + 17, 2)), rate)
    policy = AudioPolicy(sample_rate_hz=16_000, normalisation="zero-mean-unit-variance")
    grid, heard = WindowGrid(window_s=0.4, hop_s=0.17), Heard()
    path = str(tmp_path / file)
    groups = list(windows_of(path, channel, grid, policy, heard))
    found = [w for group in groups for w in group]
    assert len(groups) > 1
    assert [w.index for w in found] == list(range(heard.n_windows))
    n = 2 * rate + 17
    assert (heard.n_samples, heard.rate_hz) == (n, rate)
    starts = grid.starts(np.arange(heard.n_windows), n, rate)
    length = grid.samples(rate)[0]
    for window, start in zip(found, starts, strict=True):
        clip = load_clip(path, start / rate, (start + length) / rate, channel, policy)
        assert isinstance(window.clip, PreparedClip)
        np.testing.assert_array_equal(window.clip.samples, clip.samples)
        assert window.clip.duration_s == clip.duration_s
    whole = load_clip(path, float("nan"), float("nan"), channel, policy)
    assert heard.audio_hash == whole.audio_hash


def test_silence_is_no_failure_and_a_cut_file_is(tmp_path: Path) -> None:
    policy = AudioPolicy(sample_rate_hz=16_000, normalisation="none")
    sound = np.zeros(16_000)
    sound[12_000:] = 0.5
    soundfile.write(tmp_path / "x.wav", sound, 16_000)
    grid = WindowGrid(window_s=0.25, hop_s=0.25)
    (group,) = windows_of(str(tmp_path / "x.wav"), None, grid, policy, Heard())
    assert [isinstance(w.clip, SilentWindow) for w in group] == [True, True, True, False]
    data = (tmp_path / "x.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(data[:20_000])
    with pytest.raises(AudioError):
        list(windows_of(str(tmp_path / "cut.wav"), None, grid, policy, Heard()))


@pytest.mark.parametrize(
    ("window_s", "hop_s", "said"),
    [(0, 1, "--window"), (61, 1, "--window"), (1, 0, "--hop"), (1, 2, "--hop")],
)
def test_grids_that_are_none(window_s: float, hop_s: float, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        WindowGrid(window_s=window_s, hop_s=hop_s)
