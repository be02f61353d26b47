"""Matches of Arbimon, with the columns that its server writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from featurestore.corpora.registry import get_corpus
from featurestore.errors import ManifestError

HEAD = (
    "id,recording,site,year,month,day,hour,minute,species,songtype,x1,x2,y1,y2,frequency,validated,url,"
    "score\n"
)


def row(number: int, recording: str, site: str, box: str, validated: str) -> str:
    when = "2024,5,1,4,0"
    url = "https://arbimon.org/api/project/p/recordings/download/7"
    return f'{number},{recording},{site},{when},"Pipra, sp",Common Song,{box},24000,{validated},{url},0.91\n'


def test_matches(tmp_path: Path, touch, write, listing) -> None:
    write(
        tmp_path / "pm.csv",
        HEAD
        + row(11, "20240501_040000.WAV", "north 1", "1.5,2.25,900.5,3000", "present")
        + row(12, "20240501_040000.WAV", "south", "9.75,9,3000,900", "not present")
        + row(13, "b.flac", "south", "0,1,900,3000", "(not validated)"),
    )
    write(tmp_path / "sites.csv", "site,lat\nnorth,1\n")
    touch(tmp_path, "north 1/20240501_040000.WAV", "south/20240501_040000.WAV", "b.flac")
    found = get_corpus("arbimon").read(tmp_path)
    columns = ["utterance_id", "species", "songtype", "searched", "validated", "site", "score", "recorded_at"]
    sought = ("Pipra, sp", "Common Song", "Pipra, sp Common Song")
    rest = ("0.91", "2024-05-01T04:00")
    assert listing(found.table, columns) == [
        ("north 1/20240501_040000:1.5-2.25", *sought, "present", "north 1", *rest),
        ("south/20240501_040000:9-9.75", "", "", sought[2], "not present", "south", *rest),
        ("b:0-1", *sought, "(not validated)", "south", *rest),
    ]
    assert listing(found.table, ["selection", "low_hz", "high_hz"]) == [
        ("11", "900.5", "3000"),
        ("12", "900", "3000"),
        ("13", "900", "3000"),
    ]
    assert found.notes == (
        "passed over 1 file that are no such tables: sites.csv",
        "1 match validated as not present: species and songtype are empty there, 'searched' has them",
        "1 match not validated, which are guesses of the template",
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            row(1, "a.wav", "s", "0,1,900,3000", "present") + row(2, "a.wav", "t", "0,1,9,30", "present"),
            "of 's'",
        ),
        (row(1, "a.wav", "s", "0,1,900,kHz", "present"), "row 2: expected hertz in 'y2', got 'kHz'"),
        (
            row(1, "a.wav", "s", "0,,900,3000", "present"),
            "row 2: expected a number of seconds in 'x2', got ''",
        ),
        (row(1, "", "s", "0,1,900,3000", "present"), "row 2: 'recording' is empty"),
        (row(1, "z.wav", "s", "0,1,900,3000", "present"), "1 of 1 audio file"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, touch, write, content: str, said: str) -> None:
    path = write(tmp_path / "pm.csv", HEAD + content)
    touch(tmp_path, "a.wav")
    with pytest.raises(ManifestError) as error:
        get_corpus("arbimon").read(path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
