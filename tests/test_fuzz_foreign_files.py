"""Files of other programs, damaged in every way: an answer or one line, quickly, and never more.

Annotations, archives, tables, headers of recorders, networks and their cards, interchange formats. What `fs`
writes itself is in `tests/test_fuzz_documents.py`.
"""

from __future__ import annotations

import io
import json
import random
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from extractors.models.networks.card import read_card
from featurestore.archives.interface import ArchiveError
from featurestore.archives.opened import open_archive, open_bytes
from featurestore.audio.recorder_header import read_recorder_header
from featurestore.corpora.beans import _locate
from featurestore.corpora.recorder_columns import with_recorder_columns
from featurestore.corpora.registry import get_corpus
from featurestore.errors import StoreError, UserError
from featurestore.exchange import export
from featurestore.exchange.interface import ReadOptions
from featurestore.exchange.registry import get_format
from featurestore.manifest.table import Manifest, from_table, read_manifest
from tests.featurestore.archives.packed import KINDS, write_archive
from tests.featurestore.corpora.test_elan import CALLER, CALLS, eaf
from tests.featurestore.corpora.test_sonic_visualiser import BOX, svl
from tests.featurestore.exchange.keys import write_key
from tests.featurestore.recorder_files import guano, wamd, write_wav
from tests.fuzz import Damaged, changed, flipped, require_answer_or_one_line

SAMPLE, ALL = 5, 400
amounts = pytest.mark.parametrize("n", [SAMPLE, pytest.param(ALL, marks=pytest.mark.minutes)])
# Of Parquet the whole takes some seconds.
of_parquet = pytest.mark.parametrize("n", [SAMPLE, pytest.param(ALL, marks=pytest.mark.slow)])
Read = Callable[[bytes], Any]


def reading(path: Path, read: Callable[[], Any]) -> Read:
    def put_and_read(data: bytes) -> Any:
        path.write_bytes(data)
        return read()

    return put_and_read


# --- annotations ---


@dataclass(frozen=True)
class Foreign:
    """A file of a format, small and whole; `text` where a change of its pieces says more than flips do."""

    corpus: str
    name: str
    content: bytes | str | Any
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def data(self) -> bytes:
        if isinstance(self.content, bytes):
            return self.content
        text = self.content if isinstance(self.content, str) else json.dumps(self.content)
        return text.encode()


RESULT = {
    "id": "a", "from_name": "call", "to_name": "audio", "type": "labels",
    "value": {"start": 0.5, "end": 1.25, "channel": 0, "labels": ["trill", "phee"]},
}  # fmt: skip
TASKS = [
    {
        "id": 1,
        "data": {"audio": "/data/upload/3/5f1d0c0a-a.wav", "site": "north"},
        "annotations": [
            {"id": 3, "completed_by": {"email": "x@y"}, "was_cancelled": False, "result": [RESULT]}
        ],
    }
]
MIN = [{"audio": "a.wav", "id": 1, "call": [{"start": 0.5, "end": 1.25, "labels": ["trill"]}], "age": "old"}]
SONG = (
    "<?xml version='1.0'?><Sequences><NumSequence>1</NumSequence><Sequence><WaveFileName>a.wav</WaveFileName>"
    "<Position>0</Position><Length>900</Length><NumNote>1</NumNote><Note><Position>0</Position>"
    "<Length>160</Length><Label>0</Label></Note></Sequence></Sequences>"
)
GRID = (
    'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = 3\ntiers? <exists>\nsize = 1\n'
    'item []:\n    item [1]:\n        class = "IntervalTier"\n        name = "calls"\n        xmin = 0\n'
    "        xmax = 3\n        intervals: size = 1\n        intervals [1]:\n            xmin = 0\n"
    '            xmax = 1.5\n            text = "b ""c"""\n'
)
FORMATS = [
    Foreign("elan", "a.eaf", eaf(CALLS, CALLER)),
    Foreign(
        "sonic-visualiser", "a.svl", svl(BOX, 'frame="0" value="900" duration="100" extent="9" label="x"')
    ),
    Foreign("sonic-visualiser", "a.csv", "TIME,DURATION,VALUE,LABEL\n0.5,1.25,3,up\n"),
    Foreign("label-studio", "a.json", TASKS),
    Foreign("label-studio", "a.json", MIN),
    Foreign("textgrid", "a.TextGrid", GRID),
    Foreign("birdsong-recognition-dataset", "a.xml", SONG),
    Foreign("raven", "a.txt", "Selection\tBegin Time (s)\tEnd Time (s)\tcall\n1\t0\t1.5\tup\n"),
    Foreign("audacity", "a.txt", "0.1\t0.4\t01\n\\\t6441.06\t12296.57\n3,5\t4,25\tdog, two\n"),
    Foreign("simple-seq", "a.csv", "onset_s,offset_s,label\n0.25,0.5,01\n"),
    Foreign("generic-seq", "all.csv", "label,onset_s,offset_s,notated_path\n01,0,1,a.wav\n"),
    Foreign("kaleidoscope", "cluster.csv", "IN FILE,OFFSET,DURATION,Fmin,TOP1MATCH\na.wav,0,1,900,x\n"),
    Foreign(
        "birdnet",
        "a.csv",
        "Start (s),End (s),Scientific name,Common name,Confidence,File\n0,3,Parus major,Tit,0.9,a.wav\n",
    ),
    Foreign("table", "m.csv", "file,kind\na.wav,up\n", {"columns": "path=file"}),
]


