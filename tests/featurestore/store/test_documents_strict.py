"""Documents of a store that somebody made: sound checksums over contents that no writer of ours gives."""

from __future__ import annotations

import json
import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import google_crc32c
import numpy as np
import pandas as pd
import pytest
import zarr
from numcodecs.zstd import Zstd

from featurestore.backends.storage import MemoryStorage
from featurestore.calls import Call
from featurestore.errors import CorruptData, ManifestError
from featurestore.exchange import export, format_names, import_
from featurestore.format import layer_arrays, row_arrays
from featurestore.format.decoding import NOT_STORED, parsed_json
from featurestore.format.row_arrays import CLAIMS_ARRAY, HISTORY_ARRAY
from featurestore.manifest.table import from_csv_text, from_table, to_csv_text
from featurestore.store import fast_shards
from featurestore.store.claims import Claims, clear_done_claims, live_claims
from featurestore.store.history import MOST_CHARACTERS, read_history, record_call
from featurestore.store.ledger import Record
from featurestore.store.reader import Features
from featurestore.store.stored_manifest import manifest_object, read_stored_manifest
from featurestore.upkeep.verification import verify_key
from tests.featurestore.exchange.keys import read_key, write_key
from tests.featurestore.made_key import key

MIB = 2**20


def checked(body: bytes) -> bytes:
    return body + struct.pack("<I", google_crc32c.value(body))


def packed(body: bytes) -> bytes:
    return checked(bytes(Zstd(level=3).encode(body)))


def texts(*values: str, n: int | None = None) -> bytes:
    parts = [struct.pack("<I", len(v.encode())) + v.encode() for v in values]
    return struct.pack("<I", len(values) if n is None else n) + b"".join(parts)


def shard(*chunks: bytes | None, n_chunks: int, places: list[tuple[int, int]] | None = None) -> bytes:
    body = b"".join(c or b"" for c in chunks)
    index, at = [], 0
    for chunk in (*chunks, *[None] * (n_chunks - len(chunks))):
        index.append((NOT_STORED, NOT_STORED) if chunk is None else (at, len(chunk)))
        at += len(chunk or b"")
    if places is not None:
        index[: len(places)] = places
    return body + checked(b"".join(struct.pack("<QQ", *place) for place in index))


