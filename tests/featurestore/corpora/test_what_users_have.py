"""Tables and annotations as people and programs write them: the right rows, or one line that says why."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from featurestore.corpora.conversion import ManifestRequest, make_manifest
from featurestore.corpora.registry import get_corpus
from featurestore.errors import ConfigError, ManifestError
from featurestore.manifest.table import RESERVED_COLUMNS, read_manifest, write_manifest

RAVEN = ("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)")
PLACE = ["start_s", "end_s", "channel"]


def tabs(*rows: tuple[object, ...]) -> str:
    return "".join("\t".join(map(str, row)) + "\n" for row in rows)


def raven(columns: tuple[str, ...], *rows: tuple[object, ...]) -> str:
    """A table of one view and channel: begin and end, then the cells of `columns`."""
    cells = [(i, "Spectrogram 1", 1, *row) for i, row in enumerate(rows, start=1)]
    return tabs((*RAVEN, *columns), *cells)


# --- which audio ---


@pytest.mark.parametrize(
    ("corpus", "annotation", "content"),
    [
        ("raven", "x.Table.1.selections.txt", raven(("call",), (0, 1, "up"))),
        ("audacity", "x.txt", "0\t1\tup\n"),
        ("simple-seq", "x.csv", "onset_s,offset_s,label\n0,1,up\n"),
        ("generic-seq", "all.csv", "onset_s,offset_s,label,notated_path\n0,1,up,x.wav\n"),
        ("table", "x.csv", "start_s,end_s,label\n0,1,up\n"),
        ("table", "all.csv", "path,start_s,end_s,label\nx.wav,0,1,up\n"),
    ],
)
def test_audio_of_another_folder_is_never_taken(
    tmp_path: Path, touch, write, corpus: str, annotation: str, content: str
) -> None:
    write(tmp_path / "site1" / annotation, content)
    touch(tmp_path, "site2/x.wav", "site1/deeper/x.wav")
    for options in ({}, {"audio": tmp_path}):
        with pytest.raises(ManifestError, match=r"missing|beside it"):
            get_corpus(corpus).read(tmp_path / "site1", **options)
    touch(tmp_path, "site1/x.wav")
    (path,) = get_corpus(corpus).read(tmp_path / "site1").table["path"]
    assert path == str(tmp_path / "site1/x.wav")
    (path,) = get_corpus(corpus).read(tmp_path / "site1", audio=tmp_path / "site1/../site2").table["path"]
    assert path == str(tmp_path / "site2/x.wav")


@pytest.mark.parametrize("written", ["/data/{}/x.wav", "D:\\rec\\{}\\x.wav", "D:/{}/x.wav"])
def test_a_path_of_another_machine_is_followed_by_its_end(
    tmp_path: Path, touch, write, written: str, listing
) -> None:
    rows = tuple((1, 2, written.format(site), 1) for site in ("site1", "site2"))
    write(tmp_path / "all.txt", raven(("Begin Path", "File Offset (s)"), *rows))
    touch(tmp_path, "site1/x.wav", "x.wav")
    corpus = get_corpus("raven")
    with pytest.raises(ManifestError, match=r"1 of 2 audio files .*site2/x.wav"):
        corpus.read(tmp_path)  # x.wav beside the table is in no folder of that name
    with pytest.raises(ManifestError, match=r"x.wav is the nearest to both"):
        corpus.read(tmp_path, audio=tmp_path / "site1")
    touch(tmp_path, "site2/x.wav")
    found = corpus.read(tmp_path)
    assert listing(found.table, ["utterance_id", "path"]) == [
        (f"{site}/x:1-2#0", str(tmp_path / site / "x.wav")) for site in ("site1", "site2")
    ]
    assert found.notes[0].startswith("2 paths of the annotations are not on this machine; taken by the end")


def test_two_annotations_may_not_share_audio_by_their_names(tmp_path: Path, touch, write) -> None:
    for site in ("a", "b"):
        write(tmp_path / f"t/{site}/x.txt", "0\t1\tup\n")
    touch(tmp_path, "audio/x.wav")
    with pytest.raises(ManifestError, match=r"x.wav fits annotations of this name in a and in b"):
        get_corpus("audacity").read(tmp_path / "t", audio=tmp_path / "audio")


def test_calls_of_a_table_lie_in_one_folder(tmp_path: Path, touch, write) -> None:
    write(tmp_path / "a.csv", "class,split,filename\nTH,train,1.wav\nTH,test,2.wav\n")
    touch(tmp_path, "wav/1.wav", "other/2.wav")
    with pytest.raises(ManifestError, match="found files of these names in other/, wav/"):
        get_corpus("macaque").read(tmp_path)


def test_a_manifest_in_the_folder_is_no_annotation(tmp_path: Path, touch, write) -> None:
    write(tmp_path / "a.csv", "path,start_s,end_s,label\na.wav,0,1,up\n")
    touch(tmp_path, "a.wav")
    request = ManifestRequest(corpus="table", source=tmp_path, out=tmp_path / "m.csv")
    assert make_manifest(request)[0].table.equals(make_manifest(request)[0].table)
    with pytest.raises(ConfigError, match=r"a.csv: this is the source, which would be lost"):
        make_manifest(ManifestRequest(corpus="table", source=tmp_path / "a.csv", out=tmp_path / "a.csv"))


def test_a_manifest_made_by_hand_or_changed_since_is_not_written_over(tmp_path: Path, touch) -> None:
    touch(tmp_path, "sounds/dog/a.wav", "sounds/cat/b.wav")
    out = tmp_path / "m.csv"
    request = ManifestRequest(corpus="folder", source=tmp_path / "sounds", out=out)
    for _ in range(2):
        make_manifest(request)
    written = out.read_text()
    for changed, also in ((written.replace("dog", "wolf"), ""), (written, "no note beside it")):
        out.write_text(changed)
        if also:
            out.with_name("m.csv.command.json").unlink()
        with pytest.raises(
            ConfigError, match=r"m.csv: this manifest was made by hand, or changed since fs wrote"
        ):
            make_manifest(request)
        assert out.read_text() == changed


# --- which columns ---


@pytest.mark.parametrize(
    "name",
    ["channel", "path", "file", "split", "group", "utterance_id", "start_s", "end_s", *RESERVED_COLUMNS],
)
def test_a_column_of_an_annotation_takes_no_place_of_ours(
    tmp_path: Path, touch, write, listing, name: str
) -> None:
    write(tmp_path / "x.txt", raven((f"{name} ", "call"), (1, 2, "odd", "up")))
    write(tmp_path / "x.csv", f"name,{name},begun,ended\nx.wav,odd,1,2\n")
    touch(tmp_path, "x.wav")
    tables = [get_corpus("raven").read(tmp_path)]
    mapping = "path=name,start_s=begun,end_s=ended"
    if name not in (
        "channel",
        "split",
        "group",
        "file",
        "utterance_id",
    ):  # the table's own, which it may fill
        tables.append(get_corpus("table").read(tmp_path / "x.csv", columns=mapping))
    for found in tables:
        assert listing(found.table, ["path", "start_s", "end_s", "split", "group", f"annotated_{name}"]) == [
            (str(tmp_path / "x.wav"), 1.0, 2.0, "", "x", "odd")
        ]
        assert any(
            f"{name!r} -> 'annotated_{name}'" in note or f"'{name} ' ->" in note for note in found.notes
        )


@pytest.mark.parametrize("name", ["path", "channel", "group", "status"])
def test_a_tier_takes_no_place_of_ours(tmp_path: Path, touch, write, listing, name: str) -> None:
    write(
        tmp_path / "x.TextGrid",
        f'"ooTextFile"\n"TextGrid"\n0 3 <exists> 1\n"IntervalTier" "{name}" 0 3 2\n0 1 "a"\n1 3 ""\n',
    )
    found = get_corpus("textgrid").read(touch(tmp_path, "x.wav"), tier=name)
    assert listing(found.table, ["path", *PLACE, "group", f"annotated_{name}"]) == [
        (str(tmp_path / "x.wav"), 0.0, 1.0, None, "x", "a")
    ]


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("path, start_s, end_s", "column ' start_s' has blanks around its name; did you mean 'start_s'"),
        ("path ,label", "column 'path ' has blanks around its name; did you mean 'path'"),
        ("path, label", "column ' label' has blanks around its name; remove"),
        (
            "path,start,end",
            r"expected 'start_s' and 'end_s', .*did you mean start_s\? .*start_s=start,end_s=end",
        ),
        ("path,Start_S,label", "did you mean start_s"),
        ("path,onset_s,label", "did you mean start_s"),
        ("path,stop_seconds,label", "did you mean end_s"),
        ("path,chanel,label", "did you mean channel"),
        ("path,Split,label", "did you mean split"),
        ("audiofilename,label", r"expected a column 'path', .*did you mean path\? .*path=audiofilename"),
    ],
)
def test_names_that_are_nearly_ours_are_no_labels(tmp_path: Path, touch, header: str, said: str) -> None:
    touch(tmp_path, "a.wav")
    cells = ["a.wav", "1", "2"][: header.count(",") + 1]
    (tmp_path / "m.csv").write_text(f"{header}\n{','.join(cells)}\n")
    with pytest.raises(ManifestError, match=said):
        read_manifest(tmp_path / "m.csv")


def test_names_that_are_labels(tmp_path: Path, touch) -> None:
    touch(tmp_path, "a.wav")
    (tmp_path / "m.CSV").write_text("path,start_s,start,channels,group2,part,season\na.wav,1,2,2,x,y,z\n")
    labels = ["start", "channels", "group2", "part", "season"]
    assert read_manifest(tmp_path / "m.CSV").label_columns == labels


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ("audiofilename,start,end,call\nx.wav,0.5,1.25,up\n", "path=audiofilename,start_s=start,end_s=end"),
        ("sep=;\nfile;start;end;call\nx.wav;0,5;1,25;up\n", "path=file,start_s=start,end_s=end"),
        (
            "name\tstart_seconds\tstop_seconds\tcall\nx.wav\t0.5\t1.25\tup\n",
            ("path=name,start_s=start_seconds", "end_s=stop_seconds"),
        ),
        ('"Start (s)","End (s)",call\n"0.5",1.25,up\n', "start_s=Start (s),end_s=End (s)"),
        ('"a, b",from,to,"Call, of"\nx.wav,0.5,1.25,up\n', "path=a, b,start_s=from,end_s=to,call=Call, of"),
        ("path, start_s, end_s, call\nx.wav, 0.5, 1.25, up\n", ()),
        ("# of 2024\npath,start_s,end_s,call,\nx.wav,0.5,1.25,up,\n\n,,,,\n", ()),
    ],
)
def test_tables_with_other_headers(tmp_path: Path, touch, listing, content: str, columns: object) -> None:
    touch(tmp_path, "x.wav", "t/x.txt")
    corpus = get_corpus("table")
    for name, encoding in (("x.csv", "utf-8-sig"), ("x.TXT", "utf-16")):
        (tmp_path / name).write_bytes(content.replace("\n", "\r\n").encode(encoding))
        found = corpus.read(tmp_path / name, columns=columns)
        assert listing(found.table) == [
            ("x:0.5-1.25", str(tmp_path / "x.wav"), 0.5, 1.25, None, "", "x", "up")
        ]
        assert list(found.table.columns)[7:] == ["call"]


def test_ids_of_a_table_are_kept(tmp_path: Path, touch, listing) -> None:
    touch(tmp_path, "x.wav")
    (tmp_path / "m.csv").write_text("utterance_id,path,start,end,group\n007,x.wav,1,2,g\n08,x.wav,,,\n")
    found = get_corpus("table").read(tmp_path / "m.csv", columns="start_s=start,end_s=end")
    assert listing(found.table, ["utterance_id", "start_s", "end_s", "group"]) == [
        ("007", 1.0, 2.0, "g"),
        ("08", None, None, ""),
    ]


@pytest.mark.parametrize(
    ("content", "columns", "said"),
    [
        (
            "file,start,call\nx.wav,1,up\n",
            "path=file",
            "'start' would be a label; did you mean --columns path=file,start_s=start",
        ),
        (
            "file,call\nx.wav,up\n",
            "path=fil",
            r"no column 'fil'; there is 'file', 'call'; did you mean 'file'",
        ),
        ("file,call\nx.wav,up\n", "path", "expected OURS=THEIRS"),
        ("file,call\nx.wav,up\n", "path=file,group=file", "each column stands for one"),
        (
            "file,id\nx.wav,7\nx.wav,7\n",
            "path=file,utterance_id=id",
            "utterance_id '7' does not stand for one",
        ),
        ("file,call,kind\nx.wav,up,a\n", "path=file,call=kind", "a column 'call' of its own"),
        (
            "file,a\nx.wav,x\n\nx.wav,1\n",
            "path=file,start_s=a",
            "row 2: expected a number of seconds in 'a', got 'x'",
        ),
        (
            "file,a\nx.wav,1\n\nx.wav,x\n",
            "path=file,channel=a",
            "row 4: expected a channel counted from 0, got 'x'",
        ),
        ("file,a\nx.wav,1\n# late\n,1\n", "path=file", "row 4: 'file' names no audio"),
        (
            "file,a\nx.wav,spare\n",
            "path=file,split=a",
            "expected a split of train, valid or test, got 'spare'",
        ),
        (
            "kind,a\nup,1\n",
            "start_s=a",
            "no column 'path', and no audio of the table's own name .m.wav. beside it",
        ),
    ],
)
def test_tables_that_cannot_be_mapped(tmp_path: Path, touch, content: str, columns: str, said: str) -> None:
    touch(tmp_path, "x.wav")
    (tmp_path / "m.csv").write_text(content)
    with pytest.raises((ManifestError, ConfigError), match=said) as error:
        get_corpus("table").read(tmp_path / "m.csv", columns=columns)
    assert "\n" not in str(error.value)


def test_parquet_cells_are_text_as_meant(tmp_path: Path, touch) -> None:
    touch(tmp_path, "a.wav")
    base = {"path": ["a.wav"] * 2, "utterance_id": ["x", "y"]}
    for odd, what in (
        ([b"dog", None], "bytes"),
        ([["a"], []], "a list"),
        ([{"a": 1}, None], "a list or a struct"),
    ):
        pd.DataFrame({**base, "call": odd}).to_parquet(tmp_path / "m.parquet")
        with pytest.raises(ManifestError, match=rf"column 'call', row 2: expected text, got {what}"):
            read_manifest(tmp_path / "m.parquet")
    table = pd.DataFrame(
        {
            "single": pd.Series([0.1, 2], dtype="float32"),
            "category": pd.Categorical([1.0, None]),
            "flag": [True, False],
            "start_s": pd.Series([0.1, 0.25], dtype="float32"),
        }
        | base
    ).set_index("utterance_id")
    table.to_parquet(tmp_path / "m.PARQUET")
    found = read_manifest(tmp_path / "m.PARQUET").table
    assert found["utterance_id"].tolist() == ["x", "y"]  # an index of pandas is a column
    assert found["single"].tolist() == ["0.1", "2"]
    assert found["category"].tolist() == ["1", ""]
    assert found["start_s"].tolist() == [0.1, 0.25]
    assert read_manifest(write_manifest(found, tmp_path / "n.CSV")).table.equals(found)


def test_rows_are_named_as_a_spreadsheet_counts_them(tmp_path: Path, touch) -> None:
    touch(tmp_path, "a.wav")
    (tmp_path / "m.csv").write_text(
        '# of 2024\npath,channel,start_s\n\na.wav,1e20,\n# seen\na.wav,,"0,5"\na.wav,,2\na.wav,,2\n'
    )
    with pytest.raises(ManifestError) as error:
        read_manifest(tmp_path / "m.csv")
    for said in (
        "row 4: channel '1e20'",
        "row 6: start_s '0,5' is not a number of seconds; write a decimal point",
        "row 8: utterance_id 'a:2-.wav' stands already in row 7",
    ):
        assert said in str(error.value)


@pytest.mark.parametrize("name", ["Begin.Time..s.", "begin time (s)", " Begin Time (s)", "Begn Time (s)"])
def test_columns_that_are_missing_by_a_slip(tmp_path: Path, touch, write, name: str) -> None:
    write(tmp_path / "x.txt", raven(("call",), (0, 1, "up")).replace("Begin Time (s)", name, 1))
    with pytest.raises(
        ManifestError, match=rf"'Begin Time \(s\)' is not there; did you mean '{re.escape(name)}'"
    ):
        get_corpus("raven").read(touch(tmp_path, "x.wav") / "x.txt")


# --- Raven ---


def test_views_of_a_selection_are_one_row_whatever_was_measured(
    tmp_path: Path, touch, write, listing
) -> None:
    header = (*RAVEN, "Peak Time Relative", "Count", "Annotation")
    rows = [
        (i, view, 1, begin, begin + 0.5, peak, number, "robin")
        for i, begin in ((1, 1), (2, 1), (3, 3))
        for view, peak, number in (
            ("Waveform 1", 0.41, ""),
            ("Spectrogram 1", 0.39, 7),
            ("Spectrogram 2", 0.38, 8),
        )
    ]
    write(tmp_path / "x.txt", tabs(header, *rows))
    touch(tmp_path, "x.wav")
    found = get_corpus("raven").read(tmp_path)
    columns = [*PLACE, "Peak Time Relative", "Count", "Annotation"]
    assert listing(found.table, columns) == [
        (begin, begin + 0.5, 0, "0.41", "7", "robin") for begin in (1.0, 1.0, 3.0)
    ]
    assert found.notes[:2] == (
        "dropped 6 rows repeating a selection, as the views of Raven do",
        "measured in each view, the first is kept: 'Peak Time Relative', 'Count'",
    )
    write(tmp_path / "x.txt", tabs(header, *rows[:1], (*rows[1][:-1], "wren")))
    with pytest.raises(ManifestError, match="row 3: 'Annotation' is 'wren' here and 'robin' in another view"):
        get_corpus("raven").read(tmp_path, label_column="Annotation")


def test_begin_path_and_offset(tmp_path: Path, touch, write, listing) -> None:
    touch(tmp_path, "audio/b.wav", "audio/c.WAV")
    columns = ("Begin Path", "Begin File", "File Offset (s)", "call")
    rows = [
        (606.1, 609.4, f"{tmp_path}/audio/b.wav", "b.wav", 6.1, "up"),
        (1210, 1211, f"{tmp_path}/audio", "c.WAV", 10, "down"),  # a folder, as some versions write
        (700, 701, "../audio/b.wav", "b.wav", 100, "up"),
    ]
    write(tmp_path / "table/all.txt", raven(columns, *rows))
    found = get_corpus("raven").read(tmp_path / "table")
    assert listing(found.table, ["path", *PLACE, "group", "call"]) == [
        (str(tmp_path / "audio/b.wav"), 6.1, 9.4, 0, "audio/b", "up"),
        (str(tmp_path / "audio/c.WAV"), 10.0, 11.0, 0, "audio/c", "down"),
        (str(tmp_path / "audio/b.wav"), 100.0, 101.0, 0, "audio/b", "up"),
    ]
    assert found.table["utterance_id"][0] == "audio/b:6.1-9.4#0"


@pytest.mark.parametrize(
    ("columns", "rows", "said"),
    [
        (
            ("File Offset (s)",),
            [(1, 2, 1), (606, 609, 6)],
            "row 3: .* 6 differs from .* 606, so several files were open",
        ),
        (
            ("Begin Path",),
            [(1, 2, "a/x.wav"), (3, 4, "b/x.wav")],
            r"2 files in 'Begin Path' but no column 'File Offset",
        ),
        (
            ("Begin File", "File Offset (s)"),
            [(1, 2, "x.wav", 1), (3, 4, "", 3)],
            "row 3: 'Begin File' is empty",
        ),
        (
            ("Begin File", "File Offset (s)"),
            [(1, 2, "x.wav", "")],
            r"row 2: expected a number of seconds in 'File Offset",
        ),
        (
            ("Begin Path", "Begin File"),
            [(1, 2, "/a/y.wav", "x.wav")],
            "row 2: 'Begin Path' ends in 'y.wav', 'Begin File' is 'x",
        ),
    ],
)
def test_times_over_several_files_are_refused(
    tmp_path: Path, touch, write, columns: tuple[str, ...], rows: list[tuple[object, ...]], said: str
) -> None:
    write(tmp_path / "x.txt", raven((*columns, "call"), *((*row, "up") for row in rows)))
    with pytest.raises(ManifestError, match=said):
        get_corpus("raven").read(touch(tmp_path, "x.wav"))


# --- Audacity, TextGrid, MATLAB ---


def test_fields_behind_an_audacity_label_are_columns(tmp_path: Path, touch, write, listing) -> None:
    lines = "0.0\t3.0\tTurdus merula, Eurasian Blackbird\t0.8732\n3\t4,5\tnext\x85line\t\n\n5\t6\tplain\n"
    write(tmp_path / "a.BirdNET.results.txt", lines)
    touch(tmp_path, "a.wav")
    found = get_corpus("audacity").read(tmp_path)
    expected = [
        (0.0, 3.0, "Turdus merula, Eurasian Blackbird", "0.8732"),
        (3.0, 4.5, "next\x85line", ""),
        (5.0, 6.0, "plain", ""),
    ]
    assert listing(found.table, ["start_s", "end_s", "label", "field_4"]) == expected
    assert found.notes == ("1 line with fields behind the label, kept as field_4",)
    (tmp_path / "a.BirdNET.results.txt").write_bytes(lines.encode("utf-16"))
    assert get_corpus("audacity").read(tmp_path).table.equals(found.table)


@pytest.mark.parametrize("line", ["nan\t2\tx", "1\tinf\tx", "1\t1_0\tx", "1\t0x2\tx", "1", "1;2;x"])
def test_audacity_times_that_are_none(tmp_path: Path, touch, write, line: str) -> None:
    write(tmp_path / "a.txt", f"0\t1\tx\n{line}\n")
    with pytest.raises(ManifestError, match="line 2: expected start, end and label between tabs"):
        get_corpus("audacity").read(touch(tmp_path, "a.wav"))


LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 3
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "TextTier"
        name = "marks"
        xmin = 0
        xmax = 3
        points: size = 1
        points [1]:
            number = 0.5
            mark = "8 9"
    item [2]:
        class = "IntervalTier"
        name = "calls"
        xmin = 0
        xmax = 3
        intervals: size = 4
        intervals [1]:
            xmin = 0
            xmax = 0.123456
            text = "  "
        intervals [2]:
            xmin = 0.123456
            xmax = 1
            text = "say ""ah"" "
        intervals [3]:
            xmin = 1
            xmax = 2.5
            text = "two
lines = 4 ! <so>"
        intervals [4]:
            xmin = 2.5
            xmax = 3
            text = ""
"""
SHORT = """"ooTextFile"
"TextGrid"
0 3
<exists>
2
"TextTier" "marks" 0 3 1
0.5 "8 9"
! made by hand
"IntervalTier" "calls" 0 3 4
0 0.123456 "  "
0.123456 1 "say ""ah"" "
1 2.5 "two
lines = 4 ! <so>"
2.5 3 ""
"""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("content", [LONG, SHORT, LONG.replace("\n", "\r\n")], ids=["long", "short", "dos"])
def test_textgrids_hold_quotes_and_line_breaks(
    tmp_path: Path, touch, listing, content: str, encoding: str
) -> None:
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    (tmp_path / "x.textgrid").write_bytes(mark + content.encode(encoding))
    found = get_corpus("textgrid").read(touch(tmp_path, "x.wav"))
    assert listing(found.table, ["start_s", "end_s", "label"]) == [
        (0.123456, 1.0, 'say "ah" '),
        (1.0, 2.5, "two\nlines = 4 ! <so>"),
    ]
    assert found.notes == ("left out 1 interval with nothing but blanks in it",)