def ids(foreign: Foreign) -> str:
    return f"{foreign.corpus}-{foreign.name}"


def pieces(text: str, rng: random.Random, n: int, more: tuple[str, ...] = ()) -> Iterator[Damaged]:
    """Texts of others put in at any place, over some of what stood there."""
    odd = (
        '"',
        ",",
        "\t",
        "\n",
        "\r",
        "\0",
        "nan",
        "-1",
        "1e308",
        "9" * 400,
        "é",
        "²",
        "a/" * 3000,
        "../../x",
    )
    for _ in range(n):
        at, piece, cut = rng.randrange(len(text)), rng.choice((*odd, *more)), rng.choice((0, 0, 1, 5, 40))
        yield Damaged((text[:at] + piece + text[at + cut :]).encode(), f"{piece[:20]!r} for {cut} at {at}")


@amounts
@pytest.mark.parametrize("foreign", FORMATS, ids=ids)
def test_annotations(tmp_path: Path, foreign: Foreign, n: int) -> None:
    if foreign.corpus == "birdsong-recognition-dataset":
        pytest.importorskip("crowsetta")
    for name in ("a.wav", "Wave/a.wav"):
        write_wav(tmp_path / name)
    file, rng = tmp_path / foreign.name, random.Random(n)

    def read() -> Any:
        found = get_corpus(foreign.corpus).read(tmp_path, **foreign.options)
        return found.table.to_csv()

    read_it = reading(file, read)
    read_it(foreign.data)
    require_answer_or_one_line(flipped(foreign.data, rng, n), read_it)
    if isinstance(foreign.content, str):
        tags = (
            ("<a>", "</", "<!DOCTYPE x [<!ENTITY a 'b'>]>", "&a;", "<a b='1'/>")
            if "<" in foreign.content
            else ()
        )
        require_answer_or_one_line(pieces(foreign.content, rng, n, tags), read_it)
    else:
        require_answer_or_one_line(changed(foreign.content, rng, 4 * n, json.dumps), read_it)