def peak_of(call: Callable[[], object]) -> int:
    """Most bytes that were held at once."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def put(folder: Path, document: bytes, objects: dict[str, bytes]) -> Any:
    for name, data in {"zarr.json": document, **objects}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return zarr.open_array(folder, mode="r")


@pytest.mark.parametrize("n_rows", [3, row_arrays.ROWS_PER_CHUNK + 5])
@pytest.mark.parametrize("array", row_arrays.ROW_TYPES)
def test_columns_read_as_zarr_reads_them(tmp_path: Path, array: str, n_rows: int) -> None:
    dtype = row_arrays.ROW_TYPES[array][0]
    numbers = np.arange(n_rows) % 7
    values = np.array([f"ñ{i}\n" * i for i in numbers], dtype=object) if dtype == "string" else numbers
    objects = row_arrays.encode_column(array, values.astype(object if dtype == "string" else dtype))
    plain = {name.removeprefix(f"{array}/"): data for name, data in objects.items()}
    theirs = np.asarray(put(tmp_path, row_arrays.column_document(array, n_rows), plain)[:])
    ours = row_arrays.decode_column(array, n_rows, objects)
    assert ours.tolist() == theirs.tolist()
    assert ours.dtype == (object if dtype == "string" else theirs.dtype)
    nothing = np.asarray(put(tmp_path / "none", row_arrays.column_document(array, n_rows), {})[:])
    np.testing.assert_array_equal(row_arrays.decode_column(array, n_rows, {}), nothing)


def test_an_object_of_pruned_rows_and_texts_read_as_zarr_reads_them(tmp_path: Path) -> None:
    name = "utterance_id/c/0"
    assert (
        row_arrays.decode_column("utterance_id", 3, {name: row_arrays.empty_object("utterance_id")}).tolist()
        == [""] * 3
    )
    sealed = ["", "{}", *[""] * 300, "ñ"]
    objects = row_arrays.encode_sealed(sealed)
    theirs = np.asarray(put(tmp_path, row_arrays.sealed_document(len(sealed)), objects)[:])
    for copy in range(row_arrays.SEALED_COPIES):
        ours = row_arrays.decode_sealed(copy, {0: objects[f"c/{copy}/0"]})
        assert ours[: len(sealed)] == theirs[copy].tolist() == sealed
        assert not any(ours[len(sealed) :])
    for compress in (True, False):
        text = "año\0\r\n" * 1000
        assert (
            row_arrays.decode_text(row_arrays.encode_text(text, compress=compress), compress=compress) == text
        )


STREAMED = b"\x28\xb5\x2f\xfd\x00\x58" + b"\x29\x00\x00" + b"\x01\x00\x00\x00\x00"  # a frame without a size


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "too few for a checksum"),
        (checked(texts("a"))[:-1], "checksum do not match"),
        (checked(texts("a", n=2**32 - 1)), "expected 1 texts, 9 bytes claim to hold 4294967295"),
        (checked(texts("a", "b")), "expected 1 texts"),
        (checked(texts(n=0)), "expected 1 texts"),
        (checked(texts("a") + b"x"), "do not end where"),
        (checked(struct.pack("<II", 1, 2**31) + b"x"), "truncated"),
        (checked(struct.pack("<II", 1, 2) + b"\xff\xfe"), "utf-8"),
    ],
)
def test_a_text_that_is_none_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        row_arrays.decode_text(data, compress=False)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (checked(texts("a")), "not a Zstandard frame"),
        (checked(STREAMED), "does not say how much it holds"),
        (checked(bytes(Zstd().encode(texts("a" * 999)))[:-3]), "not decompressed"),
        (packed(texts("a" * 17 * MIB)), "decompresses to more than 16,777,216 bytes"),
        (checked(b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 2**62) + b"\0" * 9), "more than"),
    ],
)
def test_a_compressed_text_that_is_none_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        row_arrays.decode_text(data)


def test_what_shrinks_well_and_is_small_is_read() -> None:
    status = np.full(150_000, f"{'failed: no such file':120}", dtype=object)
    objects = row_arrays.encode_column("status", status)
    assert sum(map(len, objects.values())) < 20_000  # of 18.6 MB
    assert (row_arrays.decode_column("status", len(status), objects) == status).all()


def test_records_of_a_key_of_which_every_row_failed_are_read() -> None:
    rows, n_units = 2200, 32  # of one message: 20 MB that shrink 400 times
    names = [json.dumps([f"{unit * rows + i}" for i in range(rows)]) for unit in range(n_units)]
    written = [name + json.dumps([f"failed: {'x' * 260}"] * rows) for name in names]
    data = row_arrays.encode_sealed(written)["c/0/0"]
    assert sum(map(len, written)) > max(16 * MIB, 200 * len(data))
    assert row_arrays.decode_sealed(0, {0: data})[:n_units] == written


IDS = [f"u{i}" for i in range(row_arrays.ROWS_PER_CHUNK)]
GOOD = packed(texts(*IDS))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\0" * 2000, "too few for the index"),
        (shard(GOOD, n_chunks=128)[:-1] + b"\0", "checksum"),
        (shard(GOOD, n_chunks=128, places=[(0, len(GOOD)), (0, len(GOOD))]), "one in another"),
        (shard(GOOD, n_chunks=128, places=[(2**63, 2**63)]), "outside of the shard"),
        (shard(GOOD, n_chunks=128, places=[(0, len(GOOD) + 1)]), "outside of the shard"),
        (shard(packed(texts(*IDS[:-1])), n_chunks=128), "expected 8192 texts"),
        (shard(packed(texts(*IDS, n=2**32 - 1)), n_chunks=128), "expected 8192 texts"),
    ],
)
def test_a_column_that_is_none_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        row_arrays.decode_column("utterance_id", 5, {"utterance_id/c/0": data})


def test_a_column_of_other_numbers_or_another_place_is_refused() -> None:
    data = shard(packed(b"\0" * 4 * (row_arrays.ROWS_PER_CHUNK + 1)), n_chunks=128)
    with pytest.raises(ValueError, match="expected 8192 numbers of 4 bytes"):
        row_arrays.decode_column("n_frames", 5, {"n_frames/c/0": data})
    for name in ("utterance_id/c/1", "utterance_id/c/00", "utterance_id/c/²"):
        with pytest.raises(ValueError, match="no object of a column of 5 rows"):
            row_arrays.decode_column("utterance_id", 5, {name: shard(GOOD, n_chunks=128)})
    # A column of a hundred million rows, of which one object is there, and damaged: nothing is taken for it.
    assert peak_of(lambda: _refused(10**8, shard(GOOD, n_chunks=128)[:-1])) < MIB


def _refused(n_rows: int, data: bytes) -> None:
    with pytest.raises(ValueError, match="checksum"):
        row_arrays.decode_column("utterance_id", n_rows, {"utterance_id/c/0": data})


def test_sealed_chunks_that_cannot_be_read_are_told_where_asked() -> None:
    n = row_arrays.UNITS_PER_CHUNK
    written = [f"record {i}" for i in range(3 * n)]
    data = bytearray(row_arrays.encode_sealed(written)["c/1/0"])
    frame = b"\x28\xb5\x2f\xfd"
    data[data.index(frame, data.index(frame) + 4) + 20] ^= 1  # in one of three inner chunks
    with pytest.raises(ValueError, match="checksum"):
        row_arrays.decode_sealed(1, {0: bytes(data)})
    lost: set[int] = set()
    found = row_arrays.decode_sealed(1, {0: bytes(data)}, lost)
    assert len(lost) == n
    assert [t for i, t in enumerate(found[: 3 * n]) if i not in lost] == [
        t for i, t in enumerate(written) if i not in lost
    ]
    assert not any(found[i] for i in lost)
    data[-1] ^= 1  # the index: nothing of the object can be found
    lost = set()
    row_arrays.decode_sealed(1, {0: bytes(data)}, lost)
    assert lost == set(range(row_arrays.UNITS_PER_OBJECT))
    with pytest.raises(ValueError, match="more than 1048576 units"):
        row_arrays.decode_sealed(0, {10**9: bytes(data)}, set())


def test_bombs_take_no_memory(tmp_path: Path) -> None:
    claim = checked(texts("a", n=2**32 - 1))
    frame = checked(b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 2**62) + b"\0" * 9)
    columns_of_text = ",".join(["path", *(f"c{i}" for i in range(100_000))]) + "\n" + "a\n" * 100_000

    def try_all() -> None:
        for call in (
            lambda: row_arrays.decode_text(claim, compress=False),
            lambda: row_arrays.decode_text(frame),
            lambda: row_arrays.decode_sealed(0, {10**12: frame}),
        ):
            with pytest.raises(ValueError, match=r"claim|more than"):
                call()

    assert peak_of(try_all) < MIB

    def read() -> None:
        with pytest.raises(ManifestError, match="columns are not those"):
            from_csv_text(columns_of_text, source="s")

    assert peak_of(read) < 32 * MIB


RECORD: dict[str, Any] = {
    "unit": 3,
    "first_row": 6,
    "n_rows": 2,
    "layers": [0, 12],
    "objects": {
        layer_arrays.layer_chunk(k, 3): {"n_bytes": 9, "crc32c": "00ff00ff", "sums": "0123abcd"}
        for k in (0, 12)
    },
    "rows": {
        "utterance_id": ["a", "b"],
        "status": ["ok", "failed: año\n"],
        "n_frames": [7, 0],
        "duration_s": [0.5, None],
        "audio_hash": ["h", ""],
    },
    "audio_s": 1.0,
    "elapsed_s": 2,
    "started_at": "2026-01-01T00:00:00+00:00",
    "host": "n1",
    "versions": {"python": "3.11"},
    "places": {
        "path": ["/a.wav"],
        "n_bytes": [1],
        "mtime_ns": [1],
        "file": [0, 0],
        "start_s": [0.0, 1],
        "end_s": [1.0, -1.0],
        "channel": [-1, 0],
    },
}
LAYER_0 = layer_arrays.layer_chunk(0, 3)


def changed(path: str, value: Any) -> str:
    raw = json.loads(json.dumps(RECORD))
    *folders, last = path.split(".")
    at = raw
    for name in folders:
        at = at[name]
    if value is KeyError:
        del at[last]
    else:
        at[last] = value
    return json.dumps(raw)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("places", KeyError),
        ("places", None),
        ("host", KeyError),
        ("a later version's", {"x": [[1]]}),
        ("rows.utterance_id", ["a", ""]),
        ("rows.status", ["ok", "ok"]),
        ("rows.n_frames", [-1, None]),
        (f"objects.{LAYER_0}", {"n_bytes": 0, "crc32c": "00000000"}),
        (
            "objects",
            RECORD["objects"]
            | {layer_arrays.frames_chunk(k, 3): RECORD["objects"][LAYER_0] for k in (0, 12)},
        ),
    ],
)
def test_a_record_of_ours_is_read(path: str, value: Any) -> None:
    record = Record.from_json(changed(path, value), unit=3)
    assert Record.from_json(record.to_json()) == record
    assert len(record.places_of_rows) == 2


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("unit", -1),
        ("unit", True),
        ("unit", 3.0),
        ("unit", 4),  # its objects are those of unit 3
        ("n_rows", 0),
        ("n_rows", 2**20 + 1),
        ("n_rows", 3),
        ("first_row", -1),
        ("first_row", None),
        ("layers", [12, 0]),
        ("layers", [0, 0]),
        ("layers", [0, 1000]),
        ("layers", [0, True]),
        ("layers", 0),
        ("objects", {}),
        ("objects", []),
        ("objects", {LAYER_0: RECORD["objects"][LAYER_0]}),
        ("objects", RECORD["objects"] | {"../../x": RECORD["objects"][LAYER_0]}),
        ("objects", RECORD["objects"] | {layer_arrays.frames_chunk(0, 3): RECORD["objects"][LAYER_0]}),
        (f"objects.{LAYER_0}.n_bytes", 2**40),
        (f"objects.{LAYER_0}.n_bytes", -1),
        (f"objects.{LAYER_0}.n_bytes", "9"),
        (f"objects.{LAYER_0}.crc32c", "00FF00FF"),
        (f"objects.{LAYER_0}.crc32c", 1),
        (f"objects.{LAYER_0}.sums", "x"),
        (f"objects.{LAYER_0}", None),
        ("rows", None),
        ("rows", []),
        ("rows.utterance_id", ["a"]),
        ("rows.utterance_id", "ab"),
        ("rows.utterance_id", ["a", "a"]),
        ("rows.utterance_id", ["a", None]),
        ("rows.utterance_id", ["a", ["b"]]),
        ("rows.status", ["ok", "fine"]),
        ("rows.status", ["ok", ""]),
        ("rows.status", ["ok", 1]),
        ("rows.n_frames", [7, -2]),
        ("rows.n_frames", [7, 2**31]),
        ("rows.n_frames", [7, True]),
        ("rows.n_frames", [7, 0.0]),
        ("rows.duration_s", [0.5, -1]),
        ("rows.duration_s", [0.5, 10**400]),
        ("rows.duration_s", [0.5, "1"]),
        ("rows.audio_hash", ["h", 0]),
        ("rows.audio_hash", KeyError),
        ("audio_s", "1"),
        ("audio_s", 10**400),
        ("host", []),
        ("versions", {"a": [[]]}),
        ("versions", "x"),
        ("places", []),
        ("places.file", [0]),
        ("places.file", KeyError),
        ("places.path", [["/a.wav"]]),
        ("places.channel", [0, True]),
    ],
)
def test_a_record_that_is_none_is_refused(path: str, value: Any) -> None:
    with pytest.raises(ValueError, match="not a ledger record"):
        Record.from_json(changed(path, value))


@pytest.mark.parametrize("text", ["", "[]", "null", "1", "[" * 100_000, '{"unit": NaN}', '{"a": 1e999}', "{"])
def test_a_text_that_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Record.from_json(text)


def test_a_record_in_another_units_place_is_refused() -> None:
    assert Record.from_json(json.dumps(RECORD), unit=3).unit == 3
    with pytest.raises(ValueError, match="that of unit 3 in the place of unit 2"):
        Record.from_json(json.dumps(RECORD), unit=2)
    for constant in ("NaN", "Infinity", "-Infinity"):
        with pytest.raises(ValueError, match=f"{constant} is not JSON"):
            Record.from_json(json.dumps(RECORD).replace("0.5", constant))
    with pytest.raises(ValueError, match="duration_s out of range"):
        Record.from_json(json.dumps(RECORD).replace("0.5", "1e999"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("file", [0, 1]),
        ("file", [0, -1]),
        ("file", [0, "0"]),
        ("file", [0, 0.5]),
        ("path", [1]),
        ("n_bytes", [2**63]),
        ("n_bytes", []),
        ("mtime_ns", [1.5]),
        ("start_s", [0, -1]),
        ("start_s", [0]),
        ("start_s", ["0", "1"]),
        ("end_s", [1, 1e11]),
        ("channel", [0, 2**31]),
    ],
)
def test_places_that_are_none_are_damage(name: str, value: list[Any]) -> None:
    record = Record.from_json(changed(f"places.{name}", value))
    with pytest.raises(CorruptData, match="its places are damaged"):
        _ = record.places_of_rows


def manifest_text(*rows: str, header: str = "") -> str:
    return "\n".join([header or "utterance_id,path,start_s,end_s,channel,split,group,call", *rows, ""])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "columns are not those"),
        (manifest_text("a,b,c", header="path,b,c"), "columns are not those"),
        (
            manifest_text("u,/a,,,,,,x", header="utterance_id,path,start_s,end_s,channel,split,group,group"),
            "columns",
        ),
        (
            manifest_text("u,/a,,,,,,x", header="utterance_id,path,start_s,end_s,channel,split,group,status"),
            "own",
        ),
        (manifest_text("u,/a,,,,,,x", "v,/b"), "row 3 has another number of cells than the 8"),
        (manifest_text("u,/a,,,,,,x,y"), "row 2 has another number of cells"),
        (manifest_text("u,/a,,,,,,x", ""), "row 3 has another number of cells"),
        (manifest_text('u,"/a,,,,,,x'), "not a readable table"),
        (manifest_text("u,/a,,,,,,x", "u,/b,,,,,,x"), "an utterance_id stands twice"),
        (manifest_text("u,/a,x,,,,,x"), "start_s 'x' is not a number of seconds"),
        (manifest_text("u,/a,,1e300,,,,x"), "end_s '1e300' is not a number of seconds"),
        (manifest_text("u,/a,,,1e300,,,x"), "channel '1e300'; expected a whole number"),
        (manifest_text("u,/a,,,,dev,,x"), "split 'dev'"),
    ],
)
def test_a_stored_manifest_that_is_none_is_refused(text: str, said: str) -> None:
    with pytest.raises(ManifestError, match=said):
        from_csv_text(text, source="s")


def test_what_we_write_of_a_manifest_is_read_back() -> None:
    awkward = ['"', '""', ",", "a\nb", "a\r\nb", "\r", "ñ\0", '","', "x" * 200_000, "", " "]
    table = pd.DataFrame(
        {"utterance_id": [f"{i}{a}" for i, a in enumerate(awkward)], "path": "/a.wav", 'la"b,el': awkward}
    )
    manifest = from_table(table, source="s", base=Path("/"), check_files=False)
    text = to_csv_text(manifest)
    pd.testing.assert_frame_equal(from_csv_text(text, source="s").table, manifest.table)
    # As the first versions wrote it: quotes where they are needed.
    early = manifest_text('"u,1",/a.wav,0.5,,1,train,g,"x ""y"""')
    assert from_csv_text(early, source="s").table["call"].tolist() == ['x "y"']


