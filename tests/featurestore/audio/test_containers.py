from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from featurestore.audio.blocks import SoundError, mono_blocks, read_header
from featurestore.audio.containers import missing_part, read_box

NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, (320_000, 2)).astype(np.float32)
PLAIN = [("WAV", "PCM_24"), ("WAV", "FLOAT"), ("WAV", "ALAW"), ("WAVEX", "PCM_16"), ("RF64", "PCM_16")]
PLAIN += [("AIFF", "PCM_16"), ("AU", "ULAW"), ("AU", "PCM_24")]


@pytest.mark.parametrize(("kind", "subtype"), PLAIN)
def test_headers_promise_what_was_written_and_a_cut_is_seen(tmp_path: Path, kind: str, subtype: str) -> None:
    path = tmp_path / "a.bin"
    soundfile.write(path, NOISE[:5000], 8000, format=kind, subtype=subtype)
    box = read_box(str(path))
    assert box is not None
    assert box.n_frames == 5000
    assert missing_part(str(path), read_header(str(path)).n_frames) == ""
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    there = read_header(str(path)).n_frames
    assert 3000 < there < 5000
    assert missing_part(str(path), there) == (
        f"cut short: its header promises 5,000 frames, {there:,} are there"
    )
    assert missing_part(str(path), there, tolerance_s=5000 - there) == ""


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_file_without_its_last_page_is_cut_short(tmp_path: Path, subtype: str) -> None:
    path = tmp_path / "a.ogg"
    soundfile.write(path, NOISE, 16_000, format="OGG", subtype=subtype)
    assert missing_part(str(path), 320_000) == ""
    whole = path.read_bytes()
    assert len(whole) > 100_000  # several pages
    last = whole.rfind(b"OggS")
    for cut in (last, last + 20, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert read_header(str(path)).n_frames > 0  # libsndfile does not mind
        assert missing_part(str(path), 320_000) == "cut short: its last page is missing"


def test_headers_that_promise_nothing_are_left_alone(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", NOISE[:5000], 8000)
    (tmp_path / "text").write_text("RIFF of a guitar")
    for name in ("a.flac", "text", "nowhere"):
        box = read_box(str(tmp_path / name))
        assert box is None or box.n_frames is None
        assert missing_part(str(tmp_path / name), 0) == ""


def test_blocks_of_many_channels_hold_the_same_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = np.repeat(NOISE[:5000], 6, axis=1)
    soundfile.write(tmp_path / "a.wav", many, 8000, subtype="FLOAT")
    path = str(tmp_path / "a.wav")
    [at_once] = mono_blocks(path, float("nan"), float("nan"), None)
    monkeypatch.setattr("featurestore.audio.blocks.BLOCK_SAMPLES", 4096)
    blocks = list(mono_blocks(path, float("nan"), float("nan"), None))
    assert [len(b) for b in blocks] == [512] * 9 + [392]
    np.testing.assert_array_equal(np.concatenate(blocks), at_once)
    np.testing.assert_array_equal(np.concatenate(list(mono_blocks(path, 0.1, 0.4, 3))), many[800:3200, 3])


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.wav")
    with pytest.raises(SoundError, match="is no regular file"):
        read_header(str(tmp_path / "a.wav"))