def test_annotations_that_would_grow(tmp_path: Path) -> None:
    """Entities, as many names of labels as rows, names of audio that no system takes, URLs that are none."""
    write_wav(tmp_path / "a.wav")
    laughs = "".join(f"<!ENTITY a{i + 1} '{f'&a{i};' * 10}'>" for i in range(12))
    bomb = f"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a0 'ha'>{laughs}]>"
    regions = [RESULT | {"id": f"r{i}", "from_name": f"label {i}"} for i in range(6000)]
    many = [TASKS[0] | {"annotations": [{"result": regions}]}]
    tiers = "".join(
        f'<TIER TIER_ID="t{i}" PARENT_REF="calls"><ANNOTATION><REF_ANNOTATION ANNOTATION_ID="b{i}" '
        f'ANNOTATION_REF="a{i}"><ANNOTATION_VALUE>x</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION></TIER>'
        for i in range(6000)
    )
    spans = "".join(
        f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{i}" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2">'
        "<ANNOTATION_VALUE>x</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>"
        for i in range(6000)
    )
    wide = eaf(f'<TIER TIER_ID="calls">{spans}</TIER>{tiers}')
    named = partial(json.dumps)
    cases = [
        ("elan", "a.eaf", bomb + "<ANNOTATION_DOCUMENT>&a12;</ANNOTATION_DOCUMENT>", "document type"),
        ("sonic-visualiser", "a.svl", bomb + "<sv>&a12;</sv>", "document type"),
        ("label-studio", "a.json", named(many), "6,001 names of labels for 6,000 rows"),
        ("elan", "a.eaf", wide, "6,001 names of labels for 6,000 rows"),
        (
            "label-studio",
            "a.json",
            named([{**MIN[0], "audio": "d/" * 5000 + "a.wav"}]),
            "more than a path has",
        ),
        ("label-studio", "a.json", named([{**MIN[0], "audio": "x" * 3000 + ".wav"}]), "1 of 1 audio file"),
        ("label-studio", "a.json", named([{**MIN[0], "audio": "http://[a.wav"}]), "1 of 1 audio file"),
    ]
    if find_spec("crowsetta"):
        cases.append(
            ("birdsong-recognition-dataset", "a.xml", bomb + "<Sequences>&a12;</Sequences>", "document type")
        )
    for corpus, name, text, said in cases:
        file = tmp_path / name
        damaged = iter([Damaged(text.encode(), f"{corpus}: {said}")])

        def read(corpus: str = corpus, said: str = said) -> Any:
            with pytest.raises(UserError, match=said) as error:
                get_corpus(corpus).read(tmp_path)
            raise error.value

        assert require_answer_or_one_line(damaged, reading(file, read)) == (0, 1)
        file.unlink()


def test_names_and_numbers_that_nothing_takes_are_one_line(tmp_path: Path) -> None:
    """Audio of such a name is looked for, and not found, as any other."""
    write_wav(tmp_path / "Wave" / "a.wav")
    long, deep = "9" * 400, "a/" * 3000
    cases = [
        (
            "elan",
            "a.eaf",
            str(eaf(CALLS, CALLER)).replace('TIME_VALUE="', f'TIME_VALUE="{long}', 1),
            "whole mill",
        ),
        ("sonic-visualiser", "a.csv", "TIME,DURATION,VALUE,,\n", "column '' stands more than once"),
    ]
    if find_spec("crowsetta"):
        song = SONG.replace("a.wav", f"a.wav{long}")
        cases.append(("birdsong-recognition-dataset", "a.xml", song, "1 of 1 audio file"))
    for corpus, name, text, said in cases:
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=said):
            get_corpus(corpus).read(tmp_path)
    (tmp_path / "m.csv").write_text(f"path\n{deep}a.wav\n")
    with pytest.raises(UserError, match="row 2: no audio file"):
        read_manifest(tmp_path / "m.csv")
    assert _locate(tmp_path, f"{long}.wav") == f"{long}.wav"


# --- headers of recorders ---


@amounts
def test_headers_of_recorders(tmp_path: Path, n: int) -> None:
    notes = guano(
        "Make: X", "Loc Position: 42.5 -71.25", "TE: 1", "Samplerate: 48000", "Timestamp: 2024-05-01"
    )
    file = write_wav(tmp_path / "a.wav", notes, wamd((1, b"SM3"), (6, b"WGS84,42.5,N,71.25,W")))
    rows = pd.DataFrame({"file": ["a.wav"], "path": [str(file)]})

    def read() -> Any:
        table, said = with_recorder_columns(rows, tmp_path)
        return table.to_csv(), said

    require_answer_or_one_line(flipped(file.read_bytes(), random.Random(n), 4 * n), reading(file, read))