def test_numbers_of_matlab_are_read_as_meant(tmp_path: Path, touch) -> None:
    pytest.importorskip("crowsetta")
    from scipy.io import savemat

    elements = np.empty(2, dtype=object)
    times = {"segFileStartTimes": np.array([0.5, 1]), "segFileEndTimes": np.array([0.75, 2])}
    for i in (0, 1):
        elements[i] = {**times, "segType": np.array([0.0, 12.0 + i]), "fs": 48_000.0}
    keys = np.array(["a.wav", "b.wav"], dtype=object)
    savemat(tmp_path / "annotation.mat", {"keys": keys, "elements": elements})
    table = get_corpus("yarden").read(touch(tmp_path, "a.wav", "b.wav")).table
    assert table["label"].tolist() == ["0", "12", "0", "13"]
    assert table["group"].tolist() == ["a", "a", "b", "b"]


# --- folders ---


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (("train", "dev", "test"), ("train", "val", "test")),
        (("Training", "validation", "eval"), ("train", "val", "test")),
        (("train_set", "valid-set", "test2024"), ("train", "val", "test")),
    ],
)
def test_parts_of_a_split_by_their_usual_names(tmp_path: Path, touch, names, parts) -> None:
    touch(tmp_path, *[f"above/{n}/{c}/{n}.wav" for n in names for c in ("dog", "cat")])
    touch(tmp_path, *[f"below/{c}/{n}/{n}.wav" for n in names for c in ("dog", "cat")])
    for order in ("above", "below"):
        table = get_corpus("folder").read(tmp_path / order).table
        assert set(zip(table["path"].map(lambda p: Path(p).stem), table["split"], strict=True)) == set(
            zip(names, parts, strict=True)
        )
        assert sorted(table["label"].unique()) == ["cat", "dog"]
        assert (table["group"] == "").all()