def test_many_problems_are_counted_and_few_kept() -> None:
    text = manifest_text(*[f"u{i},,x,,,dev,," for i in range(5_000)])
    with pytest.raises(ManifestError, match=r"^s: 15000 problems: row 2: .*; and 14980 more$"):
        from_csv_text(text, source="s")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Features:
    """A key of 3 units whose rows are ok, of which two hold what they must not."""
    values = np.random.default_rng(0).standard_normal((150, 4))
    values[70, 2] = np.inf
    values[140, 0] = np.nan
    return key(tmp_path_factory.mktemp("made") / "store", values)


@pytest.mark.parametrize("name", format_names())
def test_rows_that_are_ok_and_no_numbers_are_not_exported(made: Features, tmp_path: Path, name: str) -> None:
    with pytest.raises(CorruptData) as error:
        export(made.storage.url, tmp_path / "x", format=name)
    assert f"m/d, layer 0: utterance {'u0070'!r} is ok and holds NaN or infinity; `fs verify`" in str(
        error.value
    )
    assert os.listdir(tmp_path) == []


def test_rows_that_are_ok_and_no_numbers_are_damage_and_predict_nothing(made: Features) -> None:
    from studies.prediction import _predict

    report = verify_key(made.storage, "m", "d")
    found = [(f.kind, f.unit) for f in report.findings if f.is_damage]
    assert found == [("wrong", 1), ("wrong", 2)]
    fails = pytest.raises(CorruptData, match="utterance 'u0070' is ok and holds NaN or infinity")
    card = SimpleNamespace(layers=(0,), classes=("a", "b"), n_scores=2, reads_frames=False, is_numbers=False)
    probe: Any = SimpleNamespace(
        card=card,
        scores=lambda x: np.zeros((len(x), 2)),
    )
    with fails:
        _predict(probe, made, None)