@pytest.mark.parametrize(
    "chunk",
    [
        guano("Loc Position: 1" + " " * 900_000 + "x"),
        guano("Loc Position: " + "1" * 900_000),
        wamd((6, b"\x0b" * 900_000 + b"x")),
        wamd((6, b"a,1" + b" " * 900_000)),
        guano("TE: " + "9" * 900_000, "Samplerate: 1"),
        guano("Make: X", "Samplerate: " + "9" * 9000),
        guano("Make: X", "Samplerate: ²"),
    ],
    ids=("blanks", "digits", "no comma", "blanks at the end", "factor", "rate", "no digit"),
)
def test_long_fields_of_recorders_are_read_in_one_go(tmp_path: Path, chunk: tuple[bytes, bytes]) -> None:
    file = write_wav(tmp_path / "a.wav", chunk)
    rows = pd.DataFrame({"file": ["a.wav"], "path": [str(file)]})

    def read(_: bytes) -> Any:
        header = read_recorder_header(file)
        assert header is not None
        assert not header.latitude
        try:
            said = "".join(with_recorder_columns(rows, tmp_path)[1])
        except UserError as error:
            said = str(error)
        assert len(said) < 1000

    require_answer_or_one_line(iter([Damaged(b"", "a long field")]), read)


# --- archives ---


def read_all(path: Path) -> list[bytes]:
    """Every member of an archive that can be opened."""
    try:
        found = []
        for member in open_archive(str(path)).members():
            with open_bytes(f"{path}::{member}") as file:
                found.append(file.read())
        return found
    except ArchiveError as error:
        raise StoreError(str(error)) from error


@amounts
@pytest.mark.parametrize("kind", [*(kind for kind in KINDS if kind != "parquet"), "bzip2", "lzma"])
def test_archives(tmp_path: Path, kind: str, n: int) -> None:
    fuzz_archive(tmp_path, kind, n)


@of_parquet
def test_archives_in_parquet(tmp_path: Path, n: int) -> None:
    """Among them are some at which Arrow aborts, in a process apart."""
    fuzz_archive(tmp_path, "parquet", n)


def fuzz_archive(tmp_path: Path, kind: str, n: int) -> None:
    for name in ("x", "y"):
        (tmp_path / name).write_bytes(b"0123456789" * 20)
    files = {name: tmp_path / name for name in ("x", "y")}
    path = tmp_path / f"a.{kind if kind in KINDS else 'zip'}"
    if kind in KINDS:
        write_archive(kind, path, files)
    else:
        method = zipfile.ZIP_BZIP2 if kind == "bzip2" else zipfile.ZIP_LZMA
        with zipfile.ZipFile(path, "w", method) as zipped:
            for name, file in files.items():
                zipped.write(file, name)
    intact = read_all(path)
    assert intact == [b"0123456789" * 20] * 2
    damaged = flipped(path.read_bytes(), random.Random(n), 8 * n)
    require_answer_or_one_line(damaged, reading(path, lambda: read_all(path)))


def packed_zeros(method: int, says: int) -> bytes:
    """A zip file of a few kilobytes with a gigabyte of zeros, or what it says instead."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as zipped:
        info = zipfile.ZipInfo("a.wav")
        info.compress_type = method
        with zipped.open(info, "w", force_zip64=True) as member:
            for _ in range(64):
                member.write(bytes(1 << 24))
        info.file_size = says
    return out.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_file_takes_the_memory_that_it_says_and_no_more(tmp_path: Path, method: int) -> None:
    path = tmp_path / "a.zip"
    bombs = iter([Damaged(packed_zeros(method, 1000), "a gigabyte for a kilobyte")])
    assert require_answer_or_one_line(bombs, reading(path, lambda: read_all(path))) == (0, 1)


def tar_header(name: str, kind: bytes, size: bytes) -> bytes:
    """A header of a tar file with a size of one's choice, and its right checksum."""
    head = bytearray(tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT))
    head[124:136], head[156:157] = size.ljust(12, b"\0"), kind
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


def extended(record: bytes) -> bytes:
    return tar_header("x", tarfile.XHDTYPE, b"%o" % len(record)) + record + bytes(-len(record) % 512)


PLAIN = tar_header("a.wav", tarfile.REGTYPE, b"5") + b"hello".ljust(512, b"\0")
TARS = {
    "a size below zero": PLAIN + tar_header("b", tarfile.REGTYPE, b"\xff" * 10 + b"\xfc\x00") + PLAIN,
    "a size below zero in its records": PLAIN + extended(b"16 size=-102400\n") + PLAIN,
    "digits without an end": extended(b"9" * 500_000) + PLAIN,
    "records that are none": extended(b"1 " * 500_000 + b"=") + PLAIN,
    "headers in headers": (tar_header("x", tarfile.GNUTYPE_LONGNAME, b"1") + b"y".ljust(512, b"\0")) * 3000
    + PLAIN,
    "a sparse file cut short": tar_header("x", tarfile.GNUTYPE_SPARSE, b"5")[:482] + b"\1" + bytes(29),
    "a map without an end": extended(b"22 GNU.sparse.major=1\n" + b"22 GNU.sparse.minor=0\n") + PLAIN,
}


