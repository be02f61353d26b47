"""Layers of Sonic Visualiser, as its library svcore writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from featurestore.corpora.registry import get_corpus
from featurestore.errors import ManifestError

COLUMNS = ["utterance_id", "start_s", "end_s", "label"]


def svl(model: str, *points: str, rate: str = "44100") -> str:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE sonic-visualiser>\n<sv>\n  <data>\n'
        f'    <model id="4" name="" sampleRate="{rate}" start="0" end="99" type="sparse" {model} '
        'resolution="1" notifyOnAdd="true" dataset="3"/>\n'
        f'    <dataset id="3" dimensions="2">\n{"".join(f"<point {p}/>" for p in points)}</dataset>\n'
        '  </data>\n  <display>\n    <layer id="5" type="boxes" model="4"/>\n  </display>\n</sv>\n'
    )


BOX = 'dimensions="2" subtype="box" minimum="0" maximum="9000" units="Hz"'
REGION = 'dimensions="3" subtype="region" valueQuantization="0" units=""'


def test_saved_layers(tmp_path: Path, touch, write, listing) -> None:
    write(
        tmp_path / "a.svl",
        svl(
            BOX,
            'frame="15360" value="3136.87" duration="44100" extent="2139.22" label="&quot;R&quot; &amp; co"',
            'frame="44100" value="100" duration="22050" extent="-900" label="01"',
            'frame="88200" value="100" extent="900" label="point"',
        ),
    )
    write(
        tmp_path / "b/c.svl", svl(REGION, 'frame="12000" value="0.5" duration="6000" label=""', rate="48000")
    )
    write(tmp_path / "b/c_onsets.svl", svl('dimensions="1"', 'frame="5" label="on"'))
    found = get_corpus("sonic-visualiser").read(touch(tmp_path, "a.wav", "b/c.flac"))
    start, end = 15360 / 44100, 59460 / 44100
    assert listing(found.table, [*COLUMNS, "value", "low_hz", "high_hz"]) == [
        (f"a:{start}-{end}", start, end, '"R" & co', "", "3136.87", "5276.09"),
        ("a:1-1.5", 1.0, 1.5, "01", "", "100", "1000"),
        ("b/c:0.25-0.375", 0.25, 0.375, "", "0.5", "", ""),
    ]
    assert found.notes == (
        "passed over 1 file that are no layers of regions, notes or boxes: b/c_onsets.svl",
        "1 row without a label, which are kept",
        "dropped 1 row whose end is not after its start: a:2-2",
    )


def test_exported_layers(tmp_path: Path, touch, write, listing) -> None:
    write(
        tmp_path / "a.csv",
        "START,END,EXTENT START,EXTENT END,LABEL\n 0.500000000, 1.250000000,3136.87,5276.09,\"b, 'c'\"\n"
        " 2.000000000, 3.000000000,100,1000\n",
    )
    write(tmp_path / "b.csv", "TIME,VALUE,DURATION,LABEL\n6.1,2,3.3,NA\n")
    write(tmp_path / "sites.csv", "site,lat\n1,2\n")
    found = get_corpus("sonic-visualiser").read(touch(tmp_path, "a.wav", "b.wav"))
    assert listing(found.table, [*COLUMNS, "value", "low_hz", "high_hz"]) == [
        ("a:0.5-1.25", 0.5, 1.25, "b, 'c'", "", "3136.87", "5276.09"),
        ("a:2-3", 2.0, 3.0, "", "", "100", "1000"),
        ("b:6.1-9.4", 6.1, 9.4, "NA", "2", "", ""),
    ]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.svl", "", "cannot be read as a layer of Sonic Visualiser: no XML"),
        ("a.svl", svl(BOX)[:-9], "no XML"),
        ("a.svl", svl(BOX).replace("r>", 'r [<!ENTITY a "b">]>', 1), "which may hold entities"),
        (
            "a.svl",
            svl('dimensions="1"', 'frame="5" label=""'),
            "whose items have a length, found 1-dimensional",
        ),
        ("a.svl", svl(BOX, 'frame="x" value="1" duration="9" extent="1"'), "a number in 'frame' of a point"),
        ("a.svl", svl(BOX, 'frame="1" value="1" duration="9"'), "expected a number in 'extent' of a point"),
        ("a.svl", svl(BOX, rate="0"), "expected a sample rate above 0"),
        ("a.csv", "0.5,1.25,up\n", "with a header row, or save it as .svl"),
        ("a.csv", "STARTFRAME,ENDFRAME,EXTENT START,EXTENT END,LABEL\n1,2,3,4,x\n", "in seconds"),
        ("a.csv", "START,END,LABEL\n0,1,x,y\n", "row 2 has 4 cells, the first row has 3"),
        ("a.csv", "START,END,LABEL\n0,0:01,x\n", "row 2: expected a number of seconds in 'END'"),
        ("a.csv", 'START,END,LABEL\n0,1,"x\n', "cannot be read as a layer"),
    ],
)
def test_layers_that_are_none(tmp_path: Path, touch, write, name: str, content: str, said: str) -> None:
    path = write(tmp_path / name, content)
    touch(tmp_path, "a.wav")
    with pytest.raises(ManifestError) as error:
        get_corpus("sonic-visualiser").read(path)
    assert said in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