def test_folders_of_which_some_are_parts(tmp_path: Path, touch) -> None:
    touch(tmp_path, *[f"{n}/{c}/1.wav" for n in ("train", "holdout") for c in ("dog", "cat")])
    with pytest.raises(ManifestError, match="train is named like parts of a split, holdout not; rename"):
        get_corpus("folder").read(tmp_path)
    table = get_corpus("folder").read(tmp_path, pattern="^(?P<label>[^/]+)/").table
    assert sorted(table["label"].unique()) == ["holdout", "train"]
    touch(tmp_path / "animals", "dog/rex/1.wav", "dog/test/1.wav")  # one is called Test
    table = get_corpus("folder").read(tmp_path / "animals").table
    assert list(table["group"]) == ["dog/rex", "dog/test"]
    touch(tmp_path / "animals", "dog/train/1.wav")
    with pytest.raises(ManifestError, match="test, train are named like parts of a split, rex not"):
        get_corpus("folder").read(tmp_path / "animals")


def test_files_that_are_left_out_are_counted(tmp_path: Path, touch) -> None:
    touch(tmp_path, "toad/a.wav", "toad/b.m4a", "frog/a.m4a", "frog/notes", "frog/.hidden")
    note = "left out 3 files that are not read: 2 .m4a, 1 without a suffix; nothing is read from frog"
    assert get_corpus("folder").read(tmp_path).notes == (note,)
    assert get_corpus("folder").read(tmp_path, pattern="^(?P<label>[^/]+)/").notes == (note,)
    touch(tmp_path / "meows", "B_ANI01_MC_FN_SIM01_101.wav", "F_BRI01_MC_FI_SIM01_212.flac", "README.md")
    found = get_corpus("catmeows").read(tmp_path / "meows")
    assert found.notes[0] == "left out 1 file that is not read: 1 .flac"


