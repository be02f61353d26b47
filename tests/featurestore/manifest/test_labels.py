from __future__ import annotations

import unicodedata
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.errors import LabelError
from featurestore.manifest.labels import (
    apply_mapping,
    class_sizes,
    derive_label,
    doubtful_spellings,
    drop_small_classes,
    explode_labels,
    is_multilabel,
    join_labels,
    read_mapping,
    spelling_difference,
    spellings,
    split_labels,
)


def table(**columns: list[str]) -> pd.DataFrame:
    n = len(next(iter(columns.values())))
    first = {"utterance_id": [f"u{i}" for i in range(n)], "path": [f"/x/{i}.wav" for i in range(n)]}
    return pd.DataFrame(first | columns, dtype="str")


def mapping(*rules: tuple[str, str, str]) -> pd.DataFrame:
    return pd.DataFrame(rules, columns=["label", "from", "to"], dtype="str")


CALLS = ["Phee", "phee", "Trill", "Noise", "", "Trill", "NA"]


def test_rename_merge_and_drop() -> None:
    before = table(call=CALLS, caller=["1"] * 7)
    rules = mapping(("call", "phee", "Phee"), ("call", "Trill", "Phee"), ("call", "Noise", ""))
    after, (report,) = apply_mapping(before, rules)
    assert list(after["call"]) == ["Phee", "Phee", "Phee", "", "", "Phee", "NA"]
    assert list(before["call"]) == CALLS  # the table given is left alone
    assert after.drop(columns="call").equals(before.drop(columns="call"))
    assert report.before == {"Trill": 2, "NA": 1, "Noise": 1, "Phee": 1, "phee": 1}
    assert report.after == {"Phee": 4, "NA": 1}
    assert report.n_unlabelled == 2
    assert str(report) == (
        "call: 5 -> 2 classes\n  Phee: 1 -> 4\n  NA: 1\n  Trill: 2 -> 0\n  Noise: 1 -> 0\n"
        "  phee: 1 -> 0\n  (no label): 2"
    )


def test_all_rules_hold_at_once() -> None:
    after, _ = apply_mapping(table(x=["a", "b", "c"]), mapping(("x", "a", "b"), ("x", "b", "a")))
    assert list(after["x"]) == ["b", "a", "c"]


def test_several_columns() -> None:
    before = table(x=["a", "b"], y=["a", "b"])
    after, reports = apply_mapping(before, mapping(("x", "a", "A"), ("y", "b", "")))
    assert (list(after["x"]), list(after["y"])) == (["A", "b"], ["a", ""])
    assert [r.column for r in reports] == ["x", "y"]


def test_sets_of_labels() -> None:
    before = table(species=["AMRE|OVEN", "OVEN", "|", "", "UFO", "AMRE|CALL|OVEN"])
    rules = mapping(("species", "CALL", "OVEN"), ("species", "UFO", ""), ("species", "AMRE", "Amre"))
    after, (report,) = apply_mapping(before, rules)
    # A set that loses its only label is empty, which is not the same as unknown.
    assert list(after["species"]) == ["Amre|OVEN", "OVEN", "|", "", "|", "Amre|OVEN"]
    assert report.before == {"OVEN": 3, "AMRE": 2, "CALL": 1, "UFO": 1}
    assert report.after == {"OVEN": 3, "Amre": 2}


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ([("call", "Phe", "Phee")], "'call' has no class 'Phe'; did you mean 'Phee'"),
        ([("call", "zzz", "Phee")], "no class 'zzz'; it has NA, Noise, Phee"),
        ([("cal", "Phee", "x")], "no label column 'cal'; there is call"),
    ],
)
def test_a_rule_that_fits_nothing_is_an_error(rules: list, said: str) -> None:
    with pytest.raises(LabelError, match=said):
        apply_mapping(table(call=CALLS), mapping(*rules))


