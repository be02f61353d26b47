"""What users hand over by mistake: each is one line that names the file and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from featurestore.corpora.registry import get_corpus
from featurestore.errors import ConfigError, ManifestError, UserError

# corpus, options, its table, the header, one good row, the audio of that row, the cell that may not be empty
TABLES = [
    (
        "imv",
        {},
        "labels.csv",
        "filename,start,end,duration,calltype,caller",
        "20160907_Twin1_marmoset1,0,1,1,2,0",
        "data/twin_1/20160907_Twin1_marmoset1.wav",
    ),
    ("watkins", {}, "annotations.csv", "path,species", "Walrus/1.wav,Walrus", "Walrus/1.wav"),
    ("beans", {"task": "dogs"}, "annotations.csv", "filename,name", "a.aif,Zoe", "audio/a.aif"),
    ("beans", {"task": "bats"}, "annotations.csv", "Emitter,File Name", "216,a.wav", "audio/a.wav"),
    ("beans", {"task": "cbi"}, "train.csv", "ebird_code,filename,recordist", "x,a.mp3,Mike", "wav/a.wav"),
    (
        "beans",
        {"task": "humbugdb"},
        "data/metadata/neurips_2021_zenodo_0_0_1.csv",
        "id,species",
        "1,an",
        "data/audio/1.wav",
    ),
    (
        "esc50",
        {},
        "meta/esc50.csv",
        "filename,fold,category,esc10,src_file",
        "1-1-A-0.wav,1,dog,True,1",
        "audio/1-1-A-0.wav",
    ),
    ("macaque", {}, "coos.csv", "class,split,filename", "TH,train,a.wav", "a.wav"),
    ("simple-seq", {}, "a.csv", "onset_s,offset_s,label", "0,1,x", "a.wav"),
    ("generic-seq", {}, "all.csv", "label,onset_s,offset_s,notated_path", "x,0,1,a.wav", "a.wav"),
    (
        "birdnet",
        {},
        "a.csv",
        "Start (s),End (s),Scientific name,Common name,Confidence,File",
        "0,3,Troglodytes troglodytes,Wren,0.9,a.wav",
        "a.wav",
    ),
    ("kaleidoscope", {}, "cluster.csv", "IN FILE,OFFSET,DURATION,TOP1MATCH", "a.wav,0,1,x", "a.wav"),
    ("raven", {}, "a.txt", "Begin Time (s)\tEnd Time (s)\tcall", "0\t1\tup", "a.wav"),
]
Spoil = Callable[[str, str, str], bytes]
SPOILT: dict[str, Spoil] = {
    "empty": lambda header, row, sep: b"",
    "header only": lambda header, row, sep: header.encode() + b"\n",
    "one column": lambda header, row, sep: header.split(sep)[0].encode() + b"\nx\n",
    "other separator": lambda header, row, sep: f"{header}\n{row}\n".replace(sep, ";").encode(),
    "column twice": lambda header, row, sep: f"{header}{sep}{header.split(sep)[0]}\n{row}{sep}z\n".encode(),
    "row too long": lambda header, row, sep: f"{header}\n{row}{sep}x{sep}y\n".encode(),
    "latin-1": lambda header, row, sep: f"{header}\n{row}ñ\n".encode("latin-1"),
    "utf-16, cut": lambda header, row, sep: f"{header}\n{row}\n".encode("utf-16")[:-1],
    "row too short": lambda header, row, sep: f"{header}\n{row.rpartition(sep)[0]}\n".encode(),
    "zero bytes": lambda header, row, sep: f"{header}\n{row}\n\0\0\n".encode(),
}


@pytest.mark.parametrize("case", TABLES, ids=lambda case: f"{case[0]}{case[1].get('task', '')}")
def test_tables_that_are_spoilt(tmp_path: Path, touch, case) -> None:
    name, options, file, header, row, audio = case
    corpus = get_corpus(name)
    path = tmp_path / file
    touch(tmp_path, audio)
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = f"{header}\n{row}\n".encode()
    path.write_bytes(plain)
    expected = corpus.read(tmp_path, **options).table
    sep = b"\t" if name == "raven" else b","
    for same in (
        b"\xef\xbb\xbf" + plain,
        plain.replace(b"\n", b"\r\n"),
        plain.rstrip(),
        plain + b"\n",
        plain.replace(b"\n", b"\n\n"),  # blank rows, of which readers must not lose count
        b"# made by hand\n" + plain.replace(b"\n", b"\n# seen" + 2 * sep + b"\n") + sep * 3 + b"\n",
        plain.replace(b"\n", sep + b"\n"),
        plain.decode().encode("utf-16"),
    ):
        path.write_bytes(same)
        assert corpus.read(tmp_path, **options).table.equals(expected)
    for what, spoil in SPOILT.items():
        path.write_bytes(spoil(header, row, "\t" if name == "raven" else ","))
        with pytest.raises(ManifestError) as error:
            corpus.read(tmp_path, **options)
        assert str(tmp_path) in str(error.value), what
        assert "\n" not in str(error.value), what
        assert "\0" not in str(error.value), what
    path.unlink()
    path.mkdir()
    with pytest.raises(ManifestError):
        corpus.read(tmp_path, **options)
    if not corpus.takes_file:
        with pytest.raises(ManifestError, match="got a file; give its folder"):
            corpus.read(tmp_path / audio, **options)


@pytest.mark.parametrize(
    "case", [c for c in TABLES if c[0] not in ("simple-seq", "raven")], ids=lambda c: c[0]
)
def test_an_empty_file_name_is_told_by_its_row(tmp_path: Path, touch, case) -> None:
    name, options, file, header, row, audio = case
    touch(tmp_path, audio)
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = header.split(",")
    names_audio = next(
        c for c in ("filename", "path", "File Name", "IN FILE", "File", "notated_path", "id") if c in columns
    )
    cells = row.split(",")
    cells[columns.index(names_audio)] = ""
    path.write_text(f"{header}\n{row}\n{','.join(cells)}\n")
    with pytest.raises(ManifestError, match=rf"row 3: '{names_audio}' is empty"):
        get_corpus(name).read(tmp_path, **options)


def test_a_row_that_stands_twice_is_kept_and_told(tmp_path: Path, touch, write) -> None:
    write(tmp_path / "annotations.csv", "path,species\n" + "Walrus/1.wav,Walrus\n" * 2)
    found = get_corpus("watkins").read(touch(tmp_path, "Walrus/1.wav"))
    assert list(found.table["utterance_id"]) == ["Walrus/1", "Walrus/1~2"]
    assert found.notes[0] == "1 row names the same sound as an earlier row: Walrus/1~2"


def test_a_folder_is_no_audio(tmp_path: Path, write) -> None:
    write(tmp_path / "annotations.csv", "path,species\nWalrus,Walrus\n")
    (tmp_path / "Walrus").mkdir()
    with pytest.raises(ManifestError, match=r"1 of 1 audio file .* missing"):
        get_corpus("watkins").read(tmp_path)


@pytest.mark.parametrize(
    "name", ["20160907_Twin1_marmoset3", "20160907_Twin0_marmoset1", "20160907_Twin1_marmoset12"]
)
def test_a_marmoset_that_cannot_be(tmp_path: Path, write, name: str) -> None:
    write(tmp_path / "labels.csv", f"filename,start,end,duration,calltype,caller\n{name},0,1,1,2,0\n")
    with pytest.raises(ManifestError, match=rf"got '{name}'; correct that name"):
        get_corpus("imv").read(tmp_path)


GOOD = '{"path":"wav/a.wav","length":4,"annotations":[{"st":0,"ed":1,"label":"AMRE"}]}'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (GOOD.replace('"length":4', '"length":NaN').encode(), "line 1: expected an object"),
        (GOOD.replace('"length":4', '"length":1e15').encode(), "line 1: expected an object"),
        (GOOD.replace('"length":4', '"length":-4').encode(), "line 1: expected an object"),
        (GOOD.replace("wav/a.wav", "").encode(), "line 1: expected an object"),
        (GOOD.replace('"st":0', '"st":NaN').encode(), "st and ed must be finite"),
        (f"{GOOD}\n[1]".encode(), "line 2: expected an object"),
        (GOOD.replace("AMRE", "ñ").encode("latin-1"), "train.jsonl: not UTF-8 text"),
        (b"", "found no utterances"),
    ],
)
def test_detection_lines(tmp_path: Path, touch, content: bytes, said: str) -> None:
    touch(tmp_path, "wav/a.wav")
    (tmp_path / "train.jsonl").write_bytes(b"\xef\xbb\xbf" + GOOD.encode() + b"\r\n")
    assert len(get_corpus("beans").read(tmp_path, task="dcase").table) == 3
    (tmp_path / "train.jsonl").write_bytes(content)
    with pytest.raises(ManifestError, match=said) as error:
        get_corpus("beans").read(tmp_path, task="dcase")
    assert "\n" not in str(error.value)


def hear(root: Path, marks: str, *, kind: str = "event") -> Path:
    (root / "16000/train").mkdir(parents=True)
    (root / "16000/train/a.wav").write_text("no audio")
    (root / "train.json").write_text(f'{{"a.wav": {marks}}}')
    (root / "task_metadata.json").write_text(
        f'{{"embedding_type": "{kind}", "prediction_type": "multiclass", "splits": null}}'
    )
    return root


@pytest.mark.parametrize(
    "marks", ["null", "5", '["x"]', '[{"label": "x"}]', '[{"label": "x", "start": "a", "end": 1}]']
)
def test_hear_events_that_are_none(tmp_path: Path, marks: str) -> None:
    for options in ({}, {"window_s": 1.0, "shift_s": 1.0}):
        root = hear(tmp_path / str(len(options)), marks)
        with pytest.raises(ManifestError, match=r"train.json: 'a.wav': expected"):
            get_corpus("hear").read(root, **options)


@pytest.mark.parametrize("marks", ["null", "5", '[{"label": "x"}]', '["x", "y"]', "[]"])
def test_hear_labels_that_are_none(tmp_path: Path, marks: str) -> None:
    with pytest.raises(ManifestError, match=r"train.json: 'a.wav': expected"):
        get_corpus("hear").read(hear(tmp_path, marks, kind="scene"))


@pytest.mark.parametrize(("window_s", "shift_s"), [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (float("nan"), 1.0)])
def test_hear_windows_that_cannot_be(tmp_path: Path, window_s: float, shift_s: float) -> None:
    root = hear(tmp_path, '[{"label": "x", "start": 0, "end": 1}]')
    with pytest.raises(ConfigError, match="expected seconds above 0"):
        get_corpus("hear").read(root, window_s=window_s, shift_s=shift_s)


def test_audio_whose_length_or_rate_is_needed_but_cannot_be_read(tmp_path: Path, write) -> None:
    root = hear(tmp_path / "hear", '[{"label": "x", "start": 0, "end": 1}]')
    with pytest.raises(ManifestError, match=r"a.wav: cannot be decoded .* cut into windows; replace"):
        get_corpus("hear").read(root, window_s=1.0, shift_s=1.0)
    pytest.importorskip("crowsetta")
    write(tmp_path / "timit/a.phn", "0 800 h#\n")
    write(tmp_path / "timit/a.wav", "no audio")
    with pytest.raises(ManifestError, match=r"a.wav: cannot be decoded .* sample rate is not known"):
        get_corpus("timit").read(tmp_path / "timit")


@pytest.mark.parametrize(
    "options",
    [
        {"label": "path"},
        {"label": "status"},
        {"label": "file"},
        {"pattern": "(?P<path>x)"},
        {"pattern": "(?P<split>x)"},
    ],
)
def test_class_folders_with_names_that_are_taken(tmp_path: Path, touch, options: dict[str, str]) -> None:
    with pytest.raises(UserError, match="corpus folder: --"):
        get_corpus("folder").read(touch(tmp_path, "x/a.wav"), **options)
