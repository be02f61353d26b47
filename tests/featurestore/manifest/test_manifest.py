from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore import read_manifest, write_manifest
from featurestore.errors import ManifestError
from featurestore.manifest.table import from_csv_text, to_csv_text

AWKWARD = [
    "007",
    "NA",
    "nan",
    "1e5",
    " padded ",
    "Dolphin, Clymene",
    "neñe",
    'say "ah"',
    "line\nbreak",
    "None",
    "",
]


def make(tmp_path: Path, text: str, *files: str) -> Path:
    for name in files:
        (tmp_path / name).touch()
    (tmp_path / "m.csv").write_text(text, encoding="utf-8")
    return tmp_path / "m.csv"


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_text_survives_byte_for_byte(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "a.wav").touch()
    table = pd.DataFrame(
        {
            "path": "a.wav",
            "utterance_id": [f"u{t}" for t in AWKWARD],
            "start_s": np.arange(len(AWKWARD)) / 10,
            "end_s": 2.5,
            "species": AWKWARD,
        }
    )
    path = write_manifest(table, tmp_path / f"m.{suffix}")
    manifest = read_manifest(path)
    assert manifest.label_columns == ["species"]
    assert manifest.table["species"].tolist() == AWKWARD
    assert manifest.table["utterance_id"].tolist() == [f"u{t}" for t in AWKWARD]
    np.testing.assert_array_equal(manifest.table["start_s"], table["start_s"])
    again = from_csv_text(to_csv_text(manifest), source="store")
    pd.testing.assert_frame_equal(again.table, manifest.table)


LABELS = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)


@given(st.lists(LABELS, min_size=1, max_size=8))
def test_any_label_survives_the_store(labels: list[str]) -> None:
    table = pd.DataFrame({"path": [f"{i}.wav" for i in range(len(labels))], "label": labels})
    from featurestore.manifest.table import from_table

    manifest = from_table(table, source="m", base=Path("/x"), check_files=False)
    again = from_csv_text(to_csv_text(manifest), source="s")
    assert again.table["label"].tolist() == labels


def test_parquet_numbers_become_text_as_written(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    pd.DataFrame(
        {"path": ["a.wav"] * 2, "utterance_id": ["x", "y"], "age": [3, 4], "weight": [1.5, np.nan]}
    ).to_parquet(tmp_path / "m.parquet")
    table = read_manifest(tmp_path / "m.parquet").table
    assert table["age"].tolist() == ["3", "4"]
    large = pd.DataFrame({"path": ["a.wav"] * 2, "utterance_id": ["x", "y"]})
    large["number"] = pd.array([9_007_199_254_740_993, None], dtype="Int64")  # no float64 has it
    large["flag"] = pd.array([True, None], dtype="boolean")
    large.to_parquet(tmp_path / "n.parquet")
    found = read_manifest(tmp_path / "n.parquet").table
    assert found["number"].tolist() == ["9007199254740993", ""]
    assert found["flag"].tolist() == ["True", ""]
    assert table["weight"].tolist() == ["1.5", ""]


def test_ids_derive_from_path_and_times(tmp_path: Path) -> None:
    path = make(
        tmp_path, "path,start_s,end_s,channel\nd.x.wav,0.50,1,\nd.x.wav,,,1\ne.wav,,,\n", "d.x.wav", "e.wav"
    )
    assert read_manifest(path).table["utterance_id"].tolist() == ["d.x:0.50-1", "d.x#1", "e"]


def test_files_that_differ_in_suffix_keep_it(tmp_path: Path) -> None:
    path = make(tmp_path, "path\na.wav\na.flac\n", "a.wav", "a.flac")
    assert read_manifest(path).table["utterance_id"].tolist() == ["a.wav", "a.flac"]


def test_paths_are_relative_to_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "a.wav").touch()
    path = make(tmp_path, "path\naudio/a.wav\n")
    assert read_manifest(path).table["path"].tolist() == [str(tmp_path / "audio" / "a.wav")]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    (tmp_path / "m.csv").write_bytes(b"\xef\xbb\xbfpath,kind\na.wav,x\n")
    assert read_manifest(tmp_path / "m.csv").label_columns == ["kind"]


def test_all_problems_are_reported_together_with_their_rows(tmp_path: Path) -> None:
    path = make(
        tmp_path,
        "path,utterance_id,start_s,end_s,channel,split\n"
        "a.wav,u1,2,1,,\n"
        "gone.wav,u2,,,,\n"
        "a.wav,u1,,,,\n"
        "a.wav,u4,x,,,dev\n"
        "a.wav,u5,-1,1,1.5,\n",
        "a.wav",
    )
    with pytest.raises(ManifestError) as error:
        read_manifest(path)
    message = str(error.value)
    assert "\n" not in message
    for part in (
        "7 problems",
        "row 2: end_s 1 is not after start_s 2",
        "row 3: no audio file 'gone.wav'",
        "row 4: utterance_id 'u1' stands already in row 2",
        "row 5: start_s 'x' is not a number of seconds",
        "row 5: split 'dev'; expected train, val, test",
        "row 6: start_s -1 is negative",
        "row 6: channel '1.5'",
    ):
        assert part in message