def test_rows_that_failed_and_hold_numbers_are_not_handed_on(made: Features) -> None:
    layer = made.layer(0)
    layer._ok = layer._ok.copy()
    layer._ok[3] = False
    with pytest.raises(CorruptData, match="utterance 'u0003' failed and yet holds numbers"):
        layer.sound(slice(0, 64))
    assert layer.sound(slice(4, 64)).shape == (60, 1, 4)


def test_a_stored_manifest_that_is_no_text_is_one_line(made: Features) -> None:
    storage = MemoryStorage("strict-manifest")
    body = manifest_text("u,/a,x,,,dev,,") + "é" * 500
    for data in (packed(texts("a" * 17 * MIB)), packed(texts(body)), packed(b""), b"\0" * 20):
        storage.put(manifest_object(made.info), data)
        with pytest.raises(CorruptData, match=r"puts it back$") as error:
            read_stored_manifest(storage, made.info)
        assert len(str(error.value)) < 400


def test_values_stored_otherwise_than_the_key_says_are_not_read(made: Features, tmp_path: Path) -> None:
    values = np.arange(640, dtype=np.float32).reshape(160, 4)
    copy = key(tmp_path / "store", values)
    document = tmp_path / "store/m/d/layer_00/zarr.json"
    assert copy.layer(0).numpy([5])[0, 0].tolist() == values[5].tolist()
    raw = json.loads(document.read_text())
    raw["fill_value"] = 0.0
    document.write_text(json.dumps(raw))
    _read_as(copy, [5], "not what the key's attributes call for")
    raw["fill_value"], raw["shape"][0] = "NaN", 10
    document.write_text(json.dumps(raw))
    _read_as(copy, [5], "not what the key's attributes call for")
    document.write_text("[" * 100_000)
    _read_as(copy, [5], "cannot be read")