def test_esc10_in_its_own_layout(tmp_path: Path, touch, listing) -> None:
    touch(tmp_path, "001 - Dog bark/1-30226-A.ogg", "010 - Fire crackling/5-215658-B.ogg", "README.md")
    table = get_corpus("esc50").read(tmp_path).table
    assert listing(table, ["utterance_id", "group", "category", "fold"]) == [
        ("001 - Dog bark/1-30226-A", "30226", "dog", "1"),
        ("010 - Fire crackling/5-215658-B", "215658", "crackling_fire", "5"),
    ]


def test_parts_of_a_hear_task(tmp_path: Path, touch, write) -> None:
    for part in ("train", "dev", "spare"):
        write(tmp_path / f"{part}.json", f'{{"{part}.wav": ["x"]}}')
        touch(tmp_path, f"16000/{part}/{part}.wav")
    metadata = '{"embedding_type": "scene", "prediction_type": "multiclass", "splits": %s}'
    write(tmp_path / "task_metadata.json", metadata % '["train", "dev"]')
    assert list(get_corpus("hear").read(tmp_path).table["split"]) == ["train", "val"]
    write(tmp_path / "task_metadata.json", metadata % '["train", "spare"]')
    with pytest.raises(ManifestError, match="expected splits like train, valid and test, got 'spare' too"):
        get_corpus("hear").read(tmp_path)


