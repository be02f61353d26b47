"""`fs manifest folder` of what recorders wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from featurestore.corpora.registry import get_corpus
from featurestore.errors import ManifestError
from tests.featurestore.recorder_files import guano, wamd, write_wav

COLUMNS = ["recorder", "recorder_serial", "recorded_at", "latitude", "longitude"]


def test_columns_of_files_that_have_headers(tmp_path: Path, touch, listing) -> None:
    notes = guano(
        "Timestamp: 2024-05-01T04:00:00Z", "Make: OAD", "Model: AudioMoth", "Loc Position: 1.5 -2.5"
    )
    write_wav(tmp_path / "wren/a.wav", notes)
    sm4 = wamd((1, b"SM4"), (2, b"007"), (6, b"WGS84, 95, N, 2, E"))
    write_wav(tmp_path / "wren/B.WAV", sm4)
    write_wav(tmp_path / "robin/c.wav", guano("Samplerate: 96000", "Serial: 9"), rate_hz=48_000)
    touch(tmp_path, "robin/d.flac", "robin/empty.wav")
    found = get_corpus("folder").read(tmp_path, group="recorder_serial")
    assert listing(found.table, ["utterance_id", "label", "group", *COLUMNS]) == [
        ("robin/c", "robin", "9", "", "9", "", "", ""),
        ("robin/d", "robin", "", "", "", "", "", ""),
        ("robin/empty", "robin", "", "", "", "", "", ""),
        ("wren/B", "wren", "007", "Wildlife Acoustics SM4", "007", "", "", ""),
        ("wren/a", "wren", "", "OAD AudioMoth", "", "2024-05-01T04:00:00Z", "1.5", "-2.5"),
    ]
    assert found.notes == (
        "recorder, recorder_serial, recorded_at, latitude, longitude from the headers (GUANO, WAMD) of 3 "
        "files; 2 have none",
        "headers that cannot be read: wren/B.WAV (Loc Position: 95 2)",
        "recorded at another rate than the file has, and not time-expanded, so probably resampled since: "
        "robin/c.wav",
    )


def test_no_header_no_column_and_none_of_the_users_is_replaced(tmp_path: Path) -> None:
    write_wav(tmp_path / "wren/a.wav")
    assert list(get_corpus("folder").read(tmp_path).table.columns)[7:] == ["label"]
    write_wav(tmp_path / "wren/a.wav", guano("Make: OAD", "Serial: 1"))
    found = get_corpus("folder").read(tmp_path, pattern="(?P<recorder>[^/]+)/")
    assert list(found.table["recorder"]) == ["wren"]
    assert list(found.table["recorder_serial"]) == ["1"]
    assert found.notes[-1] == "headers of recorders were not taken for columns that are there: recorder"


def test_time_expanded_files_are_refused_or_said_to_be(tmp_path: Path, listing) -> None:
    write_wav(tmp_path / "bat/a.wav", guano("TE: 10", "Samplerate: 441000"), rate_hz=44_100)
    write_wav(tmp_path / "bat/b.wav", wamd((0x0F, b"\x0a\0")), rate_hz=44_100)
    write_wav(tmp_path / "bat/c.wav", guano("TE: 1", "Samplerate: 384000"), rate_hz=384_000)
    corpus = get_corpus("folder")
    with pytest.raises(ManifestError) as error:
        corpus.read(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}: bat/a.wav is time-expanded: it plays 10 times slower than it sounded; so is 1 more; "
        "write it at its true rate, 441,000 Hz (sox -r 441000 IN.wav OUT.wav), or take such files as they "
        "play with --time-expanded"
    )
    found = corpus.read(tmp_path, time_expanded=True)
    assert listing(found.table, ["utterance_id", "time_expansion"]) == [
        ("bat/a", "10"),
        ("bat/b", "10"),
        ("bat/c", "1"),
    ]
    write_wav(tmp_path / "bat/a.wav", guano("TE: yes"))
    with pytest.raises(ManifestError, match=r"a.wav says that it is time-expanded by 'yes', which is no fac"):
        corpus.read(tmp_path)
