"""Results of BirdNET-Analyzer in the forms that its `analyze/utils.py` writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from featurestore.corpora.registry import get_corpus
from featurestore.errors import ConfigError, ManifestError

COLUMNS = ["utterance_id", "start_s", "end_s", "common_name", "confidence"]
CSV = "Start (s),End (s),Scientific name,Common name,Confidence,File\n"
TABLE = (
    "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tCommon Name\t"
    "Species Code\tConfidence\tBegin Path\tFile Offset (s)\n"
)
KALEIDOSCOPE = (
    "INDIR,FOLDER,IN FILE,OFFSET,DURATION,scientific_name,common_name,confidence,lat,lon,week,overlap,"
    "sensitivity\n"
)
R = (
    "filepath,start,end,scientific_name,common_name,confidence,lat,lon,week,overlap,sensitivity,min_conf,"
    "species_list,model\n"
)
ROWS = [("dawn/a:3-6", 3.0, 6.0, "Wren", "0.9120"), ("b:0-3", 0.0, 3.0, "NA", "0.2500")]


def test_a_combined_table_says_which_file_each_row_is_of(tmp_path: Path, touch, write, listing) -> None:
    write(
        tmp_path / "results/BirdNET_CombinedTable.csv",
        CSV.replace(",File", ",File,lat,lon,week,model")
        + "3.0,6.0,Troglodytes troglodytes,Wren,0.9120,/data/rec/dawn/a.wav,-1,-1,-1,BirdNET 2.4\n"
        + "0.0,3.0,Unknown sp.,NA,0.2500,/data/rec/b.wav,-1,-1,24,BirdNET 2.4\n",
    )
    touch(tmp_path, "rec/dawn/a.wav", "rec/b.wav")
    found = get_corpus("birdnet").read(tmp_path / "results", audio=tmp_path / "rec")
    assert listing(found.table, COLUMNS) == ROWS
    assert listing(found.table, ["scientific_name", "lat", "lon", "week", "model"]) == [
        ("Troglodytes troglodytes", "", "", "", "BirdNET 2.4"),
        ("Unknown sp.", "", "", "24", "BirdNET 2.4"),
    ]
    sure = get_corpus("birdnet").read(tmp_path / "results", audio=tmp_path / "rec", min_confidence=0.5)
    assert listing(sure.table, COLUMNS) == ROWS[:1]
    assert "left out 1 row with a confidence below 0.5" in sure.notes


def test_a_place_at_the_equator_is_kept(tmp_path: Path, touch, write) -> None:
    write(tmp_path / "a.csv", CSV.replace(",File", ",File,lat,lon") + "0,3,x,y,1,a.wav,-1,-78.5\n")
    table = get_corpus("birdnet").read(touch(tmp_path, "a.wav")).table
    assert (table["lat"][0], table["lon"][0]) == ("-1", "-78.5")


def test_a_combined_selection_table_counts_time_over_all_files(tmp_path: Path, touch, write, listing) -> None:
    write(
        tmp_path / "BirdNET_SelectionTable.txt",
        TABLE
        + "1\tSpectrogram 1\t1\t3.0\t6.0\t0\t15000\tWren\twren\t0.9120\tdawn/a.wav\t3.0\n"
        + "2\tSpectrogram 1\t1\t1800.4000000000001\t1803.4\t0\t12000\tNA\tnasp\t0.2500\tb.wav\t0\n"
        + "3\tSpectrogram 1\t1\t1900.0\t1903.0\t0\t12000\tnocall\tnocall\t1.0\tc.wav\t0\n",
    )
    found = get_corpus("birdnet").read(touch(tmp_path, "dawn/a.wav", "b.wav"))
    assert listing(found.table, COLUMNS) == ROWS
    assert listing(found.table, ["species_code", "selection", "low_hz", "high_hz"]) == [
        ("wren", "1", "0", "15000"),
        ("nasp", "2", "0", "12000"),
    ]
    assert found.table["channel"].isna().all()  # it writes 1 of any file
    assert found.notes == ("left out 1 row that only say that nothing was found",)


def test_its_kaleidoscope_and_r_forms(tmp_path: Path, touch, write, listing) -> None:
    touch(tmp_path, "rec/dawn/a.wav", "rec/b.wav")
    write(
        tmp_path / "k/BirdNET_Kaleidoscope.csv",
        KALEIDOSCOPE
        + "/data/rec,dawn,a.wav,3.0,3.0,T t,Wren,0.9120,51.5000,-0.1000,-1,0,1.0\n"
        + "/data,rec,b.wav,0.0,3.0,U s,NA,0.2500,51.5000,-0.1000,-1,0,1.0\n",
    )
    write(
        tmp_path / "r/BirdNET_RTable.csv",
        R
        + "/data/rec/dawn/a.wav,3.0,6.0,T t,Wren,0.9120,51.5,-0.1,-1,0,1.0,0.1,,BirdNET\n"
        + "/data/rec/b.wav,0.0,3.0,U s,NA,0.2500,51.5,-0.1,-1,0,1.0,0.1,,BirdNET\n",
    )
    for form in ("k", "r"):
        found = get_corpus("birdnet").read(tmp_path / form, audio=tmp_path / "rec")
        assert listing(found.table, COLUMNS) == ROWS
        assert list(found.table["week"]) == ["", ""]
        assert [float(lat) for lat in found.table["lat"]] == [51.5, 51.5]


def test_a_folder_of_results_holds_no_row_twice(tmp_path: Path, touch, write, listing) -> None:
    touch(tmp_path, "dawn/a.wav", "b.wav")
    write(tmp_path / "dawn/a.BirdNET.results.csv", CSV + "3.0,6.0,T t,Wren,0.9120,dawn/a.wav\n")
    # earlier versions name no file
    write(tmp_path / "b.BirdNET.results.csv", CSV.replace(",File", "") + "0.0,3.0,U s,NA,0.2500\n")
    write(tmp_path / "BirdNET_CombinedTable.csv", CSV + "3.0,6.0,T t,Wren,0.9120,dawn/a.wav\n")
    write(tmp_path / "BirdNET_analysis_params.csv", "Segment length,Sample rate\n3.0,48000\n")
    write(tmp_path / "sites.csv", "site,lat\n1,2\n")
    corpus = get_corpus("birdnet")
    found = corpus.read(tmp_path)
    assert sorted(listing(found.table, COLUMNS)) == sorted(ROWS)
    assert found.notes == (
        "passed over 1 file that are no results: sites.csv",
        "passed over combined tables, whose rows those of single recordings have: BirdNET_CombinedTable.csv",
    )
    write(tmp_path / "b.BirdNET.selection.table.txt", TABLE)
    with pytest.raises(ManifestError, match=r"results in several forms.*csv \(.*table \(b.BirdNET.sel"):
        corpus.read(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (CSV + "0,3,x,y,91,a.wav\n", "row 2: expected a confidence of 0 to 1, got '91'"),
        (CSV + "0,3,x,y,,a.wav\n", "row 2: expected a confidence of 0 to 1, got ''"),
        (CSV + "0,3,x,y,0.5,\n", "row 2: 'File' is empty"),
        (CSV + "0,three,x,y,0.5,a.wav\n", "row 2: expected a number of seconds in 'End (s)', got 'three'"),
        (CSV + "0,3,x,y,0.5,rec, day 1/a.wav\n", "row 2 has 7 cells, the first row has 6"),
        (
            TABLE.replace("\tBegin Path", "") + "1\tS 1\t1\t9\t12\t0\t9000\tWren\twren\t0.9\t0\n",
            "of several recordings, and no column 'Begin Path'",
        ),
        ("filename,label\na.wav,x\n", "found no results of BirdNET"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, touch, write, content: str, said: str) -> None:
    path = write(tmp_path / ("a.txt" if "\t" in content else "a.csv"), content)
    touch(tmp_path, "a.wav")
    with pytest.raises(ManifestError) as error:
        get_corpus("birdnet").read(path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="--min-confidence: expected 0 to 1, got 50"):
        get_corpus("birdnet").read(path, min_confidence=50)