# --- real recordings ---


@pytest.mark.shared
def test_esc10_as_published(shared: Path) -> None:
    table = get_corpus("esc50").read(shared / "data/esc10").table
    names = table["path"].map(lambda p: Path(p).stem)
    assert len(table) == 400
    assert table["category"].value_counts().eq(40).all()
    assert (table["fold"] + "-" + table["group"] == names.str.rsplit("-", n=1).str[0]).all()


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Passing a dict to DataFrame.from_records")  # crowsetta 5.1
def test_songs_written_by_crowsetta_are_read_row_by_row(shared: Path, tmp_path: Path, listing) -> None:
    crowsetta = pytest.importorskip("crowsetta")
    source = shared / "data/bengalese/Bird0"
    corpus = get_corpus("birdsong-recognition-dataset")
    truth = corpus.read(source, allow_missing=True).table.sort_values(["path", "start_s"])
    assert len(truth) == 3116
    formats = {name: crowsetta.formats.by_name(name) for name in ("aud-seq", "simple-seq", "timit", "notmat")}
    for name in formats:
        (tmp_path / name).mkdir()
    for path, rows in truth.groupby("path"):
        on, off, label = (rows[c].to_numpy() for c in ("start_s", "end_s", "label"))
        label, stem = label.astype(str), Path(path).stem
        to = {name: tmp_path / name / stem for name in formats}
        formats["aud-seq"](on, off, label, to["aud-seq"]).to_file(to["aud-seq"].with_suffix(".txt"))
        formats["simple-seq"](on, off, label, to["simple-seq"]).to_file(to["simple-seq"].with_suffix(".csv"))
        samples = [np.round(t * 32_000).astype(int) for t in (on, off)]
        formats["timit"](*samples, label, to["timit"]).to_file(to["timit"].with_suffix(".phn"))
        notmat = formats["notmat"](on, off, label.astype("<U1"), to["notmat"], Path(f"{stem}.cbin"))
        notmat.to_file(32_000, 5, 0.02, 0.002, dst=tmp_path / "notmat")
    for name, ours, label in (
        ("aud-seq", "audacity", "label"),
        ("simple-seq", "simple-seq", "label"),
        ("timit", "timit", "phone"),
        ("notmat", "notmat", "label"),
    ):
        found = (
            get_corpus(ours)
            .read(tmp_path / name, audio=source / "Wave")
            .table.sort_values(["path", "start_s"])
        )
        columns = ["path", "start_s", "end_s"]
        assert listing(found, [*columns, label]) == listing(truth, [*columns, "label"]), name


