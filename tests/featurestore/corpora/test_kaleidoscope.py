"""Tables of Kaleidoscope, with the columns of its user guide."""

from __future__ import annotations

from pathlib import Path

import pytest

from featurestore.corpora.registry import get_corpus
from featurestore.errors import ManifestError

COLUMNS = ["utterance_id", "start_s", "end_s", "channel"]
CLUSTER = (
    "INDIR,FOLDER,IN FILE,CHANNEL,OFFSET,DURATION,Fmin,Fmean,Fmax,DATE,TIME,HOUR,DATE-12,TIME-12,HOUR-12,"
    "TOP1MATCH*,TOP1DIST,VOCALIZATIONS,MANUAL ID\n"
)
ID = (
    "INDIR,OUTDIR,FOLDER,IN FILE,CHANNEL,OFFSET,DURATION,OUT FILE FS,OUT FILE ZC,DATE,TIME,HOUR,AUTO ID*,"
    "PULSES,MATCH RATIO,Fc,Fmax,Fmin,Fmean,FILES,MANUAL ID,INDIR\n"
)


def when(clock: str) -> str:
    return f"2024-05-01,{clock},4,2024-04-30,16:00:00,16"


def test_clusters(tmp_path: Path, touch, write, listing) -> None:
    write(
        tmp_path / "out/cluster.csv",
        CLUSTER
        + f"P:\\field\\rec,night\\one,S4A01_20240501_040000.wav,0,6.1,3.3,950,1421,2239,{when('04:00:06')},"
        "wren.01,0.31,1,TROTRO\n"
        + f"P:\\field\\rec,,b.wav,1,0,0.52,310.5,400,511,{when('05:00:00')},NA,0.4,1,\n"
        + f"P:\\field\\rec,,b.wav,1,7,0,310,400,500,{when('05:00:00')},NA,0.4,1,\n",
    )
    write(tmp_path / "out/settings.csv", "name,value\nx,1\n")
    touch(tmp_path, "rec/night/one/S4A01_20240501_040000.wav", "rec/b.wav")
    corpus = get_corpus("kaleidoscope")
    found = corpus.read(tmp_path / "out", audio=tmp_path / "rec")
    names = ["FOLDER", "DATE", "TIME", "TOP1MATCH", "MANUAL ID", "low_hz", "high_hz"]
    assert listing(found.table, [*COLUMNS, *names]) == [
        (
            "night/one/S4A01_20240501_040000:6.1-9.4#0",
            *(6.1, 9.4, 0, "night\\one", "2024-05-01", "04:00:06", "wren.01", "TROTRO", "950", "2239"),
        ),
        ("b:0-0.52#1", 0.0, 0.52, 1, "", "2024-05-01", "05:00:00", "NA", "", "310.5", "511"),
    ]
    assert list(found.table.columns)[7:] == names
    assert found.notes[1:] == (
        "passed over 1 file that are no such tables: settings.csv",
        "dropped 1 row whose end is not after its start: b:7-7#1",
    )
    one = corpus.read(
        tmp_path / "out/cluster.csv", audio=tmp_path / "rec", label_column=("MANUAL ID",), group="recording"
    )
    assert list(one.table.columns)[7:] == ["MANUAL ID", "low_hz", "high_hz"]
    assert list(one.table["group"]) == ["night/one/S4A01_20240501_040000", "b"]


def test_frequencies_without_a_unit_are_no_box(tmp_path: Path, touch, write) -> None:
    write(tmp_path / "cluster.csv", CLUSTER + f",,a.wav,0,0,1,20,35,61.5,{when('04:00:00')},x,0.1,1,\n")
    found = get_corpus("kaleidoscope").read(touch(tmp_path, "a.wav"))
    assert "low_hz" not in found.table
    assert found.notes == (
        "frequencies of at most 250, which may be Hz or kHz, so there is no box: cluster.csv",
    )


def test_bats(tmp_path: Path, touch, write, listing) -> None:
    row = "/m/rec,/m/out,,{},{},{},{},{}_000.wav,,2024-05-01,22:10:00,22,{},9,0.8,45.1,72,41,50,1,{},/m/rec\n"
    write(
        tmp_path / "id.csv",
        ID
        + row.format("a.wav", 0, 5, 2.5, "a", "PIPPIP", "PIPPYG")
        + row.format("a.wav", "", 0, 5, "a", "NoID", ""),
    )
    touch(tmp_path, "rec/a.wav")
    found = get_corpus("kaleidoscope").read(tmp_path)
    assert listing(found.table, [*COLUMNS, "AUTO ID", "MANUAL ID"]) == [
        ("rec/a:5-7.5#0", 5.0, 7.5, 0, "PIPPIP", "PIPPYG"),
        ("rec/a:0-5", 0.0, 5.0, None, "NoID", ""),
    ]
    # averages over the pulses of a file are no box
    assert list(found.table.columns)[7:] == ["FOLDER", "DATE", "TIME", "AUTO ID", "MANUAL ID"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (CLUSTER.replace("IN FILE", "FILE"), "expected columns 'IN FILE', 'OFFSET', 'DURATION'"),
        (CLUSTER + f",,a.wav,L,0,1,1,1,300,{when('x')},x,0,1,\n", "row 2: expected a channel counted from 0"),
        (CLUSTER + f",,a.wav,0,0:06,1,1,1,300,{when('x')},x,0,1,\n", "row 2: expected a number of seconds"),
        (CLUSTER + f",,a.wav,0,0,-1,1,1,300,{when('x')},x,0,1,\n", "row 2: 'DURATION' is -1; correct it"),
        (CLUSTER + f",,,0,0,1,1,1,300,{when('x')},x,0,1,\n", "row 2: 'IN FILE' is empty"),
        (CLUSTER.replace("TIME,HOUR,", "DATE,HOUR,") + f",,a.wav,0,0,1,1,1,9,{when('x')},x,0,1,\n", "'DATE'"),
        (CLUSTER.replace("MANUAL ID", "TOP1MATCH") + f",,a,0,0,1,1,1,9,{when('x')},x,0,1,\n", "two columns"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, touch, write, content: str, said: str) -> None:
    path = write(tmp_path / "cluster.csv", content)
    with pytest.raises(ManifestError) as error:
        get_corpus("kaleidoscope").read(touch(tmp_path, "a.wav") / path.name)
    assert said in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
