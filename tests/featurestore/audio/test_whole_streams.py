"""Files whose sizes nobody filled in, and files that hold several streams: all of the audio, or why not."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from featurestore.audio.blocks import read_header
from featurestore.audio.flac import flac_streams
from featurestore.audio.mp3 import runs
from featurestore.audio.segment import AudioError, SampleHash, hash_clip
from tests.featurestore.audio.decoded import decode

NAN = math.nan
RATE = 16_000
RNG = np.random.default_rng(0)
PCM = RNG.integers(-9000, 9000, 6000).astype("<i2")
SIGNAL = PCM / np.float32(32_768)
FORMAT = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16)
FULL, WIDE = b"\xff" * 4, b"\xff" * 8


def noise(n: int, seed: int = 0, channels: int = 1) -> np.ndarray:
    """Noise whose level changes, so that variable bit rates vary."""
    x = np.random.default_rng(seed).uniform(-0.5, 0.5, (n, channels)).astype(np.float32)
    x *= np.linspace(0, 1, n, dtype=np.float32)[:, None] ** 4
    return x if channels > 1 else x[:, 0]


def encoded(samples: np.ndarray, kind: str, subtype: str, rate: int = RATE) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=kind, subtype=subtype)
    return out.getvalue()


def wav(size: int, pcm: bytes = PCM.tobytes(), after: bytes = b"", riff: int | None = None) -> bytes:
    whole = min(size + 36, 0xFFFFFFFF) if riff is None else riff
    return (
        b"RIFF"
        + struct.pack("<I", whole)
        + b"WAVE"
        + FORMAT
        + b"data"
        + struct.pack("<I", size)
        + pcm
        + after
    )


def changed(data: bytes, *fixes: tuple[int, bytes]) -> bytes:
    made = bytearray(data)
    for at, new in fixes:
        made[at : at + len(new)] = new
    return bytes(made)


def rf64(size: int, mark: bytes = b"RF64") -> bytes:
    return (
        mark
        + FULL
        + b"WAVEds64"
        + struct.pack("<IQQQI", 28, 0, size, 0, 0)
        + FORMAT
        + b"data"
        + FULL
        + PCM.tobytes()
    )


def w64(size: int) -> bytes:
    data = encoded(SIGNAL, "W64", "PCM_16")
    return changed(data, (data.index(b"data") + 16, struct.pack("<Q", size)))


def aiff(frames: int, size: int) -> bytes:
    data = encoded(SIGNAL, "AIFF", "PCM_16")
    fixes = (data.index(b"COMM") + 10, frames), (data.index(b"SSND") + 4, size)
    return changed(data, *((at, struct.pack(">I", n)) for at, n in fixes))


def au(size: int, kind: str = "BIG") -> bytes:
    out = io.BytesIO()
    soundfile.write(out, SIGNAL, RATE, format="AU", subtype="PCM_16", endian=kind)
    return changed(out.getvalue(), (8, struct.pack(">I" if kind == "BIG" else "<I", size)))


def caf(size: int) -> bytes:
    data = encoded(SIGNAL, "CAF", "PCM_16")
    return changed(data, (data.index(b"data") + 4, struct.pack(">q", size)))


def flac(samples: np.ndarray = SIGNAL, *, says_length: bool = True) -> bytes:
    data = encoded(samples, "FLAC", "PCM_16")
    return data if says_length else changed(data, (21, bytes([data[21] & 0xF0]) + bytes(4)))


STREAMED = [0, 0x7FFFFFFF, 0x7FFFF000, 0x80000000, 0x7FFFFFDB, 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFDB, 0xFFFFF000]
OPEN: dict[str, bytes] = {
    **{f"wav {size:x}": wav(size) for size in STREAMED},
    "wav, both 0": wav(0, riff=0),
    **{f"rf64 {size:x}": rf64(size) for size in (0, 2**63 - 1, 2**64 - 1)},
    "bw64": rf64(12_000, b"BW64"),
    **{f"w64 {size:x}": w64(size) for size in (0, 24, 2**63 - 1, 2**64 - 1)},
    **{f"aiff {n:x} {s:x}": aiff(n, s) for n in (0, 0xFFFFFFFF, 6000) for s in (0, 0x7FFFFFFF, 0xFFFFFFFF)},
    "aiff 0 8": aiff(0, 8),
    **{f"au {size:x}": au(size) for size in (0, 0x7FFFFFFF, 0x7FFFF000, 0xFFFFFFFF)},
    "au little": au(0, "LITTLE"),
    **{f"caf {size:x}": caf(size) for size in (-1, 0, 4, 0x7FFFFFFF, 2**63 - 1)},
    "flac": flac(says_length=False),
    "flac with a tag": flac(says_length=False) + b"TAG" + bytes(125),
}


@pytest.mark.parametrize("name", OPEN)
def test_sizes_that_nobody_filled_in_cost_no_sample(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(OPEN[name])
    found, rate = decode(str(path), NAN, NAN, None)
    assert rate == RATE
    np.testing.assert_array_equal(found, SIGNAL)
    np.testing.assert_array_equal(decode(str(path), 0.1, 0.2, None)[0], SIGNAL[1600:3200])
    assert read_header(str(path)).n_frames == 6000
    with pytest.raises(AudioError, match=r"ends at 0\.5 s, after the file's end at 0\.375 s"):
        decode(str(path), 0.1, 0.5, None)


CUT = {
    "w64": encoded(SIGNAL, "W64", "PCM_16"),
    "caf": encoded(SIGNAL, "CAF", "PCM_16"),
    "nist": encoded(SIGNAL, "NIST", "PCM_16"),
    "adpcm": encoded(SIGNAL, "WAV", "IMA_ADPCM"),
    "gsm": encoded(SIGNAL, "WAV", "GSM610"),
    "au g721": encoded(SIGNAL, "AU", "G721_32"),
    "alac": encoded(SIGNAL, "CAF", "ALAC_16"),
    "flac": flac(noise(40_000), says_length=False),
}


@pytest.mark.parametrize("name", CUT)
def test_half_a_file_is_cut_short_and_never_ok(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(CUT[name][: len(CUT[name]) * 6 // 10])
    with pytest.raises(AudioError, match=r"cut short: its (header promises|last frame is not whole)"):
        decode(str(path), NAN, NAN, None)


def test_an_empty_wav_with_further_chunks_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav(0, pcm=b"", after=b"LIST" + struct.pack("<I", 4) + b"INFO"))
    with pytest.raises(AudioError, match="no samples in the file"):
        decode(str(path), NAN, NAN, None)


@pytest.mark.parametrize("size", [0x7FFFF000, 0xFFFFFFFF, (5 << 30) % 2**32])
def test_a_wav_of_more_than_4_gib_is_read_behind_them(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.wav"
    with open(path, "wb") as file:  # holes: nothing of it is on the disk
        file.write(wav(size, pcm=b""))
        file.seek(44 + (5 << 30) - 12_000)
        file.write(PCM.tobytes())
    end_s = (5 << 29) / RATE
    assert read_header(str(path)).n_frames == 5 << 29
    np.testing.assert_array_equal(decode(str(path), end_s - 6000 / RATE, end_s, None)[0], SIGNAL)


KINDS = [("OGG", "VORBIS"), ("OGG", "OPUS"), ("FLAC", "PCM_16"), ("MP3", "MPEG_LAYER_III")]


@pytest.mark.parametrize(("kind", "subtype"), KINDS)
@pytest.mark.parametrize("again", [False, True], ids=["two", "twice the same"])
def test_streams_in_one_file_are_read_one_after_the_other(
    tmp_path: Path, kind: str, subtype: str, again: bool
) -> None:
    streams = [encoded(noise(20_000), kind, subtype)]
    streams.append(streams[0] if again else encoded(noise(30_000, 1), kind, subtype))
    alone = []
    for i, data in enumerate(streams):
        (tmp_path / f"{i}").write_bytes(data)
        alone.append(decode(str(tmp_path / f"{i}"), NAN, NAN, None)[0])
    path = tmp_path / "joined"
    path.write_bytes(streams[0] + (b"TAG" + bytes(125) if kind == "MP3" else b"") + streams[1])
    expected = np.concatenate(alone)
    assert len(expected) == (40_000 if again else 50_000)
    np.testing.assert_array_equal(decode(str(path), NAN, NAN, None)[0], expected)
    for start, end in ((0.5, 1.0), (1.0, 1.5), (1.3, 2.2), (2.4, 2.5)):
        part = decode(str(path), start, end, None)[0]
        np.testing.assert_allclose(part, expected[int(start * RATE) : int(end * RATE)], atol=2e-7)


@pytest.mark.parametrize(("kind", "subtype"), KINDS)
@pytest.mark.parametrize(("rate", "channels"), [(RATE, 2), (48_000, 1)])
def test_streams_that_differ_are_refused(
    tmp_path: Path, kind: str, subtype: str, rate: int, channels: int
) -> None:
    path = tmp_path / "a"
    first, other = noise(20_000), noise(40_000, 1, channels)
    path.write_bytes(encoded(first, kind, subtype) + encoded(other, kind, subtype, rate))
    with pytest.raises(
        AudioError, match=rf"holds 2 streams, .* that differ \(16000 Hz, 1 channel; {rate} Hz, {channels}"
    ):
        decode(str(path), NAN, NAN, None)


def without_header(data: bytes, tmp_path: Path) -> bytes:
    """The frames of an MP3 file without the one that counts them."""
    path = tmp_path / "with_header"
    path.write_bytes(data)
    with open(path, "rb") as file:
        [run] = runs(file, 0, len(data))
    assert run.tag
    return data[len(run.tag) :]


def in_wav(frames: bytes, rate: int, fact: int | None, size: int | None = None) -> bytes:
    """MP3 as Windows and ffmpeg put it into WAV (MPEGLAYER3WAVEFORMAT)."""
    form = struct.pack("<HHIIHHHHIHHH", 0x55, 1, rate, 4000, 1, 0, 12, 1, 2, 288, 1, 1393)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form
    body += b"" if fact is None else b"fact" + struct.pack("<II", 4, fact)
    body += b"data" + struct.pack("<I", len(frames) if size is None else size) + frames
    return b"RIFF" + struct.pack("<I", len(body)) + body


Pack = Callable[[bytes, int], bytes]
TAGS = {
    "bare": lambda frames, n: frames,
    "ID3v2": lambda frames, n: b"ID3\x03\0\0\0\0\x07\x76" + bytes(1014) + frames,
    "APE": lambda frames, n: frames + b"APETAGEX" + struct.pack("<IIII", 2000, 32, 0, 1 << 31) + bytes(40),
    "zeros": lambda frames, n: frames + bytes(5000),
    "wav": lambda frames, n: in_wav(frames, RATE, n),
    "wav without fact": lambda frames, n: in_wav(frames, RATE, None),
    "wav streamed": lambda frames, n: in_wav(frames, RATE, 0, 0xFFFFFFFF),
}


@pytest.mark.parametrize("mode", ["VARIABLE", "CONSTANT"])
@pytest.mark.parametrize("pack", TAGS.values(), ids=TAGS)
def test_mp3_that_does_not_count_its_frames_is_read_to_its_last(
    tmp_path: Path, pack: Pack, mode: str
) -> None:
    out = io.BytesIO()
    soundfile.write(out, noise(40_000), RATE, format="MP3", bitrate_mode=mode, compression_level=0.5)
    trimmed = soundfile.read(io.BytesIO(out.getvalue()), dtype="float32")[0]
    path = tmp_path / "a"
    path.write_bytes(pack(without_header(out.getvalue(), tmp_path), 40_000))
    found, _ = decode(str(path), NAN, NAN, None)
    # Frames of 576; with a header the encoder's 576 and the decoder's 529 samples of delay are taken off.
    assert len(found) == -(-(40_000 + 1105) // 576) * 576 + (len(found) > 41_472) * 576
    np.testing.assert_allclose(found[1105 : 1105 + 40_000], trimmed, atol=2e-7)
    np.testing.assert_allclose(decode(str(path), 2.0, 2.5, None)[0], found[32_000:40_000], atol=2e-7)


def test_mp3_in_wav_is_cut_short_where_its_fact_says_so(tmp_path: Path) -> None:
    frames = without_header(encoded(noise(40_000), "MP3", "MPEG_LAYER_III"), tmp_path)
    path = tmp_path / "a"
    path.write_bytes(in_wav(frames[: len(frames) * 5 // 6], RATE, 40_000))
    with pytest.raises(AudioError, match="cut short: its header promises 40,000 frames"):
        decode(str(path), NAN, NAN, None)


def test_frames_after_what_an_mp3_header_counts_are_read(tmp_path: Path) -> None:
    first, second = (encoded(noise(20_000, seed), "MP3", "MPEG_LAYER_III") for seed in (0, 1))
    path = tmp_path / "a"
    path.write_bytes(first + without_header(second, tmp_path))
    found, _ = decode(str(path), NAN, NAN, None)
    path.write_bytes(second)
    assert len(found) % 576 == 0
    np.testing.assert_allclose(
        found[-18_000:-6000], _near(found, decode(str(path), NAN, NAN, None)[0]), atol=1e-3
    )


def _near(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The stretch of `wanted` that the samples from 18,000 to 6,000 before the end are."""
    tail = found[-18_000:-6000]
    lag = int(np.argmax(np.correlate(wanted, tail, "valid")))
    return wanted[lag : lag + 12_000]