# --- Unicode forms, units, columns without names ---


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_folders_are_found_in_any_unicode_form(tmp_path: Path, touch, write, form: str) -> None:
    """Copies from macOS hold names in pieces; tables are typed composed, or the other way round."""
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    written = unicodedata.normalize(form, "Möwe/Käuzchen/ö.wav")
    audio = touch(tmp_path, f"audio/{unicodedata.normalize(other, written)}") / "audio"
    write(tmp_path / "t/all.csv", f"path,start_s,end_s\n{written},1,2\n")
    rows = get_corpus("table").read(tmp_path / "t/all.csv", audio=audio).table
    assert rows["path"].tolist() == [str(audio / unicodedata.normalize(other, written))]
    write(tmp_path / "a" / written.replace(".wav", ".txt"), "0\t1\tup\n")
    rows = get_corpus("audacity").read(tmp_path / "a", audio=audio).table
    assert rows["path"].tolist() == [str(audio / unicodedata.normalize(other, written))]


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("path,start_ms,end_ms", "'start_ms' seems to be start_s in another unit; write seconds"),
        ("path,start_s,End (samples)", r"'End \(samples\)' seems to be end_s in another unit"),
        ("path,beginSample,endSample", "'beginSample' seems to be start_s in another unit"),
        ("path,start_s,duration", "start_s with 'duration' and no end_s, .* add a column 'end_s'"),
        ("path,start_s,duration_s", "start_s with 'duration_s' and no end_s"),
        ("path,start_s,length_s", "start_s with 'length_s' and no end_s"),
    ],
)
def test_times_that_are_no_seconds_are_no_labels(tmp_path: Path, touch, header: str, said: str) -> None:
    touch(tmp_path, "a.wav")
    (tmp_path / "m.csv").write_text(f"{header}\na.wav,1,2\n")
    with pytest.raises(ManifestError, match=said):
        read_manifest(tmp_path / "m.csv")
    with pytest.raises(ManifestError, match=said):
        get_corpus("table").read(tmp_path / "m.csv")


