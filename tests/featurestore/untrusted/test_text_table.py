from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from featurestore.untrusted.text_table import FIRST_ROW, TextTableError, numbers_of, read_table


def test_cells_are_text_byte_for_byte_whatever_the_program_that_wrote_them(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for written in (
        b'a,b,\n007,"x, y",1\nNA,\xc3\xb1\n',
        b'\xef\xbb\xbfa,b,\r\n007,"x, y",1\r\nNA,\xc3\xb1\r\n\r\n',
        'a,b,\n007,"x, y",1\nNA,ñ\n'.encode("utf-16"),
        b"\xfe\xff" + 'a,b,\n007,"x, y",1\nNA,ñ\n'.encode("utf-16-be"),
    ):
        path.write_bytes(written)
        table = read_table(path)
        assert list(table.columns) == ["a", "b", ""]
        assert table.to_numpy().tolist() == [["007", "x, y", "1"], ["NA", "ñ", ""]]
    path.write_text('a\tb\n"x\ty"\n')
    assert read_table(path, separator="\t", quoted=False).to_numpy().tolist() == [['"x', 'y"']]


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_rows_are_counted_as_a_spreadsheet_shows_them(tmp_path: Path, ends: str) -> None:
    lines = [
        "# of 2024",
        "",
        "path,note,,",
        "a.wav,x,,",
        "",
        "# later, from here, too",
        '"b.wav","two\nlines"',
        ",,,",
        "#1.wav,,,",
    ]
    (tmp_path / "t.csv").write_bytes(ends.join(lines).encode())
    table = read_table(tmp_path / "t.csv")
    assert list(table.columns) == ["path", "note"]
    assert table.to_numpy().tolist() == [["a.wav", "x"], ["b.wav", "two\nlines"], ["#1.wav", ""]]
    assert [i + FIRST_ROW for i in table.index] == [4, 7, 9]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("quoted", ["", '"'])
def test_columns_without_names_are_kept_where_they_hold_something(
    tmp_path: Path, end: str, quoted: str
) -> None:
    lines = [f"{quoted}a{quoted},,,,", "1,,x,,", "2", "3, ,,,", "4,,,y,"]
    (tmp_path / "t.csv").write_bytes(end.join(lines).encode())
    table = read_table(tmp_path / "t.csv")
    assert list(table.columns) == ["a", "", "", ""]
    assert table.to_numpy().tolist() == [
        ["1", "", "x", ""],
        ["2", "", "", ""],
        ["3", "", "", ""],
        ["4", "", "", "y"],
    ]


def test_a_few_long_rows_do_not_make_all_rows_long(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"a" + b"," * 3000 + b"\n" + b"1\n" * 5000 + b"1" + b"," * 3000 + b"x\n")
    with pytest.raises(TextTableError, match="most rows have fewer cells than some, which have 3,001"):
        read_table(path)
    path.write_bytes(b"a" + b"," * 3000 + b"\n" + b"1\n" * 5000)
    assert read_table(path).shape == (5000, 1)


def test_plain_tables_read_the_quick_way_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "plain.csv").write_text("a,b\n007,NA\n x ,\n,y\n1.0,5 nail\n")
    (tmp_path / "quoted.csv").write_text('a,"b"\n007,NA\n x ,\n,y\n1.0,5 nail\n')
    assert read_table(tmp_path / "plain.csv").equals(read_table(tmp_path / "quoted.csv"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"\n\n", "it is empty"),
        (
            b"a,b\n1,2,3\n",
            "row 2 has 3 cells, the first row has 2; put cells that hold a separator in quotes",
        ),
        (
            b"Table 1\na,b\n1,2\n",
            "row 2 has 2 cells, the first row has 1; names of columns",
        ),
        (b"a,b\n1\n", "row 2 has 1 cell, the first row has 2; write the separators of empty cells too"),
        (b"a,b\n1,2\n\n# seen\n3\n", "row 5 has 1 cell"),
        (b"a;b\n1,5;2\n", "the separator is ';', expected ','; save it with that one and decimal points"),
        (b"a\tb\n1\t2\n", "the separator is a tab, expected ','"),
        (b"sep=;\na;b\n1;2\n", "the separator is ';', expected ','"),
        ("a,b\n1,2\n".encode("utf-32"), "it holds zero characters"),
        (
            b'a,b\n1,"x\n2,y\n3,z"\n',
            "row 2: a quote .* is opened here and closed 2 lines below, over what looks",
        ),
        (b'a,b\n1,x\n2,"y\n3,z\n', "row 3: a quote .* is opened and not closed"),
        (b'a,b\n1,"x" y\n', "row 2: a quote .* is opened and not closed before the next separator"),
        (b"a,b,a\n1,2,3\n", "column 'a' stands more than once"),
        (b"a\n\xf1\n", r"not UTF-8 text \(invalid continuation byte at byte 2\); save it as UTF-8"),
        ("a\n1\n".encode("utf-16")[:-1], "not UTF-16 text .truncated data at byte 8.; save it as UTF-8"),
        (b"a" + b",b" * 10_000 + b"\n1" + b",2" * 10_000 + b"\n", "at most 10,000 columns, it has 10,001"),
        (b"a\n1\0\n", "a zero byte stands at byte 3"),
    ],
)
def test_what_is_no_table_is_said_in_one_clause(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(TextTableError, match=said) as error:
        read_table(tmp_path / "t.csv")
    assert "\n" not in str(error.value)


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a\n")
    for path, said in (
        (tmp_path, "expected a file, this is a folder"),
        (tmp_path / "no", "no such file"),
        (tmp_path / "file/x", "not a dir"),
    ):
        with pytest.raises(TextTableError, match=said):
            read_table(path)


def test_a_number_is_the_float_that_was_written() -> None:
    written = np.random.default_rng(0).normal(scale=100, size=500)
    texts = [repr(float(v)) for v in written]
    odd = ["", "a", "nan", "1_0", "0x10", "+3E\t+4", "\u0661", "1,5", "inf", " 2 ", "1e3"]
    found = numbers_of(pd.Series(texts + odd))
    assert found[:500].tolist() == written.tolist()
    assert np.isnan(found[500:508]).all()
    assert found[508:].tolist() == [np.inf, 2, 1000]
