"""Manifests that name members of archives: found, or refused in one line, row by row."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from featurestore.errors import ManifestError
from featurestore.manifest.audio_places import Places
from featurestore.manifest.location import UNKNOWN, stamp_of
from featurestore.manifest.table import read_manifest
from tests.conftest import write_clips
from tests.featurestore.archives.packed import KINDS, pack, write_archive


def write(path: Path, *paths: str) -> Path:
    path.write_text("\n".join(["path", *(f'"{p}"' for p in paths), ""]), encoding="utf-8")
    return path


def refused(path: Path) -> str:
    with pytest.raises(ManifestError) as error:
        read_manifest(path)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    """Three clips in `packed.tar`, `.zip` and `.parquet`."""
    manifest = write_clips(tmp_path, [800, 900, 1000])
    for kind in KINDS:
        pack(manifest, kind)
    return tmp_path


def test_members_by_relative_and_absolute_names(audio: Path) -> None:
    (audio / "below").mkdir()
    names = [
        "../packed.tar::clip000.wav",
        f"{audio}/packed.zip::clip001.wav",
        "../packed.parquet::audio[2]",
    ]
    manifest = read_manifest(write(audio / "below/m.csv", *names))
    assert manifest.table["path"].tolist() == [
        f"{audio}/packed.tar::clip000.wav",
        f"{audio}/packed.zip::clip001.wav",
        f"{audio}/packed.parquet::audio[2]",
    ]
    dotted = read_manifest(write(audio / "dotted.csv", "./packed.tar::./clip000.wav"))
    assert dotted.table["path"].tolist() == [f"{audio}/packed.tar::clip000.wav"]
    ids = manifest.table["utterance_id"].tolist()
    assert ids == ["../packed.tar::clip000", f"{audio}/packed.zip::clip001", "../packed.parquet::audio[2]"]


def test_all_that_is_not_there_is_said_at_once(audio: Path) -> None:
    data = (audio / "packed.parquet").read_bytes()
    (audio / "cut.parquet").write_bytes(data[:-100])
    names = [
        "packed.tar::clip009.wav",
        "packed.parquet::audio[3]",
        "packed.parquet::sound[0]",
        "none.zip::a.wav",
    ]
    names += [f"cut.parquet::audio[{i}]" for i in range(3)] + ["packed.zip::../a.wav", "packed.tar.gz::a.wav"]
    said = refused(write(audio / "m.csv", *names, "packed.tar::clip000.wav"))
    assert "7 problems" in said
    assert f"row 2: member 'clip009.wav' of {audio}/packed.tar is not in the archive" in said
    assert "row 3: member 'audio[3]'" in said
    assert "3 rows, counted from 0" in said
    assert "row 4: member 'sound[0]'" in said
    assert "'audio'" in said
    assert f"row 5: archive {audio}/none.zip is not there (1 row needs it)" in said
    assert re.search(
        r"row 6: archive \S+/cut.parquet is no Parquet file, or is cut short \(.*\) \(3 rows need it\)", said
    )
    assert "row 9: member '../a.wav'" in said
    assert "row 10: archive" in said


def test_file_names_that_look_like_members(audio: Path) -> None:
    (audio / "odd::name.wav").write_bytes((audio / "clip000.wav").read_bytes())
    (audio / "packed.tar::clip000.wav").write_bytes((audio / "clip001.wav").read_bytes())
    assert read_manifest(write(audio / "a.csv", "odd::name.wav")).table["path"][0] == f"{audio}/odd::name.wav"
    assert "is a file, and the name of a member of an archive; rename the file" in refused(
        write(audio / "b.csv", "packed.tar::clip000.wav")
    )
    # What stands beside costs others nothing.
    assert len(read_manifest(write(audio / "c.csv", "packed.tar::clip001.wav"))) == 1


def test_a_name_that_is_nearly_that_of_a_member_is_told(audio: Path) -> None:
    said = refused(write(audio / "m.csv", "packed.tar::Clip000.WAV", "packed.zip::clip001.Wav"))
    assert "'Clip000.WAV'" in said
    assert "; there is 'clip000.wav'" in said
    assert "; there is 'clip001.wav'" in said


def test_the_stamp_is_that_of_the_archive(audio: Path) -> None:
    where = f"{audio}/packed.tar::clip000.wav"
    assert stamp_of(where) == stamp_of(f"{audio}/packed.tar") != (UNKNOWN, UNKNOWN)
    assert stamp_of(f"{audio}/none.tar::clip000.wav") == (UNKNOWN, UNKNOWN)


def test_files_of_one_name_in_other_folders(tmp_path: Path) -> None:
    places = [
        Places.of_locations([(path, 0.0, float("nan"), None)])
        for path in (
            "/a/x.tar::b/1.wav",
            "/c/x.tar::b/1.wav",
            "/a/y.tar::b/1.wav",
            "/a/x.tar::c/1.wav",
            "/a/1.wav",
        )
    ]
    assert [bool(places[0].same_but_folder(p)[0]) for p in places] == [True, True, False, False, False]


def test_an_archive_that_is_a_folder_or_another_file(audio: Path) -> None:
    (audio / "folder.tar").mkdir()
    (audio / "text.zip").write_text("no archive")
    said = refused(write(audio / "m.csv", "folder.tar::a.wav", "text.zip::a.wav"))
    assert "folder.tar is no regular file" in said
    assert "text.zip is no zip file, or is cut short" in said


def test_planning_reads_no_audio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = write_clips(tmp_path, [4000]).parent / "clip000.wav"
    for kind in KINDS:
        names = write_archive(kind, tmp_path / f"many.{kind}", {f"{i}.wav": clip for i in range(50)})
        manifest = write(tmp_path / f"{kind}.csv", *names)

        def refuse(*_: object) -> None:
            raise AssertionError("audio was opened")

        for module in ("tar_file.TarArchive", "zip_file.ZipArchive", "parquet_file.ParquetArchive"):
            monkeypatch.setattr(f"featurestore.archives.{module}.open", refuse)
        assert len(read_manifest(manifest)) == 50
