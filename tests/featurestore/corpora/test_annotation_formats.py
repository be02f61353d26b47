"""Audacity, segments in CSV, and the formats that crowsetta reads."""

from __future__ import annotations

import builtins
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from featurestore.corpora.registry import get_corpus
from featurestore.errors import DependencyMissing, ManifestError

needs_crowsetta = pytest.mark.skipif(
    find_spec("crowsetta") is None, reason="crowsetta is not installed (extra: annotations)"
)
COLUMNS = ["utterance_id", "start_s", "end_s", "group"]


def test_audacity_plain_and_extended(tmp_path: Path, touch, write, listing) -> None:
    write(
        tmp_path / "b.txt",
        "0.101385\t0.367520\t01\n\\\t6441.064453\t12296.577148\n3,5\t4,25\tdog, two\n5.0\t5.0\tpoint\n"
        "6.0\t7.0\n\n8\t9\tNA\n",
    )
    write(tmp_path / "a.labels.txt", "1\t2\tcat\n")
    write(tmp_path / "README.txt", "Labels of two files.\n")
    touch(tmp_path, "a.wav", "b.wav")
    found = get_corpus("audacity").read(tmp_path)
    assert listing(found.table, [*COLUMNS, "label"]) == [
        ("a:1-2", 1.0, 2.0, "a", "cat"),
        ("b:0.101385-0.36752", 0.101385, 0.36752, "b", "01"),
        ("b:3.5-4.25", 3.5, 4.25, "b", "dog, two"),
        ("b:6-7", 6.0, 7.0, "b", ""),
        ("b:8-9", 8.0, 9.0, "b", "NA"),
    ]
    assert found.notes == (
        "passed over 1 file without labels: README.txt",
        "dropped 1 row whose end is not after its start: b:5-5",
    )


def test_audacity_with_a_broken_line(tmp_path: Path, touch, write) -> None:
    write(tmp_path / "a.txt", "1\t2\tcat\nthree\t4\tdog\n")
    with pytest.raises(ManifestError, match=r"a.txt: line 2: expected start, end and label"):
        get_corpus("audacity").read(touch(tmp_path, "a.wav"))


def test_simple_seq(tmp_path: Path, touch, write, listing) -> None:
    write(tmp_path / "bird/1.csv", "onset_s,offset_s,label\n0.0029761904761904,0.25,01\n1,2,NA\n")
    touch(tmp_path, "bird/1.wav")
    assert listing(get_corpus("simple-seq").read(tmp_path).table, [*COLUMNS, "label"]) == [
        ("bird/1:0.0029761904761904-0.25", 0.0029761904761904, 0.25, "bird/1", "01"),
        ("bird/1:1-2", 1.0, 2.0, "bird/1", "NA"),
    ]


def test_generic_seq(tmp_path: Path, touch, write, listing) -> None:
    write(
        tmp_path / "all.csv",
        "label,onset_s,offset_s,notated_path\n01,0,1,/home/someone/b.wav\na,1,2,audio/a.wav\nb,5,6,b.wav\n",
    )
    touch(tmp_path, "audio/a.wav", "audio/b.wav")
    corpus = get_corpus("generic-seq")
    with pytest.raises(
        ManifestError, match=r"2 of 3 audio files .* /home/someone/b.wav, b.wav; not taken, since"
    ):
        corpus.read(tmp_path)
    with pytest.raises(ManifestError, match=r"1 of 2 audio files .*audio/audio/a.wav;"):
        corpus.read(tmp_path, audio=tmp_path / "audio")
    touch(tmp_path, "audio/audio/a.wav")
    found = corpus.read(tmp_path, audio=tmp_path / "audio")
    assert found.notes == (
        "1 path of the annotations is not on this machine; taken by the end of the path: b.wav for "
        "/home/someone/b.wav",
    )
    assert listing(found.table, [*COLUMNS, "label"]) == [
        ("b:0-1", 0.0, 1.0, "b", "01"),
        ("audio/a:1-2", 1.0, 2.0, "audio/a", "a"),
        ("b:5-6", 5.0, 6.0, "b", "b"),
    ]


def tier(name: str, *intervals: tuple[float, float, str]) -> str:
    text = f'    item [1]:\n        class = "IntervalTier"\n        name = "{name}"\n'
    text += f"        xmin = 0\n        xmax = 3\n        intervals: size = {len(intervals)}\n"
    for i, (a, b, label) in enumerate(intervals, start=1):
        text += f"        intervals [{i}]:\n            xmin = {a}\n            xmax = {b}\n"
        text += f'            text = "{label}"\n'
    return text


