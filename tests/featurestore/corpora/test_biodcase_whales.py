"""Whale calls of BioDCASE, in lists as published."""

from __future__ import annotations

from pathlib import Path

import pytest

from featurestore.corpora.registry import get_corpus
from featurestore.errors import ManifestError

HEAD = "dataset,filename,annotation,annotator,low_frequency,high_frequency,start_datetime,end_datetime\n"
ROW = (
    "ballenyislands2015,2015-02-04T03-00-00_000.wav,bma,nieukirk,21.9,28.4,2015-02-04T03:27:32.053000+00:00,"
    "2015-02-04T03:27:43.709000+00:00\n"
)
LATE = (
    "casey2017,2017-03-31T23-00-00_250.wav,bp20plus,x,15,95,2017-04-01T00:00:00.250000+00:00,"
    "2017-04-01T00:00:01+00:00\n"
)


def test_times_count_from_the_file(tmp_path: Path, touch, write, listing) -> None:
    early = ROW.replace("03:27:32.053000", "02:59:59.500000").replace("bma", "bmd")
    write(tmp_path / "train/annotations/ballenyislands2015.csv", HEAD + ROW + early)
    write(tmp_path / "validation/annotations/casey2017.csv", HEAD + LATE + LATE.replace("+00:00", ""))
    touch(tmp_path, "train/audio/ballenyislands2015/2015-02-04T03-00-00_000.wav")
    touch(tmp_path, "validation/audio/casey2017/2017-03-31T23-00-00_250.wav")
    found = get_corpus("biodcase-whales").read(tmp_path)
    balleny, casey = (
        "train/audio/ballenyislands2015/2015-02-04T03-00-00_000",
        "validation/audio/casey2017/2017-03-31T23-00-00_250",
    )
    columns = ["utterance_id", "start_s", "end_s", "split", "group", "call", "annotator", "low_hz", "high_hz"]
    first = ("train", "ballenyislands2015", "bma", "nieukirk", "21.9", "28.4")
    late = (3600.0, 3600.75, "val", "casey2017", "bp20plus", "x", "15", "95")
    assert listing(found.table, columns) == [
        (f"{balleny}:1652.053-1663.709", 1652.053, 1663.709, *first),
        (f"{casey}:3600-3600.75", *late),
        (f"{casey}:3600-3600.75~2", *late),
    ]
    assert (
        found.notes[0] == f"left out 1 call from before the beginning of the file named: {balleny}.wav -0.5 s"
    )
    by_file = get_corpus("biodcase-whales").read(tmp_path, group="recording").table
    assert list(by_file["group"]) == [balleny, casey, casey]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (HEAD + ROW.replace("2015-02-04T03-00-00_000.wav", "a.wav"), "row 2: expected a file called like"),
        (HEAD + ROW.replace("2015-02-04T03-00", "2015-02-31T03-00"), "row 2: expected a file called like"),
        (
            HEAD + ROW.replace("2015-02-04T03:27:43.709000+00:00", "43.7"),
            "row 2: expected a date and time in 'end",
        ),
        (HEAD.replace("filename", "file") + ROW, "column 'filename' is not there"),
        (HEAD + ROW.replace("bma", ""), "row 2: 'annotation' is empty"),
        (HEAD + ROW.replace("03-00-00_000", "03-00-00_001"), "1 of 1 audio file"),
    ],
)
def test_lists_that_are_none(tmp_path: Path, touch, write, content: str, said: str) -> None:
    write(tmp_path / "train/annotations/ballenyislands2015.csv", content)
    touch(tmp_path, "train/audio/ballenyislands2015/2015-02-04T03-00-00_000.wav")
    with pytest.raises(ManifestError) as error:
        get_corpus("biodcase-whales").read(tmp_path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
