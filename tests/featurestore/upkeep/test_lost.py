"""Whole objects that are lost, or old ones that were put back: sound by themselves, and too little."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from featurestore import open_store
from featurestore.backends.storage import LocalStorage, MemoryStorage, Storage
from featurestore.errors import CorruptData, NotPlain
from featurestore.format import layer_arrays
from featurestore.format.codecs import rounded
from featurestore.store.key import read_key
from featurestore.store.ledger import read_ledger
from featurestore.store.row_columns import put_ids, read_ids
from featurestore.store.stored_manifest import store_manifest
from featurestore.store.writer import open_key
from featurestore.upkeep import verification
from featurestore.upkeep.key_copy import copy_key
from featurestore.upkeep.verification import verify_key
from tests.featurestore.exchange.keys import write_key
from tests.featurestore.scenario import LAYERS, N_ROWS, fill, manifest_of, request, values_of, write

KEY = "tiny/calls"


@pytest.fixture(autouse=True)
def _looks_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "LOOK_AGAIN_S", 0)


@pytest.fixture
def store(tmp_path: Path) -> MemoryStorage:
    storage = MemoryStorage(str(tmp_path))
    fill(storage)
    return storage


def damaged(storage: Storage, *, repair: bool = False) -> set[str]:
    report = verify_key(storage, "tiny", "calls", repair=repair)
    assert not repair or report.is_mended
    return {f.object.removeprefix(f"{KEY}/") for f in report.findings if f.is_damage}


def all_objects(storage: Storage) -> dict[str, bytes | None]:
    return {n: storage.get(n) for n, _ in storage.objects("")}


def with_ids(storage: Storage, changed: dict[int, str]) -> None:
    """Put ids of rows that are other than what was planned, with their checksum right."""
    info = read_key(storage, "tiny", "calls")
    ids = read_ids(storage, info)
    for row, name in changed.items():
        ids[row] = name
    put_ids(storage, info, ids)


def test_records_that_are_gone_altogether_are_missed_and_told(store: MemoryStorage) -> None:
    before, records = all_objects(store), read_ledger(store, KEY)
    for copy in (0, 1):
        store.delete(f"{KEY}/ledger_sealed/c/{copy}/0")
    assert damaged(store) == {f"ledger/c/{u}" for u in records}
    damaged(store, repair=True)
    assert damaged(store) == set()
    told = read_ledger(store, KEY)
    assert {u: (r.objects, r.rows) for u, r in told.items()} == {
        u: (r.objects, r.rows) for u, r in records.items()
    }
    after = all_objects(store)
    assert {n for n in before | after if before.get(n) != after.get(n)} == {
        f"{KEY}/ledger_sealed/c/{copy}/0" for copy in (0, 1)
    }


@pytest.mark.parametrize("is_gone", [True, False])
@pytest.mark.parametrize("provable", [True, False])
def test_a_unit_that_lost_its_entry_is_kept_where_it_can_be_proved(
    tmp_path: Path, *, provable: bool, is_gone: bool
) -> None:
    store = MemoryStorage(str(tmp_path))
    manifest = manifest_of(N_ROWS)
    ids = manifest.table["utterance_id"].to_numpy(object)
    writer, _ = open_key(store, request(), manifest, ids)
    write(writer, {k: values_of(k) for k in LAYERS}, only=[0, 1])
    if is_gone:
        store.delete(f"{KEY}/ledger/c/1")
    else:
        store.put(f"{KEY}/ledger/c/1", b"rubbish")
    if not provable:
        store.put(f"{KEY}/layer_03/c/1/0/0", b"rubbish")
    assert damaged(store) == {"ledger/c/1"}
    damaged(store, repair=True)
    assert set(read_ledger(store, KEY)) == ({0, 1} if provable else {0})
    assert (store.get(f"{KEY}/layer_00/c/1/0/0") is not None) == provable
    assert damaged(store) == set()


def test_rows_without_their_ids_are_refused_and_get_them_back(store: MemoryStorage) -> None:
    """An old object of the ids, from before the key grew, is sound and leaves all new rows out."""
    before = all_objects(store)
    with_ids(store, dict.fromkeys(range(16, N_ROWS), ""))
    features = open_store(store.url).features("tiny", "calls")
    with pytest.raises(CorruptData, match=r"7 utterances .*first 'f016'.*`fs verify --repair`"):
        _ = features.index
    assert damaged(store) == {"utterance_id"}
    damaged(store, repair=True)
    assert all_objects(store) == before


def test_an_id_that_nobody_was_embedded_under_is_the_ids_fault(store: MemoryStorage) -> None:
    before = all_objects(store)
    with_ids(store, {3: "stranger"})
    assert "manifest/c/0" not in damaged(store)
    damaged(store, repair=True)
    assert all_objects(store) == before


@pytest.mark.parametrize("prune", [True, False])
def test_who_was_killed_while_pruning_runs_it_again(store: MemoryStorage, *, prune: bool) -> None:
    ids = read_ids(store, read_key(store, "tiny", "calls")).tolist()
    with_ids(store, {ids.index("f020"): "", ids.index("f022"): ""})
    manifest = manifest_of(N_ROWS - 3)
    ids = manifest.table["utterance_id"].to_numpy(object)
    open_key(store, request(), manifest, ids, prune=prune)[0].finish()
    index = open_store(store.url).features("tiny", "calls").index
    assert len(index) == N_ROWS - (3 if prune else 2)
    assert damaged(store) == set()


def test_what_no_reader_takes_is_not_copied(store: MemoryStorage, tmp_path: Path) -> None:
    with_ids(store, {3: "f004", 4: "f003"})
    target = MemoryStorage(str(tmp_path / "target"))
    with pytest.raises(CorruptData, match="row 3 of tiny/calls was embedded as utterance 'f003'"):
        copy_key(store, target, "tiny", "calls")
    assert list(target.objects("")) == []


@pytest.mark.parametrize("name", ["zarr.json", "status/zarr.json", "ledger_sealed/c/0/0", "utterance_id/c/0"])
def test_a_folder_in_the_place_of_a_file_is_said_and_left_alone(tmp_path: Path, name: str) -> None:
    storage = LocalStorage(tmp_path)
    fill(storage)
    file = tmp_path / KEY / name
    file.unlink()
    file.mkdir()
    with pytest.raises(NotPlain, match="is a folder, where a file of a store belongs: remove it"):
        storage.get(f"{KEY}/{name}")
    values = {n: data for n, data in all_objects(storage).items() if "layer_" in n}
    for repair in (False, True):
        report = verify_key(storage, "tiny", "calls", repair=repair)
        assert [f.object for f in report.findings if f.is_damage] == [KEY]
        assert "is a folder" in report.findings[0].message
        assert bool(report.unrepaired) == repair
    file.rmdir()
    after = {n: data for n, data in all_objects(storage).items() if "layer_" in n}
    assert after == values


def test_ids_that_nobody_embedded_yet_are_listed_by_the_same_extraction(tmp_path: Path) -> None:
    """Who was killed between the plan of new rows and the manifest is not undone."""
    store = MemoryStorage(str(tmp_path))
    manifest = manifest_of(N_ROWS)
    ids = manifest.table["utterance_id"].to_numpy(object)
    writer, _ = open_key(store, request(), manifest, ids)
    write(writer, {k: values_of(k) for k in LAYERS}, only=[0, 1])
    store_manifest(store, writer.info, manifest_of(16))
    before = all_objects(store)
    report = verify_key(store, "tiny", "calls", repair=True)
    assert {f.message for f in report.findings if f.is_damage} == {
        f"the manifest lacks utterance 'f0{i}'" for i in range(16, N_ROWS)
    }
    assert "`fs extract` as before lists it, --prune leaves it out" in report.unrepaired[0]
    assert all_objects(store) == before
    open_key(store, request(), manifest, ids)
    assert damaged(store) == set()


@pytest.mark.parametrize("codec", ["fast", "small", "pcodec", "bitround7"])
def test_a_shard_in_anothers_place_gives_no_single_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str
) -> None:
    """It is sound by itself, and in size and CRC-32C of the whole like the one that belongs there."""
    monkeypatch.setattr("featurestore.format.layer_arrays.TARGET_CHUNK_BYTES", 50)  # chunks of few rows
    storage = LocalStorage(tmp_path)
    manifest = manifest_of(24)
    ids = manifest.table["utterance_id"].to_numpy(object)
    writer, _ = open_key(storage, request(layers=(0,), codec=codec), manifest, ids)
    write(writer, {0: values_of(0, 24)})
    assert writer.info.shape.n_chunks > 2
    wanted = open_store(tmp_path).features("tiny", "calls").layer(0).numpy([9])
    sound = rounded(values_of(0, 24), codec)
    np.testing.assert_array_equal(wanted, sound[[9]])
    (tmp_path / f"{KEY}/layer_00/c/1/0/0").write_bytes(storage.get(f"{KEY}/layer_00/c/0/0/0") or b"")
    layer = open_store(tmp_path).features("tiny", "calls").layer(0)
    with pytest.raises(
        CorruptData, match=r"layer_00/c/1/0/0 .*not the (size and checksum|checksums) of its record"
    ):
        layer.numpy([9])
    np.testing.assert_array_equal(layer.numpy([1]), sound[[1]])


def test_frames_in_anothers_place_are_not_handed_out(tmp_path: Path) -> None:
    shape = layer_arrays.FrameShape(
        n_features=6, unit_frames=layer_arrays.room_for(8 * 30, 6, "float32"), dtype="float32"
    )
    write_key(tmp_path, frames=shape, layers=(0,), failed=())
    folder = tmp_path / f"{KEY}/frames_00/c"
    layer = open_store(tmp_path).features("tiny", "calls").layer(0)
    layer.frames(9)
    (folder / "1/0").write_bytes((folder / "2/0").read_bytes())
    layer = open_store(tmp_path).features("tiny", "calls").layer(0)
    with pytest.raises(CorruptData, match=r"frames_00/c/1/0 .*not the checksums of its record"):
        layer.frames(9)
    assert layer.frames(1).shape == (16, 6)
