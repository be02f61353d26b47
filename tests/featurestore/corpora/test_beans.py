from __future__ import annotations

import json
from pathlib import Path

import pytest

from featurestore.corpora.beans import BEANS, DETECTION
from featurestore.errors import ConfigError, ManifestError

DOGS = """filename,name,context,age,weight,sex,breed
Farley play, 1.aif,Farley,play,3,20,M,"Poodle, toy"
Zoe 2.aif,Zoe,isolation,5,30,F,mix
Farley 3.aif,Farley,isolation,3,20,M,"Poodle, toy"
Zoe 4.aif,Zoe,play,5,30,F,mix
""".replace("Farley play, 1.aif", '"Farley play, 1.aif"')


@pytest.fixture
def dogs(tmp_path: Path, touch, write) -> Path:
    root = tmp_path / "data/dogs"
    write(root / "annotations.csv", DOGS)
    touch(root, "wav/Farley play, 1.wav", "wav/Zoe 2.wav", "wav/Farley 3.wav", "wav/Zoe 4.wav")
    write(root / "annotations.train.csv", ',path,label\n0,"data/dogs/wav/Farley play, 1.wav",Farley\n')
    write(root / "annotations.valid.csv", ",path,label\n1,data/dogs/wav/Zoe 2.wav,Zoe\n")
    write(root / "annotations.test.csv", ",path,label\n2,data/dogs/wav/Farley 3.wav,Farley\n")
    return root


def test_dogs(dogs: Path, listing) -> None:
    found = BEANS.read(dogs)
    wav = str(dogs / "wav")
    assert listing(found.table) == [
        (
            "wav/Farley play, 1",
            f"{wav}/Farley play, 1.wav",
            None,
            None,
            None,
            "train",
            "Farley play",
            "Farley",
            "play",
            "3",
            "20",
            "M",
            "Poodle, toy",
        ),
        (
            "wav/Zoe 2",
            f"{wav}/Zoe 2.wav",
            None,
            None,
            None,
            "val",
            "Zoe isolation",
            "Zoe",
            "isolation",
            "5",
            "30",
            "F",
            "mix",
        ),
        (
            "wav/Farley 3",
            f"{wav}/Farley 3.wav",
            None,
            None,
            None,
            "test",
            "Farley isolation",
            "Farley",
            "isolation",
            "3",
            "20",
            "M",
            "Poodle, toy",
        ),
        (
            "wav/Zoe 4",
            f"{wav}/Zoe 4.wav",
            None,
            None,
            None,
            "",
            "Zoe play",
            "Zoe",
            "play",
            "5",
            "30",
            "F",
            "mix",
        ),
    ]
    assert found.notes == ("1 row in none of BEANS' parts: wav/Zoe 4.wav",)
    assert found.group == "session: dogs: one dog in one context (inferred)"


def test_the_folder_of_all_tasks_will_do(dogs: Path) -> None:
    assert list(BEANS.read(dogs.parent, task="dogs").table["name"]) == ["Farley", "Zoe", "Farley", "Zoe"]


def test_dogs_before_conversion(tmp_path: Path, touch, write) -> None:
    root = tmp_path / "dogs"
    write(root / "annotations.csv", DOGS)
    touch(root, "audio/Farley play, 1.aif", "audio/Zoe 2.aif", "audio/Farley 3.aif", "audio/Zoe 4.aif")
    found = BEANS.read(root)
    assert next(iter(found.table["utterance_id"])) == "audio/Farley play, 1"
    assert found.notes == ("no annotations.train.csv beside the data: split left empty",)


def test_bats(tmp_path: Path, touch, write, listing) -> None:
    root = tmp_path / "egyptian_fruit_bats"
    write(root / "annotations.csv", "Emitter,File Name\n216,120602_0.wav\n-111,0120601.wav\n")
    touch(root, "audio/120602_0.wav", "audio/0120601.wav")
    write(root / "annotations.test.csv", ",path,label\n0,data/egyptian_fruit_bats/audio/0120601.wav,1\n")
    found = BEANS.read(root)
    assert listing(found.table, ["utterance_id", "split", "group", "emitter"]) == [
        ("audio/120602_0", "", "", "216"),
        ("audio/0120601", "test", "", "-111"),
    ]
    assert found.group == ""


