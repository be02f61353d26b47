from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from featurestore.corpora.abzaliev import (
    ABZALIEV,
    BREED_OF,
    BREEDS,
    CALLTYPES,
    INDIVIDUALS,
    MALES,
    TYPOS,
)

COLUMNS = ["utterance_id", "group", "calltype", "individual", "sex", "breed"]


def test_rows_are_those_of_the_published_class_sorted(tmp_path: Path, touch, listing) -> None:
    nina = unicodedata.normalize("NFD", "Niña")
    files = (
        "data/Zanzon_bark/L-S1/b 2.wav",
        "data/Zanzon_bark/L-S1/b 10.wav",
        "data/tinky150717_x/CH-N/1.wav",
        "data/Mama Fisgonn_1/L-TA/1.wav",
        "data/mamafisgon_2/L-TA/1.wav",
        "data/luna_3/S/1.wav",
        "data/luna_3/GR-P/ñ, 1.wav",
        "data/lasy_3/L-H/1.wav",
        "data/luna_3/notes.txt",
        "data/luna_3/loose.wav",
        f"data/{nina}_9/L-O/1.wav",
    )
    touch(tmp_path, *files)
    found = ABZALIEV.read(tmp_path)
    assert listing(found.table, COLUMNS) == [
        ("data/Mama Fisgonn_1/L-TA/1", "mama fisgon", "L-TA", "mama fisgon", "F", "chihuahua"),
        ("data/Niña_9/L-O/1", "niña", "L-O", "niña", "F", "french poodle/schnauzer"),
        ("data/Zanzon_bark/L-S1/b 10", "sanzón", "L-S1", "sanzón", "M", "chihuahua"),
        ("data/Zanzon_bark/L-S1/b 2", "sanzón", "L-S1", "sanzón", "M", "chihuahua"),
        ("data/lasy_3/L-H/1", "lazy", "L-H", "lazy", "F", "chihuahua"),
        ("data/luna_3/GR-P/ñ, 1", "luna", "GR-P", "luna", "F", "chihuahua"),
        ("data/mamafisgon_2/L-TA/1", "mama fisgon", "L-TA", "mama fisgon", "F", "chihuahua"),
        ("data/tinky150717_x/CH-N/1", "tinki", "CH-N", "tinki", "F", "french poodle"),
    ]
    assert list(found.table["path"])[1] == str(tmp_path / files[-1])  # as it stands on the disk
    assert [CALLTYPES.index(c) for c in found.table["calltype"]] == [12, 6, 0, 0, 13, 10, 12, 9]
    assert [INDIVIDUALS.index(i) for i in found.table["individual"]] == [25, 58, 41, 41, 0, 1, 25, 27]
    assert [BREEDS.index(b) for b in found.table["breed"]] == [0, 7, 0, 0, 0, 0, 0, 2]
    assert found.notes == (
        "dropped 1 row of call type S",
        "merged lasy -> lazy, mama fisgonn -> mama fisgon, mamafisgon -> mama fisgon, "
        "tinky150717 -> tinki, zanzon -> sanzón",
        "passed over 1 file at another depth: luna_3/loose.wav",
        "8 rows here, 8,034 in the published corpus",
    )


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("tinky150717", "tinki"),
        ("chica180717", "chica"),
        ("centavito", "centavo"),
        ("zanzon", "sanzón"),
        ("maiky", "maiki"),
        ("ñeñe", "neñe"),
        ("mamafisgon", "mama fisgon"),
        ("mama fisgonn", "mama fisgon"),
        ("zebry", "zebri"),
        ("lasy", "lazy"),
    ],
)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_each_typo_is_merged(tmp_path: Path, touch, written: str, meant: str, form: str) -> None:
    folder = unicodedata.normalize(form, f"{written.upper()}_17_bark")
    touch(tmp_path, f"data/{folder}/L-A/1.wav")
    table = ABZALIEV.read(tmp_path).table
    assert list(table["individual"]) == [meant]
    assert list(table["breed"]) == [BREED_OF[meant]]


def test_the_lists_fit_together() -> None:
    assert len(INDIVIDUALS) == len(set(INDIVIDUALS)) == 80
    assert len(CALLTYPES) == 14
    assert set(BREED_OF) == set(INDIVIDUALS)
    assert set(BREED_OF.values()) == set(BREEDS)
    assert set(INDIVIDUALS) >= MALES
    assert len(MALES) == 31
    assert set(TYPOS.values()) <= set(INDIVIDUALS)
    assert not set(TYPOS) & set(INDIVIDUALS)


def test_strangers_are_kept_and_reported(tmp_path: Path, touch, listing) -> None:
    touch(tmp_path, "data/rex_1/L-A/1.wav", "data/luna_1/howl/1.wav")
    found = ABZALIEV.read(tmp_path)
    assert listing(found.table, ["individual", "calltype", "sex", "breed"]) == [
        ("luna", "howl", "F", "chihuahua"),
        ("rex", "L-A", "", ""),
    ]
    assert found.notes[:2] == (
        "sex and breed unknown, left empty: rex",
        "kept call types that the published set does not have: howl",
    )
