"""A sound in an archive is what it is as a file: the same samples, or the same reason why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from featurestore.audio.recordings import Recordings
from featurestore.audio.segment import AudioError, channels, hash_clip, header
from tests.extractors.odd_files import make_folder
from tests.featurestore.archives.packed import KINDS, write_archive

NAN = float("nan")


def said(
    path: str, start_s: float, end_s: float, channel: int | None, recordings: Recordings | None = None
) -> str:
    """The hash of a stretch, or why there is none."""
    try:
        return hash_clip(path, start_s, end_s, channel, recordings)
    except AudioError as error:
        return f"failed: {error}"


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    make_folder(folder)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_odd_and_broken_files(odd: Path, tmp_path: Path, kind: str) -> None:
    kept = (p for p in sorted(odd.iterdir()) if p.is_file() and not p.is_symlink())
    files = {p.name: p for p in kept if p.stat().st_size < 1 << 22}
    assert len(files) > 40
    names = write_archive(kind, tmp_path / f"x.{kind}", files, group_rows=7)
    for path, name in zip(files.values(), names, strict=True):
        inside = str(tmp_path / name)
        for entire in (False, True):
            found = []
            for place in (str(path), inside):
                try:
                    found.append((header(place, entire=entire), channels(place)))
                except AudioError as error:
                    found.append(str(error))
            assert found[0] == found[1], path.name
        for stretch in ((NAN, NAN, None), (0.1, 0.3, 0), (0.2, NAN, None)):
            assert said(inside, *stretch) == said(str(path), *stretch), (path.name, stretch)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("suffix", "subtype"), [("wav", "PCM_24"), ("flac", "PCM_16"), ("ogg", "VORBIS"), ("mp3", None)]
)
def test_stretches_of_one_recording(tmp_path: Path, kind: str, suffix: str, subtype: str | None) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / f"long.{suffix}"
    soundfile.write(path, rng.uniform(-0.5, 0.5, (44_100 * 4, 2)), 44_100, subtype=subtype)
    (name,) = write_archive(kind, tmp_path / f"x.{kind}", {path.name: path})
    places = [(0.1 * i, 0.1 * i + 0.05, channel) for i in (0, 20, 3) for channel in (None, 1)]
    with Recordings() as recordings:
        for start_s, end_s, channel in places:
            inside = said(str(tmp_path / name), start_s, end_s, channel, recordings)
            assert inside == said(str(path), start_s, end_s, channel)
            assert not inside.startswith("failed")


def test_why_a_member_failed_is_the_status(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"")
    (name,) = write_archive("tar", tmp_path / "x.tar", {"a.wav": path})
    assert said(str(tmp_path / name), NAN, NAN, None) == "failed: is an empty file"
    assert said(f"{tmp_path}/x.tar::b.wav", NAN, NAN, None) == "failed: is not in the archive"
    assert said(f"{tmp_path}/y.tar::b.wav", NAN, NAN, None) == "failed: its archive is not there"