@pytest.mark.parametrize("name", TARS)
def test_crafted_tars_end(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.tar"
    crafted = iter([Damaged(TARS[name] + bytes(1024), name)])
    require_answer_or_one_line(crafted, reading(path, lambda: read_all(path)))


# --- tables ---


@amounts
def test_manifests(tmp_path: Path, n: int) -> None:
    (tmp_path / "a.wav").touch()
    text = 'path,utterance_id,start_s,end_s,channel,split,kind\na.wav,x,0,1.5,0,train,"up, 1"\n'
    text += "a.wav,y,1,2,,val,2\n"
    read = reading(tmp_path / "m.csv", lambda: read_manifest(tmp_path / "m.csv").table.to_csv())
    require_answer_or_one_line(flipped(text.encode(), random.Random(n), n), read)
    require_answer_or_one_line(pieces(text, random.Random(n), n), read)


@of_parquet
def test_manifests_in_parquet(tmp_path: Path, n: int) -> None:
    (tmp_path / "a.wav").touch()
    table = pd.DataFrame(
        {"path": ["a.wav"] * 2, "utterance_id": ["x", "y"], "age": [1, None], "kind": ["a", "b"]}
    )
    buffer = io.BytesIO()
    table.to_parquet(buffer)
    read = reading(tmp_path / "m.parquet", lambda: read_manifest(tmp_path / "m.parquet").table.to_csv())
    require_answer_or_one_line(flipped(buffer.getvalue(), random.Random(n), n), read)


def wide_and_long() -> Iterator[tuple[str, bytes]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    yield "csv", b"path," + b"," * 40_000 + b"z\n" + b"a\n" * 20_000
    yield "csv", b"path" + b"," * 60_000 + b"\n" + b"a.wav\n" * 20_000 + b"a.wav" + b"," * 50_000 + b"x\n"
    yield "csv", b"path" + b"," * 60_000 + b"\r" + b"a.wav\r" * 20_000
    yield "csv", b'"path"' + b"," * 60_000 + b"\na.wav\n"
    yield (
        "csv",
        b"path," + ",".join(f"c{i}" for i in range(20_000)).encode() + b"\na.wav" + b"," * 20_000 + b"\n",
    )
    for column in (
        pa.array(["a.wav"] * 5_000_000),
        pa.array(["x" * 100_000] * 20_000),
        pa.array([[1] * 100] * 90_000),
    ):
        buffer = io.BytesIO()
        pq.write_table(pa.table({"path": column}), buffer, compression="zstd")
        yield "parquet", buffer.getvalue()


@pytest.mark.slow
def test_tables_that_would_grow(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    for i, (suffix, data) in enumerate(wide_and_long()):
        path = tmp_path / f"m{i}.{suffix}"
        assert len(data) < 2_000_000
        one = iter([Damaged(data, f"table {i}, {len(data):,} bytes")])
        require_answer_or_one_line(one, reading(path, partial(read_manifest, path)))


@pytest.mark.slow
def test_a_data_set_of_the_hub_has_no_more_rows_than_its_file_can_hold(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def audio(n: int) -> pa.StructArray:
        cells = [pa.repeat(pa.scalar(b"RIFF", pa.binary()), n), pa.repeat("a.wav", n)]
        return pa.StructArray.from_arrays(cells, ["bytes", "path"])

    def write(name: str, n: int, **columns: pa.Array) -> None:
        table = pa.table({"audio": audio(n), **columns})
        pq.write_table(table, tmp_path / f"{name}.parquet", compression="zstd", store_schema=False)

    # Thirty thousand times the very same hundred thousand letters, alone and in lists.
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 30_000, pa.int32()), ["x" * 100_000])
    write("rows", 2_000_000)
    write("texts", 30_000, kind=texts)
    write("lists", 30_000, kinds=pa.ListArray.from_arrays(pa.array(range(30_001), pa.int32()), texts))
    for name, said in (
        ("rows", "rows, it says 2,000,000"),
        ("texts", "bytes, it has more"),
        ("lists", "bytes, it has more"),
    ):
        path = tmp_path / f"{name}.parquet"
        assert path.stat().st_size < 100_000

        def read(_: bytes, path: Path = path, said: str = said) -> Any:
            with pytest.raises(UserError, match=said) as error:
                get_corpus("hf").read(path)
            raise error.value

        assert require_answer_or_one_line(iter([Damaged(b"", name)]), read) == (0, 1)


# --- networks and their cards ---


@amounts
def test_cards_of_networks(tmp_path: Path, n: int) -> None:
    card = {
        "name": "net", "sample_rate_hz": 16000, "input": {"name": "w", "axes": ["batch", "samples"]},
        "window": {"samples": 16000, "padding": "right"}, "scaling": {"peak": 1.0, "remove_mean": True},
        "layers": [{"tensor": "a", "axes": ["batch", "time", "feature"]}], "licence": "MIT",
    }  # fmt: skip
    file, rng = tmp_path / "c.yaml", random.Random(n)
    read = reading(file, lambda: read_card(file, "onnx:x").computation())
    require_answer_or_one_line(flipped(yaml.safe_dump(card).encode(), rng, n), read)
    require_answer_or_one_line(changed(card, rng, 4 * n, json.dumps), read)


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"sample_rate_hz": 10**10}, "sample_rate_hz"),
        ({"window": {"samples": 10**10}}, "window.samples"),
        ({"grid": {"hop_samples": 10**10, "receptive_samples": 400}}, "grid.hop_samples"),
        ({"grid": {"hop_samples": 160, "receptive_samples": 10**10}}, "grid.receptive_samples"),
    ],
)
def test_no_card_asks_for_gigabytes_of_noise(tmp_path: Path, changes: dict[str, Any], place: str) -> None:
    """Forty of them: a network is run once on as many samples as its card says."""
    layers = [{"tensor": "a", "axes": ["batch", "time", "feature"]}]
    card = {"sample_rate_hz": 16000, "layers": layers} | changes
    (tmp_path / "c.yaml").write_text(json.dumps(card))
    with pytest.raises(UserError, match=rf"c.yaml: {place}: expected at most .* got 10000000000"):
        read_card(tmp_path / "c.yaml", "onnx:x")