@pytest.mark.parametrize(
    ("subtype", "rate"), [("VORBIS", RATE), ("VORBIS", 44_100), ("OPUS", RATE), ("OPUS", 48_000)]
)
def test_segments_of_ogg_hold_what_the_whole_file_gives_there(
    tmp_path: Path, subtype: str, rate: int
) -> None:
    path = str(tmp_path / "a.ogg")
    soundfile.write(path, noise(3 * rate + 850, 2), rate, format="OGG", subtype=subtype)
    whole = soundfile.read(path, dtype="float32")[0]
    for start in (0.0, 0.3, 1.7, 2.6, 2.9, 3.0, 3.01):
        part = decode(path, start, min(start + 0.3, len(whole) / rate), None)[0]
        first = round(start * rate)
        np.testing.assert_array_equal(part, whole[first : first + len(part)], err_msg=str(start))


def test_a_page_that_is_missing_inside_is_named(tmp_path: Path) -> None:
    data = encoded(RNG.uniform(-0.5, 0.5, 160_000), "OGG", "VORBIS")
    pages = [i for i in range(len(data)) if data[i : i + 5] == b"OggS\0"]
    path = tmp_path / "a.ogg"
    path.write_bytes(data[: pages[5]] + data[pages[6] :])
    for start, end in ((NAN, NAN), (0.0, 0.5)):
        with pytest.raises(AudioError, match="1 page missing inside it"):
            decode(str(path), start, end, None)


