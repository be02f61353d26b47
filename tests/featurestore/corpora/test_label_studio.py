"""Exports of Label Studio, as its documentation and its exports have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from featurestore.corpora.registry import get_corpus
from featurestore.errors import ManifestError

COLUMNS = ["utterance_id", "start_s", "end_s"]


def region(
    name: str, start: Any, end: Any, value: dict[str, Any], kind: str = "labels", control: str = "call"
) -> dict[str, Any]:
    times = {} if start is None else {"start": start, "end": end, "channel": 0}
    return {
        "id": name,
        "from_name": control,
        "to_name": "audio",
        "type": kind,
        "origin": "manual",
        "original_length": 12.5,
        "value": {**times, **value},
    }


def task(number: int, audio: str, *results: dict[str, Any], **annotation: Any) -> dict[str, Any]:
    done = {"id": 10 * number, "completed_by": 1, "was_cancelled": False, "result": list(results)}
    return {
        "id": number,
        "data": {"audio": audio, "site": "north"},
        "annotations": [{**done, **annotation}],
        "predictions": [{"result": [region("p", 7, 8, {"labels": ["model"]})]}],
        "file_upload": audio.rpartition("/")[2],
    }


def save(path: Path, *tasks: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(list(tasks)), encoding="utf-8")
    return path


def test_regions_with_all_that_was_said_of_them(tmp_path: Path, touch, listing) -> None:
    export = save(
        tmp_path / "project-1.json",
        task(
            1,
            "/data/upload/3/5f1d0c0a-dawn.wav",
            region("b", 4.25, 5.125, {"labels": ["song"]}),
            region("a", 0.1, 0.4, {"labels": ["trill", "call"]}),
            region("a", 0.1, 0.4, {"choices": ["adult"]}, "choices", "age"),
            region("a", None, None, {"text": ["two", "birds"]}, "textarea", "remark"),
            region("w", None, None, {"choices": ["windy"]}, "choices", "weather"),
            {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"},
            region("c", 6, 7, {}, "audio"),
        ),
        task(2, "/data/local-files/?d=night%2Fde%C3%B1.wav", region("d", 1, 2, {"labels": ["01"]})),
        task(3, "/data/upload/3/0123abcd-none.wav"),
        task(4, "/data/upload/3/0123abcd-skipped.wav", was_cancelled=True),
    )
    touch(tmp_path, "dawn.wav", "night/deñ.wav", "none.wav", "skipped.wav")
    found = get_corpus("label-studio").read(export)
    columns = [*COLUMNS, "call", "age", "remark", "weather", "site", "annotator", "selection"]
    assert listing(found.table, columns) == [
        ("dawn:4.25-5.125", 4.25, 5.125, "song", "", "", "windy", "north", "1", "b"),
        ("dawn:0.1-0.4", 0.1, 0.4, "call|trill", "adult", "two birds", "windy", "north", "1", "a"),
        ("dawn:6-7", 6.0, 7.0, "", "", "", "windy", "north", "1", "c"),
        ("night/deñ:1-2", 1.0, 2.0, "01", "", "", "", "north", "1", "d"),
    ]
    assert found.table["channel"].isna().all()
    assert found.notes == (
        "left out 1 annotation that were cancelled",
        "2 tasks without any result, which give no row",
        "left out results that are no regions of audio and no labels: 1 relation",
    )


def test_whole_files_of_several_people(tmp_path: Path, touch, listing) -> None:
    choice = region("x", None, None, {"choices": ["bat"]}, "choices", "what")
    both = task(1, "https://host/media/deep/a.wav?X-Sign=1", choice)
    both["annotations"].append({**both["annotations"][0], "completed_by": {"id": 2, "email": "b@x.org"}})
    export = save(tmp_path / "deep/export.json", both)
    touch(tmp_path / "deep", "a.wav")
    found = get_corpus("label-studio").read(export)
    assert listing(found.table, [*COLUMNS, "what", "annotator"]) == [
        ("a", None, None, "bat", "1"),
        ("a~2", None, None, "bat", "b@x.org"),
    ]
    assert any("1 task with several annotations" in note for note in found.notes)
    assert any("not on this machine; taken by the end of the path: a.wav" in note for note in found.notes)


def test_channels_count_only_where_they_were_told_apart(tmp_path: Path, touch) -> None:
    touch(tmp_path, "a.wav")
    left, right = (region(name, 0, 1, {"labels": ["x"]}) for name in "lr")
    right["value"]["channel"] = 1
    corpus = get_corpus("label-studio")
    both = corpus.read(save(tmp_path / "e.json", task(1, "a.wav", left, right)))
    assert list(both.table["channel"]) == [0, 1]
    assert list(both.table["utterance_id"]) == ["a:0-1#0", "a:0-1#1"]
    one = corpus.read(save(tmp_path / "e.json", task(1, "a.wav", left)))
    assert one.table["channel"].isna().all()


def test_json_min(tmp_path: Path, touch, listing) -> None:
    def spans(key: str, *spans: tuple[float, float, str]) -> list[dict[str, Any]]:
        return [{"start": a, "end": b, "channel": 0, key: [text]} for a, b, text in spans]

    export = save(
        tmp_path / "min.json",
        {
            "id": 7,
            "audio": "/data/upload/1/5f1d0c0a-a.wav",
            "call": spans("labels", (0.5, 1.5, "phee"), (2, 3, "twitter")),
            "text": spans("text", (2, 3, "loud")),
            "quality": {"choices": ["good", "far"]},
            "annotator": 4,
            "annotation_id": 9,
            "lead_time": 3.5,
        },
        {"id": 8, "audio": "a.wav", "annotator": 4},
    )
    found = get_corpus("label-studio").read(touch(tmp_path, "a.wav") / export.name)
    assert listing(found.table, [*COLUMNS, "call", "text", "quality", "annotator"]) == [
        ("a:0.5-1.5", 0.5, 1.5, "phee", "", "far|good", "4"),
        ("a:2-3", 2.0, 3.0, "twitter", "loud", "far|good", "4"),
    ]
    assert found.notes == ("1 task without any result, which give no row",)


GOOD = task(1, "a.wav", region("a", 0, 1, {"labels": ["x"]}))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "no JSON"),
        ('{"tasks": []}', "expected a list of tasks"),
        ("[1]", "expected a list of tasks"),
        ([{**GOOD, "data": {"image": "a.png"}}], "key of the tasks' data that names audio, found none among"),
        (
            [{**GOOD, "data": {"audio": "a.wav", "raw": "b.wav"}}],
            "found 'audio', 'raw'; name it with --audio",
        ),
        ([GOOD, {**GOOD, "data": {"audio": None}}], "task 1: expected the name of its audio in 'audio'"),
        ([{**GOOD, "annotations": {"result": []}}], "expected a list of annotations"),
        ([{**GOOD, "annotations": [{"result": "x"}]}], "expected a list 'result'"),
        ([task(5, "a.wav", region("a", "0", "1", {"labels": ["x"]}))], "task 5: result 'a': expected start"),
        ([task(5, "a.wav", region("a", 0, None, {"labels": ["x"]}))], "expected start and end in seconds"),
        ([task(5, "a.wav", region("a", 0, 1, {"labels": {"x": 1}}))], "expected labels"),
        ([task(5, "a.wav", region("a", 0, 1, {"labels": ["x|y", "z"]}))], "task 5: label 'x|y' cannot stand"),
        (
            [
                task(
                    5,
                    "a.wav",
                    region("a", 0, 1, {"labels": ["x"]}),
                    region("a", 0, 2, {"choices": ["y"]}, "choices"),
                )
            ],
            "expected one region for an id",
        ),
        ([{"audio": "a.wav", "call": [{"labels": ["x"]}]}], "'call' number 1: expected start and end"),
    ],
)
def test_exports_that_are_none(tmp_path: Path, touch, content: Any, said: str) -> None:
    path = touch(tmp_path, "a.wav", "b.wav") / "export.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ManifestError) as error:
        get_corpus("label-studio").read(path)
    assert said in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_of_another_folder_is_not_taken(tmp_path: Path, touch) -> None:
    export = save(tmp_path / "export.json", task(1, "/data/upload/3/5f1d0c0a-a.wav", *[]), GOOD)
    touch(tmp_path, "other/a.wav")
    with pytest.raises(ManifestError, match=r"1 of 1 audio file .*not taken, since folder or suffix"):
        get_corpus("label-studio").read(export)
