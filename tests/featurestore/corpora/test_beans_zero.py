"""BEANS-Zero, with the fields of its card, in tables that were made here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurestore.audio.blocks import SoundError, mono_blocks, read_header
from featurestore.corpora.registry import get_corpus
from featurestore.errors import ConfigError, ManifestError

NAN = float("nan")
RNG = np.random.default_rng(0)
SOUNDS = [RNG.uniform(-0.9, 0.9, n).astype("float32") for n in (160, 161, 7, 30, 40)]
ROWS = [
    ("u1", "watkins", "classification", "Beluga, White Whale", {"sample_rate": 44100, "duration": 1.0}),
    ("u2", "enabirds", "detection", "Ovenbird, Blue Jay", {"sampling_rate": 32000}),
    ("u3", "enabirds", "detection", "None", {"sample_rate": 32000.0}),
    ("u4", "captioning", "captioning", "A bird, singing; none other", {"sample_rate": 16000}),
    ("u5", "captioning", "captioning", "", {"sample_rate": 16000}),
]


def cells(**columns: list[Any]) -> dict[str, Any]:
    return {
        "source_dataset": ["x"] * 5,
        "audio": [sound.tolist() for sound in SOUNDS],
        "id": [row[0] for row in ROWS],
        "license": ["CC0", None, "CC0", "CC0", "CC0"],
        "file_name": [f"f{i}.wav" for i in range(5)],
        "instruction_text": ["What is it?"] * 5,
        "output": [row[3] for row in ROWS],
        "task": [row[2] for row in ROWS],
        "dataset_name": [row[1] for row in ROWS],
        "metadata": [json.dumps(row[4]) for row in ROWS],
    } | columns


def put(path: Path, audio: pa.Array | None = None, **columns: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    found = cells(**columns)
    found["audio"] = pa.array(found["audio"], pa.list_(pa.float32())) if audio is None else audio
    pq.write_table(pa.table(found), path, row_group_size=2)
    return path


def test_rows_are_cells_at_their_own_rate(tmp_path: Path, listing) -> None:
    path = put(tmp_path / "data/test-00000-of-00001.parquet")
    found = get_corpus("beans-zero").read(tmp_path)
    columns = ["utterance_id", "path", "split", "label", "dataset_name", "task", "license"]
    assert listing(found.table, columns) == [
        ("u1", f"{path}::audio@44100[0]", "test", "Beluga, White Whale", *ROWS[0][1:3], "CC0"),
        ("u2", f"{path}::audio@32000[1]", "test", "Blue Jay|Ovenbird", *ROWS[1][1:3], ""),
        ("u3", f"{path}::audio@32000[2]", "test", "|", *ROWS[2][1:3], "CC0"),
        ("u4", f"{path}::audio@16000[3]", "test", ROWS[3][3], *ROWS[3][1:3], "CC0"),
        ("u5", f"{path}::audio@16000[4]", "test", "", *ROWS[4][1:3], "CC0"),
    ]
    assert found.notes == (
        "rows of 3 tasks, of each of which the label is something else; --task takes one, dataset_name tells "
        "them apart",
    )
    for path_in, sound, row in zip(found.table["path"], SOUNDS, ROWS, strict=True):
        heard = np.concatenate(list(mono_blocks(path_in, NAN, NAN, None)))
        assert np.array_equal(heard, sound)
        header = read_header(path_in)
        assert header.sample_rate_hz == next(iter(row[4].values()))
        assert (header.n_frames, header.n_channels) == (len(sound), 1)


def test_one_task(tmp_path: Path) -> None:
    path = put(tmp_path / "a.parquet")
    corpus = get_corpus("beans-zero")
    found = corpus.read(path, task="enabirds")
    assert list(found.table["utterance_id"]) == ["u2", "u3"]
    assert found.notes == ()
    with pytest.raises(ConfigError, match=r"no task 'enabird' here; there is .*did you mean 'enabirds'"):
        corpus.read(path, task="enabird")


def test_sounds_that_are_not_there(tmp_path: Path) -> None:
    audio: list[Any] = [None, [], [0.5, None], [0.5], [0.25, float("nan")]]
    path = put(tmp_path / "a.parquet", pa.array(audio, pa.list_(pa.float64())))
    said = []
    for row in range(3):
        with pytest.raises(SoundError) as error:
            list(mono_blocks(f"{path}::audio@16000[{row}]", NAN, NAN, None))
        said.append(str(error.value))
    assert said == ["holds no samples", "holds no samples", "lacks 1 of its 2 samples"]
    assert np.concatenate(list(mono_blocks(f"{path}::audio@16000[3]", NAN, NAN, None))) == [0.5]
    with pytest.raises(SoundError, match=r"a column of samples, whose rate is to be named, such as audio@16"):
        read_header(f"{path}::audio[3]")
    with pytest.raises(SoundError, match="is in no column of audio"):
        read_header(f"{path}::id@16000[3]")


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"metadata": ["{}"] * 5}, "row 0 (counted from 0): expected 'sample_rate' of 'metadata'"),
        ({"metadata": ['{"sample_rate": "16k"}'] * 5}, "to be the rate in Hz, got '16k'"),
        ({"metadata": ["x"] * 5}, "row 0 (counted from 0): 'metadata': no JSON"),
        (
            {"id": ["u1", "u2", "u3", "u2", "u5"]},
            "row 1 (counted from 0): id 'u2' does not stand for one row",
        ),
        ({"output": ["a", "b|c, d", "e", "f", "g"]}, "row 1 (counted from 0): label 'b|c' cannot stand"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, columns: dict[str, list[Any]], said: str) -> None:
    path = put(tmp_path / "a.parquet", **columns)
    with pytest.raises(ManifestError) as error:
        get_corpus("beans-zero").read(tmp_path)
    assert said in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    corpus = get_corpus("beans-zero")
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"audio": [b"x"], "output": ["y"]}), path)
    with pytest.raises(ManifestError, match=r"expected columns 'audio', .*column 'metadata' is not there"):
        corpus.read(path)
    put(path, pa.array([b"x"] * 5))
    with pytest.raises(ManifestError, match=r"to hold lists of samples, got binary; `fs manifest hf` reads"):
        corpus.read(path)
    path.write_bytes(b"PAR1")
    with pytest.raises(ManifestError, match="is no Parquet file, or is cut short"):
        corpus.read(path)
