"""The calls that made a key, kept inside it, and the call that wrote a table, beside it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import zarr

from featurestore.backends.storage import MemoryStorage, Storage
from featurestore.calls import BESIDE_SUFFIX, Call, Slot, TableRecord, describe_table, option_words
from featurestore.corpora.conversion import ManifestRequest, make_manifest
from featurestore.errors import ConfigError
from featurestore.format.row_arrays import HISTORY_ARRAY
from featurestore.manifest.table import read_manifest, write_manifest
from featurestore.store.history import MOST_CALLS, read_histories, read_history, record_call
from featurestore.store.key import read_key
from featurestore.store.writer import KeyWriter, delete_key, open_key
from featurestore.upkeep.key_copy import copy_key
from featurestore.upkeep.new_labels import attach_manifest
from featurestore.upkeep.verification import verify_key
from tests.conftest import write_clips
from tests.featurestore.scenario import LAYERS, N_ROWS, fill, manifest_of, request, values_of, write

KEY = "tiny/calls"
TABLE = TableRecord(path="/m.csv", n_rows=3, sha256="ab" * 32)
EXTRACT = Call(words=("extract", "--manifest", Slot.TABLE, "--store", Slot.STORE, "ü\n'"), table=TABLE)
ATTACH = Call(words=("manifest", "attach", Slot.STORE, Slot.TABLE), table=TABLE)
ENTRY = f"{KEY}/{HISTORY_ARRAY}/c/0"


def begin(storage: Storage) -> KeyWriter:
    manifest = manifest_of(N_ROWS)
    return open_key(storage, request(), manifest, manifest.table["utterance_id"].to_numpy(object))[0]


@pytest.fixture
def recorded(storage: Storage) -> Storage:
    """A key that was extracted and attached to."""
    writer = begin(storage)
    record_call(storage, writer.info, EXTRACT)
    write(writer, {k: values_of(k) for k in LAYERS})
    record_call(storage, writer.info, ATTACH)
    return storage


def kinds(storage: Storage, **options: bool) -> list[tuple[str, str]]:
    return [(f.kind, f.object) for f in verify_key(storage, "tiny", "calls", **options).findings]


def test_calls_come_back_as_they_were_in_their_order(recorded: Storage) -> None:
    info = read_key(recorded, "tiny", "calls")
    assert read_history(recorded, KEY) == [EXTRACT, ATTACH]
    assert not any(c.follows_unrecorded for c in read_history(recorded, KEY))
    before = dict(recorded.objects(""))
    record_call(recorded, info, ATTACH)  # the same again: not a byte
    assert dict(recorded.objects("")) == before
    record_call(recorded, info, EXTRACT)
    other = Call(words=EXTRACT.words, table=TableRecord(path="/m.csv", n_rows=3, sha256="cd" * 32))
    record_call(recorded, info, other)  # the same words of another table
    assert read_histories(recorded, [KEY, "no/such"]) == {
        KEY: [EXTRACT, ATTACH, EXTRACT, other],
        "no/such": [],
    }
    array = zarr.open_array(recorded.zarr_store(), path=f"{KEY}/{HISTORY_ARRAY}", mode="r")
    assert (array.shape, array.metadata.dimension_names) == ((MOST_CALLS,), ("call",))
    assert json.loads(str(array[:2][1])) == ATTACH.to_json()


def test_writers_at_once_lose_no_call(storage: Storage) -> None:
    info = begin(storage).info
    calls = [Call(words=("extract", f"{i}")) for i in range(12)]
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda call: record_call(storage, info, call), [*calls, *calls]))
    found = [c.words for c in read_history(storage, KEY)]
    assert set(found) == {c.words for c in calls}
    assert all(a != b for a, b in itertools.pairwise(found))


def test_a_key_that_was_there_before_says_that_its_beginning_is_not_known(storage: Storage) -> None:
    fill(storage)
    info = read_key(storage, "tiny", "calls")
    assert kinds(storage) == []  # a store of an earlier version is intact
    record_call(storage, info, EXTRACT)
    record_call(storage, info, ATTACH)
    assert [c.follows_unrecorded for c in read_history(storage, KEY)] == [True, False]


def test_what_only_changes_a_key_cannot_be_its_beginning(storage: Storage) -> None:
    record_call(storage, begin(storage).info, ATTACH)
    assert read_history(storage, KEY)[0].follows_unrecorded


def test_verify_knows_the_history_and_finds_what_is_wrong_with_it(recorded: Storage) -> None:
    assert kinds(recorded) == []
    whole = recorded.get(ENTRY)
    assert whole is not None
    for broken in (whole[:-9] + bytes([whole[-9] ^ 8]) + whole[-8:], None):
        recorded.delete(ENTRY) if broken is None else recorded.put(ENTRY, broken)
        assert kinds(recorded) == [("damaged", ENTRY)]
        assert verify_key(recorded, "tiny", "calls", repair=True).is_mended
        assert kinds(recorded) == []
        # Known to be lost, and not passed over in silence.
        assert read_history(recorded, KEY) == [Call(words=()), ATTACH]
    recorded.delete(f"{KEY}/{HISTORY_ARRAY}/zarr.json")
    assert kinds(recorded) == [("missing", f"{KEY}/{HISTORY_ARRAY}/zarr.json")]
    assert verify_key(recorded, "tiny", "calls", repair=True).is_mended
    assert kinds(recorded) == []
    for name in ("note.txt", "07", "99999", "²"):
        recorded.put(f"{KEY}/{HISTORY_ARRAY}/c/{name}", b"?")
        assert kinds(recorded) == [("foreign", f"{KEY}/{HISTORY_ARRAY}/c/{name}")]
        assert len(read_history(recorded, KEY)) == 2
        recorded.delete(f"{KEY}/{HISTORY_ARRAY}/c/{name}")


def test_a_copy_has_the_history_and_a_new_key_none(
    recorded: Storage, tmp_path: Path, new_storage: Callable[[], Storage]
) -> None:
    target = MemoryStorage(f"copy-{tmp_path}")
    for _ in range(2):
        copy_key(recorded, target, "tiny", "calls")
        assert read_history(target, KEY) == [EXTRACT, ATTACH]
        assert kinds(target) == []
        record_call(target, read_key(target, "tiny", "calls"), EXTRACT)  # undone by copying again
    delete_key(recorded, "tiny", "calls")
    begin(recorded)
    assert read_history(recorded, KEY) == []


def test_attach_notes_itself_with_its_table(recorded: Storage, tmp_path: Path) -> None:
    info, table = read_key(recorded, "tiny", "calls"), tmp_path / "labels.csv"
    write_manifest(manifest_of(N_ROWS).table.assign(kind="x"), table)
    attach_manifest(recorded, [info], read_manifest(table, check_files=False))
    last = read_history(recorded, KEY)[-1]
    key = ("--model", "tiny", "--dataset", "calls")
    assert last.words == ("manifest", "attach", Slot.STORE, Slot.TABLE, *key)
    assert last.table == describe_table(table, N_ROWS)
    assert last.table is not None
    assert (last.table.path, last.table.made_by) == (str(table), ())


def test_a_full_history_takes_no_more(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featurestore.store.history.MOST_CALLS", 3)
    info = begin(storage).info
    for i in range(5):
        record_call(storage, info, Call(words=("extract", str(i))))
    assert [c.words[1] for c in read_history(storage, KEY)] == ["0", "1", "2"]


def corpus(tmp_path: Path) -> Path:
    for kind in ("a", "b"):
        write_clips(tmp_path / "audio" / kind, [900, 1000], labels=False).unlink()
    return tmp_path / "audio"


def test_a_manifest_says_which_call_wrote_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "map.csv").write_text("label,from,to\nkind,a,c\n")
    monkeypatch.chdir(tmp_path / "sub")
    request = ManifestRequest(
        corpus="folder",
        source=Path("../audio"),
        out=Path("m.csv"),
        options={"label": "kind"},
        derive=("x=kind:(.)", "y=kind:[ab]"),
        mapping=Path("../map.csv"),
        allow_missing=True,
    )
    make_manifest(request)
    record = describe_table("m.csv", 4)
    folder = str(tmp_path)
    assert record.path == f"{folder}/sub/m.csv"
    assert record.made_by[:5] == ("manifest", "folder", f"{folder}/audio", "--out", Slot.TABLE)
    given = [w for w in record.made_by[5:] if isinstance(w, str)]
    assert given == [
        *("--allow-missing", "--label", "kind", "--map", f"{folder}/map.csv"),
        *("--derive", "x=kind:(.)", "--derive", "y=kind:[ab]"),
    ]
    assert not record.is_changed
    assert TableRecord.from_json(json.loads(json.dumps(record.to_json()))) == record
    with Path("m.csv").open("a") as file:
        file.write("\n")
    assert describe_table("m.csv", 4).is_changed
    with pytest.raises(ConfigError, match="changed since fs wrote it"):  # somebody's work
        make_manifest(request)
    Path("m.csv").unlink()
    make_manifest(request)
    assert not describe_table("m.csv", 4).is_changed


def test_what_stands_beside_a_manifest_and_is_not_ours_stays(tmp_path: Path) -> None:
    beside = tmp_path / f"m.csv{BESIDE_SUFFIX}"
    for text in ("my notes", '{"words": 3, "sha256": ""}', "[]"):
        beside.write_text(text)
        with pytest.raises(ConfigError, match=r"m\.csv\.command\.json, and this file is not one of ours"):
            make_manifest(ManifestRequest(corpus="folder", source=corpus(tmp_path), out=tmp_path / "m.csv"))
        assert beside.read_text() == text
        assert not (tmp_path / "m.csv").exists()


@pytest.mark.parametrize(
    "value",
    [
        *([], {}, {"words": "extract"}, {"words": [3]}, {"words": [{"slot": "home"}]}),
        *({"words": [], "table": {}}, {"words": ["rm", "/", "--yes"]}, {"words": [{"slot": "store"}]}),
    ],
)
def test_what_is_no_call_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="not"):
        Call.from_json(value)  # type: ignore[arg-type]


def test_options_are_words() -> None:
    options = {"--a": True, "--b": False, "--c": None, "--d": 0, "--e": ("x", "y"), "--f": "", "--g": ()}
    assert option_words(options.items()) == ["--a", "--d", "0", "--e", "x", "--e", "y", "--f", ""]
