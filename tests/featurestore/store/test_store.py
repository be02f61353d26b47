from __future__ import annotations

import dataclasses
import pickle
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zarr

from featurestore import open_store
from featurestore.backends.storage import LocalStorage, Storage, open_storage
from featurestore.calls import Call
from featurestore.errors import (
    ConfigError,
    CorruptData,
    FingerprintMismatch,
    KeyNotFound,
    LabelError,
    StoreError,
)
from featurestore.format import layer_arrays, row_arrays
from featurestore.format.codecs import numcodecs_meant, rounded
from featurestore.manifest.table import Manifest
from featurestore.store.history import record_call
from featurestore.store.key import read_key
from featurestore.store.ledger import read_ledger
from featurestore.store.reader import Features
from featurestore.store.writer import delete_key, open_key, preview_key
from featurestore.upkeep.verification import verify_key
from tests.featurestore.scenario import (
    LAYERS,
    N_FEATURES,
    N_ROWS,
    UNIT_ROWS,
    facts_of,
    manifest_of,
    read_everything,
    request,
    values_of,
    write,
)


def test_values_and_index_come_back(filled: Storage) -> None:
    store = open_store(filled.url)
    assert store.keys() == [("tiny", "calls")]
    features = store.features("tiny", "calls")
    assert features.layers == list(LAYERS)
    assert features.functionals == ["mean", "std"]
    assert features.label_columns == ["kind"]
    assert features.index["utterance_id"].tolist() == [f"f{i:03d}" for i in range(N_ROWS)]
    assert features.index["kind"].tolist() == [f"k{i % 3}" for i in range(N_ROWS)]
    assert features.index["row"].tolist() == list(range(N_ROWS))
    for k in LAYERS:
        layer = features.layer(k)
        np.testing.assert_array_equal(layer.numpy(), values_of(k))
        np.testing.assert_array_equal(layer.zarr[:], values_of(k))
        np.testing.assert_array_equal(layer.dask()[3:19, 1].compute(scheduler="sync"), values_of(k)[3:19, 1])
        assert layer.dask().chunks[0] == (8, 8, 7)


