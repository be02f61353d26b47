"""A row is its sound in a bucket, too: the same checks as on a folder, over a real S3 server."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli import main
from extractors import extract
from featurestore.backends.storage import open_storage
from featurestore.errors import OtherAudio
from featurestore.upkeep.verification import verify_key
from tests.extractors.run.test_identity import (
    check_against_fresh,
    config,
    recording,
    save,
    tone,
    unchanged,
    windows,
)

pytestmark = pytest.mark.s3


def test_what_comes_under_an_id_is_its_sound_or_is_refused(s3_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "audio"
    recording(folder)
    extract(config(windows(folder, [0, 1, 2, 3]), s3_url))
    swapped = windows(folder, [1, 0, 2, 3], "swapped.csv")
    save(folder / "other.wav", tone(700, 6.0))
    elsewhere = windows(folder, [0, 1, 2, 3], "other.csv", path=["other.wav", *["recording.wav"] * 3])
    for table in (swapped, elsewhere, windows(folder, [4, 0, 1, 2, 3], "inserted.csv")):
        with unchanged(s3_url), pytest.raises(OtherAudio):
            extract(config(table, s3_url))
        with unchanged(s3_url):
            assert CliRunner().invoke(main, ["manifest", "attach", s3_url, str(table)]).exit_code == 2
    moved = tmp_path / "moved"
    shutil.move(folder, moved)
    assert any("4 utterances are elsewhere" in n for n in extract(config(moved / "m.csv", s3_url)).notes)
    check_against_fresh(moved / "m.csv", s3_url, tmp_path / "fresh")
    extract(config(moved / "swapped.csv", s3_url, refresh=True))
    check_against_fresh(moved / "swapped.csv", s3_url, tmp_path / "fresh2")
    assert verify_key(open_storage(s3_url), "logmel", "tones").findings == []
    done = CliRunner().invoke(main, ["verify", s3_url, "--audio", "-q"])
    assert (done.exit_code, "4 rows hold what their ids stand for" in done.output) == (0, True)
