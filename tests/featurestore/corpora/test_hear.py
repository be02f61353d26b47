from __future__ import annotations

import json
from pathlib import Path

import pytest

from featurestore.corpora.hear import HEAR
from featurestore.errors import ConfigError, ManifestError


@pytest.fixture
def make(tmp_path: Path, write):
    def task(name: str, metadata: dict, vocabulary: list[str], **parts: dict) -> Path:
        root = tmp_path / "tasks" / name
        write(root / "task_metadata.json", json.dumps(metadata))
        rows = "".join(f'{i},"{label}"\n' for i, label in enumerate(vocabulary))
        write(root / "labelvocabulary.csv", "idx,label\n" + rows)
        for part, content in parts.items():
            write(root / f"{part}.json", json.dumps(content))
        return root

    return task


SCENE = {"embedding_type": "scene", "prediction_type": "multiclass", "split_mode": "trainvaltest"}


def test_a_scene_task(tmp_path: Path, make, touch, listing) -> None:
    root = make(
        "speech_commands-v0.0.2-full",
        SCENE,
        ["yes", "no"],
        train={"b.wav": ["yes"], "a.wav": ["no"]},
        valid={"c.wav": ["no"]},
        test={"d.wav": ["yes"]},
    )
    names = ("train/b.wav", "train/a.wav", "valid/c.wav", "test/d.wav")
    touch(root, *[f"{rate}/{n}" for rate in (16000, 48000) for n in names])
    columns = ["utterance_id", "path", "split", "group", "label"]
    expected = [
        ("train/b", "train", "yes"),
        ("train/a", "train", "no"),
        ("valid/c", "val", "no"),
        ("test/d", "test", "yes"),
    ]
    for source, options in (
        (root, {}),
        (tmp_path, {}),
        (tmp_path / "tasks", {"task": "speech_commands"}),
    ):
        assert listing(HEAR.read(source, **options).table, columns) == [
            (f"48000/{i}", str(root / f"48000/{i}.wav"), split, "", label) for i, split, label in expected
        ]
    assert HEAR.read(root, sample_rate_hz=16000).table["utterance_id"][0] == "16000/train/b"
    with pytest.raises(ConfigError, match="no audio at 8000 Hz; there is 16000, 48000"):
        HEAR.read(root, sample_rate_hz=8000)


def test_folds(make, touch, listing) -> None:
    root = make(
        "esc50-v2.0.0-full",
        {**SCENE, "split_mode": "presplit_kfold", "splits": ["fold00", "fold01"]},
        ["dog", "rain"],
        fold00={"1-A.wav": ["dog"]},
        fold01={"2-A.wav": ["rain"]},
    )
    touch(root, "48000/fold00/1-A.wav", "48000/fold01/2-A.wav")
    found = HEAR.read(root)
    assert listing(found.table, ["utterance_id", "split", "group", "label", "fold"]) == [
        ("48000/fold00/1-A", "", "fold00", "dog", "fold00"),
        ("48000/fold01/2-A", "", "fold01", "rain", "fold01"),
    ]


def test_a_multilabel_task(make, touch) -> None:
    root = make(
        "fsd50k-v1.0-full",
        {**SCENE, "prediction_type": "multilabel"},
        ["Bark", "Dog", "Rain, heavy"],
        train={"1.wav": ["Dog", "Bark"], "2.wav": [], "3.wav": ["Rain, heavy"]},
        test={"4.wav": ["Cat"]},
    )
    touch(root, *[f"48000/train/{i}.wav" for i in (1, 2, 3)], "48000/test/4.wav")
    found = HEAR.read(root)
    assert list(found.table["label"]) == ["Bark|Dog", "|", "Rain, heavy", "Cat"]
    assert found.notes == ("1 label not in labelvocabulary.csv: Cat",)


EVENTS = {
    "a.wav": [
        {"label": "cough", "start": 500.0, "end": 1250.0},
        {"label": "door", "start": 1000.0, "end": 2500.0},
    ],
    "b.wav": [],
}


def test_events(make, sound, listing) -> None:
    root = make(
        "dcase2016_task2-hear2021-full",
        {"embedding_type": "event", "prediction_type": "multilabel"},
        ["cough", "door"],
        test=EVENTS,
    )
    for name in EVENTS:
        sound(root / "48000/test" / name, 3.0)
    columns = ["utterance_id", "start_s", "end_s", "split", "group", "label"]
    assert listing(HEAR.read(root).table, columns) == [
        ("48000/test/a:0.5-1.25", 0.5, 1.25, "test", "48000/test/a", "cough"),
        ("48000/test/a:1-2.5", 1.0, 2.5, "test", "48000/test/a", "door"),
    ]
    windows = HEAR.read(root, window_s=1.5, shift_s=1.5).table
    assert listing(windows, columns) == [
        ("48000/test/a:0-1.5", 0.0, 1.5, "test", "48000/test/a", "cough|door"),
        ("48000/test/a:1.5-3", 1.5, 3.0, "test", "48000/test/a", "door"),
        ("48000/test/b:0-1.5", 0.0, 1.5, "test", "48000/test/b", "|"),
        ("48000/test/b:1.5-3", 1.5, 3.0, "test", "48000/test/b", "|"),
    ]
    with pytest.raises(ConfigError, match="belong together"):
        HEAR.read(root, window_s=1.5)
    (root / "48000/test/b.wav").unlink()
    with pytest.raises(ManifestError, match="1 of 2 audio files"):
        HEAR.read(root, window_s=1.5, shift_s=1.5)


def test_several_tasks_need_a_name(tmp_path: Path, make) -> None:
    make("a-v1", SCENE, [], train={"1.wav": ["x"]})
    make("b-v1", SCENE, [], train={"1.wav": ["x"]})
    with pytest.raises(ManifestError, match=r"found a-v1, b-v1; name it with --task"):
        HEAR.read(tmp_path)


def test_broken_json_is_named(make) -> None:
    root = make("a-v1", SCENE, [])
    (root / "train.json").write_text("{", encoding="utf-8")
    with pytest.raises(ManifestError, match=r"train.json: no JSON: Expecting property name"):
        HEAR.read(root)