class Counting(LocalStorage):
    """Counts how often each object is fetched."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.fetched: Counter[str] = Counter()

    def get(self, key: str) -> bytes | None:
        self.fetched[key] += 1
        return super().get(key)


@pytest.mark.parametrize("sealed", [True, False])
def test_one_opening_reads_ledger_ids_and_manifest_once(tmp_path: Path, *, sealed: bool) -> None:
    storage = Counting(tmp_path / "s")
    manifest = manifest_of(N_ROWS)
    writer, _ = open_key(storage, request(), manifest, manifest.table["utterance_id"].to_numpy(object))
    write(writer, {k: values_of(k) for k in LAYERS}, None if sealed else [0, 2])
    storage.fetched.clear()
    features = Features(storage, read_key(storage, "tiny", "calls"))
    features.layer(3).numpy()
    assert not len(features.misplaced())
    for selection in (features, features.select(labels={"kind": "k1"}), features.select(ids="f003").select()):
        selection.layer(3).numpy()
        assert len(selection.index) == len(selection.rows)
    shared = {name: n for name, n in storage.fetched.items() if "layer_" not in name}
    ledger = ["ledger_sealed/c/0/0"] if sealed else ["ledger/c/0", "ledger/c/2"]
    wanted = ["zarr.json", *ledger, "utterance_id/c/0", "manifest/c/0"]
    assert shared == {f"tiny/calls/{name}": 1 for name in wanted}


def test_plain_zarr_reads_a_local_store(tmp_path: Path) -> None:
    manifest = manifest_of(N_ROWS)
    storage = open_storage(tmp_path / "s")
    writer, _ = open_key(storage, request(), manifest, manifest.table["utterance_id"].to_numpy(object))
    write(writer, {k: values_of(k) for k in LAYERS})
    group = zarr.open(tmp_path / "s", mode="r")
    np.testing.assert_array_equal(group["tiny"]["calls"]["layer_03"][:], values_of(3))
    assert group["tiny/calls/utterance_id"][:].tolist() == [f"f{i:03d}" for i in range(N_ROWS)]
    assert set(group["tiny/calls/status"][:]) == {"ok"}
    assert group["tiny/calls"].attrs["functionals"] == ["mean", "std"]
    # Nothing foreign: listing the whole tree warns of nothing (warnings are errors here).
    assert len(dict(group.members(max_depth=None))) == 2 + len(LAYERS) + len(row_arrays.ROW_ARRAYS) + 4


def test_a_unit_without_a_record_does_not_exist(storage: Storage) -> None:
    manifest = manifest_of(N_ROWS)
    writer, _ = open_key(storage, request(), manifest, manifest.table["utterance_id"].to_numpy(object))
    values = {k: values_of(k) for k in LAYERS}
    write(writer, values, only=[0, 2])
    # Shards without a record: what a process killed in mid-unit leaves.
    storage.put("tiny/calls/layer_00/c/1/0/0", layer_arrays.encode_layer(writer.info.shape, values[0][8:16]))
    features = open_store(storage.url).features("tiny", "calls")
    committed = [*range(8), *range(16, 23)]
    assert features.index["row"].tolist() == committed
    assert features.n_pending_units == 1
    np.testing.assert_array_equal(features.layer(0).numpy(), values[0][committed])
    np.testing.assert_array_equal(features.layer(0).dask().compute(scheduler="sync"), values[0][committed])
    np.testing.assert_array_equal(features.layer(0).numpy(slice(6, 11)), values[0][committed[6:11]])
    assert [u.index for u in writer.pending_units(LAYERS)] == [1]
    write(writer, values)
    assert open_store(storage.url).features("tiny", "calls").n_pending_units == 0


def test_failed_rows_are_nan_with_their_reason(storage: Storage) -> None:
    manifest = manifest_of(3)
    writer, _ = open_key(storage, request(), manifest, manifest.table["utterance_id"].to_numpy(object))
    values = values_of(0, 3)
    values[1] = np.nan
    rows = facts_of(3, ["ok", "failed: all samples are zero", "ok"])
    record = writer.write_unit(
        writer.info.units[0], [(k, values) for k in LAYERS], rows, audio_s=1, elapsed_s=1, versions={}
    )
    assert record.failed == {"f001": "all samples are zero"}
    features = open_store(storage.url).features("tiny", "calls")
    assert features.index["status"].tolist() == ["ok", "failed: all samples are zero", "ok"]
    np.testing.assert_array_equal(features.layer(3).numpy(), values)


def test_reopening_resumes_and_refuses_other_settings(filled: Storage) -> None:
    manifest = manifest_of(N_ROWS)
    ids = manifest.table["utterance_id"].to_numpy(object)
    writer, notes = open_key(filled, request(), manifest, ids)
    assert writer.pending_units(LAYERS) == []
    assert notes == []
    other = request(fingerprint={"model": {"weights_sha256": "ff"}, "dtype": "float32"})
    with pytest.raises(FingerprintMismatch, match=r"weights_sha256: stored 00, requested ff.*--overwrite"):
        open_key(filled, other, manifest, ids)


def test_new_utterances_are_appended_as_new_units(filled: Storage) -> None:
    manifest = manifest_of(N_ROWS + 5)
    ids = manifest.table["utterance_id"].to_numpy(object)
    writer, notes = open_key(filled, request(), manifest, ids[::-1])
    assert "5 new utterances appended to tiny/calls; the other 23 unchanged" in notes
    pending = writer.pending_units(LAYERS)
    assert [(u.index, u.first_row, u.n_rows) for u in pending] == [(3, 24, 5)]
    assert writer.ids[24:].tolist() == [f"f{i:03d}" for i in range(27, 22, -1)]
    new = {k: values_of(k + 10, 5) for k in LAYERS}
    writer.write_unit(pending[0], list(new.items()), facts_of(5), audio_s=1, elapsed_s=1, versions={})
    features = open_store(filled.url).features("tiny", "calls")
    assert features.index["row"].tolist() == [*range(23), *range(24, 29)]
    for k in LAYERS:
        np.testing.assert_array_equal(features.layer(k).numpy(), np.concatenate([values_of(k), new[k]]))
        np.testing.assert_array_equal(
            features.layer(k).dask()[20:26].compute(scheduler="sync"), features.layer(k).numpy()[20:26]
        )


@pytest.mark.parametrize("prune", [True, False])
def test_a_preview_is_what_opening_then_gives_and_writes_nothing(filled: Storage, *, prune: bool) -> None:
    table = manifest_of(N_ROWS + 5).table.iloc[3:].reset_index(drop=True)
    manifest, ids = Manifest(table=table, source="m.csv"), table["utterance_id"].to_numpy(object)
    wanted = request(layers=(*LAYERS, 9))
    before = {name: filled.get(name) for name, _ in filled.objects("")}
    preview, pending = preview_key(filled, wanted, manifest, ids, overwrite=False, prune=prune)
    assert {name: filled.get(name) for name, _ in filled.objects("")} == before
    opened, _ = open_key(filled, wanted, manifest, ids, prune=prune)
    assert preview.info == opened.info
    assert preview.ids.tolist() == opened.ids.tolist()
    assert preview.manifest.table.equals(opened.manifest.table)
    assert pending == opened.pending_units(wanted.layers) == opened.info.units
    assert ("" in preview.ids[:3]) is prune


def test_utterances_the_manifest_lacks_are_kept_or_pruned(filled: Storage) -> None:
    manifest = manifest_of(N_ROWS - 2)
    ids = manifest.table["utterance_id"].to_numpy(object)
    writer, notes = open_key(filled, request(), manifest, ids)
    assert "2 utterances of tiny/calls are not in the manifest (first 'f021'); they are kept" in notes[0]
    assert writer.pending_units(LAYERS) == []
    features = open_store(filled.url).features("tiny", "calls")
    assert features.index["utterance_id"].tolist() == [f"f{i:03d}" for i in range(N_ROWS)]
    assert features.index["kind"].tolist()[-2:] == ["k0", "k1"]

    fewer = Manifest(table=manifest.table.drop(index=[4, 9]).reset_index(drop=True), source="m.csv")
    _, notes = open_key(filled, request(), fewer, fewer.table["utterance_id"].to_numpy(object), prune=True)
    assert notes[0] == "4 utterances pruned from tiny/calls (first 'f004')"
    features = open_store(filled.url).features("tiny", "calls")
    left = [i for i in range(N_ROWS - 2) if i not in (4, 9)]
    assert features.index["row"].tolist() == left
    for k in LAYERS:
        np.testing.assert_array_equal(features.layer(k).numpy(), values_of(k)[left])
        np.testing.assert_array_equal(
            features.layer(k).dask()[3:17].compute(scheduler="sync"), values_of(k)[left[3:17]]
        )


def test_labels_are_replaced_without_touching_embeddings(filled: Storage) -> None:
    before = {k: filled.get(k) for k, _ in filled.objects("tiny/calls") if "layer_" in k}
    manifest = manifest_of(N_ROWS)
    relabelled = Manifest(table=manifest.table.assign(kind="same"), source="new.csv")
    _, notes = open_key(filled, request(), relabelled, manifest.table["utterance_id"].to_numpy(object))
    assert notes == [
        "new.csv replaces what was stored with tiny/calls: kind: 'k0' → 'same' in 23 rows (first 'f000')"
    ]
    assert set(open_store(filled.url).features("tiny", "calls").index["kind"]) == {"same"}
    assert {k: filled.get(k) for k, _ in filled.objects("tiny/calls") if "layer_" in k} == before


def test_one_flipped_byte_anywhere_in_a_unit_is_an_error_and_never_a_number(filled: Storage) -> None:
    record = read_ledger(filled, "tiny/calls")[1]
    rng = np.random.default_rng(0)
    for name in record.objects:
        key = f"tiny/calls/{name}"
        whole = filled.get(key)
        assert whole is not None
        for position in {0, len(whole) - 1, *rng.integers(0, len(whole), 12).tolist()}:
            damaged = bytearray(whole)
            damaged[position] ^= 0x10
            filled.put(key, bytes(damaged))
            with pytest.raises(CorruptData, match="fs verify"):
                read_everything(filled.url)
        filled.put(key, whole)


def test_a_missing_shard_is_an_error(filled: Storage) -> None:
    filled.delete("tiny/calls/layer_01/c/2/0/0")
    features = open_store(filled.url).features("tiny", "calls")
    features.layer(0).numpy()
    with pytest.raises(CorruptData, match="the shard is missing"):
        features.layer(1).numpy()
    with pytest.raises(CorruptData, match="the shard is missing"):
        features.layer(1).numpy([20])


def test_a_damaged_record_is_an_error(filled: Storage) -> None:
    filled.put("tiny/calls/ledger/c/0", b"\x01\x00\x00\x00rubbish")
    with pytest.raises(CorruptData, match="ledger record"):
        open_store(filled.url).features("tiny", "calls")


def test_layers_travel_to_workers(tmp_path: Path) -> None:
    manifest = manifest_of(N_ROWS)
    storage = open_storage(tmp_path / "s")
    writer, _ = open_key(storage, request(), manifest, manifest.table["utterance_id"].to_numpy(object))
    write(writer, {k: values_of(k) for k in LAYERS})
    lazy = open_store(tmp_path / "s").features("tiny", "calls").layer(1).dask()
    again = pickle.loads(pickle.dumps(lazy))
    np.testing.assert_array_equal(again.compute(scheduler="sync"), values_of(1))


def test_half_precision_is_stored_and_overflow_refused(storage: Storage) -> None:
    manifest = manifest_of(4)
    writer, _ = open_key(
        storage, request(dtype="float16"), manifest, manifest.table["utterance_id"].to_numpy(object)
    )
    values = values_of(0, 4)
    write(writer, dict.fromkeys(LAYERS, values))
    layer = open_store(storage.url).features("tiny", "calls").layer(0)
    assert layer.zarr.dtype == np.float16
    np.testing.assert_array_equal(layer.numpy(), values.astype(np.float16).astype(np.float32))
    with pytest.raises(ConfigError, match=r"up to 65504.*reaches 70000"):
        layer_arrays.encode_layer(writer.info.shape, np.where(values > 2, 1, 70_000).astype(np.float32))


def test_what_is_not_there_is_named(filled: Storage, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no feature store here"):
        open_store(tmp_path / "nowhere")
    with pytest.raises(KeyNotFound, match="no key tiny/cats"):
        open_store(filled.url).features("tiny", "cats")
    with pytest.raises(KeyNotFound, match="has layers 0-1,3, not 2"):
        open_store(filled.url).features("tiny", "calls").layer(2)
    with pytest.raises(StoreError, match="unknown kind of store 'ftp'"):
        open_store("ftp://host/x")


def test_deleting_a_key_leaves_others(filled: Storage) -> None:
    manifest = manifest_of(2)
    open_key(filled, request(dataset="other"), manifest, manifest.table["utterance_id"].to_numpy(object))
    delete_key(filled, "tiny", "calls")
    assert open_store(filled.url).keys() == [("tiny", "other")]
    assert not [k for k, _ in filled.objects("tiny/calls")]


def test_nothing_is_written_outside_the_root(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "root")
    with pytest.raises(StoreError, match="outside the store"):
        storage.put("../escaped", b"x")
    with pytest.raises(StoreError, match="outside the store"):
        storage.get("../../etc/passwd")
    assert not (tmp_path / "escaped").exists()


def test_an_interrupted_put_leaves_the_old_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = LocalStorage(tmp_path / "root")
    storage.put("a/b", b"old")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(StoreError, match="No space left on device; nothing stored before is lost"):
        storage.put("a/b", b"new")
    monkeypatch.undo()
    assert storage.get("a/b") == b"old"
    assert [k for k, _ in storage.objects("")] == ["a/b"]


def test_put_if_absent_lets_the_first_win(storage: Storage) -> None:
    assert storage.put("claim", b"one", if_absent=True)
    assert not storage.put("claim", b"two", if_absent=True)
    assert storage.get("claim") == b"one"


def test_a_file_where_the_store_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    manifest = manifest_of(2)
    with pytest.raises(StoreError, match="cannot write"):
        open_key(
            open_storage(tmp_path / "file"),
            request(),
            manifest,
            manifest.table["utterance_id"].to_numpy(object),
        )


def test_a_copied_store_is_the_same_store(filled: Storage, tmp_path: Path) -> None:
    if not isinstance(filled, LocalStorage):
        pytest.skip("folders only")
    shutil.copytree(filled.url, tmp_path / "copy")
    features = open_store(tmp_path / "copy").features("tiny", "calls")
    np.testing.assert_array_equal(features.layer(3).numpy(), values_of(3))


def test_rows_can_be_asked_for_in_any_order(filled: Storage) -> None:
    layer = open_store(filled.url).features("tiny", "calls").layer(3)
    for rows in ([5, 2, 2, 22, 0], [17], [], list(range(22, -1, -1))):
        np.testing.assert_array_equal(layer.numpy(rows), values_of(3)[rows])
    with pytest.raises(IndexError):
        layer.numpy([23])


def test_a_mask_selects_its_rows(filled: Storage) -> None:
    features = open_store(filled.url).features("tiny", "calls")
    layer, values = features.layer(3), values_of(3)
    mask = (features.index["kind"] == "k1").to_numpy()
    for given in (mask, mask.tolist(), features.index["kind"] == "k1", pd.array(mask, dtype="boolean")):
        np.testing.assert_array_equal(layer.numpy(given), values[mask])
    assert len(layer.numpy(np.zeros(N_ROWS, dtype=bool))) == 0
    for length in (2, N_ROWS - 1, N_ROWS + 1):
        with pytest.raises(IndexError, match=rf"expected a mask of {N_ROWS} rows, got one of {length}$"):
            layer.numpy(np.ones(length, dtype=bool))
    # Of a selection a mask counts the rows that were selected.
    some = features.select(labels={"kind": "k1"})
    few = np.arange(len(some.index)) % 2 == 1
    np.testing.assert_array_equal(some.layer(3).numpy(few), values[mask][few])
    with pytest.raises(IndexError, match=rf"expected a mask of {mask.sum()} rows, got one of {N_ROWS}"):
        some.layer(3).numpy(mask)


@pytest.mark.parametrize(
    "given", [[0.0, 1.0], [1.7], np.array([np.nan]), ["0"], [[1, 2]], np.uint64([2**64 - 1]), [-24], True]
)
def test_what_is_no_position_is_refused(filled: Storage, given: Any) -> None:
    layer = open_store(filled.url).features("tiny", "calls").layer(3)
    with pytest.raises(IndexError, match=f"{N_ROWS} rows"):
        layer.numpy(given)


def test_negative_positions_and_steps_count_from_the_end(filled: Storage) -> None:
    layer = open_store(filled.url).features("tiny", "calls").layer(3)
    for rows in (
        4,
        -2,
        [-1, -23, 5],
        slice(-3, None),
        slice(None, None, -4),
        slice(20, 2, -1),
        slice(100, 200),
    ):
        np.testing.assert_array_equal(layer.numpy(rows), values_of(3)[rows])
    for item in (np.s_[5], np.s_[-2:], np.s_[[7, 3], 1], np.s_[::-5, :, 2], np.arange(N_ROWS) % 3 == 0):
        np.testing.assert_array_equal(layer.dask()[item].compute(scheduler="sync"), values_of(3)[item])


def test_one_id_is_not_its_letters(tmp_path: Path) -> None:
    storage = open_storage(tmp_path / "store")
    manifest = manifest_of(3)
    manifest = dataclasses.replace(manifest, table=manifest.table.assign(utterance_id=["a", "b", "ab"]))
    writer, _ = open_key(storage, request(), manifest, np.array(["a", "b", "ab"], dtype=object))
    write(writer, {k: values_of(k)[:3] for k in LAYERS})
    features = open_store(storage.url).features("tiny", "calls")
    assert features.select(ids="ab").index["utterance_id"].tolist() == ["ab"]
    assert features.select(ids=["a", "b"]).index["utterance_id"].tolist() == ["a", "b"]


def test_selections_are_aligned_with_their_index(filled: Storage) -> None:
    features = open_store(filled.url).features("tiny", "calls")
    some = features.select(labels={"kind": ["k0", "k2"]}, ids=[f"f{i:03d}" for i in range(4, 20)])
    wanted = [i for i in range(4, 20) if i % 3 != 1]
    assert some.index["row"].tolist() == wanted
    np.testing.assert_array_equal(some.layer(1).numpy(), values_of(1)[wanted])
    np.testing.assert_array_equal(some.layer(1).dask().compute(scheduler="sync"), values_of(1)[wanted])
    again = some.select(labels={"kind": "k2"})
    assert again.index["row"].tolist() == [i for i in wanted if i % 3 == 2]
    np.testing.assert_array_equal(again.layer(0).numpy(), values_of(0)[again.rows])
    with pytest.raises(LabelError, match="no column 'sort'; there are kind"):
        features.select(labels={"sort": "k0"})
    with pytest.raises(LabelError, match="no utterance 'x'"):
        features.select(ids=["x"])


@pytest.mark.parametrize("seed", [None, 0])
def test_batches_hold_every_row_once_with_its_values(filled: Storage, seed: int | None) -> None:
    layer = open_store(filled.url).features("tiny", "calls").layer(0)
    batches = list(layer.iter_batches(4, shuffle_seed=seed, block_shards=2))
    assert [len(p) for p, _ in batches] == [4] * 5 + [3]
    positions = np.concatenate([p for p, _ in batches])
    assert sorted(positions) == list(range(N_ROWS))
    assert (positions.tolist() == sorted(positions)) == (seed is None)
    for rows, values in batches:
        np.testing.assert_array_equal(values, values_of(0)[rows])


def test_xarray_holds_layers_ids_and_labels(filled: Storage) -> None:
    pytest.importorskip("xarray")
    data = open_store(filled.url).features("tiny", "calls").to_xarray()
    assert data["layer_03"].dims == ("utterance", "functional", "feature")
    picked = data["layer_03"].sel(functional="std").isel(utterance=4)
    np.testing.assert_array_equal(picked.values, values_of(3)[4, 1])
    assert data["kind"].values.tolist() == [f"k{i % 3}" for i in range(N_ROWS)]


@pytest.mark.parametrize("n_rows", [1, N_ROWS])
def test_xarray_opens_a_key_by_itself(tmp_path: Path, n_rows: int) -> None:
    xarray = pytest.importorskip("xarray")
    url = str(tmp_path / "f.zarr")
    storage, manifest = open_storage(url), manifest_of(n_rows)
    writer, _ = open_key(storage, request(), manifest, manifest.table["utterance_id"].to_numpy(object))
    record_call(storage, writer.info, Call(words=("extract",)))
    write(writer, {k: values_of(k, n_rows) for k in LAYERS})
    with xarray.open_zarr(url, group="tiny/calls", consolidated=False) as key:
        assert key["layer_03"].dims == ("utterance", "functional", "feature")
        np.testing.assert_array_equal(key["layer_03"].values, values_of(3, n_rows))
        assert key["utterance_id"].values.tolist() == manifest.table["utterance_id"].tolist()
        assert set(key.sizes) == {"utterance", "functional", "feature", "unit", "copy", "table", "call"}
    with xarray.open_datatree(url, engine="zarr", consolidated=False) as root:
        np.testing.assert_array_equal(root["tiny/calls/layer_00"].values, values_of(0, n_rows))


@pytest.mark.parametrize("codec", ["fast", "small", "raw", "pcodec", "bitround6"])
def test_codecs_give_the_same_values_and_find_damage(storage: Storage, codec: str) -> None:
    manifest = manifest_of(N_ROWS)
    ids = manifest.table["utterance_id"].to_numpy(object)
    writer, _ = open_key(storage, request(codec=codec), manifest, ids)
    values = np.round(values_of(0), 1)
    write(writer, dict.fromkeys(LAYERS, values))
    values = rounded(values, codec)
    features = open_store(storage.url).features("tiny", "calls")
    np.testing.assert_array_equal(features.layer(3).numpy(), values)
    np.testing.assert_array_equal(features.layer(3).numpy([20, 3]), values[[20, 3]])
    assert features.attrs["codec"] == codec
    key = "tiny/calls/layer_03/c/1/0/0"
    whole = storage.get(key)
    assert whole is not None
    damaged = bytearray(whole)
    damaged[len(whole) // 3] ^= 1
    storage.put(key, bytes(damaged))
    with pytest.raises(CorruptData):
        features.layer(3).numpy()
    if codec == "raw":
        # The shard is the plain little-endian array and its checksum: other programs may map it.
        plain = np.frombuffer(whole[:-4], "<f4").reshape(UNIT_ROWS, 2, N_FEATURES)
        np.testing.assert_array_equal(plain, values[8:16])


def test_a_key_keeps_its_codec(filled: Storage) -> None:
    manifest = manifest_of(N_ROWS)
    _, notes = open_key(
        filled, request(codec="small"), manifest, manifest.table["utterance_id"].to_numpy(object)
    )
    assert notes == ["tiny/calls keeps its codec 'fast'"]


@pytest.mark.parametrize(
    "unit_rows", [pytest.param(1, marks=pytest.mark.slow), pytest.param(7, marks=pytest.mark.slow), 16, 640]
)
@pytest.mark.parametrize("codec", ["fast", "raw", "small", "pcodec", "bitround9"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_our_reader_and_plain_zarr_agree_for_every_shape(
    tmp_path: Path, unit_rows: int, codec: str, dtype: str
) -> None:
    """Our reader takes shards apart itself; Zarr is the reference, whatever the chunking."""
    n, width = (
        (645, 260) if codec in ("fast", "raw") else (45, 60)
    )  # inner chunks of many rows, the last not full
    manifest = manifest_of(n)
    storage = open_storage(tmp_path / "s")
    asked = request(unit_rows=unit_rows, codec=codec, dtype=dtype, n_features=width, layers=(0,))
    writer, _ = open_key(storage, asked, manifest, manifest.table["utterance_id"].to_numpy(object))
    values = np.random.default_rng(0).standard_normal((n, 2, width)).astype(dtype)
    if unit_rows == 1:
        n = 5
    for unit in writer.info.units[: n if unit_rows == 1 else None]:
        part = values[unit.first_row : unit.stop_row].astype(np.float32)
        facts = facts_of(unit.n_rows)
        writer.write_unit(unit, [(0, part)], facts, audio_s=1, elapsed_s=1, versions={})
    layer = open_store(tmp_path / "s").features("tiny", "calls").layer(0)
    with numcodecs_meant():
        reference = zarr.open_array(tmp_path / "s" / "tiny" / "calls" / "layer_00", mode="r")[:n]
    values = rounded(values, codec)
    np.testing.assert_array_equal(reference, values[:n])
    np.testing.assert_array_equal(layer.numpy(), values[:n])
    for rows in (slice(3, n - 1), slice(0, n, 3), [n - 1, 0, 4]):
        np.testing.assert_array_equal(layer.numpy(rows), values[:n][rows])


def test_the_zarrs_pipeline_reads_the_same_values(filled: Storage) -> None:
    pytest.importorskip("zarrs")
    if not isinstance(filled, LocalStorage):
        pytest.skip("folders only")
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        group = zarr.open(filled.root, mode="r")
        for k in LAYERS:
            np.testing.assert_array_equal(group[f"tiny/calls/{layer_arrays.layer_name(k)}"][:], values_of(k))


def test_zarrs_writes_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("zarrs")
    shape = layer_arrays.LayerShape(n_functionals=2, n_features=N_FEATURES, unit_rows=UNIT_ROWS)
    (tmp_path / "layer").mkdir()
    (tmp_path / "layer" / "zarr.json").write_bytes(layer_arrays.layer_document(shape, UNIT_ROWS))
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        array = zarr.open_array(tmp_path / "layer", mode="r+")
        array[:] = values_of(0)[:UNIT_ROWS]
    written = (tmp_path / "layer" / "c" / "0" / "0" / "0").read_bytes()
    assert written == layer_arrays.encode_layer(shape, values_of(0)[:UNIT_ROWS])


def test_a_key_is_read_by_its_own_chunking_whatever_a_later_version_chooses(
    filled: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer_arrays, "TARGET_CHUNK_BYTES", 48)
    features = open_store(filled.url).features("tiny", "calls")
    np.testing.assert_array_equal(features.layer(3).numpy(), values_of(3))
    assert verify_key(filled, "tiny", "calls").findings == []
    grown = manifest_of(N_ROWS + 3)
    writer, _ = open_key(filled, request(), grown, grown.table["utterance_id"].to_numpy(object))
    new = {
        k: np.concatenate([values_of(k), np.zeros((1, 2, N_FEATURES)), values_of(k + 9, 3)]) for k in LAYERS
    }
    write(writer, {k: v.astype(np.float32) for k, v in new.items()})
    np.testing.assert_array_equal(
        open_store(filled.url).features("tiny", "calls").layer(1).numpy()[-3:], values_of(10, 3)
    )
