from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.archives.names import (
    cell_member,
    file_name,
    file_of,
    kind_of,
    member_path,
    plain_member,
    reading_order,
    sound_name,
    split_cell,
    split_member,
)


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("clips.tar::a/b.wav", ("clips.tar", "a/b.wav")),
        ("/x/CLIPS.ZIP::b.wav", ("/x/CLIPS.ZIP", "b.wav")),
        ("t.parquet::audio[17]", ("t.parquet", "audio[17]")),
        ("clips.tar.gz::b.wav", ("clips.tar.gz", "b.wav")),
        ("clips.tgz::b.wav", ("clips.tgz", "b.wav")),
        ("a.zip::b.tar::c.wav", ("a.zip", "b.tar::c.wav")),  # the first archive is opened, no other
        ("a::b/clips.tar::c.wav", ("a::b/clips.tar", "c.wav")),
        ("a::b.wav", None),
        ("a.wav::b.wav", None),
        ("clips.tar", None),
        (".tar::a.wav", None),
        ("clips.tarx::a.wav", None),
    ],
)
def test_which_paths_name_a_member(path: str, parts: tuple[str, str] | None) -> None:
    assert split_member(path) == parts
    assert file_of(path) == (path if parts is None else parts[0])
    if parts is not None:
        assert member_path(*parts) == path


@given(st.text(), st.sampled_from([".tar", ".zip", ".parquet"]), st.text())
def test_a_member_is_found_again(stem: str, suffix: str, member: str) -> None:
    archive = f"x{stem.replace('::', '')}{suffix}"
    assert split_member(member_path(archive, member)) == (archive, member)


@given(st.text(min_size=1), st.integers(0, 10**17))
def test_a_cell_is_found_again(column: str, row: int) -> None:
    assert split_cell(cell_member(column, row)) == (column, row)


@pytest.mark.parametrize(
    "member", ["audio", "[3]", "audio[-1]", "audio[]", "audio[1.5]", "audio[3]x", "audio[１]"]
)
def test_what_is_no_cell(member: str) -> None:
    assert split_cell(member) is None


@pytest.mark.parametrize("name", ["", "/a.wav", "../a.wav", "a/../../b.wav", "a/..", ".", "a\0b"])
def test_names_that_lead_out_are_none(name: str) -> None:
    assert plain_member(name) == ""


def test_names_for_people() -> None:
    assert file_name("/x/clips.tar::a/b.wav") == "clips.tar::a/b.wav"
    assert sound_name("/x/20200101_000000.tar::a/b.wav") == "b.wav"
    assert (file_name("/x/b.wav"), sound_name("/x/b.wav")) == ("b.wav", "b.wav")
    assert [kind_of(n) for n in ("a.tar", "a.Zip", "a.parquet", "a.tar.zst", "a.wav")] == [
        "tar",
        "zip",
        "parquet",
        "compressed tar",
        None,
    ]


def test_rows_are_read_by_number() -> None:
    paths = [f"t.parquet::audio[{i}]" for i in (10, 9, 100, 0)]
    assert sorted(paths, key=reading_order) == [f"t.parquet::audio[{i}]" for i in (0, 9, 10, 100)]
    assert reading_order("a.wav") < reading_order("b.tar::a.wav") < reading_order("b.tar::b.wav")
