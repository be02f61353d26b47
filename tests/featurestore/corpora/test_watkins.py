from __future__ import annotations

from pathlib import Path

import pytest

from featurestore.corpora.watkins import SPECIES, WATKINS
from featurestore.errors import ManifestError

ANNOTATIONS = """path,species
Walrus/7202100E.wav,Walrus
"Beluga,_White_Whale/49001003.wav","Beluga,_White_Whale"
Clymene_Dolphin/83006002.wav,Clymene_Dolphin
Clymene_Dolphin/83006001.wav,Clymene_Dolphin
Weddell_Seal/83006003.wav,Weddell_Seal
"""
FILES = (
    "Walrus/7202100E.wav",
    "Beluga,_White_Whale/49001003.wav",
    "Clymene_Dolphin/83006002.wav",
    "Clymene_Dolphin/83006001.wav",
    "Weddell_Seal/83006003.wav",
)


@pytest.mark.parametrize("inner", ["data", "."])
def test_rows_are_those_of_the_published_class(tmp_path: Path, touch, write, listing, inner: str) -> None:
    root = tmp_path / inner
    write(root / "annotations.csv", ANNOTATIONS)
    touch(root, *FILES)
    found = WATKINS.read(tmp_path)
    assert listing(found.table) == [
        ("Walrus/7202100E", str(root / FILES[0]), None, None, None, "", "72021", "Walrus"),
        (
            "Beluga,_White_Whale/49001003",
            str(root / FILES[1]),
            None,
            None,
            None,
            "",
            "49001",
            "Beluga,_White_Whale",
        ),
        ("Clymene_Dolphin/83006002", str(root / FILES[2]), None, None, None, "", "83006", "Clymene_Dolphin"),
        ("Clymene_Dolphin/83006001", str(root / FILES[3]), None, None, None, "", "83006", "Clymene_Dolphin"),
        ("Weddell_Seal/83006003", str(root / FILES[4]), None, None, None, "", "83006", "Weddell_Seal"),
    ]
    assert [SPECIES.index(s) for s in found.table["species"]] == [29, 3, 0, 0, 13]
    assert found.group.startswith("tape: ")
    assert found.notes == ("5 rows here, 1,697 in the published corpus",)


def test_there_are_32_species() -> None:
    assert len(SPECIES) == len(set(SPECIES)) == 32


def test_an_unknown_species_is_kept_and_reported(tmp_path: Path, touch, write) -> None:
    write(tmp_path / "annotations.csv", "path,species\nUnicorn/1.wav,Unicorn\n")
    found = WATKINS.read(touch(tmp_path, "Unicorn/1.wav"))
    assert list(found.table["species"]) == ["Unicorn"]
    assert found.notes[0] == "kept 1 row of species that the published set does not have: Unicorn"


def test_missing_clips(tmp_path: Path, touch, write) -> None:
    write(tmp_path / "annotations.csv", ANNOTATIONS)
    touch(tmp_path, *FILES[:4])
    with pytest.raises(ManifestError, match=r"costs 1 of 5 rows: Weddell_Seal/83006003.wav;"):
        WATKINS.read(tmp_path)
