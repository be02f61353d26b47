from __future__ import annotations

from pathlib import Path

import pytest

from featurestore.text_table import TextTableError, read_table


def test_cells_are_text_byte_for_byte_whatever_the_program_that_wrote_them(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for written in (
        b'a,b,\n007,"x, y",1\nNA,\xc3\xb1\n',
        b'\xef\xbb\xbfa,b,\r\n007,"x, y",1\r\nNA,\xc3\xb1\r\n\r\n',
    ):
        path.write_bytes(written)
        table = read_table(path)
        assert list(table.columns) == ["a", "b", ""]
        assert table.to_numpy().tolist() == [["007", "x, y", "1"], ["NA", "ñ", ""]]
    path.write_text('a\tb\n"x\ty"\n')
    assert read_table(path, separator="\t", quoted=False).to_numpy().tolist() == [['"x', 'y"']]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"\n\n", "it is empty"),
        (b"a,b\n1,2,3\n", r"Expected 2 fields in line 2, saw 3\); put cells that hold a separator in quotes"),
        (b"a,b,a\n1,2,3\n", "column 'a' stands more than once"),
        (b"a\n\xf1\n", r"not UTF-8 text \(invalid continuation byte at byte 2\); save it as UTF-8"),
        ("a\n1\n".encode("utf-16"), "not UTF-8 text but UTF-16; save it as UTF-8"),
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