def _read_as(features: Features, rows: list[int], said: str) -> None:
    # One row of a shard of one chunk: read by Zarr, if not whole.
    layer = features.layer(0)
    layer._is_worth_whole = lambda rows: False  # type: ignore[method-assign]
    with pytest.raises(CorruptData, match=said):
        layer.numpy(rows)


def test_frames_of_the_next_unit_are_never_handed_out(tmp_path: Path) -> None:
    room = layer_arrays.room_for(8 * 30, 6, "float32")
    shape = layer_arrays.FrameShape(n_features=6, unit_frames=room, dtype="float32")
    write_key(tmp_path, frames=shape, layers=(0,), failed=())
    layer = read_key(tmp_path).layer(0)
    assert layer.frames_of(slice(6, 8)).shape == (21 + 22, 6)
    layer.n_frames = layer.n_frames.copy()
    layer.n_frames[7] = room
    with pytest.raises(
        CorruptData, match=f"frames_00 cannot be read .*more frames than the {room} of a shard"
    ):
        layer.frames_of(slice(6, 8))
    document = tmp_path / "tiny/calls/frames_00/zarr.json"
    document.write_text(document.read_text().replace("little", "big"))
    with pytest.raises(CorruptData, match="not what the key's attributes call for"):
        layer.frames_of(slice(0, 2))


