"""Parquet files as ``datasets`` writes them become manifests, without a look at the audio."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurestore.archives.interface import ArchiveError
from featurestore.archives.opened import open_bytes
from featurestore.corpora.conversion import ManifestRequest, make_manifest
from featurestore.corpora.registry import get_corpus
from featurestore.errors import ManifestError
from featurestore.manifest.table import read_manifest
from tests.featurestore.archives.packed import AUDIO, hub_schema

FEATURES = {
    "audio": {"sampling_rate": 16000, "_type": "Audio"},
    "label": {"names": ["dog", "cat"], "_type": "ClassLabel"},
    "calls": {"feature": {"names": ["bark", "purr"], "_type": "ClassLabel"}, "_type": "List"},
    "rater": {"dtype": "string", "_type": "Value"},
    "age": {"dtype": "int64", "_type": "Value"},
}
FIELDS = [
    ("audio", AUDIO),
    ("label", pa.int64()),
    ("calls", pa.list_(pa.int64())),
    ("rater", pa.string()),
    ("age", pa.int64()),
]
SCHEMA = hub_schema(FEATURES, FIELDS)


def cells(n: int, first: int = 0, **columns: list[Any]) -> dict[str, list[Any]]:
    rows = range(first, first + n)
    return {
        "audio": [{"bytes": b"RIFF%d" % i, "path": f"clip {i}.wav"} for i in rows],
        "label": [i % 2 for i in rows],
        "calls": [[[0], [], [1, 0], None][i % 4] for i in rows],
        "rater": [["007", "NA", None][i % 3] for i in rows],
        "age": [[3, None][i % 2] for i in rows],
    } | columns


def put(path: Path, columns: Mapping[str, list[Any]], schema: pa.Schema = SCHEMA) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(columns), schema=schema), path, row_group_size=3)
    return path


def table(source: Path, **options: Any) -> pd.DataFrame:
    return get_corpus("hf").read(source, **options).table


def refused(source: Path, **options: Any) -> str:
    with pytest.raises(ManifestError) as error:
        get_corpus("hf").read(source, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    put(tmp_path / "data/train-00000-of-00002.parquet", cells(5))
    put(tmp_path / "data/train-00001-of-00002.parquet", cells(3, 5))
    put(tmp_path / "data/validation-00000-of-00001-0123456789abcdef.parquet", cells(2, 8))
    put(tmp_path / "data/test-00000-of-00001.parquet", cells(2, 10))
    return tmp_path


def test_a_data_set_of_the_hub(hub: Path, tmp_path: Path) -> None:
    request = ManifestRequest(corpus="hf", source=hub, out=tmp_path / "m.csv")
    make_manifest(request)
    found = read_manifest(tmp_path / "m.csv").table
    assert (
        found["split"].tolist() == ["test"] * 2 + ["train"] * 8 + ["val"] * 2
    )  # files in order of their names
    rows = found.set_index("utterance_id")
    assert sorted(rows.index) == sorted(f"clip {i}" for i in range(12))
    assert rows.loc["clip 6", "path"] == f"{hub}/data/train-00001-of-00002.parquet::audio[1]"
    assert rows.loc[[f"clip {i}" for i in range(4)], "label"].tolist() == ["dog", "cat", "dog", "cat"]
    assert rows.loc[[f"clip {i}" for i in range(4)], "calls"].tolist() == ["bark", "|", "bark|purr", ""]
    assert rows.loc[[f"clip {i}" for i in range(3)], "rater"].tolist() == ["007", "NA", ""]
    assert rows.loc[["clip 0", "clip 1"], "age"].tolist() == ["3", ""]
    assert list(found.columns[7:]) == ["label", "calls", "rater", "age"]


def test_folders_of_splits_and_subsets(tmp_path: Path) -> None:
    for subset in ("dogs", "cats"):
        put(tmp_path / subset / "train/0000.parquet", cells(2))
        put(tmp_path / subset / "partial-test/0000.parquet", cells(2, 2))
    assert table(tmp_path / "dogs")["split"].tolist() == ["test"] * 2 + ["train"] * 2
    assert len(table(tmp_path, subset="cats")) == 4
    assert "no folder 'birds'; there are 'cats', 'dogs'" in refused(tmp_path, subset="birds")
    found = table(tmp_path / "dogs/train/0000.parquet")  # a single file
    assert (len(found), found["split"][0]) == (2, "")


CARD = """---
license: cc-by-4.0
configs:
- config_name: day
  default: true
  data_files:
  - split: train
    path: data/day-a*
  - split: test
    path: [data/day-b.parquet]
- config_name: night
  data_files: data/night*
dataset_info:
- config_name: day
  features:
  - name: audio
    dtype: {audio: {sampling_rate: 16000}}
  - name: label
    dtype: {class_label: {names: {'0': owl, '1': bat}}}
  - name: calls
    sequence: {class_label: {names: {'0': hoot, '1': click}}}
