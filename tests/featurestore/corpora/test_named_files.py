"""Corpora whose labels stand in file names or small tables: CatMeows, zebra finch, macaque, ESC-50."""

from __future__ import annotations

from pathlib import Path

import pytest

from featurestore.corpora.catmeows import CATMEOWS
from featurestore.corpora.esc50 import ESC50
from featurestore.corpora.macaque import MACAQUE
from featurestore.corpora.zebrafinch import ZEBRAFINCH
from featurestore.errors import ManifestError


def test_catmeows(tmp_path: Path, touch, listing) -> None:
    touch(
        tmp_path,
        "dataset/I_WHO01_EU_MN_GIO01_303.wav",
        "dataset/B_ANI01_MC_FN_SIM01_101.wav",
        "dataset/F_BRI01_MC_FI_SIM01_212.wav",
        "dataset/._F_BRI01_MC_FI_SIM01_212.wav",
        "sequences/ANI01_long.wav",
    )
    found = CATMEOWS.read(tmp_path)
    columns = ["utterance_id", "group", "context", "cat", "breed", "sex", "owner", "session"]
    assert listing(found.table, columns) == [
        ("dataset/B_ANI01_MC_FN_SIM01_101", "ANI01", "brushing", "ANI01", "MC", "FN", "SIM01", "1"),
        ("dataset/F_BRI01_MC_FI_SIM01_212", "BRI01", "waiting for food", "BRI01", "MC", "FI", "SIM01", "2"),
        ("dataset/I_WHO01_EU_MN_GIO01_303", "WHO01", "isolation", "WHO01", "EU", "MN", "GIO01", "3"),
    ]
    assert found.notes == (
        "passed over 1 file named otherwise: sequences/ANI01_long.wav",
        "3 rows here, 440 in the published corpus",
    )
    assert list(CATMEOWS.read(tmp_path, group="owner").table["group"]) == ["SIM01", "SIM01", "GIO01"]
    assert list(CATMEOWS.read(tmp_path, group="session").table["group"])[1] == "BRI01_2"


def test_zebrafinch(tmp_path: Path, touch, listing) -> None:
    touch(
        tmp_path,
        "AdultVocalizations/WhiBlu4818_110404-DC-02.wav",
        "AdultVocalizations/WhiBlu4818_110404-DC-01.wav",
        "AdultVocalizations/Whiblu4818_110407-dc-03.wav",
        "AdultVocalizations/PurRas20dd_110411-WC-01.wav",
        "AdultVocalizations/GreBla7410-110408-ThuckC-05.wav",
        "ChickVocalizations/BlaBla0506_111013-LTC-12.wav",
        "readme.wav",
    )
    found = ZEBRAFINCH.read(tmp_path)
    columns = ["utterance_id", "group", "calltype", "bird", "age", "date"]
    adult, chick = "AdultVocalizations", "ChickVocalizations"
    assert listing(found.table, columns) == [
        (f"{adult}/GreBla7410-110408-ThuckC-05", "GreBla7410", "Th", "GreBla7410", "adult", "110408"),
        (f"{adult}/PurRas20dd_110411-WC-01", "PurRas20dd", "WC", "PurRas20dd", "adult", "110411"),
        (f"{adult}/WhiBlu4818_110404-DC-01", "WhiBlu4818", "DC", "WhiBlu4818", "adult", "110404"),
        (f"{adult}/WhiBlu4818_110404-DC-02", "WhiBlu4818", "DC", "WhiBlu4818", "adult", "110404"),
        (f"{adult}/Whiblu4818_110407-dc-03", "WhiBlu4818", "DC", "WhiBlu4818", "adult", "110407"),
        (f"{chick}/BlaBla0506_111013-LTC-12", "BlaBla0506", "LT", "BlaBla0506", "chick", "111013"),
    ]
    assert found.notes == (
        "passed over 1 file named otherwise: readme.wav",
        "merged Whiblu4818 -> WhiBlu4818",
        "kept call types that the paper does not have: WC (1)",
    )
    assert list(ZEBRAFINCH.read(tmp_path, group="session").table["group"])[-2:] == [
        "WhiBlu4818_110407",
        "BlaBla0506_111013",
    ]


@pytest.mark.parametrize("folder", ["", "wav/", "data/deep/"])
def test_macaque(tmp_path: Path, touch, write, listing, folder: str) -> None:
    write(
        tmp_path / "macaques.csv",
        "class,split,filename\nTH,train,TH123.wav\nAL,valid,AL0007.wav\nAL,test,AL1.wav\n",
    )
    write(tmp_path / "other.csv", "a,b\n1,2\n")
    touch(tmp_path, *[f"{folder}{n}.wav" for n in ("TH123", "AL0007", "AL1")])
    found = MACAQUE.read(tmp_path)
    assert listing(found.table, ["utterance_id", "path", "split", "group", "individual"]) == [
        (f"{folder}TH123", str(tmp_path / f"{folder}TH123.wav"), "train", "", "TH"),
        (f"{folder}AL0007", str(tmp_path / f"{folder}AL0007.wav"), "val", "", "AL"),
        (f"{folder}AL1", str(tmp_path / f"{folder}AL1.wav"), "test", "", "AL"),
    ]
    assert found.group == ""


def test_macaque_needs_one_table(tmp_path: Path, touch, write) -> None:
    for name in ("a.csv", "b.csv"):
        write(tmp_path / name, "class,split,filename\nTH,train,1.wav\n")
    touch(tmp_path, "1.wav")
    with pytest.raises(ManifestError, match=r"found a.csv, b.csv; give the table itself"):
        MACAQUE.read(tmp_path)
    assert len(MACAQUE.read(tmp_path / "b.csv").table) == 1


def test_macaque_with_a_strange_split(tmp_path: Path, touch, write) -> None:
    write(tmp_path / "a.csv", "class,split,filename\nTH,spare,1.wav\n")
    with pytest.raises(ManifestError, match="got 'spare'"):
        MACAQUE.read(touch(tmp_path, "1.wav"))


ESC = """filename,fold,target,category,esc10,src_file,take
2-100032-A-0.wav,2,0,dog,True,100032,A
1-100038-A-14.wav,1,14,chirping_birds,False,100038,A
2-100032-B-0.wav,2,0,dog,True,100032,B
"""


def test_esc50(tmp_path: Path, touch, write, listing) -> None:
    write(tmp_path / "meta/esc50.csv", ESC)
    touch(tmp_path, *[f"audio/{line.split(',')[0]}" for line in ESC.splitlines()[1:]])
    columns = ["utterance_id", "split", "group", "category", "fold"]
    assert listing(ESC50.read(tmp_path).table, columns) == [
        ("audio/2-100032-A-0", "", "100032", "dog", "2"),
        ("audio/1-100038-A-14", "", "100038", "chirping_birds", "1"),
        ("audio/2-100032-B-0", "", "100032", "dog", "2"),
    ]
    assert list(ESC50.read(tmp_path, esc10=True, group="fold").table["group"]) == ["2", "2"]


def test_esc50_without_a_column(tmp_path: Path, write) -> None:
    write(tmp_path / "meta/esc50.csv", ESC.replace("src_file", "source"))
    with pytest.raises(ManifestError, match="column 'src_file' is not there"):
        ESC50.read(tmp_path)