def test_a_missing_file_of_many_rows_is_one_problem(tmp_path: Path) -> None:
    rows = "".join(f"{name}.wav,{i},{i + 1}\n" for name in ("a", "gone", "lost") for i in range(3))
    path = make(tmp_path, "path,start_s,end_s\n" + rows + "alone.wav,0,1\n", "a.wav")
    with pytest.raises(ManifestError) as error:
        read_manifest(path)
    message = str(error.value)
    assert "3 problems: row 5: no audio file 'gone.wav' (looked for " in message
    assert message.count("gone.wav'") == 1
    assert message.count(", which 3 rows need") == 2
    assert message.endswith("alone.wav)")


def test_a_missing_member_of_many_rows_is_one_problem(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "calls.tar", "w"):
        pass
    path = make(
        tmp_path, "path,start_s,end_s\n" + "".join(f"calls.tar::a.wav,{i},{i + 1}\n" for i in range(3))
    )
    with pytest.raises(ManifestError, match=r"1 problem: row 2: member 'a.wav' of .*, which 3 rows need$"):
        read_manifest(path)


def test_at_most_twenty_problems_are_listed_and_the_rest_counted(tmp_path: Path) -> None:
    path = make(tmp_path, "path\n" + "".join(f"{i}.wav\n" for i in range(50)))
    with pytest.raises(ManifestError) as error:
        read_manifest(path)
    assert str(error.value).count("no audio file") == 20
    assert "50 problems" in str(error.value)
    assert str(error.value).endswith("and 30 more")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,kind\na.wav,x\n", "expected a column 'path', found 'file', 'kind'"),
        ("path\n", "at least one utterance"),
        ("", "not a readable table"),
        ("path,kind,kind\na.wav,x,y\n", "'kind' stands more than once"),
        ("path,status\na.wav,x\n", "'status' is reserved"),
        ("path,\na.wav,x\n", "column 2 has no name"),
        ("path,kind\na.wav,x,extra\n", "row 2 has 3 cells, the first row has 2"),
    ],
)
def test_tables_that_are_no_manifest(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        read_manifest(make(tmp_path, text, "a.wav"))


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such manifest"):
        read_manifest(tmp_path / "none.csv")
    (tmp_path / "m.xlsx").touch()
    with pytest.raises(ManifestError, match=r"expected a \.csv or \.parquet"):
        read_manifest(tmp_path / "m.xlsx")
    (tmp_path / "m.csv").write_bytes(b"path\nna\xefve.wav\n")
    with pytest.raises(ManifestError, match="not UTF-8"):
        read_manifest(tmp_path / "m.csv")
    (tmp_path / "m.parquet").write_bytes(b"rubbish")
    with pytest.raises(ManifestError, match="not a readable table"):
        read_manifest(tmp_path / "m.parquet")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("m.txt", "ending in .csv or .parquet"),
        ("folder.csv", "this is a folder"),
        ("file/m.csv", "cannot be written"),
        ("s3://bucket/m.csv", "only stores can be remote"),
    ],
)
def test_where_no_manifest_can_be_written(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").touch()
    target = name if "://" in name else tmp_path / name
    with pytest.raises(ManifestError, match=said) as error:
        write_manifest(pd.DataFrame({"path": ["a.wav"]}), target)
    assert "\n" not in str(error.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.csv"]


def test_paths_do_not_pass_through_folders_that_they_leave(tmp_path: Path) -> None:
    (tmp_path / "passed").mkdir()
    (tmp_path / "a.wav").touch()
    path = make(tmp_path / "passed", "path\n../a.wav\n./../passed/../.b.wav\n", "../.b.wav")
    assert read_manifest(path).table["path"].tolist() == [str(tmp_path / "a.wav"), str(tmp_path / ".b.wav")]
    # What a link leads to is not what its name says.
    (tmp_path / "far" / "deep").mkdir(parents=True)
    (tmp_path / "far" / "c.wav").touch()
    (tmp_path / "link").symlink_to(tmp_path / "far" / "deep")
    (tmp_path / "m.csv").write_text("path\nlink/../c.wav\n")
    assert read_manifest(tmp_path / "m.csv").table["path"].tolist() == [str(tmp_path / "far" / "c.wav")]