def textgrid(*tiers: str) -> str:
    return (
        'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = 3\n'
        f"tiers? <exists>\nsize = {len(tiers)}\nitem []:\n" + "".join(tiers)
    )


def test_textgrid(tmp_path: Path, touch, write, listing) -> None:
    calls = tier("calls", (0, 0.123456, ""), (0.123456, 1.5, "señal"), (1.5, 3, "b, c"))
    birds = tier("bird", (0, 3, "09"))
    write(tmp_path / "one.TextGrid", textgrid(calls))
    touch(tmp_path, "one.wav")
    corpus = get_corpus("textgrid")
    assert listing(corpus.read(tmp_path).table, [*COLUMNS, "label"]) == [
        ("one:0.123456-1.5", 0.123456, 1.5, "one", "señal"),
        ("one:1.5-3", 1.5, 3.0, "one", "b, c"),
    ]
    write(tmp_path / "one.TextGrid", textgrid(calls, birds))
    with pytest.raises(ManifestError, match=r"expected one interval tier, found 'calls', 'bird'; .*--tier"):
        corpus.read(tmp_path)
    assert listing(corpus.read(tmp_path, tier="bird").table, [*COLUMNS, "bird"]) == [
        ("one:0-3", 0.0, 3.0, "one", "09"),
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("Sorry\n", r"cannot be read as a TextGrid \(it does not begin with File type"),
        ("", "it is empty"),
        (textgrid(tier("calls", (0, 1, "a"), (1, 3, "b")))[:-60], "ends where"),
        (textgrid(tier("calls", (0, 1, "a"), (1, 3, 'b "c'))), "is opened and not closed"),
        (
            textgrid(tier("calls", (0, 1, "a"))).replace("xmax = 1", "xmax = one"),
            "interval 1 of 'calls', found",
        ),
    ],
)
def test_textgrid_that_is_none(tmp_path: Path, touch, write, content: str, said: str) -> None:
    write(tmp_path / "one.TextGrid", content)
    with pytest.raises(ManifestError, match=rf"one.TextGrid: .*{said}"):
        get_corpus("textgrid").read(touch(tmp_path, "one.wav"))


@needs_crowsetta
def test_timit_counts_samples_at_the_rate_of_the_audio(tmp_path: Path, sound, write, listing) -> None:
    for name, rate in (("fast", 16_000), ("slow", 8_000)):
        write(tmp_path / f"{name}.phn", "0 800 h#\n800 1600 sh\n")
        write(tmp_path / f"{name}.wrd", "0 1600 she\n")
        sound(tmp_path / f"{name}.wav", 1.0, rate)
    corpus = get_corpus("timit")
    assert listing(corpus.read(tmp_path).table, [*COLUMNS, "phone"]) == [
        ("fast:0-0.05", 0.0, 0.05, "fast", "h#"),
        ("fast:0.05-0.1", 0.05, 0.1, "fast", "sh"),
        ("slow:0-0.1", 0.0, 0.1, "slow", "h#"),
        ("slow:0.1-0.2", 0.1, 0.2, "slow", "sh"),
    ]
    assert listing(corpus.read(tmp_path / "slow.wrd", words=True).table, [*COLUMNS, "word"]) == [
        ("slow:0-0.2", 0.0, 0.2, "slow", "she"),
    ]
    (tmp_path / "slow.wav").unlink()
    with pytest.raises(ManifestError, match=r"1 of 2 audio files .* costs 2 of 4 rows: slow.wav;"):
        corpus.read(tmp_path)