@amounts
def test_networks(tmp_path: Path, n: int) -> None:
    """Their structure is read here; what computes them is native code, and is trusted like a program."""
    pytest.importorskip("onnx")
    pytest.importorskip("ai_edge_litert")
    from extractors.models.networks.onnx_file import OnnxNetwork
    from extractors.models.networks.tflite_graph import TfliteGraph
    from tests.onnx_networks import save_frame_net

    file, _ = save_frame_net(tmp_path)

    def onnx() -> Any:
        try:
            found = OnnxNetwork(file)
        except ValueError as error:
            raise StoreError(str(error)) from error
        return found.inputs, found.tensors, found.weight_files

    require_answer_or_one_line(flipped(file.read_bytes(), random.Random(n), 4 * n), reading(file, onnx))

    def tflite(data: bytes) -> Any:
        try:
            graph = TfliteGraph(data)
            return graph.up_to(graph.results[-1:])
        except ValueError as error:
            raise StoreError(str(error)) from error

    require_answer_or_one_line(flipped(tiny_tflite(), random.Random(n), 4 * n), tflite)


def tiny_tflite() -> bytes:
    """A TFLite file that adds its input to itself."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    tensors = []
    for name in (b"in", b"out"):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = name, [1, 4], 0
        tensors.append(tensor)
    add, code, graph, model = schema.OperatorT(), schema.OperatorCodeT(), schema.SubGraphT(), schema.ModelT()
    add.opcodeIndex, add.inputs, add.outputs = 0, [0, 0], [1]
    graph.tensors, graph.inputs, graph.outputs, graph.operators = tensors, [0], [1], [add]
    model.version, model.operatorCodes, model.subgraphs, model.buffers = (
        3,
        [code],
        [graph],
        [schema.BufferT()],
    )
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize("name", ["../w", "x" * 300, "a/b", "", "w\0", "."])
def test_weights_of_a_network_lie_beside_it(tmp_path: Path, name: str) -> None:
    onnx = pytest.importorskip("onnx")
    from extractors.models.networks.onnx_file import OnnxNetwork
    from tests.onnx_networks import save_frame_net

    file, _ = save_frame_net(tmp_path)
    model = onnx.ModelProto.FromString(file.read_bytes())
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=name)
    file.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match="expected a file beside it"):
        OnnxNetwork(file)


# --- interchange ---


def read_sources(path: Path, format: str, manifest: Manifest | None) -> bool:  # noqa: A002
    """All that `fs import` reads of a file before it writes."""
    options = ReadOptions(manifest=manifest, id_map=None, key=None, layers=None, functionals=None)
    with get_format(format).open(path, options) as sources:  # type: ignore[misc]
        for source in sources:
            for _ in source.read(np.arange(len(source.ids))):
                pass
    return True


@amounts
@pytest.mark.parametrize("packed", [False, True])
def test_npz(tmp_path: Path, n: int, packed: bool) -> None:
    rng = np.random.default_rng(0)
    entries = {str(i): rng.standard_normal((2, 4)).astype(np.float32) for i in range(2)}
    file = tmp_path / "x.npz"
    (np.savez_compressed if packed else np.savez)(file, **entries)  # type: ignore[arg-type]
    table = pd.DataFrame({"path": ["/a.wav", "/b.wav"], "utterance_id": ["a", "b"]})
    manifest = from_table(table, source="m.csv", base=Path("/"), check_files=False)
    read = reading(file, lambda: read_sources(file, "npz", manifest))
    require_answer_or_one_line(flipped(file.read_bytes(), random.Random(n), 8 * n), read)


def npy(header: str, data: bytes = b"") -> bytes:
    """Bytes of an array file with any text for a header."""
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + data


@pytest.mark.parametrize(
    "entry",
    [
        npy("-" * 9000 + "1"),
        npy("(" * 9000),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, "),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-2, -4)}\n", bytes(32)),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 10**9)}\n", bytes(32)),
        npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2, 4)}\n", bytes(32)),
        b"\x93NUMPY\x09\x00",
    ],
)
def test_headers_of_arrays_that_are_none(tmp_path: Path, entry: bytes) -> None:
    file = tmp_path / "x.npz"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("0.npy", entry)
    table = pd.DataFrame({"path": ["/a.wav"], "utterance_id": ["a"]})
    manifest = from_table(table, source="m.csv", base=Path("/"), check_files=False)
    one = iter([Damaged(b"", repr(entry[:60]))])
    found = require_answer_or_one_line(one, lambda _: read_sources(file, "npz", manifest))
    assert found == (0, 1)


@amounts
def test_hdf5(tmp_path: Path, n: int) -> None:
    write_key(tmp_path / "a", n=4, unit_rows=4, failed=())
    file = export(tmp_path / "a", tmp_path / "x.h5", format="hdf5").out
    read = reading(file, lambda: read_sources(file, "hdf5", None))
    require_answer_or_one_line(flipped(file.read_bytes(), random.Random(n), 2 * n), read)


@pytest.mark.parametrize("what", ["values", "texts"])
def test_arrays_of_hdf5_take_what_their_file_can_hold(tmp_path: Path, what: str) -> None:
    """A chunk of values that says it is two gigabytes; a hundred thousand times the very same text."""
    h5py = pytest.importorskip("h5py")
    file = tmp_path / "a.h5"
    n = 1 << 28 if what == "values" else 100_000
    with h5py.File(file, "w") as made:
        group = made.create_group("m/d")
        shape = (n, 1, 2)
        layer = group.create_dataset("layer_00", shape, "<f4", chunks=shape, compression="gzip")
        if what == "values":
            layer.id.write_direct_chunk((0, 0, 0), bytes(100))
        else:
            layer[:] = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
            texts = group.create_dataset("utterance_id", (n,), h5py.string_dtype(), chunks=(n,))
            texts[0] = "x" * 10_000
            made.flush()
            _, cells = texts.id.read_direct_chunk((0,))
            texts.id.write_direct_chunk((0,), cells[: len(cells) // n] * n)
    assert file.stat().st_size < 4_000_000
    one = iter([Damaged(b"", what)])
    assert require_answer_or_one_line(one, lambda _: read_sources(file, "hdf5", None)) == (0, 1)