def test_flac_that_is_cut_gives_its_whole_frames_to_an_end(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    whole = flac(noise(40_000), says_length=False)
    path.write_bytes(whole[: len(whole) * 6 // 10])
    with pytest.raises(
        AudioError, match="cut short: its last frame is not whole; an end_s takes what is there"
    ):
        decode(str(path), NAN, NAN, None)
    expected = soundfile.read(io.BytesIO(flac(noise(40_000))), dtype="float32")[0]
    np.testing.assert_array_equal(decode(str(path), 0.1, 1.0, None)[0], expected[1600:16_000])


def test_the_hash_is_that_of_the_samples_whatever_the_container(tmp_path: Path) -> None:
    expected = SampleHash(RATE)
    expected.add(SIGNAL)
    for name in ("wav 0", "rf64 0", "flac", "aiff 0 8", "caf -1"):
        (tmp_path / "a").write_bytes(OPEN[name])
        assert hash_clip(str(tmp_path / "a"), NAN, NAN, None) == expected.text


def test_a_mark_in_the_middle_of_flac_data_begins_no_stream(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(flac() + b"fLaC, said somebody")
    with open(tmp_path / "a", "rb") as file:
        assert len(flac_streams(file, depth="entire")) == 1
    np.testing.assert_array_equal(decode(str(tmp_path / "a"), NAN, NAN, None)[0], SIGNAL)