def test_cbi(tmp_path: Path, touch, write, listing) -> None:
    root = tmp_path / "cbi"
    write(
        root / "train.csv",
        'rating,ebird_code,filename,recordist\n4,aldfly,XC2.mp3,"Jonathon, Jongsma"\n3,ameavo,XC1.mp3,Mike\n',
    )
    touch(root, "wav/XC2.wav", "wav/XC1.wav")
    write(root / "annotations.train.csv", ",path,label,split\n1,data/cbi/wav/XC1.wav,ameavo,train\n")
    write(root / "annotations.valid.csv", ",path,label,split\n0,data/cbi/wav/XC2.wav,aldfly,valid\n")
    assert listing(BEANS.read(root).table, ["utterance_id", "split", "group", "ebird_code"]) == [
        ("wav/XC2", "val", "Jonathon, Jongsma", "aldfly"),
        ("wav/XC1", "train", "Mike", "ameavo"),
    ]


def test_humbugdb_fills_and_collapses_species(tmp_path: Path, touch, write, listing) -> None:
    root = tmp_path / "HumBugDB"
    rows = [f"{i},an dirus,tape{i // 50}.wav" for i in range(101)]
    rows += [f"{i},ae albopictus,tape9.wav" for i in range(101, 201)]
    rows += [f"{i},,room.wav" for i in range(201, 302)]
    write(
        root / "data/metadata/neurips_2021_zenodo_0_0_1.csv",
        "id,species,name\n" + "\n".join(rows) + "\n",
    )
    touch(root, *[f"data/audio/{i}.wav" for i in range(302)])
    found = BEANS.read(root)
    cells = listing(found.table, ["utterance_id", "group", "species"])
    assert cells[0] == ("data/audio/0", "tape0.wav", "an dirus")
    assert cells[100] == ("data/audio/100", "tape2.wav", "an dirus")
    assert {c[2] for c in cells[101:201]} == {"others"}  # 100 clips are few, 101 are not
    assert {c[1:] for c in cells[201:]} == {("room.wav", "non-mosquito")}
    assert found.notes[0] == "put 100 rows of rare species into 'others'"


def test_watkins_without_weddell_seals(tmp_path: Path, touch, write, listing) -> None:
    root = tmp_path / "watkins"
    files = ("Weddell_Seal/1.wav", "Beluga,_White_Whale/1.wav", "Walrus/1.wav")
    write(
        root / "annotations.csv",
        "path,species\n" + "".join(f'"{f}","{f.split("/")[0]}"\n' for f in files),
    )
    touch(root, *files)
    write(
        root / "annotations.train.csv",
        ',path,label\n1,"data/watkins/Beluga,_White_Whale/1.wav",x\n',
    )
    write(root / "annotations.test.csv", ",path,label\n2,data/watkins/Walrus/1.wav,x\n")
    found = BEANS.read(root)
    # Both are called 1.wav; the folder tells their parts apart.
    assert listing(found.table, ["utterance_id", "split", "species"]) == [
        ("Beluga,_White_Whale/1", "train", "Beluga,_White_Whale"),
        ("Walrus/1", "test", "Walrus"),
    ]
    assert found.notes == ("dropped 1 row of Weddell_Seal, as BEANS does",)


def test_esc50_folds_become_parts(tmp_path: Path, touch, write, listing) -> None:
    root = tmp_path / "esc50"
    names = [f"{fold}-100-A-0.wav" for fold in (5, 1, 4, 2, 3)]
    write(
        root / "meta/esc50.csv",
        "filename,fold,target,category,esc10,src_file,take\n"
        + "".join(f"{n},{n[0]},0,dog,True,{n[0]}00,A\n" for n in names),
    )
    touch(root, *[f"audio/{n}" for n in names])
    assert list(BEANS.read(root).table["split"]) == ["test", "train", "val", "train", "train"]


def test_an_unknown_task_lists_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"one of bats, cbi, dcase, .*; got none; give it with --task"):
        BEANS.read(tmp_path)
    with pytest.raises(ConfigError, match="got whales"):
        BEANS.read(tmp_path, task="whales")


def line(path: str, length: float, *marks: tuple[float, float, object]) -> str:
    annotations = [{"st": a, "ed": b, "label": n} for a, b, n in marks]
    return json.dumps({"path": path, "length": length, "annotations": annotations}) + "\n"


