"""A finished study is seen in names, sizes and times of files: any other file is looked at properly."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from studies.study_file.reading import read_study
from studies.study_run.last_seen import LastSeen, finished_before
from studies.study_run.scope import scope_of
from tests.studies.conftest import STUDY

ADAPTER = STUDY.replace("manifest: audio/manifest.csv", "adapter: folder\n    source: audio")


def seen(file: Path, *overrides: str, with_report: bool = False) -> LastSeen:
    study = read_study(file, overrides)
    return LastSeen(study, scope_of(study), ["both"], with_report=with_report)


def other_bytes(path: Path) -> None:
    """Other content of the same size and time, as copying with times leaves it."""
    before = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: other_bytes(folder / "audio/clip003.wav"),
        lambda folder: other_bytes(folder / "models/tiny/config.json"),
        lambda folder: (folder / "audio/manifest.csv").write_text("path\nclip000.wav\n"),
        lambda folder: (folder / "models/tiny/more.safetensors").write_bytes(b""),
    ],
)
def test_whatever_a_run_reads_is_seen_to_be_another(
    study: Callable[..., Path], tmp_path: Path, change: Callable[[Path], object]
) -> None:
    (tmp_path / "models/tiny").mkdir(parents=True)
    (tmp_path / "models/tiny/config.json").write_text("{} ")
    file = study(STUDY.replace("{model: mfcc}", "{model: ./models/tiny}"), n_clips=6)
    before = seen(file).read()
    assert before is not None
    assert seen(file).read() == before
    change(tmp_path)
    assert seen(file).read() not in (None, before)


def test_the_file_its_overrides_and_its_folder_count(study: Callable[..., Path], tmp_path: Path) -> None:
    file = study(n_clips=6)
    before = seen(file).read()
    assert seen(file, "probings.main.seeds=1").read() != before
    file.write_text(STUDY + "# other\n", "utf-8")
    assert seen(file).read() != before


def test_a_file_more_in_the_folder_of_an_adapter_is_seen(study: Callable[..., Path], tmp_path: Path) -> None:
    file = study(ADAPTER, n_clips=6)
    (tmp_path / "audio/a").symlink_to(tmp_path / "audio")  # a link to where it stands is no endless way
    before = seen(file).read()
    assert before is not None
    (tmp_path / "audio/more.wav").write_bytes(b"")
    assert seen(file).read() not in (None, before)


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("models.mfcc.model=hear:module", "read"),
        ("models.mfcc.model=of-another-package", "read"),
        ("models.mfcc.model=./nowhere", "read"),
        ("store=s3://bucket/store", "made"),
    ],
)
def test_what_files_do_not_tell_is_not_seen(study: Callable[..., Path], override: str, part: str) -> None:
    file = study(n_clips=6)
    assert getattr(seen(file, override), part)() is None


def test_clips_that_are_no_files_are_not_seen(study: Callable[..., Path], tmp_path: Path) -> None:
    file = study(n_clips=6)
    (tmp_path / "audio/clip003.wav").unlink()
    assert seen(file).read() is None


def test_whatever_a_run_makes_is_seen_to_be_another(study: Callable[..., Path], tmp_path: Path) -> None:
    file = study(n_clips=6)
    assert seen(file, with_report=True).made() is None  # nothing is made yet
    for name in (
        "features.zarr",
        "features.zarr/logmel/tones",
        "features.zarr/mfcc/tones",
        "results",
        "report",
    ):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    for name in ("features.zarr/zarr.json", "features.zarr/mfcc/tones/c", "results/t", "report/index.html"):
        (tmp_path / name).write_bytes(b"ab")
    before = seen(file, with_report=True).made()
    assert before is not None
    (tmp_path / "results/_study.json").write_text("{}")  # where it is noted
    (tmp_path / "features.zarr/other").mkdir()  # no key of the study
    assert seen(file, with_report=True).made() == before
    other_bytes(tmp_path / "features.zarr/mfcc/tones/c")
    after = seen(file, with_report=True).made()
    assert after not in (None, before)
    (tmp_path / "report/index.html").unlink()
    assert seen(file, with_report=True).made() is None
    assert seen(file).made() is not None


@pytest.mark.parametrize("text", [None, "no JSON", "[]", '{"finished": 3}'])
def test_a_record_that_says_nothing_is_none(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "_study.json").write_text(text)
    assert finished_before(tmp_path) == ""
