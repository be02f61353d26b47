"""Recordings that stay open give what files opened anew give."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from featurestore.audio import recordings as module
from featurestore.audio.forward_sound import ForwardSound
from featurestore.audio.recordings import Recordings
from featurestore.audio.segment import AudioError, SampleHash, hash_clip, open_stretch

RATE = 22_050
FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "float": ("WAV", "FLOAT"),
    "aiff": ("AIFF", "PCM_24"),
    "ulaw": ("AU", "ULAW"),
    "flac": ("FLAC", "PCM_16"),
    "flac24": ("FLAC", "PCM_24"),
    "adpcm": ("WAV", "IMA_ADPCM"),
    "vorbis": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
STAYING = {"wav", "float", "aiff", "ulaw", "flac", "flac24"}
# Forward, back, overlapping, from the very start, to the very end.
SEGMENTS = [(1.0, 1.5), (2.5, 2.75), (0.0, 0.3), (1.4, 2.9), (float("nan"), 0.2), (2.9, 3.0), (0.1, 0.12)]


def save(folder: Path, name: str) -> str:
    container, subtype = FORMATS[name]
    rate = 24_000 if subtype == "OPUS" else RATE
    samples = 0.3 * np.random.default_rng(0).standard_normal((3 * rate, 2))
    samples[:5] = -0.0
    path = folder / f"{name}.bin"
    soundfile.write(path, np.clip(samples, -0.99, 0.99), rate, subtype=subtype, format=container)
    return str(path)


def hashed(held: Recordings, path: str, start_s: float, end_s: float, channel: int | None) -> str:
    with open_stretch(path, start_s, end_s, channel, held) as stretch:
        found = SampleHash(stretch.sample_rate_hz)
        for block in stretch.blocks():
            found.add(block)
        return found.text


@pytest.mark.parametrize("name", FORMATS)
def test_segments_of_an_open_file_hold_the_same_bits(tmp_path: Path, name: str) -> None:
    path = save(tmp_path, name)
    with Recordings() as held:
        for start_s, end_s in SEGMENTS:
            for channel in (None, 1):
                alone = hash_clip(path, start_s, end_s, channel)
                assert hashed(held, path, start_s, end_s, channel) == alone, (start_s, end_s, channel)
        assert len(held._idle) == (name in STAYING)
    assert not held._idle


def test_a_file_is_opened_once_for_its_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [save(tmp_path, name) for name in ("wav", "flac")]
    opened: list[str] = []
    real = module.open_sound
    monkeypatch.setattr(module, "open_sound", lambda p, s: (opened.append(p), real(p, s))[1])
    with Recordings() as held:
        for start_s, end_s in SEGMENTS:
            for path in paths:
                hashed(held, path, start_s, end_s, None)
    assert sorted(opened) == sorted(paths)


@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "NIST", "FLAC"])
def test_samples_of_16_bits_are_those_of_soundfile_to_the_last_bit(tmp_path: Path, container: str) -> None:
    every = np.arange(-(1 << 15), 1 << 15, dtype=np.int16)
    path = tmp_path / "every"
    soundfile.write(path, np.column_stack([every, every[::-1]]), RATE, subtype="PCM_16", format=container)
    expected, _ = soundfile.read(path, dtype="float32")
    with open(path, "rb") as raw, ForwardSound(raw.fileno(), closefd=False) as file:
        found = file.read(2 * len(every), "float32", always_2d=True)  # more than there are
        file.seek(7)
        after = file.read(5, "float32", always_2d=True)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found[:, 0].astype(np.float64), every / 32768)
    np.testing.assert_array_equal(after, expected[7:12])
    assert found.dtype == np.float32


@pytest.mark.parametrize("name", ["flac", "flac24", "wav"])
def test_a_file_goes_on_from_where_a_read_has_ended(tmp_path: Path, name: str) -> None:
    path = save(tmp_path, name)
    places = [(0, 100), (0, 5000), (3 * RATE - 50, 200), (4095, 2), (1, 40_000), (3 * RATE, 5)]
    with (
        open(path, "rb") as raw,
        ForwardSound(raw.fileno(), closefd=False) as forward,
        soundfile.SoundFile(path) as plain,
    ):
        for first, n in places:
            assert forward.seekable()
            assert forward.seek(first) == plain.seek(first)
            for _ in range(2):  # and what comes next
                found, expected = (f.read(n, "float32", always_2d=True) for f in (forward, plain))
                np.testing.assert_array_equal(found, expected)
                assert forward.tell() == plain.tell()
        forward.seek(7)
        plain.seek(7)
        np.testing.assert_array_equal(forward.read(dtype="float32"), plain.read(dtype="float32"))


def test_no_more_files_stay_open_than_may(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with Recordings(2) as held:
        for i in range(5):
            path = tmp_path / f"{i}.wav"
            soundfile.write(path, np.ones(RATE) / 2, RATE)
            hashed(held, str(path), 0.0, 0.5, None)
        assert [Path(kept.path).stem for kept in held._idle] == ["3", "4"]
        assert len(os.listdir("/proc/self/fd")) == before + 2
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_segment_that_fails_costs_its_neighbours_nothing(tmp_path: Path) -> None:
    path = save(tmp_path, "wav")
    size = os.path.getsize(path)
    with Recordings() as held:
        good = hashed(held, path, 0.1, 0.5, None)
        with pytest.raises(AudioError, match=r"ends at 9 s, after the file's end at 3 s"):
            hashed(held, path, 0.1, 9.0, None)
        with pytest.raises(AudioError, match="none numbered 2"):
            hashed(held, path, 0.1, 0.5, 2)
        assert hashed(held, path, 0.1, 0.5, None) == good
        os.truncate(path, size // 2)  # while it is open
        with pytest.raises(AudioError, match=r"cut short: .* could be decoded"):
            hashed(held, path, 2.0, 2.5, None)
        assert hashed(held, path, 0.1, 0.5, None) == good


def test_a_file_in_whose_place_another_comes_keeps_its_stamp(tmp_path: Path) -> None:
    path = save(tmp_path, "wav")
    stamp = (os.stat(path).st_size, os.stat(path).st_mtime_ns)
    with Recordings() as held:
        before = hashed(held, path, 0.1, 0.5, None)
        other = tmp_path / "other.wav"
        soundfile.write(other, np.ones(RATE) / 2, RATE)
        os.replace(other, path)
        with open_stretch(path, 0.1, 0.5, None, held) as stretch:
            assert stretch.stamp == stamp  # and not that of samples which nobody has read
        assert hashed(held, path, 0.1, 0.5, None) == before


def test_threads_do_not_share_a_file(tmp_path: Path) -> None:
    path = save(tmp_path, "flac")
    expected = {segment: hash_clip(path, *segment, None) for segment in SEGMENTS}
    wrong: list[tuple[float, float]] = []

    def read(held: Recordings) -> None:
        for _ in range(5):
            wrong.extend(s for s in SEGMENTS if hashed(held, path, *s, None) != expected[s])

    with Recordings() as held:
        threads = [threading.Thread(target=read, args=(held,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