SMALL = layer_arrays.LayerShape(n_functionals=1, n_features=4, unit_rows=8, codec="small", chunk_rows=4)
FAST = layer_arrays.LayerShape(n_functionals=1, n_features=4, unit_rows=8, codec="fast", chunk_rows=4)
RAW = layer_arrays.LayerShape(n_functionals=1, n_features=4, unit_rows=8, codec="raw")
FRAMES = layer_arrays.FrameShape(n_features=4, unit_frames=8, dtype="float32", chunk_frames=4)


def blosc(n_bytes: int, block_bytes: int, n_compressed: int) -> bytes:
    return checked(b"\x02\x01\x94\x04" + struct.pack("<III", n_bytes, block_bytes, n_compressed) + b"\0" * 8)


@pytest.mark.parametrize(
    ("shape", "data", "said"),
    [
        (
            SMALL,
            shard(blosc(2**31 - 1, 64, 24), n_chunks=2),
            "a Blosc chunk of 2147483647 bytes of values, expected 64",
        ),
        (SMALL, shard(blosc(64, 64, 2**31), n_chunks=2), "does not fit its chunk"),
        (SMALL, shard(blosc(64, 2**31, 24), n_chunks=2), "does not fit its chunk"),
        (SMALL, shard(checked(b"\0" * 9), n_chunks=2), "too short for a Blosc header"),
        (FAST, shard(checked(b"\0" * 63), n_chunks=2), "holds 63 bytes of values, expected 64"),
        (FAST, shard(checked(b"\0" * 64), n_chunks=2, places=[(0, 2**62)]), "outside of the shard"),
        (FAST, shard(checked(b"\0" * 64), n_chunks=2, places=[(0, 68), (0, 68)]), "one in another"),
        (FAST, b"", "too few for the index"),
        (RAW, checked(b"\0" * 64), "holds 64 bytes of values, expected 128"),
        (RAW, checked(b"\0" * 256), "holds 256 bytes of values, expected 128"),
    ],
)
def test_a_shard_that_is_none_is_refused(shape: layer_arrays.LayerShape, data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        layer_arrays.decode_layer(shape, data)
    with pytest.raises(ValueError, match=r"."):
        fast_shards.decode_layer_into(shape, data, 8, np.empty((8, 1, 4), np.float32))
    if shape is FAST:
        with pytest.raises(ValueError, match=said):
            layer_arrays.decode_frames(FRAMES, data)


@pytest.mark.parametrize("shape", [SMALL, FAST, RAW])
def test_shards_of_ours_pass(shape: layer_arrays.LayerShape) -> None:
    values = np.random.default_rng(0).standard_normal((5, 1, 4)).astype(np.float32)
    assert (
        layer_arrays.decode_layer(shape, layer_arrays.encode_layer(shape, values))[:5].tolist()
        == values.tolist()
    )
    frames = layer_arrays.decode_frames(FRAMES, layer_arrays.encode_frames(FRAMES, values[:, 0]))
    assert frames[:5].tolist() == values[:, 0].tolist()


CLAIMS_OF_NOBODY = [
    "",
    "[" * 100_000,
    "[]",
    '"x"',
    '{"host": 1, "pid": 1}',
    '{"host": "n1", "pid": 1e999}',
    '{"host": "n1", "pid": true}',
    '{"host": "n1", "pid": 0}',
    '{"host": "n1", "pid": -1}',
    '{"host": "n1", "pid": 4294967296}',
    '{"host": "n1", "pid": 1, "worker": ' + " " * 10_000 + "1}",
]


@pytest.mark.parametrize("text", CLAIMS_OF_NOBODY)
def test_a_claim_that_is_none_holds_nobody_up(text: str) -> None:
    storage = MemoryStorage("strict-claims")
    name = f"m/d/{row_arrays.entry_name(CLAIMS_ARRAY, 0)}"
    storage.put(name, row_arrays.encode_text(text, compress=False))
    storage.put(f"m/d/{CLAIMS_ARRAY}/c/²", b"")  # a digit to str.isdigit
    assert live_claims(storage, "m/d") == set()
    clear_done_claims(storage, "m/d", lambda unit: False)
    assert storage.get(name) is None
    storage.put(name, checked(texts("a", n=2**32 - 1)))
    claims = Claims(storage, "m/d")
    assert not claims.holds(0)
    assert claims.take(0)
    claims.release(0)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "[]",
        '{"words": "extract"}',
        '{"words": {"slot": 1}}',
        '{"words": [["x"]]}',
        '{"words": [{"slot": ["x"]}]}',
        '{"words": ["extract"], "table": []}',
        '{"words": ["extract"], "table": {"path": "/m", "n_rows": 1e999, "sha256": "", "made_by": []}}',
        '{"words": ["extract"], "table": '
        '{"path": [], "n_rows": 1, "sha256": "", "made_by": [], "is_changed": false}}',
        '{"words": ["extract", "' + "x" * MOST_CHARACTERS + '"]}',
    ],
)
def test_a_call_that_is_none_is_one_without_words(text: str) -> None:
    storage = MemoryStorage("strict-history")
    storage.put(f"m/d/{row_arrays.entry_name(HISTORY_ARRAY, 0)}", row_arrays.encode_text(text))
    assert read_history(storage, "m/d") == [Call(words=())]