def test_times_in_other_units_cannot_be_mapped(tmp_path: Path, touch) -> None:
    touch(tmp_path, "a.wav")
    (tmp_path / "m.csv").write_text("path,start_ms\na.wav,1\n")
    with pytest.raises(ManifestError, match="start_s=start_ms: 'start_ms' seems to be start_s in another"):
        get_corpus("table").read(tmp_path / "m.csv", columns="start_s=start_ms")


def test_lengths_and_samples_beside_the_times_are_labels(tmp_path: Path, touch) -> None:
    touch(tmp_path, "a.wav")
    header = "path,start_s,end_s,duration,start_sample,body_length,length,n_frames_lost"
    (tmp_path / "m.csv").write_text(f"{header}\na.wav,1,2,1,3,4,5,6\n")
    assert read_manifest(tmp_path / "m.csv").label_columns == header.split(",")[3:]
    (tmp_path / "n.csv").write_text("path,duration,length\na.wav,1,2\n")
    assert read_manifest(tmp_path / "n.csv").label_columns == ["duration", "length"]


@pytest.mark.parametrize("name", ['""', "", "Unnamed: 0"])
def test_columns_without_a_name(tmp_path: Path, touch, name: str) -> None:
    """Row numbers, of R's write.csv, pandas' to_csv, and pandas reading and writing them once more."""
    touch(tmp_path, "a.wav")
    (tmp_path / "m.csv").write_text(f"{name},path,call\n1,a.wav,x\n")
    with pytest.raises(ManifestError, match=r"column 1 has no name; .* row.names=FALSE in R"):
        read_manifest(tmp_path / "m.csv")
    found = get_corpus("table").read(tmp_path / "m.csv")
    assert list(found.table.columns[-2:]) == ["group", "call"]
    assert found.notes == ("left out 1 column without a name: m.csv",)


