"""Labels that are one, labels that are near, labels that are meant to differ."""

from __future__ import annotations

import unicodedata

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.audit.labels import edits, label_findings


def findings(classes: dict[str, int], groups: dict[str, list[str]] | None = None) -> dict[str, str]:
    cells = [c for c, n in classes.items() for _ in range(n)]
    group = [g for c, n in classes.items() for g in (groups or {}).get(c, [""] * n)]
    table = pd.DataFrame({"species": cells, "group": group}, dtype="str")
    found, _ = label_findings(table, ["species"])
    return {f.kind: f"{f.text} {' '.join(e.detail for e in f.examples)}" for f in found}


@pytest.mark.parametrize(
    ("a", "b", "why"),
    [
        ("Phee", "phee", "case"),
        ("Phee", "Phee ", "blanks"),
        ("Grey Seal", "Grey  Seal", "blanks"),
        ("ñeñe", unicodedata.normalize("NFD", "ñeñe"), "Unicode"),
        ("Fin_Whale", "fin whale", "case, blanks or underscores"),
    ],
)
def test_one_class_written_in_two_ways(a: str, b: str, why: str) -> None:
    found = findings({a: 40, b: 30, "other": 400})
    assert "same-label" in found
    assert (ascii(a) if why == "Unicode" else repr(a)) in found["same-label"]
    assert why in found["same-label"]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("tinki", "tinky"),
        ("centavo", "centavito"),
        ("Walrus", "Warlus"),
        ("zanzón", "zanzon"),
        ("maiky", "maiki"),
    ],
)
def test_misspellings(a: str, b: str) -> None:
    assert set(findings({a: 400, b: 400, "other": 400})) == {"near-label"}


@pytest.mark.parametrize(
    "classes",
    [
        ("L-S1", "L-S2", "L-S3", "CH-P", "CH-N"),
        ("caller-1", "caller-2", "caller-11"),
        ("Peep", "Phee", "Egg"),
        ("male", "female"),
        ("twin a", "twin b"),
        ("session 2016", "session 2017"),
        ("Bearded Seal", "Leopard Seal", "Ribbon Seal"),
        ("Long-Finned Pilot Whale", "Short-Finned Pilot Whale"),
        ("yes", "no"),
        tuple("0123456789"),
    ],
)
def test_classes_that_are_meant_to_differ(classes: tuple[str, ...]) -> None:
    assert findings(dict.fromkeys(classes, 1000)) == {}


def test_small_classes_and_what_a_clip_is_worth() -> None:
    found = findings({"a": 900, "b": 23, "c": 2})
    assert "1 of 3 classes have fewer than 3 clips" in found["tiny-class"]
    # a tenth of 23 clips is two: each is worth half of a third
    assert "one test clip of 'b' is worth 16.7 points" in found["coarse-uar"]


def test_of_one_class_no_recall_is_told() -> None:
    assert findings({"0.9": 30}) == {}


def test_classes_of_one_group() -> None:
    found = findings({"a": 1000, "b": 1000}, {"a": ["g", "h"] * 500, "b": ["h"] * 1000})
    assert set(found) == {"one-group-class"}


def test_ids_are_no_classes_and_sets_count_each_label() -> None:
    table = pd.DataFrame({"id": [f"call{i}" for i in range(50)], "set": ["a|b", "b|"] * 25, "group": ""})
    found, described = label_findings(table, ["id", "set"])
    assert [(d["label"], d["n_classes"], d["is_class"]) for d in described] == [
        ("id", 50, False),
        ("set", 2, True),
    ]
    assert described[1]["sizes"] == {"b": 50, "a": 25}
    assert not any("'id'" in f.text for f in found)


@given(st.permutations("abcdefgh").map("".join), st.integers(0, 6), st.sampled_from(["x", "xy", "", "swap"]))
def test_a_typing_error_is_as_many_edits_as_letters(word: str, at: int, slip: str) -> None:
    instead = word[at + 1] + word[at] if slip == "swap" else slip
    n_gone = len(instead) if slip == "swap" else 1
    other = word[:at] + instead + word[at + n_gone :]
    assert edits(word, other) == edits(other, word) == (1 if slip == "swap" else max(1, len(slip)))
    assert edits(word, word) == 0


@pytest.mark.parametrize(("a", "b"), [("Rex", "rex"), ("1", "01"), ("2.0", "2")])
def test_one_group_written_in_two_ways(a: str, b: str) -> None:
    table = pd.DataFrame({"species": ["x", "y"] * 600, "group": [a, a, b, b, "other", "other"] * 200})
    found, _ = label_findings(table, ["species"])
    assert [(f.kind, f.severity, f.count) for f in found] == [("same-group", "fault", 1)]
    assert repr(a) in found[0].examples[0].detail


def test_numbers_written_in_two_ways_are_one_class() -> None:
    assert set(findings({"1": 400, "01": 400, "2": 400})) == {"same-label"}