---
# A data set
"""


def test_the_card_has_subsets_splits_and_classes(tmp_path: Path) -> None:
    plain = SCHEMA.remove_metadata()
    for name, first in (("day-a1", 0), ("day-a2", 3), ("day-b", 6), ("night", 9)):
        put(tmp_path / f"data/{name}.parquet", cells(3, first), plain)
    (tmp_path / "README.md").write_text(CARD)
    found = get_corpus("hf").read(tmp_path)
    assert found.table["split"].tolist() == ["train"] * 6 + ["test"] * 3
    assert found.table["label"].tolist()[:2] == ["owl", "bat"]
    assert found.table["calls"].tolist()[:4] == ["hoot", "|", "click|hoot", ""]
    assert found.notes == ("left out 1 file that README.md does not have in 'day': data/night.parquet",)
    night = table(tmp_path, subset="night")  # of which the card says nothing more
    assert night["label"].tolist() == ["1", "0", "1"]
    assert "no subset 'dusk'; its README.md has day, night" in refused(tmp_path, subset="dusk")
    (tmp_path / "README.md").write_text(CARD.replace("  default: true\n", ""))
    assert "holds subsets day, night; name one with --subset" in refused(tmp_path)
    (tmp_path / "README.md").write_text("---\nconfigs: [a\n---\n")
    assert "the YAML in front of it" in refused(tmp_path)
    (tmp_path / "README.md").write_text("# no card\n")
    assert len(table(tmp_path)) == 12


def test_ids_where_names_are_none_or_several_are_one(tmp_path: Path) -> None:
    two = [{"bytes": b"", "path": p} for p in ("a/x.wav", "b/x.wav")]
    put(tmp_path / "one/train.parquet", cells(2, audio=two))
    assert table(tmp_path / "one")["utterance_id"].tolist() == ["a/x.wav", "b/x.wav"]
    same = [{"bytes": b"", "path": "x.wav"}] * 2
    put(tmp_path / "two/data/train.parquet", cells(2, audio=same))
    assert table(tmp_path / "two")["utterance_id"].tolist() == ["data/train/0", "data/train/1"]
    none = [{"bytes": b"", "path": p} for p in ("x.wav", None)]
    put(tmp_path / "three/train.parquet", cells(2, audio=none))
    assert table(tmp_path / "three")["utterance_id"].tolist() == ["train/0", "train/1"]


def test_which_column_is_audio(tmp_path: Path) -> None:
    fields = [("near", AUDIO), ("far", AUDIO), ("raw", pa.binary())]
    audio = [{"bytes": b"x", "path": None}]
    put(tmp_path / "a.parquet", {"near": audio, "far": audio, "raw": [b"x"]}, pa.schema(fields))
    assert "found 'near', 'far'; name one with --audio-column" in refused(tmp_path)
    for name in ("far", "raw"):
        assert table(tmp_path, audio_column=name)["path"][0].endswith(f"a.parquet::{name}[0]")
    assert "no column 'mid' of audio; bytes are in 'near', 'far', 'raw'" in refused(
        tmp_path, audio_column="mid"
    )
    put(tmp_path / "b/a.parquet", {"text": ["x"]}, pa.schema([("text", pa.string())]))
    assert "expected one column of audio, found none; its columns are 'text'" in refused(tmp_path / "b")
    url = hub_schema({"audio": {"_type": "Audio"}}, [("audio", pa.string())])
    put(tmp_path / "c/a.parquet", {"audio": ["https://x/a.wav"]}, url)
    assert "is said to be audio and holds no bytes, but string" in refused(tmp_path / "c")


def test_columns_that_the_manifest_has_a_meaning_for(tmp_path: Path) -> None:
    fields = [("audio", AUDIO), ("path", pa.string()), ("status", pa.string()), ("start_s", pa.float64())]
    fields += [("end_s", pa.float64()), ("group", pa.string()), ("vector", pa.list_(pa.float32()))]
    audio = [{"bytes": b"x", "path": f"{i}.wav"} for i in range(2)]
    columns = {"audio": audio, "path": ["p", "q"], "status": ["s", "t"], "start_s": [0.5, None]}
    columns |= {"end_s": [1.25, None], "group": ["g", "h"], "vector": [[1.0], [2.0]]}
    put(tmp_path / "train.parquet", columns, pa.schema(fields))
    found = get_corpus("hf").read(tmp_path)
    rows = found.table.to_dict("records")
    assert (rows[0]["start_s"], rows[0]["end_s"], rows[0]["group"]) == (0.5, 1.25, "g")
    assert (rows[0]["hf_path"], rows[1]["hf_status"]) == ("p", "t")
    assert pd.isna(rows[1]["end_s"])
    assert found.notes == ("left out 1 column of other kinds: vector",)
    odd = {**columns, "start_s": ["soon", "0"]}
    put(
        tmp_path / "odd/train.parquet",
        odd,
        pa.schema([(n, pa.string() if n == "start_s" else t) for n, t in fields]),
    )
    assert "expected a number in 'start_s', got 'soon'" in refused(tmp_path / "odd")


def test_splits_that_are_no_parts(tmp_path: Path) -> None:
    put(tmp_path / "unsupervised-00000-of-00001.parquet", cells(1))
    put(tmp_path / "train-00000-of-00001.parquet", cells(1, 1))
    found = get_corpus("hf").read(tmp_path)
    assert found.table[["split", "hf_split"]].to_numpy().tolist() == [
        ["train", "train"],
        ["", "unsupervised"],
    ]
    assert "unsupervised: no part of a split" in found.notes[0]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"label": [7, 0]}, "column 'label', row 0 (counted from 0): expected a class from 0 to 1, got 7"),
        (
            {"calls": [[0], [5]]},
            "column 'calls', row 1 (counted from 0): expected a class from 0 to 1, got 5",
        ),
    ],
)
def test_classes_that_have_no_name(tmp_path: Path, columns: dict[str, Any], said: str) -> None:
    put(tmp_path / "train.parquet", cells(2, **columns))
    assert said in refused(tmp_path)


def test_unknown_classes_are_no_labels(tmp_path: Path) -> None:
    put(tmp_path / "train.parquet", cells(2, label=[-1, None]))
    assert table(tmp_path)["label"].tolist() == ["", ""]


def test_files_that_are_damaged_or_do_not_belong_together(tmp_path: Path) -> None:
    path = put(tmp_path / "train-00000-of-00002.parquet", cells(4))
    other = pa.schema([("audio", AUDIO), ("species", pa.string())])
    put(tmp_path / "train-00001-of-00002.parquet", {"audio": cells(1)["audio"], "species": ["x"]}, other)
    assert "has columns 'audio', 'species', files before it 'audio', 'label'" in refused(tmp_path)
    (tmp_path / "train-00001-of-00002.parquet").write_bytes(path.read_bytes()[:-9])
    assert "is no Parquet file, or is cut short" in refused(tmp_path)
    (tmp_path / "train-00001-of-00002.parquet").unlink()
    broken = SCHEMA.with_metadata({"huggingface": "{"})
    put(path, cells(4), broken)
    assert "what its schema says of Hugging Face's features: no JSON" in refused(tmp_path)
    names = json.loads(SCHEMA.metadata[b"huggingface"])
    names["info"]["features"]["label"]["names"] = 3
    put(path, cells(4), SCHEMA.with_metadata({"huggingface": json.dumps(names)}))
    assert "expected the names of its classes as a list of texts" in refused(tmp_path)
    assert "expected a .parquet file, or a folder" in refused(Path(__file__))
    path.rename(tmp_path / "x.arrow")
    assert "write them with to_parquet" in refused(tmp_path)


def test_large_row_groups_are_told(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert get_corpus("hf").read(hub).notes == ()
    monkeypatch.setattr("featurestore.corpora.hf.KEPT_BYTES", 0)
    assert get_corpus("hf").read(hub).notes == ()
    monkeypatch.setattr("featurestore.corpora.hf.LARGE_GROUP_BYTES", 0)
    (note,) = get_corpus("hf").read(hub).notes
    assert note.startswith("row groups of up to 0 MB of audio, of which one is read for a clip")


def test_no_audio_is_read(hub: Path) -> None:
    """It may be anything: the bytes of its columns are."""
    before = table(hub)
    for path in sorted(hub.rglob("*.parquet")):
        data = bytearray(path.read_bytes())
        group = pq.read_metadata(path).row_group(0)
        (audio,) = (
            group.column(i)
            for i in range(group.num_columns)
            if group.column(i).path_in_schema == "audio.bytes"
        )
        start = audio.dictionary_page_offset or audio.data_page_offset
        data[start : start + audio.total_compressed_size] = b"\xff" * audio.total_compressed_size
        path.write_bytes(data)
        with pytest.raises(ArchiveError, match="cannot be read"):
            open_bytes(f"{path}::audio[0]")
    pd.testing.assert_frame_equal(table(hub), before)


def test_what_datasets_itself_writes(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="Hugging Face's datasets is not installed")
    kinds = datasets.Features(
        {
            "audio": datasets.Audio(sampling_rate=16_000),
            "label": datasets.ClassLabel(names=["dog", "cat"]),
            "calls": datasets.Sequence(datasets.ClassLabel(names=["bark", "purr"])),
            "rater": datasets.Value("string"),
            "age": datasets.Value("int64"),
        }
    )
    info = datasets.DatasetInfo(features=kinds)
    rows = pa.table(cells(9)).cast(kinds.arrow_schema)
    made = datasets.Dataset(datasets.table.InMemoryTable(rows), info=info)
    datasets.disable_progress_bars()
    made.to_parquet(tmp_path / "theirs/train-00000-of-00001.parquet")
    put(tmp_path / "ours/train-00000-of-00001.parquet", cells(9))
    theirs, ours = (table(tmp_path / name) for name in ("theirs", "ours"))
    pd.testing.assert_frame_equal(theirs.drop(columns="path"), ours.drop(columns="path"))