def test_mapping_files(tmp_path: Path) -> None:
    path = tmp_path / "map.csv"
    path.write_text('\ufefflabel,from,to\ncall,"a, b",007\ncall,NA,\n', encoding="utf-8")
    assert read_mapping(path).to_numpy().tolist() == [["call", "a, b", "007"], ["call", "NA", ""]]
    path.write_text("label,from,to\nx,a,b\nx,a,c\n", encoding="utf-8")
    with pytest.raises(LabelError, match=r"map.csv: row 3: 'a' of 'x' stands already above"):
        read_mapping(path)
    path.write_text("from,to\na,b\n", encoding="utf-8")
    with pytest.raises(LabelError, match="expected the columns label,from,to, got from,to"):
        read_mapping(path)
    for text, said in (
        ("label,from,to\n", "found none"),
        ("", "it is empty"),
        ("label,from,to\nx,a,b,c\n", "row 2 has 4 cells"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(LabelError, match=said):
            read_mapping(path)
    with pytest.raises(LabelError, match=r"no such file; expected a mapping, CSV with label,from,to"):
        read_mapping(tmp_path / "nowhere.csv")


def test_rules_that_swap_classes_are_applied_at_once() -> None:
    after, _ = apply_mapping(table(call=["a", "b", "c"]), mapping(("call", "a", "b"), ("call", "b", "a")))
    assert list(after["call"]) == ["b", "a", "c"]


def test_what_is_no_label_is_left_alone() -> None:
    whole = table(call=["a", "b"]).assign(path=["x/a.wav", "x/b.wav"], start_s=0.0, group="g")
    for name in ("path", "start_s", "group", "utterance_id"):
        with pytest.raises(LabelError, match=f"no label column '{name}'; there is call"):
            apply_mapping(whole, mapping((name, "g", "h")))
        with pytest.raises(LabelError, match="no label column"):
            drop_small_classes(whole, name, 1)
        with pytest.raises(LabelError, match="no label column"):
            explode_labels(whole, name)
    after, _ = derive_label(whole, "letter", "path", r"x/(.)\.")  # text of any column may be read
    assert list(after["letter"]) == ["a", "b"]
    with pytest.raises(LabelError, match="holds numbers"):
        derive_label(whole, "letter", "start_s", ".")
    for name in ("status", "row", " "):
        with pytest.raises(LabelError, match="cannot be named"):
            derive_label(whole, name, "path", ".")
    with pytest.raises(LabelError, match="drops all 2 classes"):
        apply_mapping(whole, mapping(("call", "a", ""), ("call", "b", "")))
    with pytest.raises(LabelError, match=r"'\|' joins labels of a set"):
        apply_mapping(whole, mapping(("call", "a", "x|y")))


def test_minimum_class_size() -> None:
    before = table(x=["a"] * 3 + ["b"] * 2 + ["c"] + [""])
    after, report = drop_small_classes(before, "x", 2)
    assert list(after["x"]) == ["a", "a", "a", "b", "b", "", ""]
    assert (report.after, report.n_unlabelled) == ({"a": 3, "b": 2}, 2)
    with pytest.raises(
        LabelError, match=r"1 of 3 classes have 3 rows or more, 2 needed \(the largest has 3\)"
    ):
        drop_small_classes(before, "x", 3)
    sets, report = drop_small_classes(table(x=["a|b", "a", "|"]), "x", 2)
    assert (list(sets["x"]), report.after) == (["a", "a", "|"], {"a": 2})


def test_derived_labels() -> None:
    before = table(bird=["WhiBlu4818", "PurRas20dd", "x", ""])
    after, report = derive_label(before, "left_leg", "bird", r"^([A-Z][a-z]{2})[A-Z]")
    assert list(after["left_leg"]) == ["Whi", "Pur", "", ""]
    assert (report.before, report.after, report.n_unlabelled) == ({}, {"Pur": 1, "Whi": 1}, 2)
    whole, _ = derive_label(before, "digits", "bird", r"\d+")
    assert list(whole["digits"]) == ["4818", "20", "", ""]
    from_path, _ = derive_label(before, "n", "path", r"(\d)\.wav")
    assert list(from_path["n"]) == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("new", "source", "pattern", "said"),
    [
        ("x", "bird", "(", "not a regular expression"),
        ("x", "bird", "zzz", "matches nothing in column 'bird', which holds for example 'a'"),
        ("bird", "bird", "a", "column 'bird' exists already"),
        ("x", "brid", "a", "no column 'brid'"),
    ],
)
def test_derived_labels_that_cannot_be(new: str, source: str, pattern: str, said: str) -> None:
    with pytest.raises(LabelError, match=said):
        derive_label(table(bird=["a"]), new, source, pattern)


def test_explode() -> None:
    before = table(species=["AMRE|OVEN", "OVEN", "|", ""])
    after, report = explode_labels(before, "species")
    assert list(after.columns) == [*before.columns, "species=AMRE", "species=OVEN"]
    assert list(after["species=AMRE"]) == ["1", "0", "0", ""]
    assert list(after["species=OVEN"]) == ["1", "1", "0", ""]
    assert report.after == {"OVEN": 2, "AMRE": 1}
    chosen, _ = explode_labels(before, "species", ["AMRE", "GIG"])
    assert list(chosen["species=GIG"]) == ["0", "0", "0", ""]
    with pytest.raises(LabelError, match="'species=AMRE' exists already"):
        explode_labels(after, "species")


def test_labels_that_cannot_stand_in_a_set() -> None:
    with pytest.raises(LabelError, match=r"'a\|b' cannot stand in a set"):
        join_labels(["a|b"])
    with pytest.raises(LabelError, match="'' cannot stand in a set"):
        join_labels([""])
    assert split_labels("") is None
    assert split_labels("|") == frozenset()


label_names = st.text(st.characters(blacklist_characters="|", blacklist_categories=["Cs"]), min_size=1)


@given(st.frozensets(label_names))
def test_sets_survive_joining_and_splitting(labels: frozenset[str]) -> None:
    cell = join_labels(labels)
    assert cell != ""
    assert split_labels(cell) == labels
    assert join_labels(sorted(labels, reverse=True)) == cell


@given(st.lists(st.sampled_from(["", "a", "b", "c", "NA"]), min_size=1))
def test_sizes_and_unlabelled_rows_add_up(cells: list[str]) -> None:
    sizes = class_sizes(pd.Series(cells, dtype="str"))
    assert sum(sizes.values()) + cells.count("") == len(cells)
    assert list(sizes.values()) == sorted(sizes.values(), reverse=True)
    assert not is_multilabel(pd.Series(cells, dtype="str"))


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (("Rex", "rex"), "case"),
        (("rex", "rex "), "blanks"),
        (("rex", "re\u200bx"), "case, blanks or underscores"),
        ((unicodedata.normalize("NFC", "ñu"), unicodedata.normalize("NFD", "ñu")), "Unicode form"),
        (("01", "1", "1.0", "1,0", "1e0"), "the way a number is written"),
        (("bird 07", "bird 7"), "the way a number is written"),
        (("0.50", "0.5"), "the way a number is written"),
        (("fin_whale", "fin whale"), "case, blanks or underscores"),
        (("Rex", "rex", "rex "), "case, blanks or other spelling"),
    ],
)
def test_one_value_written_in_several_ways(values: tuple[str, ...], why: str) -> None:
    found = spellings([*values, "other", ""])
    assert found == [sorted(values)]
    if why.startswith("case, blanks or other"):
        assert spelling_difference(*found[0]) == "case, blanks or other spelling"
    else:
        assert spelling_difference(*found[0]) == why


@pytest.mark.parametrize(
    "values", [("1", "10", "100"), ("1", "1.5"), ("1", "-1"), ("a1", "a2"), ("0", "00x"), ("1.05", "1.5")]
)
def test_values_that_differ(values: tuple[str, ...]) -> None:
    assert spellings(values) == []


def test_many_spellings_are_told_of_in_a_few_sentences() -> None:
    told = doubtful_spellings([f"{case}{i}" for i in range(30) for case in "aA"], "group", "groups", "rename")
    assert len(told) == 9
    assert told[-1] == "22 more sets of groups differ in spelling only"