def test_a_call_longer_than_is_kept_is_noted_without_its_words(made: Features) -> None:
    storage = MemoryStorage("strict-long")
    record_call(storage, made.info, Call(words=("extract", "x" * MOST_CHARACTERS)))
    record_call(storage, made.info, Call(words=("extract", "y")))
    assert [c.words for c in read_history(storage, "m/d")] == [(), ("extract", "y")]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("duration_s", "inf", "duration_s is inf; expected 0 to 1e\\+10"),
        ("duration_s", "-1", "duration_s is -1"),
        ("n_frames", "-2", "n_frames is -2; expected -1 to"),
    ],
)
def test_no_import_writes_a_record_that_none_can_read(
    tmp_path: Path, name: str, value: str, said: str
) -> None:
    np.savez(tmp_path / "a.npz", **{"0": np.zeros((1, 2), np.float32)})
    (tmp_path / "m.csv").write_text("utterance_id,path\nu,/a.wav\n")
    (tmp_path / "ids.csv").write_text(f"position,utterance_id,{name}\n0,u,{value}\n")
    given = {"manifest": tmp_path / "m.csv", "id_map": tmp_path / "ids.csv", "model": "m", "dataset": "d"}
    with pytest.raises(CorruptData, match=rf"row 0 \('u'\): {said}"):
        import_(tmp_path / "a.npz", tmp_path / "store", format="npz", **given)  # type: ignore[arg-type]
    assert not (tmp_path / "store").exists()


def test_json_is_standard_json() -> None:
    assert parsed_json(b'{"a": [1, 2.5, null]}') == {"a": [1, 2.5, None]}
    assert parsed_json(r'"\ud83d\ude00"') == "😀"
    for text in ("[" * 100_000, "NaN", "[-Infinity]", "", "9" * 5000, '{"path": ["a\\ud800"]}'):
        with pytest.raises(ValueError, match=r"."):
            parsed_json(text)
