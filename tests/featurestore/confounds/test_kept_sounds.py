"""What was measured is kept: nothing is decoded twice, and nothing old stands for something new."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from featurestore.confounds import sounds
from featurestore.confounds.kept_sounds import COLUMNS, KeptSounds
from featurestore.errors import ConfigError
from featurestore.manifest.table import read_manifest
from tests.conftest import write_clips


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    manifest = write_clips(tmp_path / "audio", [3000 + 500 * i for i in range(6)])
    return read_manifest(manifest).table


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are decoded, as they are."""
    names: list[str] = []
    real = sounds.open_stretch
    monkeypatch.setattr(sounds, "open_stretch", lambda *p: names.append(os.path.basename(p[0])) or real(*p))
    return names


def test_the_same_audio_is_decoded_once(table: pd.DataFrame, tmp_path: Path, decoded: list[str]) -> None:
    first = KeptSounds.open(tmp_path / "out").measure("d", table, 2)
    assert len(decoded) == 6
    again = KeptSounds.open(tmp_path / "out")
    assert again.measure("d", table.iloc[::-1], 2) == first[::-1]
    assert (len(decoded), again.n_measured) == (6, 0)
    written = pd.read_csv(tmp_path / "out" / "confounds.csv")
    assert list(written.columns) == list(COLUMNS)
    assert written["duration_s"].tolist() == [(3000 + 500 * i) / 16_000 for i in range(6)]
    assert written["utterance_id"].tolist() == sorted(table["utterance_id"])


def test_a_file_that_changed_is_decoded_again(
    table: pd.DataFrame, tmp_path: Path, decoded: list[str]
) -> None:
    before = KeptSounds.open(tmp_path / "out").measure("d", table, 1)
    write_clips(tmp_path / "other", [8000])
    os.replace(tmp_path / "other" / "clip000.wav", table["path"].iloc[2])
    del decoded[:]
    after = KeptSounds.open(tmp_path / "out").measure("d", table, 1)
    assert decoded == ["clip002.wav"]
    assert after[2].duration_s == 0.5
    assert [a == b for a, b in zip(after, before, strict=True)] == [True, True, False, True, True, True]


def test_what_could_not_be_read_is_tried_again(
    table: pd.DataFrame, tmp_path: Path, decoded: list[str]
) -> None:
    path = Path(table["path"].iloc[1])
    path.rename(tmp_path / "away.wav")
    found = KeptSounds.open(tmp_path / "out").measure("d", table, 1)
    assert [s.problem for s in found] == ["", "no such file", "", "", "", ""]
    (tmp_path / "away.wav").rename(path)
    del decoded[:]
    assert [s.problem for s in KeptSounds.open(tmp_path / "out").measure("d", table, 1)] == [""] * 6
    assert decoded == ["clip001.wav"]


def test_other_rows_of_the_folder_stay_and_odd_ids_with_them(table: pd.DataFrame, tmp_path: Path) -> None:
    table["utterance_id"] = ["=1+1", "'=1+1", "-x", 'ñ,"', "007", "a\rb"]
    for rows in (table.iloc[:3], table.iloc[3:], table.iloc[:1]):
        KeptSounds.open(tmp_path / "out").measure("d", rows, 1)
    kept = KeptSounds.open(tmp_path / "out")
    assert {i for _, i in kept.rows} == set(table["utterance_id"])


def test_a_cell_that_is_no_number_is_measured_again(
    table: pd.DataFrame, tmp_path: Path, decoded: list[str]
) -> None:
    before = KeptSounds.open(tmp_path / "out").measure("d", table, 1)
    path = tmp_path / "out" / "confounds.csv"
    written = pd.read_csv(path, dtype=str, keep_default_na=False)
    written.loc[2, "level_dbfs"] = "much"
    written.to_csv(path, index=False)
    del decoded[:]
    assert KeptSounds.open(tmp_path / "out").measure("d", table, 1) == before
    assert decoded == ["clip002.wav"]


def test_an_interrupted_run_keeps_what_it_measured(
    table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        KeptSounds.open(tmp_path / "out").measure("d", table, 1, interrupt)
    again = KeptSounds.open(tmp_path / "out")
    n_kept = len(again.sounds)
    assert n_kept >= 3
    again.measure("d", table, 1)
    assert again.n_measured == 6 - n_kept


def test_a_table_of_somebody_else_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "confounds.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ConfigError, match="would be lost"):
        KeptSounds.open(tmp_path)
