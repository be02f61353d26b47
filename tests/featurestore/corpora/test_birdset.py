"""BirdSet in its published layout, in miniature: packed, unpacked, and as it comes."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from featurestore.corpora.birdset import _event_times
from featurestore.corpora.conversion import ManifestRequest, make_manifest
from featurestore.corpora.registry import get_corpus
from featurestore.errors import ConfigError, ManifestError
from featurestore.manifest.table import read_manifest
from tests.miniature_corpora import write_birdset

PATH = Path("HSN_metadata_train.parquet")


@pytest.fixture
def birdset(tmp_path: Path) -> Path:
    write_birdset(tmp_path / "HSN")
    return tmp_path / "HSN"


def refused(source: Path, **options: Any) -> str:
    with pytest.raises(ManifestError) as error:
        get_corpus("birdset").read(source, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_recordings_train_and_windows_test(birdset: Path, tmp_path: Path) -> None:
    make_manifest(ManifestRequest(corpus="birdset", source=birdset, out=tmp_path / "m.csv"))
    found = read_manifest(tmp_path / "m.csv").table
    assert len(found) == 18 + 30
    assert found["split"].value_counts().to_dict() == {"test": 30, "train": 15, "val": 3}
    first = found.iloc[0]
    assert first["utterance_id"] == "XC1000"
    assert first["path"] == f"{birdset}/HSN_train_shard_0001.tar::train/XC1000.ogg"
    assert (first["ebird_code"], first["ebird_code_multilabel"], first["group"]) == (
        "gcrfin",
        "gcrfin",
        "XC1000",
    )
    windows = found[found["split"] == "test"]
    assert windows["group"].unique().tolist() == [f"HSN_{i:03}_20150708_061805" for i in range(5)]
    assert windows["ebird_code_multilabel"].tolist()[:3] == ["gcrfin", "|", "gcrfin|whcspa"]
    assert set(windows["ebird_code"]) == {""}
    assert windows["start_s"].isna().all()
    by_recordist = get_corpus("birdset").read(birdset, group="recordist").table
    assert by_recordist["group"].tolist()[:4] == ["by 0", "by 0", "by 0", "by 1"]
    assert set(by_recordist["group"][18:]) == set(by_recordist["call_type"][18:]) == {""}


def test_events_of_the_largest_cluster() -> None:
    def cut(most: int, **row: Any) -> list[tuple[float, float]]:
        return _event_times({"file": "a.ogg", **row}, most, PATH)

    events = [[50, 51], [10, 12], [30, 40], [59, 60], [1, 2], [20, 20.5]]
    # Cluster 1 has two events, 0 three, and noise is left out; all in time, 5 s around the middle.
    found = cut(5, detected_events=events, event_cluster=[0, 1, 0, 1, 0, -1])
    assert found == [(0.0, 5.0), (32.5, 37.5), (48.0, 53.0)]
    assert cut(2, detected_events=events, event_cluster=[0, 1, 0, 1, 0, -1]) == found[:2]
    # Equal clusters: the first by number, as numpy.unique has it; never past the last event's end.
    assert cut(5, detected_events=[[1, 2], [58, 60]], event_cluster=[7, 3]) == [(55.0, 60.0)]
    assert cut(5, detected_events=[[1, 2]], event_cluster=[-1]) == [(0.0, 2.0)]  # noise alone is taken
    assert cut(5, detected_events=[], event_cluster=[], length=30) == [(0.0, 5.0)]
    (short,) = cut(5, detected_events=None, event_cluster=None, length=5)
    assert short[0] == 0
    assert pd.isna(short[1])


def test_events_are_rows(birdset: Path) -> None:
    found = get_corpus("birdset").read(birdset, events=5).table
    train = found[found["split"] != "test"]
    assert len(train) == 18  # all events of these short recordings have one stretch
    assert (train["start_s"].iloc[0], train["end_s"].iloc[0]) == (0.0, 0.9)
    assert train["utterance_id"].iloc[0] == "XC1000:0-0.9"


def test_events_to_test_on(birdset: Path) -> None:
    scape = "HSN_001_20150708_061805.ogg"
    (birdset / scape).write_bytes(b"OggS")
    row = {"filepath": f"HSN/test/{scape}", "start_time": 3.5, "end_time": 4.25, "ebird_code": "gcrfin"}
    pd.DataFrame([row, row | {"start_time": 7.0, "end_time": 9.0}]).to_parquet(
        birdset / "HSN_metadata_test.parquet"
    )
    found = get_corpus("birdset").read(birdset, test="test").table
    rows = found[found["split"] == "test"]
    assert rows["utterance_id"].tolist() == [f"{scape[:-4]}:3.5-4.25", f"{scape[:-4]}:7-9"]
    assert rows["ebird_code"].tolist() == rows["ebird_code_multilabel"].tolist() == ["gcrfin"] * 2
    pd.DataFrame([row | {"start_time": "soon"}]).to_parquet(birdset / "HSN_metadata_test.parquet")
    assert "expected start_time and end_time in seconds" in refused(birdset, test="test")


def test_which_subset(birdset: Path, tmp_path: Path) -> None:
    assert len(get_corpus("birdset").read(tmp_path).table) == 48  # the folder above, with one subset
    write_birdset(tmp_path / "POW", subset="POW")
    assert "name a subset with --subset; its subsets are HSN, POW" in refused(tmp_path)
    assert "no subset 'PER'" in refused(tmp_path, subset="PER")
    assert "such as HSN_metadata_train.parquet in this folder, found none" in refused(birdset / "extracted")
    assert get_corpus("birdset").read(tmp_path, subset="POW").table["path"][0].startswith(f"{tmp_path}/POW/")
    (birdset / "HSN_metadata_train.parquet").rename(birdset / "XCM_metadata.parquet")
    found = get_corpus("birdset").read(birdset, subset="XCM").table  # recordings alone
    assert set(found["split"]) == {"train", "val"}


def test_as_it_comes_it_is_compressed(birdset: Path) -> None:
    shard = birdset / "HSN_train_shard_0001.tar"
    (birdset / "HSN_train_shard_0001.tar.gz").write_bytes(gzip.compress(shard.read_bytes()))
    shard.unlink()
    said = refused(birdset)
    assert "18 of 48 audio files" in said
    assert "HSN_train_shard_0001.tar.gz cannot be read where they lie" in said
    assert "gunzip -k" in said
    with tarfile.open(shard, "w") as tar:
        tar.addfile(tarfile.TarInfo("train/XC1000.ogg"))
    shard.write_bytes(shard.read_bytes()[:300])
    assert "HSN_train_shard_0001.tar" in refused(birdset)


def test_dirt(birdset: Path) -> None:
    table = birdset / "HSN_metadata_train.parquet"
    rows = pd.read_parquet(table)
    rows.assign(filepath=[None, *rows["filepath"][1:]]).to_parquet(table)
    assert "expected the name of a file in every cell of 'filepath'" in refused(birdset)
    rows.rename(columns={"filepath": "name"}).to_parquet(table)
    assert "expected a column 'filepath'" in refused(birdset)
    rows.assign(event_cluster=[[0]] * 18).to_parquet(table)
    assert "pairs of seconds, and an event_cluster of each" in refused(birdset, events=1)
    rows.assign(ebird_code_multilabel=[["a|b"]] * 18).to_parquet(table)
    assert "column 'ebird_code_multilabel': label 'a|b' cannot stand in a set" in refused(birdset)
    table.write_bytes(table.read_bytes()[:-5])
    assert "no Parquet file, or cut short" in refused(birdset)
    (birdset / "HSN_metadata_test_5s.parquet").unlink()
    assert "or say --test none" in refused(birdset)
    with pytest.raises(ConfigError, match="--test: expected one of test_5s, test, none"):
        get_corpus("birdset").read(birdset, test="5s")
    with pytest.raises(ConfigError, match="--events: expected 0 or more"):
        get_corpus("birdset").read(birdset, events=-1)
