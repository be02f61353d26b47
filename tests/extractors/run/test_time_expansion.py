"""Files that their recorder says to be time-expanded are never embedded in silence at the wrong rate."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest

from extractors.config import ExtractConfig
from extractors.run.extraction import extract
from featurestore.audio import recorder_header
from featurestore.audio.time_expansion import time_expanded
from featurestore.errors import ManifestError
from featurestore.store.reader import open_store
from tests.command_line import fs, good, one_line_error
from tests.featurestore.recorder_files import guano, wamd, write_wav

SLOW = "bat/a.wav"


@pytest.fixture
def bats(tmp_path: Path) -> Path:
    """A manifest by hand: two files 10 times slower than they sounded, and one as it sounded."""
    write_wav(tmp_path / SLOW, guano("TE: 10", "Samplerate: 441000"), rate_hz=44_100)
    write_wav(tmp_path / "bat/b.wav", wamd((0x0F, b"\x0a\0")), rate_hz=44_100)
    write_wav(tmp_path / "bat/c.wav", guano("TE: 1"), rate_hz=384_000)
    return manifest(tmp_path, SLOW, "bat/b.wav", "bat/c.wav")


def manifest(folder: Path, *paths: str, **columns: list[str]) -> Path:
    rows = [
        ",".join(["path", *columns]),
        *(",".join(row) for row in zip(paths, *columns.values(), strict=True)),
    ]
    (folder / "m.csv").write_text("\n".join(rows) + "\n")
    return folder / "m.csv"


def notes(table: Path, store: str = "s", **options: Any) -> list[str]:
    """What a run says of time expansion."""
    config = ExtractConfig(
        manifest=table, dataset="d", model="logmel", store=str(table.parent / store), **options
    )
    return [note for note in extract(config).notes if "time-expanded" in note]


def test_a_manifest_by_hand_is_refused_in_one_line_before_anything_is_stored(bats: Path) -> None:
    store = bats.parent / "s"
    asked = (
        "extract",
        "--manifest",
        bats,
        "--dataset",
        "d",
        "--model",
        "logmel",
        "--store",
        store,
        "--quiet",
    )
    said = (
        f"error: {bats}: {bats.parent / SLOW} is time-expanded: it plays 10 times slower than it "
        "sounded; so is 1 more; write it at its true rate, 441,000 Hz (sox -r 441000 IN.wav OUT.wav), "
        "or take such files as they play with --time-expanded"
    )
    one_line_error(fs(*asked), said)
    one_line_error(fs(*asked, "--dry-run"), said)
    assert not store.exists()
    good(*asked, "--time-expanded")
    # Going on asks again; what is stored stays.
    one_line_error(fs(*asked), said)
    assert (open_store(str(store)).features("logmel", "d").index["status"] == "ok").all()


def test_taken_as_they_play_with_a_note(bats: Path) -> None:
    assert notes(bats, time_expanded=True) == [
        "2 files taken as they play, though time-expanded by the header of the recorder: "
        f"{bats.parent / SLOW} is 10 times slower than it sounded, and so on"
    ]
    # The header is no part of the sound: one without it gives the very same values.
    write_wav(bats.parent / SLOW, rate_hz=44_100)
    write_wav(bats.parent / "bat/b.wav", rate_hz=44_100)
    assert notes(bats, "plain") == []
    rows = [open_store(str(bats.parent / s)).features("logmel", "d").layer(0).numpy() for s in ("s", "plain")]
    np.testing.assert_array_equal(*rows)


def test_a_manifest_that_says_it_has_asked(bats: Path) -> None:
    folder = bats.parent
    paths = [SLOW, "bat/b.wav", "bat/c.wav"]
    assert len(notes(manifest(folder, *paths, time_expansion=["10", "10", "1"]))) == 1
    with pytest.raises(
        ManifestError, match=r"a.wav is time-expanded: it plays 10 times slower than it sounded; w"
    ):
        notes(manifest(folder, *paths, time_expansion=["8", "10", "1"]))
    good("manifest", "folder", folder, "--time-expanded", "--out", folder / "made.csv")
    assert len(notes(folder / "made.csv", "made")) == 1


def test_read_at_the_models_rate_they_are_the_same_at_any_rate(bats: Path) -> None:
    assert notes(bats, rate_policy="expand") == []


def test_a_factor_that_is_none(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", guano("TE: yes"))
    table = manifest(tmp_path, "a.wav")
    with pytest.raises(
        ManifestError, match="says that it is time-expanded by 'yes', which is no factor; correct"
    ):
        notes(table)


def test_members_of_tar_are_looked_at_and_of_zip_the_first(bats: Path) -> None:
    folder = bats.parent
    with tarfile.open(folder / "b.tar", "w") as tar, zipfile.ZipFile(folder / "b.zip", "w") as packed:
        for name in (SLOW, "bat/b.wav", "bat/c.wav"):
            tar.add(folder / name, name)
            packed.write(folder / name, name)
    members = [f"{folder / f'b.{kind}'}::bat/{name}.wav" for kind in ("zip", "tar") for name in "cba"]
    found = time_expanded([*members, str(folder / "none.wav")], 2)
    slow = [members[5], members[4], members[2]]
    assert {path: header.expansion for path, header in found.items()} == dict.fromkeys(slow, 10)
    with pytest.raises(ManifestError, match=r"b.tar::bat/a.wav is time-expanded"):
        notes(manifest(folder, f"b.tar::{SLOW}"))


def test_only_headers_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_wav(tmp_path / "long.wav", guano("TE: 10"), n_samples=4_000_000)
    n_read = 0

    class Counting:
        """A file that counts what is read of it."""

        def __init__(self, file: BinaryIO) -> None:
            self._file = file

        def __enter__(self) -> Counting:
            return self

        def __exit__(self, *_: object) -> None:
            self._file.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

        def read(self, n_bytes: int) -> bytes:
            nonlocal n_read
            found = self._file.read(n_bytes)
            n_read += len(found)
            return found

    def opened(path: str) -> Any:
        return Counting(open(path, "rb", buffering=0))

    monkeypatch.setattr(recorder_header, "_opened", opened)
    assert list(time_expanded([str(path)], 1)) == [str(path)]
    assert n_read < 200
    assert path.stat().st_size > 8_000_000