def test_detection_windows(tmp_path: Path, touch, write, listing) -> None:
    root = tmp_path / "data/enabirds"
    write(
        root / "train.jsonl",
        line("data/enabirds/wav/Rec_1.000.wav", 4.0, (0.5, 1.0, "OVEN"), (0.5, 1, "AMCR"), (3, 4, "XXXX")),
    )
    write(root / "train-low.jsonl", "not read")
    write(root / "valid.jsonl", line("data/enabirds/wav/Rec_1.001.wav", 2.0))
    write(
        root / "test.jsonl",
        line("data/enabirds/wav/Rec_1.002.wav", 1.5, (0, 1, "OVEN"))
        + line("data/enabirds/wav/Rec_1.003.wav", 0.5),
    )
    touch(root, *[f"wav/Rec_1.00{i}.wav" for i in range(4)])
    found = BEANS.read(root)
    columns = ["utterance_id", "path", "start_s", "end_s", "split", "group", "species"]
    a, b, c = (str(root / f"wav/Rec_1.00{i}.wav") for i in range(3))
    assert listing(found.table, columns) == [
        ("wav/Rec_1.000:0-2", a, 0.0, 2.0, "train", "Rec_1", "AMCR|OVEN"),
        ("wav/Rec_1.000:1-3", a, 1.0, 3.0, "train", "Rec_1", "|"),
        ("wav/Rec_1.000:2-4", a, 2.0, 4.0, "train", "Rec_1", "OTHR"),
        ("wav/Rec_1.001:0-2", b, 0.0, 2.0, "val", "Rec_1", "|"),
        ("wav/Rec_1.002:0-1.5", c, 0.0, 1.5, "test", "Rec_1", "OVEN"),
    ]
    assert found.notes == (
        "counted as OTHR, as BEANS does: XXXX (1)",
        "no window fits into 1 file: data/enabirds/wav/Rec_1.003.wav",
    )
    assert found.group.startswith("recording: ")


@pytest.mark.parametrize(
    ("task", "window_s", "shift_s", "label", "cell"),
    [
        ("dcase", 2, 1, "SWTH", "SWTH"),
        ("enabirds", 2, 1, "TUTI", "TUTI"),
        ("hiceas", 10, 5, 1, "1"),
        ("rfcx", 10, 5, 23, "23"),
        ("gibbons", 4, 2, 3, "3"),
        ("gibbons", 4, 2, 9, "1"),
    ],
)
def test_each_detection_task_has_its_window(
    tmp_path: Path, touch, write, task: str, window_s: float, shift_s: float, label: object, cell: str
) -> None:
    write(tmp_path / "test.jsonl", line("elsewhere/a.wav", 60.0, (0, 60, label)))
    touch(tmp_path, "wav/a.wav")
    table = BEANS.read(tmp_path, task=task).table
    assert len(table) == (60 - window_s) / shift_s + 1
    assert list(table["end_s"] - table["start_s"]) == [window_s] * len(table)
    assert table["start_s"][1] == shift_s
    assert set(table[DETECTION[task].label]) == {cell}


def test_a_strange_label_or_line_is_named(tmp_path: Path, touch, write) -> None:
    write(tmp_path / "test.jsonl", line("a.wav", 60, (0, 1, "AMRE")) + line("a.wav", 60, (0, 1, "UFO")))
    with pytest.raises(ManifestError, match=r"test.jsonl: line 2: label 'UFO' is none of BEANS'"):
        BEANS.read(tmp_path, task="dcase")
    write(tmp_path / "test.jsonl", '{"path": "a.wav"}\n')
    with pytest.raises(ManifestError, match=r"line 1: expected an object with path, length"):
        BEANS.read(tmp_path, task="dcase")


def test_missing_recordings_cost_their_windows(tmp_path: Path, touch, write) -> None:
    write(tmp_path / "train.jsonl", line("data/dcase/wav/a.wav", 4) + line("data/dcase/wav/b.wav", 10))
    touch(tmp_path, "wav/a.wav")
    with pytest.raises(ManifestError, match=r"1 of 2 audio files .* costs 9 of 12 rows: wav/b.wav;"):
        BEANS.read(tmp_path, task="dcase")