@pytest.mark.parametrize(
    ("cell", "said"),
    [("1,5", "got '1,5'; write a decimal point"), ("NA", "got 'NA'; leave the cell empty where no time")],
)
def test_cells_of_times_say_how_to_mend_them(tmp_path: Path, touch, write, cell: str, said: str) -> None:
    touch(tmp_path, "x.wav")
    write(tmp_path / "x.txt", raven((), (cell, 9)))
    with pytest.raises(ManifestError, match=said):
        get_corpus("raven").read(tmp_path)
    write(tmp_path / "m.csv", f'path,start_s\nx.wav,"{cell}"\n')
    with pytest.raises(ManifestError, match=f"start_s {said.replace('got ', '').replace(';', ' is.*;')}"):
        read_manifest(tmp_path / "m.csv")


@pytest.mark.parametrize(
    ("there", "written", "said"),
    [
        ("o\u0308/x.wav", "\u00f6/x.wav", "in another Unicode form: take the name from the folder"),
        ("o\u0308.wav", "\u00f6.wav", "in another Unicode form"),
        ("a/X.WAV", "a/x.wav", "; there is 'X.WAV'"),
        ("a/x.wav", "a\\x.wav", "; write / between folders"),
        ("a/x.wav", "b/y.wav", r"b/y.wav\)$"),
    ],
)
def test_files_that_are_nearly_there_are_named(tmp_path: Path, touch, there: str, written: str, said: str):
    touch(tmp_path, there)
    (tmp_path / "m.csv").write_text(f"path\n{written}\n")
    with pytest.raises(ManifestError, match=said):
        read_manifest(tmp_path / "m.csv")


def test_another_separator_is_sent_to_the_reader_of_it(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path;start_s\na.wav;1,5\n")
    with pytest.raises(ManifestError, match=r"separator is ';', .*`fs manifest table \S*m.csv --out"):
        read_manifest(tmp_path / "m.csv")