@needs_crowsetta
def test_notmat(tmp_path: Path, touch, listing) -> None:
    from scipy.io import savemat

    savemat(
        tmp_path / "gy6.138.cbin.not.mat",
        {
            "Fs": 32_000.0,
            "fname": "gy6.138.cbin",
            "labels": "ia",
            "onsets": np.array([[1277.78125], [1452.46875]]),
            "offsets": np.array([[1327.5], [1500.0]]),
            "min_int": 2,
            "min_dur": 30,
            "threshold": 100,
            "sm_win": 2,
        },
    )
    touch(tmp_path, "gy6.138.cbin")
    with pytest.raises(ManifestError, match=r"gy6.138.wav; gy6.138.cbin cannot be read; convert"):
        get_corpus("notmat").read(tmp_path)
    touch(tmp_path, "gy6.138.wav")
    table = get_corpus("notmat").read(tmp_path).table
    assert set(table["path"]) == {str(tmp_path / "gy6.138.wav")}
    assert listing(table, [*COLUMNS, "label"]) == [
        ("gy6.138:1.27778125-1.3275", 1.27778125, 1.3275, "gy6.138", "i"),
        ("gy6.138:1.45246875-1.5", 1.45246875, 1.5, "gy6.138", "a"),
    ]


@needs_crowsetta
def test_birdsong_recognition(tmp_path: Path, sound, write, listing) -> None:
    note = "<Note><Position>{}</Position><Length>{}</Length><Label>{}</Label></Note>"
    sequence = "<Sequence><WaveFileName>{}</WaveFileName><Position>{}</Position><Length>9000</Length>"
    for bird, rate in ((0, 32_000), (1, 16_000)):
        write(
            tmp_path / f"Bird{bird}/Annotation.xml",
            "<?xml version='1.0'?><Sequences><NumSequence>2</NumSequence>"
            + sequence.format("0.wav", 3200)
            + "<NumNote>2</NumNote>"
            + note.format(0, 1600, 0)
            + note.format(3200, 800, "01")
            + "</Sequence>"
            + sequence.format("1.wav", 0)
            + "<NumNote>1</NumNote>"
            + note.format(16, 16, 7)
            + "</Sequence></Sequences>",
        )
        for i in (0, 1):
            sound(tmp_path / f"Bird{bird}/Wave/{i}.wav", 1.0, rate)
    table = get_corpus("birdsong-recognition-dataset").read(tmp_path).table
    assert listing(table, [*COLUMNS, "label"]) == [
        ("Bird0/Wave/0:0.1-0.15", 0.1, 0.15, "Bird0/Wave/0", "0"),
        ("Bird0/Wave/0:0.2-0.225", 0.2, 0.225, "Bird0/Wave/0", "01"),
        ("Bird0/Wave/1:0.0005-0.001", 0.0005, 0.001, "Bird0/Wave/1", "7"),
        ("Bird1/Wave/0:0.2-0.3", 0.2, 0.3, "Bird1/Wave/0", "0"),
        ("Bird1/Wave/0:0.4-0.45", 0.4, 0.45, "Bird1/Wave/0", "01"),
        ("Bird1/Wave/1:0.001-0.002", 0.001, 0.002, "Bird1/Wave/1", "7"),
    ]


@needs_crowsetta
def test_yarden(tmp_path: Path, touch, listing) -> None:
    from scipy.io import savemat

    songs = [
        {"segFileStartTimes": [0.0029761, 0.5], "segFileEndTimes": [0.25, 0.75], "segType": [1, 12]},
        {"segFileStartTimes": [1.0, 2.0, 3.0], "segFileEndTimes": [1.5, 2.5, 3.5], "segType": [1, 1, 5]},
    ]
    elements = np.empty(len(songs), dtype=object)
    for i, song in enumerate(songs):
        elements[i] = {k: np.asarray(v) for k, v in song.items()} | {"fs": 48_000.0}
    keys = np.array(["b.wav", "a.wav"], dtype=object)
    savemat(tmp_path / "annotation.mat", {"keys": keys, "elements": elements})
    touch(tmp_path, "a.wav", "b.wav")
    assert listing(get_corpus("yarden").read(tmp_path).table, [*COLUMNS, "label"]) == [
        ("b:0.0029761-0.25", 0.0029761, 0.25, "b", "1"),
        ("b:0.5-0.75", 0.5, 0.75, "b", "12"),
        ("a:1-1.5", 1.0, 1.5, "a", "1"),
        ("a:2-2.5", 2.0, 2.5, "a", "1"),
        ("a:3-3.5", 3.0, 3.5, "a", "5"),
    ]


def test_without_crowsetta_the_extra_is_named(tmp_path: Path, touch, monkeypatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: object, **kwargs: object) -> object:
        if name == "crowsetta":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(DependencyMissing, match=r"pip install 'featurestore-audio\[annotations\]'"):
        get_corpus("timit").read(touch(tmp_path, "a.phn", "a.wav"))
