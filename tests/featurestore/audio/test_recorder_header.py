"""What recorders write into their files, made after GUANO's specification and the fields of WAMD."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from featurestore.audio.recorder_header import RecorderHeader, read_recorder_header
from tests.featurestore.recorder_files import guano, wamd, write_wav

NOTES = guano(
    "Timestamp:  2012-03-29T03:58:01+04:00",
    "TE:  1",
    "Samplerate: 500000",
    "Make:Pettersson",
    "Model: D1000X ñ",
    "Serial: 007",
    "Loc Position: 37.1878016 -86.1057312",
    "Note: one: two\\nthree",
    "PET|Gain: 80",
)
READ = RecorderHeader(
    recorder="Pettersson D1000X ñ",
    serial="007",
    recorded_at="2012-03-29T03:58:01+04:00",
    latitude="37.1878016",
    longitude="-86.1057312",
    time_expansion="1",
    sample_rate_hz="500000",
)
WAMD = wamd(
    (0x00, b"\x01\x00"),
    (0x01, b"SM4BAT-FS\0"),
    (0x02, b"S4U01234"),
    (0x05, b"2014-04-02 22:59:14-05:00"),
    (0x06, b"WGS84, 42.5001, S, 71.25, W, 30"),
    (0x0D, b"RIFF" + bytes(101)),
    (0x0F, b"\x0a\x00"),
    (0xFFFF, b"\0"),
)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("n_samples", [480, 481])  # an odd chunk is padded
def test_guano_before_and_behind_the_audio(tmp_path: Path, first: bool, n_samples: int) -> None:
    odd = (b"LIST", b"INFOx")
    path = write_wav(tmp_path / "a.wav", odd, NOTES, first=first, n_samples=n_samples)
    assert read_recorder_header(path) == READ


def test_wamd(tmp_path: Path) -> None:
    found = read_recorder_header(write_wav(tmp_path / "a.wav", WAMD))
    assert found == RecorderHeader(
        recorder="Wildlife Acoustics SM4BAT-FS",
        serial="S4U01234",
        recorded_at="2014-04-02 22:59:14-05:00",
        latitude="-42.5001",
        longitude="-71.25",
        time_expansion="10",
    )
    assert found.expansion == 10
    both = read_recorder_header(write_wav(tmp_path / "a.wav", NOTES, WAMD))
    assert both == READ


@pytest.mark.parametrize(
    ("written", "place"),
    [
        (b"WGS84,42.5,N,71.25,E", ("42.5", "71.25")),
        (b"WGS84, 42.5, -71.25, 12", ("42.5", "-71.25")),
        (b"WGS84, -42.5, S, 71.25, E", ("-42.5", "71.25")),
        (b"no fix", ("", "")),
        (b"WGS84, 142.5, N, 71.25, E", ("", "")),
    ],
)
def test_places_of_wamd(tmp_path: Path, written: bytes, place: tuple[str, str]) -> None:
    found = read_recorder_header(write_wav(tmp_path / "a.wav", wamd((1, b"SM3"), (6, written))))
    assert found is not None
    assert (found.latitude, found.longitude) == place
    assert bool(found.unread) == (place == ("", ""))


@pytest.mark.parametrize(
    ("said", "factor"), [("", 1), ("1", 1), ("10", 10), ("8.0", 8), ("x", math.nan), ("0", math.nan)]
)
def test_factors(said: str, factor: float) -> None:
    assert RecorderHeader(time_expansion=said).expansion == pytest.approx(factor, nan_ok=True)


def test_files_without_notes(tmp_path: Path) -> None:
    plain = write_wav(tmp_path / "plain.wav")
    assert read_recorder_header(plain) is None
    cut = tmp_path / "cut.wav"
    whole = write_wav(tmp_path / "whole.wav", NOTES).read_bytes()
    for n_bytes in (0, 3, 12, 30, 44, len(whole) - 300):
        cut.write_bytes(whole[:n_bytes])
        assert read_recorder_header(cut) is None, n_bytes
    # sizes that nobody filled in, and noise in the place of chunks
    assert read_recorder_header(write_wav(tmp_path / "a.wav", NOTES, data_size=0xFFFFFFFF)) is None
    cut.write_bytes(whole[:12] + bytes(100_000))
    assert read_recorder_header(cut) is None
    assert read_recorder_header(tmp_path / "none.wav") is None
    assert read_recorder_header(tmp_path) is None
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "endless.wav").symlink_to("/dev/zero")
    for odd in ("pipe.wav", "endless.wav"):  # which would be waited for, or read without end
        assert read_recorder_header(tmp_path / odd) is None
    # one of another encoding is read; one that lies about its length is read to the end of the file
    latin = (b"guan", "Make: Señal".encode("latin-1"))
    assert read_recorder_header(write_wav(tmp_path / "a.wav", latin)) == RecorderHeader(recorder="Señal")
